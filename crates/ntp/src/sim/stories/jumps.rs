//! Large corrections after the start: another process moved the clock, or the servers demand too much.
use super::STARTED;
use crate::{
    Config, Event, LocalClock, Mode, Now, OnExternalStep, Reason, StepReason, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

/// A clock that was steered for half an hour with three equal servers.
pub(super) fn settled(orders: Config, server: fn() -> Script) -> Sim {
    let mut sim = Sim::booted(orders, 0.0, vec![server(), server(), server()], STARTED, 5);
    sim.run(1800.0);
    assert!(sim.snapshot().synchronized && sim.steps.is_empty());
    sim
}

pub(super) fn orders(policy: OnExternalStep) -> Config {
    Config { on_external_step: policy, ..config(3) }
}

pub(super) const RESTORE: OnExternalStep = OnExternalStep::Restore;

/// A server that is silent for half an hour after half an hour.
pub(super) fn silent_later() -> Script {
    Box::new(|now| Behaviour { silent: (1795.0..3600.0).contains(&now), ..HONEST })
}

impl Sim {
    /// The reported external steps, and the announced reactions.
    pub(super) fn external(&self) -> Vec<(f64, Option<OnExternalStep>)> {
        let jump = |(_, announced): &(f64, Transition)| match announced {
            Transition::ExternalStep { by, then } => Some((*by, *then)),
            _ => None,
        };
        self.announced.iter().filter_map(jump).collect()
    }

    pub(super) fn stepped(&self, reason: StepReason) -> usize {
        let is =
            |announced: &Transition| matches!(announced, Transition::Stepped { why, .. } if *why == reason);
        self.announced.iter().filter(|(_, announced)| is(announced)).count()
    }

    pub(super) fn resumed(&self) -> usize {
        self.announced.iter().filter(|(_, announced)| matches!(announced, Transition::Resumed(_))).count()
    }

    /// Runs, and returns for how many seconds the offset was larger than `limit`.
    fn off_for(&mut self, seconds: f64, limit: f64) -> f64 {
        let (end, mut off) = (self.now + seconds, 0.0);
        while self.now < end {
            self.run(0.25);
            off += if self.offset.abs() > limit { 0.25 } else { 0.0 };
        }
        off
    }
}

#[test]
fn a_correction_beyond_max_change_is_refused_and_reported_once() {
    let mut orders = config(3);
    orders.max_change = 0.5;
    let leaps: fn() -> Script = || {
        Box::new(|now| Behaviour { offset: if (300.0..900.0).contains(&now) { 2.0 } else { 0.0 }, ..HONEST })
    };
    let mut sim = Sim::booted(orders, 0.0, vec![leaps(), leaps(), leaps()], STARTED, 3);
    sim.run(800.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::MaxChange));
    assert!((snapshot.offset.expect("it is measured") + 2.0).abs() < 1e-2, "{snapshot:?}");
    assert!(sim.offset.abs() < 0.02, "{}", sim.offset);
    let refused =
        |announced: &&(f64, Transition)| matches!(announced.1, Transition::CorrectionRefused { .. });
    assert_eq!(sim.announced.iter().filter(refused).count(), 1);
    sim.run(500.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn an_hour_is_taken_back_within_seconds_and_the_frequency_is_kept() {
    for by in [3600.0, -3600.0] {
        let mut sim = settled(orders(RESTORE), honest);
        let frequency = sim.snapshot().frequency_ppm;
        sim.jump(by);
        // The engine checks every second.
        sim.run(1.1);
        let snapshot = sim.snapshot();
        assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::UnexplainedJump));
        assert!(matches!(sim.status, Some((false, _, _))));
        assert!(matches!(sim.external()[..], [(jump, Some(RESTORE))] if (jump - by).abs() < 1e-3));
        let off = sim.off_for(60.0, 1e-3);
        assert!(off < 10.0, "{off}");
        assert_eq!((sim.steps.len(), sim.stepped(StepReason::ExternalStep)), (1, 1), "{:?}", sim.steps);
        assert!((sim.steps[0] + by).abs() < 5e-3, "{:?}", sim.steps);
        let snapshot = sim.snapshot();
        assert_eq!((snapshot.reason, snapshot.steps), (Reason::Synchronized, 0));
        assert!((snapshot.frequency_ppm - frequency).abs() < 1.0, "{} {frequency}", snapshot.frequency_ppm);
        let (_, largest) = sim.error_over(1800.0);
        assert!(largest < 1e-3 && sim.steps.len() == 1, "{largest}");
    }
}

