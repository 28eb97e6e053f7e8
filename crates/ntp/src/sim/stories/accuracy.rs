//! The accuracy of the settled clock, and the validity of the error bound.
use crate::{
    BootState,
    sim::{LAN, Path, SCENARIOS, Scenario, Sim, config, honest, run, summarize},
};

#[test]
fn on_a_lan_the_clock_is_good_to_tens_of_microseconds() {
    let mut total = 0.0;
    for seed in 1..=5 {
        let servers = vec![honest(), honest(), honest()];
        let mut sim = Sim::booted(config(3), 0.1, servers, BootState::default(), seed);
        sim.oscillator = 50e-6;
        sim.run(1800.0);
        let (rms, largest) = sim.error_over(4.0 * 3600.0);
        assert!(rms < 50e-6 && largest < 250e-6, "seed {seed}: {rms} {largest}");
        total += rms;
    }
    println!("mean of the RMS: {:.1} us", total / 5.0 * 1e6);
}

#[test]
fn the_error_bound_contains_the_error() {
    for (seed, path) in [
        (1, LAN),
        (2, Path { delay: 10e-3, jitter: 1e-3, loss: 0.0 }),
        (3, Path { delay: 10e-3, jitter: 5e-3, loss: 0.3 }),
    ] {
        let mut sim = Sim::booted(config(2), 0.05, vec![honest(), honest()], BootState::default(), seed);
        sim.path = path;
        sim.oscillator = 200e-6;
        for _ in 0..20_000 {
            sim.run(0.5);
            let snapshot = sim.snapshot();
            if let Some(bound) = snapshot.error_bound {
                assert!(sim.offset.abs() <= bound, "{} beyond {bound} at {}", sim.offset, sim.now);
            }
        }
    }
}

#[test]
fn a_lossy_jittery_path_does_not_upset_the_clock() {
    let mut sim = Sim::booted(config(1), 0.1, vec![honest()], BootState::default(), 5);
    sim.path = Path { delay: 10e-3, jitter: 1e-3, loss: 0.3 };
    sim.run(1800.0);
    let (rms, largest) = sim.error_over(4.0 * 3600.0);
    assert!(rms < 500e-6 && largest < 3e-3, "{rms} {largest}");
}

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).expect("it is in the table")
}

/// `sim/table.rs` has the results of chronyd 4.3 on the same paths. `make sim` prints the whole table.
#[test]
fn the_error_is_that_of_a_good_daemon_at_equal_polls() {
    for (name, poll, limit) in
        [("lan", 6, 6.5e-6), ("lan", 4, 3.5e-6), ("net", 6, 130e-6), ("net", 4, 115e-6)]
    {
        let shorter = Scenario { length: 14_000.0, settled: 4000.0, ..*scenario(name) };
        let runs: Vec<_> = (1..=5).map(|seed| run(&shorter, (poll, poll), seed)).collect();
        let rms = summarize(&runs).rms;
        assert!(rms < limit, "{name} {poll}: {rms}");
    }
}

/// One seed of each scenario, at the default polls. The bound must hold in 100 % of the seconds.
fn check_bounds(names: &[&str]) {
    for name in names {
        let figures = run(scenario(name), (4, 6), 1);
        assert_eq!(figures.held, figures.bounded, "{name}: {figures:?}");
        assert!(figures.bounded > 19_900, "{name}: {figures:?}");
        assert_eq!(figures.misled, 0, "{name}: a liar was followed");
    }
}

#[test]
fn the_bound_holds_whatever_the_network_does() {
    check_bounds(&["bad", "bursts", "heavytail", "asymmetry", "outage"]);
}

#[test]
fn the_bound_holds_with_bad_servers_and_falsetickers_are_not_selected() {
    check_bounds(&["falsetick", "liars2of5", "late", "twice"]);
}

#[test]
fn a_run_repeats_for_its_seed() {
    let shorter = Scenario { length: 1000.0, settled: 100.0, ..*scenario("bad") };
    let rms = |seed| run(&shorter, (4, 6), seed).rms;
    assert_eq!(rms(3), rms(3));
    assert_ne!(rms(3), rms(4));
}
