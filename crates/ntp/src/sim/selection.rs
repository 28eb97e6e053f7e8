//! Whom the engine follows, as stories: options, pools, leap seconds.
use crate::{
    Auth, Reason, SourceState, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config},
};

fn honest() -> Script {
    Box::new(|_| HONEST)
}

fn ahead(offset: f64) -> Script {
    Box::new(move |_| Behaviour { offset, ..HONEST })
}

fn silent_after(end: f64) -> Script {
    Box::new(move |now| Behaviour { silent: now > end, ..HONEST })
}

fn states(sim: &Sim) -> Vec<SourceState> {
    sim.snapshot().sources.iter().map(|source| source.state).collect()
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
    // What the third said counts until the first has forgotten what it said itself at that time, 100 polls at most.
    sim.run(900.0);
    let snapshot = sim.snapshot();
    assert_eq!(
        (snapshot.reason, snapshot.sources[2].state),
        (Reason::Synchronized, SourceState::Unreachable)
    );
    sim.run(7000.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::TooFewSources), "{snapshot:?}");
    assert!(snapshot.sources[0].why.contains("only 1"), "{snapshot:?}");
    assert!(sim.told.iter().any(|(_, told)| *told == Transition::SynchronizationLost));
}

#[test]
fn what_is_only_measured_never_votes() {
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
    // After a hundred polls nothing is left of it.
    sim.run(7000.0);
    assert_eq!(sim.snapshot().sources[0].why, "The last eight polls went unanswered.");
}
