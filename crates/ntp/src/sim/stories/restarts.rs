//! An agent that ends and starts again in the same boot, with its saved state or without.
use std::{collections::BTreeSet, net::IpAddr};

use super::STARTED;
use crate::{
    BootState, Event, Reason, SourceState, Stale, Start, Transition, Upstream,
    sim::{Behaviour, CALM, HONEST, Impairment, Random, Script, Sim, config, honest},
};

impl Sim {
    /// Ends the agent, regularly or by a kill.
    pub(super) fn end(&mut self, killed: bool) {
        if !killed {
            self.end_late(0.0);
        }
        self.open.clear();
        self.arrivals.clear();
    }

    /// Ends the agent, which is not scheduled for `late` seconds after it read its clocks for the last time.
    fn end_late(&mut self, late: f64) {
        let clocks = self.all_clocks();
        let actions = self.engine.shut_down(clocks.now);
        self.pass(late);
        self.act(actions, clocks.raw);
    }

    /// Calls the engine, and carries out its actions `late` seconds after the agent read its clocks.
    fn turn_late(&mut self, late: f64) {
        let clocks = self.all_clocks();
        let actions = self.engine.handle(Event::Wakeup, clocks.now);
        self.pass(late);
        self.act(actions, clocks.raw);
    }

    /// Starts an agent with the saved drift, and with the saved samples if they are valid.
    pub(super) fn begin(&mut self) -> Option<Stale> {
        self.begin_in(STARTED)
    }

    /// The same with a boot state.
    fn begin_in(&mut self, boot: BootState) -> Option<Stale> {
        let carried = self.samples.clone().map(|(samples, then)| samples.carry(then, self.all_clocks()));
        let (samples, stale) = match carried {
            Some(Ok(samples)) => (Some(samples), None),
            Some(Err(stale)) => (None, Some(stale)),
            None => (None, None),
        };
        let start = Start { boot, drift: self.drift, samples, seed: 7 };
        self.start_engine(start);
        self.announced.clear();
        stale
    }

    /// Seconds until the agent reports that it is synchronised.
    fn time_to_synchronize(&mut self) -> f64 {
        let begin = self.now;
        while self.now < begin + 60.0 {
            self.run(0.01);
            if self.announced.iter().any(|(_, announced)| *announced == Transition::Synchronized) {
                return self.now - begin;
            }
        }
        panic!("not within a minute: {:?}", self.snapshot());
    }
}

/// A clock that was steered for an hour without disturbances.
fn settled(seed: u64) -> Sim {
    let servers = vec![honest(), honest(), honest()];
    let mut sim = Sim::booted(config(3), 0.02, servers, BootState::default(), seed);
    sim.run(3600.0);
    sim
}

#[test]
fn with_samples_a_restarted_agent_goes_on_from_the_first_answer() {
    let (mut squares, mut squares_without) = (0.0, 0.0);
    for seed in 1..=10 {
        for keeps in [true, false] {
            let mut sim = settled(seed);
            let frequency = sim.snapshot().frequency_ppm;
            sim.end(false);
            sim.samples = sim.samples.filter(|_| keeps);
            sim.pass(5.0);
            assert_eq!(sim.begin(), None);
            assert!((sim.snapshot().frequency_ppm - frequency).abs() < 1e-3);
            let waited = sim.time_to_synchronize();
            assert_eq!(waited < 0.1, keeps, "seed {seed}: {waited}");
            let (rms, _) = sim.error_over(60.0);
            let moved = (sim.snapshot().frequency_ppm - frequency).abs();
            if keeps {
                assert!(moved < 0.3, "seed {seed}: {moved} ppm");
                squares += rms * rms;
            } else {
                squares_without += rms * rms;
            }
            assert!(sim.steps.len() <= 1);
        }
    }
    let (with, without) = ((squares / 10.0_f64).sqrt(), (squares_without / 10.0_f64).sqrt());
    println!(
        "RMS of the minute after a restart: {:.1} us with samples, {:.1} us without",
        with * 1e6,
        without * 1e6
    );
    assert!(with < 60e-6 && with < without, "{with} {without}");
}

