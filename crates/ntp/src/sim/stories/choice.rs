//! The choice of sources: their options, pools and bursts.
use std::net::IpAddr;

use crate::{
    Auth, Reason, SourceState, Transition, Upstream,
    sim::{Behaviour, HONEST, Script, Sim, ahead, config, honest},
};

fn silent_after(end: f64) -> Script {
    Box::new(move |now| Behaviour { silent: now > end, ..HONEST })
}

fn states(sim: &Sim) -> Vec<SourceState> {
    let sources = sim.snapshot().sources;
    for source in &sources {
        let followed = matches!(source.state, SourceState::Selected | SourceState::Combined);
        assert_eq!(source.why.is_empty(), followed, "{source:?}");
    }
    sources.iter().map(|source| source.state).collect()
}

#[test]
fn one_that_is_trusted_outvotes_two_that_are_not() {
    let mut orders = config(3);
    orders.sources[0].auth = Auth::Key("k".to_owned());
    let mut sim = Sim::new(orders, 1.0, vec![honest(), ahead(0.5), ahead(0.5)]);
    sim.run(300.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert_eq!(states(&sim), [SourceState::Selected, SourceState::Falseticker, SourceState::Falseticker]);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn without_a_required_source_nothing_moves() {
    let mut orders = config(3);
    orders.sources[0].require = true;
    let late: Script = Box::new(|now| Behaviour { silent: now < 400.0, ..HONEST });
    let mut sim = Sim::new(orders, 0.5, vec![late, honest(), honest()]);
    sim.run(400.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::RequiredMissing), "{snapshot:?}");
    assert!(sim.steps.is_empty() && sim.saved_boots.is_empty());
    assert!(snapshot.sources.iter().all(|source| !source.why.is_empty()));
    sim.run(120.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
}

#[test]
fn fewer_than_asked_for_are_not_followed() {
    let mut orders = config(3);
    orders.min_sources = 2;
    let mut sim = Sim::new(orders, 0.5, vec![honest(), silent_after(-1.0), silent_after(600.0)]);
    sim.run(600.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    // The samples of the third count for a hundred polls. The interval grows to 64 s.
    sim.run(900.0);
    let snapshot = sim.snapshot();
    assert_eq!(
        (snapshot.reason, snapshot.sources[2].state),
        (Reason::Synchronized, SourceState::Unreachable)
    );
    sim.run(6400.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::TooFewSources), "{snapshot:?}");
    assert!(snapshot.sources[0].why.contains("sources agree: 1,"), "{snapshot:?}");
    assert!(sim.announced.iter().any(|(_, announced)| *announced == Transition::SynchronizationLost));
}

#[test]
fn measured_only_sources_never_vote() {
    let mut orders = config(2);
    orders.sources[0].noselect = true;
    orders.sources[0].prefer = true;
    let mut sim = Sim::new(orders, 1.0, vec![ahead(0.5), honest()]);
    sim.run(300.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert_eq!(states(&sim), [SourceState::Noselect, SourceState::Selected]);
    let offset = sim.snapshot().sources[0].offset.expect("it is measured");
    assert!((offset + 0.5).abs() < 1e-2, "{offset}");
    let mut alone = config(1);
    alone.sources[0].noselect = true;
    let mut sim = Sim::new(alone, 1.0, vec![honest()]);
    sim.run(300.0);
    assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::NoUpstreams, 0));
}

#[test]
fn a_silent_source_is_not_followed_while_another_answers() {
    let mut sim = Sim::new(config(3), 0.0, vec![silent_after(600.0), honest(), honest()]);
    sim.run(600.0);
    sim.run(900.0);
    let snapshot = sim.snapshot();
    assert_eq!(snapshot.sources[0].state, SourceState::Unreachable);
    assert!(snapshot.sources[0].why.contains("before agrees"), "{:?}", snapshot.sources[0]);
    let age = snapshot.at - snapshot.reference_time.expect("it is synchronised");
    assert!(age < 130.0, "{age}");
    // After a hundred polls they no longer count.
    sim.run(7000.0);
    let why = &sim.snapshot().sources[0].why;
    assert!(why.starts_with("It does not answer") && !why.contains("before agrees"), "{why}");
}

fn pool(host: &str, max_sources: usize) -> Upstream {
    Upstream::Pool { host: host.to_owned(), port: 123, max_sources }
}

fn addresses(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
}

fn asked(sim: &Sim) -> Vec<Option<IpAddr>> {
    sim.snapshot().sources.iter().map(|source| source.address).collect()
}

#[test]
fn a_pool_asks_several_addresses_of_a_name() {
    let mut orders = config(2);
    orders.sources[0].upstream = pool("pool.example", 3);
    let mut sim = Sim::new(orders, 1.0, (0..5).map(|_| honest()).collect());
    sim.run(10.0);
    assert_eq!(states(&sim)[0], SourceState::Unresolved);
    // 192.0.2.2 is asked as a server already.
    sim.names = addresses(&[2, 1]);
    sim.names.push("2001:db8::5".parse().expect("an address"));
    sim.run(300.0);
    let snapshot = sim.snapshot();
    let names: Vec<&str> = snapshot.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["s0#1", "s0#2", "s1"]);
    assert_eq!(asked(&sim), [Some(sim.names[1]), Some(sim.names[2]), Some(sim.names[0])]);
    assert!(snapshot.sources.iter().all(|source| source.reach == 0xff), "{snapshot:?}");
    sim.names.extend(addresses(&[3, 4]));
    sim.run(1800.0);
    assert_eq!(asked(&sim)[..3], [Some(sim.names[1]), Some(sim.names[2]), Some(sim.names[3])]);
    let resolved = sim.resolved;
    sim.run(7200.0);
    assert_eq!(sim.resolved, resolved, "a pool that is complete is not looked up");
}

