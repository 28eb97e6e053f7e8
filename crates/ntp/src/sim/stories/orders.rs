//! Changes of the configuration while the clock runs: Observe, a change of mode, other servers.
use super::count;
use crate::{
    Mode, Reason, Transition,
    sim::{Sim, config, honest},
};

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