#[test]
fn an_agent_that_is_killed_in_a_slew_loses_minutes_and_not_the_truth() {
    for (killed_at, seed) in [(4.0, 1), (30.0, 2), (120.0, 3), (290.0, 4)] {
        let mut sim = settled(seed);
        // True time moves by 20 ms, which takes 40 s of slewing.
        let moves = sim.now + 100.0;
        let moved: fn(f64) -> Script =
            |at| Box::new(move |now| Behaviour { offset: if now < at { 0.0 } else { 0.02 }, ..HONEST });
        sim.servers = vec![moved(moves), moved(moves), moved(moves)];
        sim.run(200.0);
        // The samples were saved at some moment of the slew.
        sim.run(killed_at);
        assert!(sim.samples.is_some());
        sim.end(true);
        sim.pass(2.0);
        assert_eq!(sim.begin(), None);
        for _ in 0..1200 {
            sim.run(0.5);
            let error = (sim.offset - 0.02).abs();
            if let Some(bound) = sim.snapshot().error_bound {
                assert!(error <= bound, "killed after {killed_at}: {error} beyond {bound} at {}", sim.now);
            }
        }
        assert!((sim.offset - 0.02).abs() < 300e-6, "killed after {killed_at}: {}", sim.offset);
        assert_eq!(sim.steps.len(), 1);
    }
}

/// An agent saves its samples during a slew of 5000 ppm, and carries out the saving late. The error bound of the next
/// agent must hold, although the network is bad from then on, so that the old samples count for a long time.
fn samples_outlive_a_late_end(killed: bool) {
    for seed in 1..=12 {
        let mut orders = config(1);
        (orders.sources[0].min_poll, orders.sources[0].max_poll) = (0, 1);
        orders.max_slew_rate = 5e-3;
        let mut sim = Sim::booted(orders, 0.02, vec![honest()], BootState::default(), seed);
        sim.run(60.0);
        let due = sim.now + (sim.engine.next_save() - sim.clocks().mono);
        sim.run(due - sim.now - 8.0);
        // 60 ms take 12 s.
        sim.offset = 0.06;
        sim.run(due - sim.now - 0.5);
        let slewing = (sim.kernel_ppm - sim.snapshot().frequency_ppm).abs();
        assert!(slewing > 4000.0, "seed {seed}: {slewing}");
        if killed {
            sim.samples = None;
            sim.pass(0.6);
            sim.turn_late(0.4);
            assert!(sim.samples.is_some(), "seed {seed}");
        } else {
            sim.end_late(0.4);
        }
        sim.end(true);
        sim.pass(1.5);
        assert_eq!(sim.begin(), None);
        sim.impairment = Impairment { spikes: (0.95, 0.06), ..CALM };
        for _ in 0..60 {
            sim.run(1.0);
            let error = sim.offset.abs();
            if let Some(bound) = sim.snapshot().error_bound {
                assert!(error <= bound, "seed {seed}: {error} beyond {bound} at {}", sim.now);
            }
        }
    }
}

#[test]
fn samples_of_an_agent_that_ends_late_in_a_slew_are_true() {
    samples_outlive_a_late_end(false);
}

#[test]
fn samples_of_an_agent_that_saves_late_in_a_slew_and_is_killed_are_true() {
    samples_outlive_a_late_end(true);
}

#[test]
fn an_agent_that_is_killed_twenty_times_in_its_slews_never_leaves_5_ms() {
    let mut worst: f64 = 0.0;
    for seed in 1..=40 {
        let mut random = Random::new(seed, 5);
        let mut sim =
            Sim::booted(config(3), 3e-3, vec![honest(), honest(), honest()], BootState::default(), seed);
        (sim.oscillator, sim.wander) = ([30e-6, -80e-6, 200e-6, 0.0][seed as usize % 4], 1e-9);
        for kill in 0..20 {
            sim.run(0.2 + 12.0 * random.uniform());
            let boot = sim.saved_boots.last().copied().unwrap_or_default();
            sim.end(true);
            sim.pass(1.0 + 2.0 * random.uniform());
            sim.begin_in(boot);
            assert!(sim.offset.abs() < 5e-3, "seed {seed}, kill {kill}: {}", sim.offset);
            if kill % 3 == 2 {
                // Little is left to slew by now, so true time moves.
                sim.offset = 3e-3_f64.copysign(sim.offset);
            }
        }
        let largest = sim.track.iter().map(|(_, offset)| offset.abs()).fold(0.0, f64::max);
        worst = worst.max(largest);
        assert!(largest < 5e-3 && sim.steps.is_empty(), "seed {seed}: {largest} {:?}", sim.steps);
        sim.run(120.0);
        assert!(sim.offset.abs() < 300e-6, "seed {seed}: {}", sim.offset);
    }
    println!("the largest offset of all: {:.2} ms", worst * 1e3);
}