#[test]
fn with_accept_the_clock_continues_from_the_new_time_and_slews() {
    for by in [3600.0, -3600.0] {
        let mut sim = settled(orders(OnExternalStep::Accept), honest);
        sim.jump(by);
        sim.run(60.0);
        assert_eq!(sim.snapshot().reason, Reason::MaxChange);
        sim.run(3600.0);
        assert!(sim.steps.is_empty() && (sim.offset - by).abs() < 0.01, "{}", sim.offset);
    }
    let mut sim = settled(orders(OnExternalStep::Accept), honest);
    sim.jump(0.05);
    sim.run(20.0);
    assert!(sim.snapshot().synchronized, "{:?}", sim.snapshot());
    sim.run(200.0);
    assert!(sim.offset.abs() < 1e-3 && sim.steps.is_empty(), "{}", sim.offset);
}

#[test]
fn with_report_the_clock_is_left_alone_until_another_process_corrects_it() {
    for by in [3600.0, -0.5] {
        let mut sim = settled(orders(OnExternalStep::Report), honest);
        sim.jump(by);
        sim.run(20.0);
        let rates = sim.rates.len();
        let before = sim.offset;
        sim.run(1200.0);
        let snapshot = sim.snapshot();
        assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::ExternalStep));
        assert!((snapshot.offset.expect("it is measured") - by).abs() < 0.01, "{snapshot:?}");
        assert!((sim.offset - before).abs() < 2e-3 && sim.rates.len() == rates, "{}", sim.offset);
        sim.jump(-by);
        sim.run(60.0);
        assert_eq!(sim.snapshot().reason, Reason::Synchronized);
        assert!(sim.offset.abs() < 2e-3 && sim.steps.is_empty(), "{}", sim.offset);
    }
}

#[test]
fn other_orders_end_what_was_left_alone() {
    let mut sim = settled(orders(OnExternalStep::Report), honest);
    sim.jump(3600.0);
    sim.run(600.0);
    sim.reconfigure(Config { max_change: 900.0, ..orders(OnExternalStep::Report) });
    sim.run(200.0);
    assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::ExternalStep, 0));
    sim.reconfigure(orders(RESTORE));
    let off = sim.off_for(60.0, 1e-3);
    assert!(off < 4.0 && sim.steps.len() == 1, "{off}");
}

#[test]
fn answers_from_before_the_clock_was_taken_back_are_taken_along() {
    let late: fn() -> Script =
        || Box::new(|now| Behaviour { silent: (1799.0..1813.5).contains(&now), ..HONEST });
    let mut wanted = orders(RESTORE);
    for source in &mut wanted.sources {
        (source.min_poll, source.max_poll) = (1, 1);
    }
    let mut sim = settled(wanted, late);
    sim.jump(3600.0);
    sim.run(15.5);
    assert_eq!((sim.steps.len(), sim.snapshot().sources[0].detail.samples.is_empty()), (0, false));
    for _ in 0..120 {
        sim.run(0.5);
        let snapshot = sim.snapshot();
        let measured = snapshot.sources.iter().filter_map(|source| source.offset);
        if !sim.steps.is_empty() {
            assert!(measured.into_iter().all(|offset| offset.abs() < 5e-3), "{snapshot:?}");
            assert!(snapshot.synchronized && sim.offset.abs() < 2e-3, "{}", sim.offset);
        }
    }
    assert_eq!(sim.steps.len(), 1, "{:?}", sim.steps);
}

#[test]
fn one_odd_reading_is_no_jump() {
    let moved: fn() -> Script =
        || Box::new(|now| Behaviour { offset: if now < 1700.0 { 0.0 } else { 0.2 }, ..HONEST });
    for odd in [3600.0, -3600.0, 0.005] {
        let mut sim = settled(Config { error_bound_threshold: 1.0, ..orders(RESTORE) }, moved);
        assert!(sim.kernel_ppm - sim.snapshot().frequency_ppm > 400.0, "it is slewing");
        // The engine is not called until the slew should have ended; then the first comparison is suspicious.
        sim.pass((0.2 - sim.offset) / 500e-6 + 5.0);
        let now = sim.clocks();
        let odd = Now { wall: now.wall.plus(odd), mono: now.mono };
        assert!(sim.engine.handle(Event::Wakeup, odd).is_empty(), "nothing is done before the second look");
        assert_eq!(sim.engine.next_wakeup(odd), odd.mono);
        for _ in 0..200 {
            sim.run(1.0);
            assert!(sim.snapshot().synchronized && (sim.offset - 0.2).abs() < 0.01, "{}", sim.offset);
        }
        assert!(sim.external().is_empty() && sim.steps.is_empty());
    }
}

