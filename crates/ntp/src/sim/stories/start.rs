//! The start phase: how fast the clock is corrected, when it is stepped, and what outlives a restart.
use super::{STARTED, count};
use crate::{
    BootState, Floor, Leap, Reason, SourceState, Transition, Wall,
    sim::{Sim, ahead, config, honest, machine::EPOCH},
};

#[test]
fn a_clock_seconds_off_is_right_within_seconds_by_one_step() {
    for offset in [3.0, -3.0, 1e6, -4e8] {
        let mut sim = Sim::new(config(3), offset, vec![honest(), honest(), honest()]);
        sim.run(4.0);
        assert!(sim.offset.abs() < 1e-3, "{} after {offset}", sim.offset);
        let (_, largest) = sim.error_over(600.0);
        assert!(largest < 1e-3, "{largest}");
        assert_eq!(sim.steps.len(), 1);
        let snapshot = sim.snapshot();
        assert!(snapshot.synchronized && snapshot.reason == Reason::Synchronized, "{snapshot:?}");
        assert_eq!((snapshot.steps, snapshot.start_phase, snapshot.stratum), (1, false, 2));
        assert_eq!(sim.saved_boots.last(), Some(&BootState { steps: 1, synchronized: true }));
        assert_eq!(count(&sim, &Transition::Synchronized), 1);
        assert!(matches!(sim.status, Some((true, Leap::None, error)) if error < 0.01), "{:?}", sim.status);
    }
}

#[test]
fn short_polls_converge_in_seconds() {
    for poll in [0, 1] {
        let mut orders = config(1);
        (orders.sources[0].min_poll, orders.sources[0].max_poll) = (poll, poll);
        let mut sim = Sim::new(orders, -2.0, vec![honest()]);
        sim.oscillator = 150e-6;
        sim.run(20.0);
        let (rms, largest) = sim.error_over(100.0);
        assert!(rms < 100e-6 && largest < 500e-6, "poll {poll}: {rms} {largest}");
    }
}

#[test]
fn another_agent_in_the_same_boot_never_steps() {
    let mut sim = Sim::new(config(3), 3.0, vec![honest(), honest(), honest()]);
    sim.run(300.0);
    assert_eq!(sim.steps.len(), 1);
    let boot = *sim.saved_boots.last().expect("the first synchronisation was kept");
    sim.restart(boot);
    assert!(matches!(sim.status, Some((true, _, _))), "{:?}", sim.status);
    sim.jump(0.05);
    sim.restart(boot);
    let before = sim.offset;
    sim.run(30.0);
    assert_eq!(sim.steps.len(), 1);
    assert!(sim.offset < before - 0.005, "it is slewed: {}", sim.offset);
    sim.run(200.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert!(sim.rates.iter().all(|ppm| ppm.abs() < 500.0 + 100.0));
}

#[test]
fn steps_end_at_their_limit_even_over_restarts() {
    let mut sim = Sim::new(config(1), 0.0, vec![ahead(5.0)]);
    sim.restart(BootState { steps: 3, synchronized: false });
    sim.run(60.0);
    assert!(sim.steps.is_empty());
    assert_eq!(sim.snapshot().reason, Reason::ErrorBound);
    let offset = sim.snapshot().offset.expect("an estimate was used");
    assert!((offset - (sim.offset - 5.0)).abs() < 1e-3, "{offset}");
}

#[test]
fn the_drift_is_kept_and_used_again() {
    let mut sim = Sim::new(config(3), 0.0, vec![honest(), honest(), honest()]);
    sim.run(1000.0);
    sim.restart(STARTED);
    let drift = sim.drift.expect("it is kept at the end");
    assert!((drift.frequency_ppm + 30.0).abs() < 1.0, "{drift:?}");
    sim.run(0.5);
    assert!((sim.kernel_ppm + 30.0).abs() < 1.0, "{}", sim.kernel_ppm);
}

/// The program was built a year before the simulation begins, and the saved time is a minute before it.
const FLOOR: Floor =
    Floor { saved: Some(Wall(EPOCH.0 - 60_000_000_000)), built: Wall(EPOCH.0 - 31_536_000_000_000_000) };

#[test]
fn a_lone_server_takes_no_clock_back_to_a_time_that_has_passed() {
    // A time in 1980; and one that is an hour behind.
    for (behind, why) in [(-1.48e9, "before this program was made"), (-3_600.0, "a second source agrees")] {
        let mut sim = Sim::new(config(1), 0.5, vec![ahead(behind)]);
        sim.engine.learn_floor(FLOOR);
        sim.run(600.0);
        let snapshot = sim.snapshot();
        assert!(sim.steps.is_empty() && !snapshot.synchronized, "{behind}: {:?}", sim.steps);
        assert!((sim.offset - 0.5).abs() < 0.1, "{behind}: it is not slewed either: {}", sim.offset);
        assert_eq!(snapshot.sources[0].state, SourceState::Unusable);
        assert!(snapshot.sources[0].why.contains(why), "{}", snapshot.sources[0].why);
        // The server is corrected, and the next agent follows it at once.
        sim.servers = vec![honest()];
        sim.restart(BootState::default());
        sim.engine.learn_floor(FLOOR);
        sim.run(20.0);
        assert!(sim.snapshot().synchronized && sim.offset.abs() < 1e-3, "{}", sim.offset);
        assert_eq!(sim.steps.len(), 1);
    }
}

#[test]
fn a_last_time_that_was_wrong_is_overcome_by_two_servers() {
    let mut sim = Sim::new(config(2), 86_400.0, vec![honest(), honest()]);
    sim.engine.learn_floor(Floor { saved: Some(EPOCH.plus(86_400.0)), ..FLOOR });
    sim.run(10.0);
    assert!(sim.snapshot().synchronized && sim.offset.abs() < 1e-3, "{}", sim.offset);
    // Two servers that agree on 1980 are not believed either.
    let mut sim = Sim::new(config(2), 0.0, vec![ahead(-1.48e9), ahead(-1.48e9)]);
    sim.engine.learn_floor(FLOOR);
    sim.run(100.0);
    assert!(sim.steps.is_empty() && !sim.snapshot().synchronized);
}

#[test]
fn a_server_of_1980_beside_right_ones_changes_nothing() {
    let mut sim = Sim::new(config(3), -7.0, vec![ahead(-1.48e9), honest(), honest()]);
    sim.engine.learn_floor(FLOOR);
    sim.run(60.0);
    assert!(sim.snapshot().synchronized && sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert_eq!(sim.steps.len(), 1);
}
