//! Devices as sources: a PTP clock.
use crate::{
    BootState, Config, Reason, SourceState, Upstream,
    sim::{Shown, Sim, config, honest},
};

fn orders(servers: usize, path: &str) -> Config {
    let mut orders = config(servers + 1);
    let device = &mut orders.sources[servers];
    device.upstream = Upstream::Device { path: path.to_owned() };
    device.name = "phc".to_owned();
    (device.min_poll, device.max_poll) = (0, 2);
    orders
}

fn with_device(servers: usize, shown: Shown, offset: f64) -> Sim {
    let mut sim = Sim::new(orders(servers, "/dev/ptp0"), offset, (0..servers).map(|_| honest()).collect());
    sim.devices = vec![("/dev/ptp0", shown)];
    sim
}

#[test]
fn a_device_alone_makes_a_primary_server_right_to_the_microsecond() {
    for offset in [2.0, -1e6, 3e-3] {
        let mut sim = with_device(0, Box::new(|_| Some(0.0)), offset);
        sim.run(60.0);
        let (rms, largest) = sim.error_over(3600.0);
        assert!(rms < 1e-6 && largest < 5e-6, "{offset}: {rms} {largest}");
        let snapshot = sim.snapshot();
        assert_eq!((snapshot.reason, snapshot.stratum), (Reason::Synchronized, 1));
        assert_eq!(&snapshot.reference_id, b"PHC0");
        assert!(snapshot.error_bound.is_some_and(|bound| bound < 50e-6), "{snapshot:?}");
        assert!(snapshot.sources[0].reach == 0xff && snapshot.sources[0].address.is_none());
        assert_eq!(sim.steps.len(), usize::from(offset.abs() > 0.01));
    }
}

#[test]
fn the_error_bound_contains_the_error_of_a_clock_that_follows_a_device() {
    let mut sim = with_device(0, Box::new(|_| Some(0.0)), 0.05);
    (sim.oscillator, sim.wander) = (150e-6, 3e-9);
    for _ in 0..10_000 {
        sim.run(0.5);
        if let Some(bound) = sim.snapshot().error_bound {
            assert!(sim.offset.abs() <= bound, "{} beyond {bound} at {}", sim.offset, sim.now);
        }
    }
}

#[test]
fn a_device_that_runs_on_tai_loses_against_servers() {
    let mut sim = with_device(2, Box::new(|_| Some(37.0)), 0.0);
    sim.run(120.0);
    let snapshot = sim.snapshot();
    assert_eq!(snapshot.sources[2].state, SourceState::Falseticker, "{snapshot:?}");
    assert!(sim.offset.abs() < 1e-3 && sim.steps.is_empty());
}

#[test]
fn a_device_that_was_never_set_moves_nothing() {
    // It counts from zero since it was powered on.
    let mut sim = with_device(0, Box::new(|now| Some(now - 1.8e9)), 0.0);
    sim.run(60.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, sim.steps.len()), (false, 0));
    assert_eq!(snapshot.sources[0].state, SourceState::Unusable);
    assert!(snapshot.sources[0].why.contains("2000"), "{snapshot:?}");
}

#[test]
fn a_device_that_disappears_is_reported_and_used_again_later() {
    let shown: Shown = Box::new(|now| (!(300.0..600.0).contains(&now)).then_some(0.0));
    let mut sim = with_device(0, shown, 0.0);
    sim.run(300.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    sim.run(60.0);
    let snapshot = sim.snapshot();
    assert_eq!(snapshot.reason, Reason::Holdover);
    assert_eq!(snapshot.sources[0].state, SourceState::Unusable);
    assert!(snapshot.sources[0].why.contains("cannot be read"), "{snapshot:?}");
    sim.run(250.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.sources[0].state), (Reason::Synchronized, SourceState::Selected));
}

#[test]
fn a_device_leads_and_servers_watch_it() {
    let mut sim = with_device(3, Box::new(|_| Some(0.0)), 1.0);
    sim.run(900.0);
    let snapshot = sim.snapshot();
    assert_eq!(snapshot.sources[3].state, SourceState::Selected, "{snapshot:?}");
    assert_eq!(snapshot.stratum, 1);
    let (rms, _) = sim.error_over(1800.0);
    assert!(rms < 3e-6, "{rms}");
    assert_eq!(sim.saved_boots.last(), Some(&BootState { steps: 1, synchronized: true }));
}