#[test]
fn a_jump_without_answers_is_taken_back_as_it_was_measured() {
    for by in [3600.0, -3600.0] {
        let mut sim = settled(orders(RESTORE), silent_later);
        let before = sim.offset;
        sim.jump(by);
        sim.run(14.0);
        assert!(sim.steps.is_empty() && sim.snapshot().reason == Reason::UnexplainedJump);
        sim.run(4.0);
        assert!((sim.offset - before).abs() < 2e-3, "{}", sim.offset);
        let bound = sim.snapshot().error_bound.expect("it holds over");
        assert!(bound > 1e-3, "a jump cannot be measured to the last digit: {bound}");
        for _ in 0..1500 {
            sim.run(1.0);
            let snapshot = sim.snapshot();
            let bound = snapshot.error_bound.expect("it holds over");
            assert!(snapshot.synchronized && sim.offset.abs() <= bound, "{} {bound}", sim.offset);
            assert!(bound < 0.1, "{bound}");
        }
        assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::Holdover, 1));
        sim.run(600.0);
        assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::Synchronized, 1));
        assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    }
    // The configuration changes while no server answers.
    let mut sim = settled(orders(OnExternalStep::Report), silent_later);
    sim.jump(3600.0);
    sim.run(20.0);
    sim.reconfigure(orders(RESTORE));
    sim.run(20.0);
    assert!(sim.offset.abs() < 2e-3 && sim.steps.len() == 1, "{}", sim.offset);
    // The clock is left alone until the sources are back. Then they must be believed.
    let mut sim = settled(orders(OnExternalStep::Report), silent_later);
    sim.jump(3600.0);
    sim.run(20.0);
    assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::ExternalStep, 0));
    sim.jump(-3600.0);
    sim.run(20.0);
    assert!(sim.snapshot().synchronized, "{:?}", sim.snapshot());
}

#[test]
fn a_jump_during_a_slew_costs_neither_the_slew_nor_the_truth() {
    let moved: fn() -> Script =
        || Box::new(|now| Behaviour { offset: if now < 1700.0 { 0.0 } else { 0.2 }, ..HONEST });
    let silent: fn() -> Script = || {
        Box::new(|now| Behaviour {
            offset: if now < 1700.0 { 0.0 } else { 0.2 },
            silent: (1890.0..3000.0).contains(&now),
            ..HONEST
        })
    };
    for (server, policy, steps) in
        [(moved, RESTORE, 1), (moved, OnExternalStep::Accept, 0), (silent, RESTORE, 1)]
    {
        let mut sim = settled(Config { error_bound_threshold: 1.0, ..orders(policy) }, server);
        sim.run(100.0);
        assert!(sim.kernel_ppm - sim.snapshot().frequency_ppm > 400.0, "it is slewing");
        sim.jump(if policy == OnExternalStep::Accept { -0.1 } else { -3600.0 });
        sim.run(1.1);
        for _ in 0..2400 {
            sim.run(0.25);
            let snapshot = sim.snapshot();
            if let Some(bound) = snapshot.error_bound {
                let error = (sim.offset - 0.2).abs();
                assert!(error <= bound, "{error} {bound} at {}", sim.now);
            }
        }
        assert_eq!(sim.steps.len(), steps, "{:?}", sim.steps);
        assert!((sim.offset - 0.2).abs() < 5e-3, "{}", sim.offset);
        // The offset by the sources is stepped as a whole, also if it is beyond `max_change`.
        let answered = sim.steps.iter().all(|by| *by > 3600.1);
        assert_eq!(answered, sim.snapshot().reason == Reason::Synchronized, "{:?}", sim.steps);
    }
}

#[test]
fn jumps_before_the_answer_are_taken_back_together() {
    for server in [honest, silent_later] {
        let mut sim = settled(orders(RESTORE), server);
        let before = sim.offset;
        sim.jump(3600.0);
        sim.run(2.5);
        sim.jump(-7200.0);
        sim.run(1.5);
        sim.jump(100.0);
        sim.run(30.0);
        assert_eq!((sim.external().len(), sim.steps.len()), (3, 1), "{:?}", sim.steps);
        assert!((sim.steps[0] - 3500.0).abs() < 0.01, "{:?}", sim.steps);
        assert!((sim.offset - before).abs() < 3e-3, "{}", sim.offset);
        // A jump there and back leaves nothing to undo.
        sim.jump(1.0);
        sim.run(2.5);
        sim.jump(-1.0);
        sim.run(30.0);
        assert!(sim.steps.len() == 1 && sim.snapshot().synchronized, "{:?}", sim.steps);
    }
}

