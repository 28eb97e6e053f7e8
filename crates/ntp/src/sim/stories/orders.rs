//! Changes of the configuration while the clock runs: Observe, a change of mode, other servers.
use super::count;
use crate::{
    LocalClock, Mode, Reason, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

fn silent() -> Script {
    Box::new(|_| Behaviour { silent: true, ..HONEST })
}

#[test]
fn an_observer_moves_nothing_and_measures() {
    let mut orders = config(3);
    orders.mode = Mode::Observe;
    let mut sim = Sim::new(orders, 0.05, vec![honest(), honest(), honest()]);
    for _ in 0..1000 {
        sim.run(1.0);
        let snapshot = sim.snapshot();
        if let (Some(offset), Some(bound)) = (snapshot.offset, snapshot.error_bound) {
            assert!(sim.offset.abs() <= bound, "{} beyond {bound}", sim.offset);
            assert!((offset - sim.offset).abs() < 1e-3, "{offset} {}", sim.offset);
        }
    }
    assert!(sim.snapshot().synchronized);
    assert!((sim.snapshot().frequency_ppm + 30.0).abs() < 1.0, "{}", sim.snapshot().frequency_ppm);
    sim.run(6000.0);
    assert_eq!(sim.snapshot().reason, Reason::ErrorBound);
}

#[test]
fn the_mode_can_change_at_any_time() {
    let mut sim = Sim::new(config(2), 0.009, vec![honest(), honest()]);
    sim.run(3.0);
    let mut observing = config(2);
    observing.mode = Mode::Observe;
    sim.reconfigure(observing);
    assert!(sim.kernel_ppm.abs() < 100.0, "{}", sim.kernel_ppm);
    let offset = sim.snapshot().offset.expect("it was measured");
    assert!((offset - sim.offset).abs() < 3e-4, "{offset} {}", sim.offset);
    sim.run(100.0);
    let offset = sim.snapshot().offset.expect("it is measured");
    assert!((offset - sim.offset).abs() < 3e-4, "{offset} {}", sim.offset);
    sim.reconfigure(config(2));
    sim.run(60.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
}

#[test]
fn another_upstream_takes_over_while_the_clock_goes_on() {
    let mut sim = Sim::new(config(1), 0.0, vec![honest(), honest()]);
    sim.run(300.0);
    let mut orders = config(2);
    orders.sources.remove(0);
    sim.reconfigure(orders);
    assert!(sim.snapshot().synchronized);
    sim.run(5.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.reference_id), (Reason::Synchronized, [192, 0, 2, 2]));
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 0);
    let mut none = sim.config.clone();
    none.sources.clear();
    sim.reconfigure(none);
    assert_eq!(sim.snapshot().reason, Reason::NoUpstreams);
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 1);
}

#[test]
fn a_configuration_is_confirmed_by_an_answer_that_came_under_it() {
    let mut sim = Sim::new(config(1), 0.0, vec![honest(), silent()]);
    assert!(!sim.snapshot().confirmed);
    sim.run(3000.0);
    assert!(sim.snapshot().confirmed);
    // The same server is asked soon, although its poll interval is long by now.
    sim.reconfigure(sim.config.clone());
    assert!(!sim.snapshot().confirmed);
    sim.run(5.0);
    assert!(sim.snapshot().confirmed);
    // A silent server proves nothing, neither while the clock counts as synchronised nor in holdover.
    let mut orders = config(2);
    orders.sources.remove(0);
    sim.reconfigure(orders);
    for _ in 0..300 {
        assert!(sim.snapshot().synchronized && !sim.snapshot().confirmed, "{:?}", sim.snapshot());
        sim.run(1.0);
    }
    assert_eq!(sim.snapshot().reason, Reason::Holdover);
}

#[test]
fn a_local_clock_confirms_only_a_configuration_without_upstreams() {
    let mut orders = config(1);
    orders.local = Some(LocalClock { stratum: 10, orphan: false, activate_after: 10.0 });
    let mut sim = Sim::new(orders.clone(), 0.0, vec![silent()]);
    sim.run(200.0);
    assert_eq!((sim.snapshot().reason, sim.snapshot().confirmed), (Reason::LocalClock, false));
    orders.sources.clear();
    sim.reconfigure(orders);
    sim.run(20.0);
    assert_eq!((sim.snapshot().reason, sim.snapshot().confirmed), (Reason::LocalClock, true));
}
