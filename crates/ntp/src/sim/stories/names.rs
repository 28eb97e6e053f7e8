//! Names that change to other servers while the old address still answers.
use std::net::IpAddr;

use super::{count, named};
use crate::{
    Auth, Config, Reason, SourceState, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

/// An hour and a day, seconds.
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

fn addresses(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
}

/// A configuration in which the first of three servers is given by name.
fn orders() -> Config {
    let mut orders = config(3);
    orders.sources[0].upstream = named("ntp.example");
    orders
}

fn asked(sim: &Sim) -> Option<IpAddr> {
    sim.snapshot().sources[0].address
}

fn lies_after(start: f64) -> Script {
    Box::new(move |now| Behaviour { offset: if now > start { 0.5 } else { 0.0 }, ..HONEST })
}

fn sim(orders: Config, first: Script) -> Sim {
    let mut sim = Sim::new(orders, 0.0, vec![first, honest(), honest(), honest()]);
    sim.names = addresses(&[1]);
    sim
}

#[test]
fn a_falseticker_is_looked_up_at_once_and_then_ever_later() {
    let mut sim = sim(orders(), lies_after(1000.0));
    sim.run(1000.0);
    assert_eq!(sim.resolved, 1);
    sim.run(200.0);
    assert_eq!(sim.snapshot().sources[0].state, SourceState::Falseticker);
    assert!((2..=3).contains(&sim.resolved), "{}", sim.resolved);
    sim.run(6.0 * HOUR);
    assert!((10..18).contains(&sim.resolved), "{}", sim.resolved);
    // The name changes. At the next lookup the source moves.
    sim.names = addresses(&[4]);
    sim.run(HOUR + 200.0);
    let source = &sim.snapshot().sources[0];
    assert_eq!((source.address, source.reach), (Some(addresses(&[4])[0]), 0xff), "{source:?}");
    assert_ne!(source.state, SourceState::Falseticker);
}

#[test]
fn a_falseticker_whose_name_has_moved_is_left_within_a_minute() {
    let mut sim = sim(orders(), lies_after(1000.0));
    sim.run(1000.0);
    sim.names = addresses(&[4]);
    sim.run(150.0);
    assert_eq!(asked(&sim), Some(addresses(&[4])[0]), "{:?}", sim.snapshot().sources[0]);
}

#[test]
fn one_that_is_believed_follows_its_name_within_a_day() {
    let mut sim = sim(orders(), honest());
    sim.run(1000.0);
    sim.names = addresses(&[4]);
    sim.run(HOUR);
    assert_eq!(asked(&sim), Some(addresses(&[1])[0]));
    sim.run(DAY);
    assert_eq!(asked(&sim), Some(addresses(&[4])[0]));
    assert!((2..=3).contains(&sim.resolved), "{}", sim.resolved);
    assert_eq!((sim.snapshot().reason, sim.snapshot().sources[0].reach), (Reason::Synchronized, 0xff));
}

#[test]
fn one_that_is_believed_keeps_its_vote_while_it_moves() {
    let mut orders = orders();
    orders.min_sources = 3;
    let mut sim = sim(orders, honest());
    sim.run(1000.0);
    sim.names = addresses(&[4]);
    sim.run(DAY);
    assert_eq!(asked(&sim), Some(addresses(&[4])[0]));
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 0, "{:?}", sim.announced);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    // If the new server is a falseticker, it loses the vote. If it is silent, it has none.
    for silent in [true, false] {
        let mut sim = self::sim(self::orders(), honest());
        sim.servers[3] = Box::new(move |_| Behaviour { offset: 0.5, silent, ..HONEST });
        sim.run(1000.0);
        sim.names = addresses(&[4]);
        sim.run(DAY);
        assert_eq!((asked(&sim), sim.snapshot().reason), (Some(addresses(&[4])[0]), Reason::Synchronized));
        let expected = if silent { SourceState::Unreachable } else { SourceState::Falseticker };
        assert_eq!(sim.snapshot().sources[0].state, expected);
        assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    }
}

#[test]
fn an_address_that_the_name_still_holds_stays_with_its_history() {
    let mut sim = sim(orders(), honest());
    sim.run(1000.0);
    let before = sim.snapshot().sources[0].clone();
    sim.names = addresses(&[4, 1]);
    for _ in 0..100 {
        sim.run(1000.0);
        let source = &sim.snapshot().sources[0];
        assert_eq!((source.address, source.reach), (before.address, 0xff));
        assert!(source.jitter.is_some(), "its history is gone: {source:?}");
    }
    assert!((2..=3).contains(&sim.resolved), "{}", sim.resolved);
}

#[test]
fn an_address_stays_while_the_resolver_says_nothing() {
    for silent in [true, false] {
        let mut sim = sim(orders(), lies_after(2000.0));
        sim.run(1000.0);
        (sim.no_resolver, sim.names) = (silent, Vec::new());
        sim.run(4.0 * HOUR);
        let source = &sim.snapshot().sources[0];
        assert_eq!((source.address, source.reach), (Some(addresses(&[1])[0]), 0xff), "{source:?}");
        assert_eq!(source.state, SourceState::Falseticker);
        (sim.no_resolver, sim.names) = (false, addresses(&[4]));
        sim.run(HOUR);
        assert_eq!(asked(&sim), Some(addresses(&[4])[0]));
    }
}

#[test]
fn without_a_majority_all_names_are_looked_up() {
    let mut orders = config(2);
    orders.sources[0].upstream = named("ntp.example");
    let mut sim = sim(orders, lies_after(1000.0));
    sim.run(1000.0);
    sim.names = addresses(&[4]);
    sim.run(200.0);
    assert_eq!((asked(&sim), sim.snapshot().reason), (Some(addresses(&[4])[0]), Reason::Synchronized));
}

#[test]
fn a_server_that_refuses_us_is_left_when_its_name_moves() {
    let denies: Script = Box::new(|now| Behaviour { kiss: (now > 1000.0).then_some(*b"DENY"), ..HONEST });
    let mut sim = sim(orders(), denies);
    sim.run(3000.0);
    assert_eq!(sim.snapshot().sources[0].state, SourceState::Unusable);
    sim.names = addresses(&[4]);
    sim.run(HOUR + 200.0);
    let source = &sim.snapshot().sources[0];
    assert_eq!((source.address, source.reach), (Some(addresses(&[4])[0]), 0xff), "{source:?}");
}

#[test]
fn keys_are_exchanged_anew_with_the_server_that_has_the_name_now() {
    let mut orders = orders();
    orders.sources[0].auth = Auth::Nts { ca: None, port: 4460 };
    let mut sim = sim(orders, honest());
    sim.run(1000.0);
    assert_eq!((sim.resolved, asked(&sim)), (1, Some(addresses(&[1])[0])));
    sim.names = addresses(&[4]);
    sim.run(DAY);
    assert_eq!(asked(&sim), Some(addresses(&[4])[0]));
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}
