//! Servers that move, become silent, do not resolve, or deny service.
use std::net::IpAddr;

use super::{count, named};
use crate::{
    Leap, Reason, SourceState, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

#[test]
fn upstreams_that_move_are_followed_by_slewing_only() {
    let shifted: fn() -> Script =
        || Box::new(|now| Behaviour { offset: if now < 300.0 { 0.0 } else { 0.1 }, ..HONEST });
    // The time until it is detected, and then 20 s of slewing.
    for (poll, longest, wait) in [(0, 0, 35.0), (1, 1, 35.0), (4, 6, 110.0)] {
        let mut orders = config(3);
        orders.max_slew_rate = 5e-3;
        for source in &mut orders.sources {
            (source.min_poll, source.max_poll) = (poll, longest);
        }
        let mut sim = Sim::new(orders, 0.0, vec![shifted(), shifted(), shifted()]);
        sim.run(300.0);
        assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
        sim.rates.clear();
        sim.run(wait);
        assert!((sim.offset - 0.1).abs() < 1e-3, "poll {poll}: {}", sim.offset);
        assert!(sim.steps.is_empty());
        assert!(sim.rates.iter().all(|ppm| ppm.abs() < 5000.0 + 100.0), "{:?}", sim.rates);
        assert!(sim.rates.iter().any(|ppm| ppm.abs() > 4900.0), "{:?}", sim.rates);
        sim.run(120.0);
        assert!((sim.offset - 0.1).abs() < 3e-4, "poll {poll}: {}", sim.offset);
    }
}

#[test]
fn an_upstream_that_runs_fast_is_followed_in_frequency() {
    for (poll, wait) in [(0, 60.0), (1, 90.0), (4, 600.0)] {
        let fast: fn() -> Script = || {
            Box::new(|now| Behaviour {
                offset: if now < 600.0 { 0.0 } else { 80e-6 * (now - 600.0) },
                ..HONEST
            })
        };
        let mut orders = config(1);
        (orders.sources[0].min_poll, orders.sources[0].max_poll) = (poll, poll + 1);
        let mut sim = Sim::new(orders, 0.0, vec![fast()]);
        sim.run(600.0);
        let before = sim.snapshot().frequency_ppm;
        sim.run(wait);
        let followed = sim.snapshot().frequency_ppm - before;
        assert!((followed - 80.0).abs() < 2.0, "poll {poll}: {followed}");
        assert!(sim.steps.is_empty());
    }
}

#[test]
fn silence_is_holdover_then_unsynchronised_then_regained() {
    let silent: fn() -> Script =
        || Box::new(|now| Behaviour { silent: (600.0..3000.0).contains(&now), ..HONEST });
    let mut orders = config(2);
    orders.error_bound_threshold = 0.01;
    let mut sim = Sim::new(orders, 1.0, vec![silent(), silent()]);
    sim.run(600.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    sim.run(8.0 * 64.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.leap), (Reason::Holdover, Leap::None), "{snapshot:?}");
    assert_eq!(count(&sim, &Transition::UpstreamsUnreachable), 1);
    let mut unsynchronized = None;
    while sim.now < 2990.0 {
        sim.run(1.0);
        let snapshot = sim.snapshot();
        let bound = snapshot.error_bound.expect("an estimate was used");
        assert_eq!(snapshot.synchronized, bound <= 0.01);
        assert!(sim.offset.abs() <= bound);
        if !snapshot.synchronized {
            assert_eq!(
                (snapshot.reason, snapshot.leap, snapshot.stratum),
                (Reason::ErrorBound, Leap::Unknown, 16)
            );
            assert!(matches!(sim.status, Some((false, Leap::Unknown, _))));
            unsynchronized.get_or_insert(sim.now);
        }
    }
    assert!(unsynchronized.is_some(), "{:?}", sim.snapshot());
    sim.run(90.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert_eq!(count(&sim, &Transition::SynchronizationRegained), 1, "{:?}", sim.announced);
    assert_eq!(count(&sim, &Transition::UpstreamsReachable), 1);
    assert_eq!(sim.steps.len(), 1);
}

#[test]
fn a_name_is_looked_up_until_it_resolves_and_again_when_it_is_lost() {
    let mut orders = config(2);
    orders.sources[0].upstream = named("ntp.example");
    let silent: Script = Box::new(|now| Behaviour { silent: now > 400.0, ..HONEST });
    let mut sim = Sim::new(orders, 0.0, vec![silent, honest()]);
    sim.run(31.0);
    // Lookups at 0, 2, 6, 14 and 30 s.
    assert_eq!(sim.resolved, 5);
    let source = &sim.snapshot().sources[0];
    assert!(source.state == SourceState::Unresolved && source.why.contains("ntp.example"), "{source:?}");
    assert_eq!(sim.snapshot().reason, Reason::Synchronized, "the other source is enough");
    sim.names = vec![IpAddr::from([192, 0, 2, 1])];
    sim.run(100.0);
    assert_eq!(sim.snapshot().sources[0].reach.count_ones(), 8);
    sim.names = vec![IpAddr::from([192, 0, 2, 2])];
    sim.run(1200.0);
    assert_eq!(sim.snapshot().sources[0].address, Some(IpAddr::from([192, 0, 2, 2])));
    assert_eq!(sim.snapshot().sources[0].reach, 0xff);
}

#[test]
fn an_address_without_a_route_gives_way_to_the_next() {
    let mut orders = config(1);
    orders.sources[0].upstream = named("ntp.example");
    let mut sim = Sim::new(orders, 1.0, vec![honest()]);
    sim.names = vec![IpAddr::from([192, 0, 2, 250]), IpAddr::from([192, 0, 2, 1])];
    sim.run(10.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    // Without any route, requests are not sent faster.
    sim.servers.clear();
    sim.run(600.0);
    let before = sim.sent.len();
    sim.run(600.0);
    assert!(sim.sent.len() - before < 60, "{}", sim.sent.len() - before);
}

#[test]
fn kisses_slow_down_or_end_the_questions() {
    let rate: Script =
        Box::new(|now| Behaviour { kiss: (now > 100.0 && now < 110.0).then_some(*b"RATE"), ..HONEST });
    let mut orders = config(1);
    (orders.sources[0].min_poll, orders.sources[0].max_poll) = (0, 6);
    let mut sim = Sim::new(orders.clone(), 0.0, vec![rate]);
    sim.run(100.0);
    let before = sim.sent.len();
    sim.run(60.0);
    assert!(sim.sent.len() - before < 5, "{}", sim.sent.len() - before);
    let mut sim = Sim::new(orders, 0.0, vec![Box::new(|_| Behaviour { kiss: Some(*b"DENY"), ..HONEST })]);
    sim.run(1000.0);
    assert!(sim.sent.len() < 5, "{}", sim.sent.len());
    let snapshot = sim.snapshot();
    assert_eq!(
        (snapshot.reason, snapshot.sources[0].state),
        (Reason::NoUsableUpstream, SourceState::Unusable)
    );
}
