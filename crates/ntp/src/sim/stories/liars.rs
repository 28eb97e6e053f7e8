//! Servers with different times: a falseticker is never selected, and without a majority no server is.
use super::{STARTED, count};
use crate::{
    Leap, Reason, SourceState, Transition,
    sim::{Behaviour, HONEST, Script, Sim, ahead, config, honest},
};

#[test]
fn a_preferred_falseticker_among_four_is_never_selected() {
    for lie in [0.5, -0.05, 3600.0] {
        let mut orders = config(4);
        orders.sources[0].prefer = true;
        let mut sim = Sim::new(orders, 2.0, vec![ahead(lie), honest(), honest(), honest()]);
        for _ in 0..600 {
            sim.run(1.0);
            let liar = &sim.snapshot().sources[0];
            assert!(!matches!(liar.state, SourceState::Selected | SourceState::Combined), "{liar:?}");
        }
        assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
        let liar = &sim.snapshot().sources[0];
        assert!(liar.state == SourceState::Falseticker && !liar.why.is_empty(), "{liar:?}");
    }
}

#[test]
fn two_against_two_is_no_majority_and_moves_nothing() {
    let servers = vec![honest(), honest(), ahead(0.5), ahead(0.5)];
    let mut sim = Sim::new(config(4), 2.0, servers);
    sim.run(600.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason, snapshot.stratum), (false, Reason::NoMajority, 16));
    assert!(snapshot.sources.iter().all(|s| s.state == SourceState::NoMajority && !s.why.is_empty()));
    assert_eq!(snapshot.reference, None);
    assert!(sim.steps.is_empty() && sim.saved_boots.is_empty());
    assert!(matches!(sim.status, Some((false, Leap::Unknown, _))));
}

#[test]
fn a_lost_majority_is_reported_at_once() {
    let turns: Script = Box::new(|now| Behaviour { offset: if now < 300.0 { 0.0 } else { 0.5 }, ..HONEST });
    let mut sim = Sim::new(config(2), 0.0, vec![honest(), turns]);
    sim.run(300.0);
    assert!(sim.snapshot().synchronized);
    sim.run(120.0);
    assert_eq!(sim.snapshot().reason, Reason::NoMajority);
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 1);
    assert!(sim.offset.abs() < 0.01, "{}", sim.offset);
}

#[test]
fn two_that_contradicted_each_other_are_not_believed_for_being_silent() {
    let until: fn(f64) -> Script =
        |offset| Box::new(move |now| Behaviour { offset, silent: now > 300.0, ..HONEST });
    let mut sim = Sim::booted(config(2), 0.0, vec![until(0.0), until(0.5)], STARTED, 1);
    sim.run(250.0);
    assert_eq!(sim.snapshot().reason, Reason::NoMajority);
    sim.run(1000.0);
    assert!(!sim.snapshot().synchronized, "{:?}", sim.snapshot());
}