#[test]
fn members_that_lie_or_are_lost_give_way() {
    let mut orders = config(1);
    orders.sources[0].upstream = pool("pool.example", 4);
    let lies: Script = Box::new(|now| Behaviour { offset: if now > 1000.0 { 0.5 } else { 0.0 }, ..HONEST });
    let servers = vec![honest(), lies, silent_after(2000.0), honest(), honest(), honest()];
    let mut sim = Sim::new(orders.clone(), 0.5, servers);
    // The last address has no route.
    sim.names = addresses(&[250, 1, 2, 3, 4, 5, 6]);
    sim.run(1000.0);
    assert_eq!(asked(&sim), [4, 1, 2, 3].map(|last| Some(IpAddr::from([192, 0, 2, last]))));
    sim.run(1000.0);
    assert_eq!(asked(&sim), [4, 1, 5, 3].map(|last| Some(IpAddr::from([192, 0, 2, last]))));
    sim.run(1000.0);
    assert_eq!(asked(&sim), [4, 1, 5, 6].map(|last| Some(IpAddr::from([192, 0, 2, last]))));
    let before = sim.snapshot().sources;
    assert!(before.iter().all(|source| source.reach == 0xff), "{before:?}");
    assert!(sim.offset.abs() < 1e-3 && sim.steps.len() == 1, "{}", sim.offset);
    // A changed configuration of the same pool keeps its members and their samples.
    orders.sources[0].prefer = true;
    sim.reconfigure(orders);
    sim.run(1.0);
    let after = sim.snapshot();
    assert!(after.synchronized, "{after:?}");
    assert!(before.iter().zip(&after.sources).all(|(a, b)| (a.id, a.address) == (b.id, b.address)));
}

#[test]
fn a_pool_is_kept_while_the_network_is_down() {
    let mut orders = config(1);
    orders.sources[0].upstream = pool("pool.example", 2);
    let down: fn() -> Script =
        || Box::new(|now| Behaviour { silent: (600.0..3000.0).contains(&now), ..HONEST });
    let mut sim = Sim::new(orders, 0.0, vec![down(), down(), down()]);
    sim.names = addresses(&[1, 2, 3]);
    sim.run(600.0);
    let before = asked(&sim);
    sim.run(2400.0);
    assert_eq!((asked(&sim), sim.snapshot().reason), (before, Reason::Holdover));
    sim.run(100.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn a_burst_brings_more_samples_without_offending_the_server() {
    let sent_within_an_hour = |burst: bool| {
        let mut orders = config(1);
        orders.sources[0].burst = burst;
        (orders.sources[0].min_poll, orders.sources[0].max_poll) = (6, 6);
        let mut sim = Sim::new(orders, 0.0, vec![silent_after(7200.0)]);
        sim.run(3600.0);
        let before = sim.sent.len();
        sim.run(3600.0);
        let answered = sim.sent.len() - before;
        // A source that does not answer is not asked more often.
        sim.run(1200.0);
        let before = sim.sent.len();
        sim.run(3600.0);
        assert!(sim.sent.len() - before < 60, "{}", sim.sent.len() - before);
        answered
    };
    let (without, with) = (sent_within_an_hour(false), sent_within_an_hour(true));
    assert!((50..60).contains(&without) && (190..3600 / 8).contains(&with), "{without} {with}");
}