#[test]
fn a_correction_of_a_refused_clock_by_another_process_stays() {
    let ahead: fn() -> Script =
        || Box::new(|now| Behaviour { offset: if now < 1900.0 { 0.0 } else { 2000.0 }, ..HONEST });
    let mut sim = settled(orders(RESTORE), ahead);
    sim.run(1200.0);
    assert_eq!(sim.snapshot().reason, Reason::MaxChange);
    sim.jump(1999.5);
    sim.run(60.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert!((sim.offset - 2000.0).abs() < 1e-3, "{}", sim.offset);
    assert_eq!(sim.steps.len(), 1, "{:?}", sim.steps);
}

#[test]
fn a_jump_is_taken_back_although_the_sources_want_too_much() {
    let ahead: fn() -> Script =
        || Box::new(|now| Behaviour { offset: if now < 1800.0 { 0.0 } else { 5000.0 }, ..HONEST });
    let mut sim = settled(orders(RESTORE), ahead);
    let before = sim.offset;
    sim.jump(-3600.0);
    sim.run(120.0);
    assert!((sim.offset - before).abs() < 0.01, "{}", sim.offset);
    assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::MaxChange, 1));
}

#[test]
fn without_upstreams_a_jump_is_also_taken_back() {
    for (policy, left) in [(RESTORE, 0.0), (OnExternalStep::Accept, 3600.0), (OnExternalStep::Report, 3600.0)]
    {
        let local = Some(LocalClock { stratum: 10, orphan: false, activate_after: 0.0 });
        let mut sim = Sim::new(Config { local, on_external_step: policy, ..config(0) }, 0.0, Vec::new());
        sim.oscillator = 0.0;
        sim.run(100.0);
        sim.jump(3600.0);
        sim.run(13.0);
        assert!(sim.steps.is_empty() && sim.external().len() == 1);
        sim.run(20.0);
        assert!((sim.offset - left).abs() < 2e-3, "{}", sim.offset);
        // A clock that is left ahead by an hour is known to be wrong.
        let served = (policy != OnExternalStep::Report).then_some(10);
        assert_eq!(sim.engine.local_stratum(sim.clocks()), served, "{policy:?}");
    }
}

#[test]
fn an_observer_only_says_what_happened() {
    let mut sim = settled(Config { mode: Mode::Observe, ..orders(RESTORE) }, honest);
    sim.jump(3600.0);
    sim.run(1.1);
    assert_eq!(sim.snapshot().reason, Reason::UnexplainedJump);
    assert!(matches!(sim.external()[..], [(_, None)]), "{:?}", sim.announced);
    sim.run(60.0);
    assert!((sim.offset - 3600.0).abs() < 0.2, "{}", sim.offset);
    sim.jump(-3600.0);
    sim.run(60.0);
    assert!(sim.snapshot().synchronized);
    sim.pause(1200.0, None);
    sim.run(90.0);
    assert!(sim.resumed() == 1 && sim.steps.is_empty() && sim.rates.is_empty(), "{:?}", sim.announced);
}

#[test]
fn in_the_start_phase_a_jump_is_a_step_like_others() {
    let mut sim = Sim::new(config(3), 0.0, vec![honest(), honest(), honest()]);
    sim.run(0.5);
    sim.jump(3600.0);
    sim.run(30.0);
    assert_eq!((sim.stepped(StepReason::Start), sim.steps.len()), (1, 1));
    assert!(sim.offset.abs() < 1e-3 && sim.snapshot().steps == 1, "{}", sim.offset);
}

#[test]
fn a_step_that_the_kernel_refuses_is_not_repeated_forever() {
    let mut sim = settled(Config { max_change: 3600.0, ..orders(RESTORE) }, honest);
    sim.stubborn = true;
    sim.jump(100.0);
    sim.run(600.0);
    assert_eq!((sim.steps.len(), sim.external().len()), (1, 1));
    assert!((99.0..100.0).contains(&sim.offset), "{}", sim.offset);
}