#[test]
fn the_frequency_of_a_slew_never_counts_as_the_clocks_own() {
    // The agent is killed in the slew of its first seconds, or in one half a minute later.
    for killed_after in [3.0, 30.0] {
        let mut sim =
            Sim::booted(config(3), 9e-3, vec![honest(), honest(), honest()], BootState::default(), 2);
        sim.oscillator = 100e-6;
        sim.run(killed_after);
        if sim.samples.is_some() {
            sim.offset += 9e-3;
            sim.run(25.0);
        }
        let slewing = sim.kernel_ppm;
        assert!((slewing + 100.0).abs() > 100.0, "{slewing}");
        let known = sim.samples.is_some();
        assert_eq!(known, killed_after > 10.0, "the first saving is early");
        let boot = sim.saved_boots.last().copied().unwrap_or_default();
        sim.end(true);
        sim.pass(2.0);
        let before = sim.rates.len();
        sim.begin_in(boot);
        // The known frequency from the first moment on, or none if it is not known.
        let expected = if known { -100.0 } else { 0.0 };
        assert!((sim.rates[before] - expected).abs() < 5.0, "{}", sim.rates[before]);
    }
}

#[test]
fn the_first_to_answer_after_a_restart_does_not_win_by_default() {
    let mut sim = settled(5);
    sim.end(false);
    let late: fn() -> Script = || Box::new(|now| Behaviour { silent: now < 3610.0, ..HONEST });
    sim.servers = vec![Box::new(|_| Behaviour { offset: 0.5, ..HONEST }), late(), late()];
    assert_eq!(sim.begin(), None);
    for _ in 0..300 {
        sim.run(0.2);
        let liar = &sim.snapshot().sources[0];
        let followed = sim.offset.abs() > 1e-3;
        assert!(!followed, "{} at {}: {liar:?}", sim.offset, sim.now);
    }
    let snapshot = sim.snapshot();
    assert_eq!(
        (snapshot.reason, snapshot.sources[0].state),
        (Reason::Synchronized, SourceState::Falseticker)
    );
}

#[test]
fn a_clock_that_others_stepped_is_measured_anew() {
    let mut sim = settled(6);
    sim.end(false);
    sim.jump(0.05);
    sim.pass(1.0);
    assert_eq!(sim.begin(), Some(Stale::Stepped));
    sim.time_to_synchronize();
    sim.run(200.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);

    let mut sim = settled(6);
    sim.samples = None;
    sim.jump(0.05);
    sim.end(false);
    assert!(sim.samples.is_none(), "saved with a jump that was not seen yet");
}

#[test]
fn another_daemon_that_slewed_meanwhile_is_followed() {
    let mut sim = settled(7);
    sim.end(false);
    let ours = sim.kernel_ppm;
    sim.kernel_ppm = ours + 400.0;
    sim.pass(10.0);
    sim.kernel_ppm = ours;
    assert!(sim.offset > 3e-3);
    assert_eq!(sim.begin(), None);
    assert!(sim.time_to_synchronize() < 0.1);
    let snapshot = sim.snapshot();
    let known = snapshot.offset.expect("synchronised");
    assert!((known - sim.offset).abs() < 300e-6, "{known} {}", sim.offset);
    sim.run(60.0);
    assert!(sim.offset.abs() < 300e-6, "{}", sim.offset);
}

#[test]
fn names_that_resolve_otherwise_lose_their_history_and_nothing_else() {
    let mut sim = settled(8);
    sim.end(false);
    sim.config.sources.rotate_left(1);
    sim.config.sources[0].name = "renamed".to_owned();
    assert_eq!(sim.begin(), None);
    sim.run(5.0);
    assert!(sim.snapshot().synchronized);
    let (_, largest) = sim.error_over(60.0);
    assert!(largest < 500e-6, "{largest}");
}

#[test]
fn a_pools_members_are_found_again_in_whatever_order_the_name_resolves() {
    let mut orders = config(1);
    let host = "pool.example.com".to_owned();
    orders.sources[0].upstream = Upstream::Pool { host, port: 123, max_sources: 3 };
    let mut sim = Sim::booted(orders, 0.02, (0..5).map(|_| honest()).collect(), BootState::default(), 9);
    sim.names = (1..=5).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    sim.run(1800.0);
    let asked = |sim: &Sim| {
        let sources = sim.snapshot().sources;
        sources.iter().filter_map(|source| source.address).collect::<BTreeSet<_>>()
    };
    let before = asked(&sim);
    sim.end(false);
    sim.names.rotate_left(3);
    assert_eq!(sim.begin(), None);
    assert!(sim.time_to_synchronize() < 0.1);
    assert_eq!(asked(&sim), before);
}
