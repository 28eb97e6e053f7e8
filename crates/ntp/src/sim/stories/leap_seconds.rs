//! Leap seconds: applied by the kernel, stepped, slewed, ignored, smeared, and not believed.
use crate::{
    Config, Leap, LeapMode, LeapTable, Mode, SourceState, Transition,
    sim::{Behaviour, HONEST, Path, Script, Sim, config, machine::EPOCH, stories::STARTED},
};

/// When the servers' day ends, seconds after the beginning.
const MIDNIGHT: f64 = 7200.0;

/// 2027-07-01T00:00:00Z.
const JULY: f64 = 1_814_400_000.0;

/// The shift of the simulation's time that makes the day end at that moment.
const SHIFT: f64 = JULY - MIDNIGHT - EPOCH.0 as f64 / 1e9;

/// UTC minus the simulation's time, with a leap second of this kind.
fn utc(leap: Leap, now: f64) -> f64 {
    match leap {
        Leap::Insert if now >= MIDNIGHT => SHIFT - 1.0,
        Leap::Delete if now >= MIDNIGHT - 1.0 => SHIFT + 1.0,
        _ => SHIFT,
    }
}

/// A server that follows UTC, and announces the leap second until it is over.
fn leaping(leap: Leap) -> Script {
    Box::new(move |now| {
        let offset = utc(leap, now);
        Behaviour { offset, leap: if offset == SHIFT { leap } else { Leap::None }, ..HONEST }
    })
}

fn leap_orders(mode: LeapMode) -> Config {
    Config { leap: mode, ..config(3) }
}

fn leap_sim(orders: Config, leap: Leap) -> Sim {
    let mut sim = Sim::booted(orders, SHIFT, vec![leaping(leap), leaping(leap), leaping(leap)], STARTED, 4);
    sim.run(3600.0);
    sim
}

/// A synchronised clock to which a leap second is announced, an hour before it.
pub(super) fn announced(leap: Leap) -> Sim {
    leap_sim(leap_orders(LeapMode::Kernel), leap)
}

/// Servers with the same time that announce no leap second.
pub(super) fn calm(count: usize) -> Vec<Script> {
    (0..count).map(|_| -> Script { Box::new(|_| Behaviour { offset: SHIFT, ..HONEST }) }).collect()
}

fn leaps_announced(sim: &Sim) -> Vec<f64> {
    let by = |announced: &(f64, Transition)| match announced.1 {
        Transition::LeapSecond { by } => Some(by),
        _ => None,
    };
    sim.announced.iter().filter_map(by).collect()
}

fn jumps(sim: &Sim) -> usize {
    sim.announced.iter().filter(|(_, announced)| matches!(announced, Transition::ExternalStep { .. })).count()
}

#[test]
fn a_leap_second_that_kernel_or_agent_does_is_over_at_once() {
    for (mode, leap) in [
        (LeapMode::Kernel, Leap::Insert),
        (LeapMode::Kernel, Leap::Delete),
        (LeapMode::Step, Leap::Insert),
        (LeapMode::Step, Leap::Delete),
    ] {
        let mut sim = leap_sim(leap_orders(mode), leap);
        let announced = if mode == LeapMode::Kernel { leap } else { Leap::None };
        assert_eq!((sim.status.expect("it is told").1, sim.snapshot().leap), (announced, leap), "{mode:?}");
        sim.run(MIDNIGHT - 10.05 - sim.now);
        while sim.now < MIDNIGHT + 1000.0 {
            sim.run(0.1);
            let (snapshot, error) = (sim.snapshot(), sim.offset - utc(leap, sim.now));
            assert!(error.abs() < 1e-3, "{mode:?} {leap:?}: {error} at {}", sim.now);
            assert!(snapshot.synchronized, "{mode:?} {leap:?}: {snapshot:?}");
            assert!(sim.timex().synchronized, "{mode:?} {leap:?}: {:?} at {}", sim.timex(), sim.now);
            let bound = snapshot.error_bound.expect("it is synchronised");
            assert!(error.abs() <= bound, "{error} beyond {bound}");
            for source in snapshot.sources {
                assert!(source.offset.is_some_and(|offset| offset.abs() < 2e-3), "{source:?}");
                assert!(source.jitter.is_some_and(|jitter| jitter < 1e-3), "{source:?}");
            }
        }
        let by = if leap == Leap::Insert { -1.0 } else { 1.0 };
        assert_eq!((leaps_announced(&sim), jumps(&sim)), (vec![by], 0), "{mode:?} {leap:?}");
        let steps = if mode == LeapMode::Step { vec![by] } else { Vec::new() };
        assert_eq!((&sim.steps, sim.snapshot().leap), (&steps, Leap::None), "{mode:?} {leap:?}");
        assert_eq!(sim.status.expect("it is told").1, Leap::None);
    }
}

#[test]
fn answers_on_their_way_through_a_leap_second_are_left_alone() {
    for leap in [Leap::Insert, Leap::Delete] {
        let mut orders = Config { error_bound_threshold: 2.0, ..leap_orders(LeapMode::Kernel) };
        for source in &mut orders.sources {
            (source.min_poll, source.max_poll) = (0, 0);
        }
        let mut sim = leap_sim(orders, leap);
        sim.path = Path { delay: 0.4, jitter: 1e-4, loss: 0.0 };
        sim.run(MIDNIGHT + 60.0 - sim.now);
        let snapshot = sim.snapshot();
        assert!(leaps_announced(&sim).len() == 1 && jumps(&sim) == 0, "{:?}", sim.announced);
        for source in snapshot.sources {
            assert_eq!(source.rejected, 0, "{leap:?}");
            assert!(source.jitter.is_some_and(|jitter| jitter < 1e-3), "{source:?}");
        }
    }
}

#[test]
fn a_server_that_does_its_leap_second_early_or_late_leaves_no_trace() {
    for leap in [Leap::Insert, Leap::Delete] {
        for late in [-0.9, -0.4, -0.05, 0.05, 0.4, 0.9, 2.5] {
            let server: Script = Box::new(move |now| {
                let offset = utc(leap, now - late);
                Behaviour { offset, leap: if offset == SHIFT { leap } else { Leap::None }, ..HONEST }
            });
            let mut orders = Config { max_slew_rate: 5e-3, ..leap_orders(LeapMode::Kernel) };
            orders.sources.truncate(1);
            // So frequent that some replies are off by a second.
            (orders.sources[0].min_poll, orders.sources[0].max_poll) = (0, 1);
            let mut sim = Sim::booted(orders, SHIFT, vec![server], STARTED, 4);
            sim.run(MIDNIGHT + 1.1 - sim.now);
            while sim.now < MIDNIGHT + 120.0 {
                sim.run(0.5);
                let error = sim.offset - utc(leap, sim.now);
                assert!(error.abs() < 1e-3, "{leap:?}, {late} s late: {error} at {}", sim.now - MIDNIGHT);
            }
        }
    }
}

#[test]
fn a_leap_second_that_is_slewed_or_ignored_shows_in_the_offset() {
    for (mode, leap) in [
        (LeapMode::Slew, Leap::Insert),
        (LeapMode::Slew, Leap::Delete),
        (LeapMode::Ignore, Leap::Insert),
        (LeapMode::Ignore, Leap::Delete),
    ] {
        let mut sim = leap_sim(Config { max_slew_rate: 5e-3, ..leap_orders(mode) }, leap);
        assert_eq!((sim.status.expect("it is told").1, sim.snapshot().leap), (Leap::None, leap));
        sim.run(MIDNIGHT - 10.05 - sim.now);
        while sim.now < MIDNIGHT + 400.0 {
            sim.run(0.1);
            let (snapshot, error) = (sim.snapshot(), sim.offset - utc(leap, sim.now));
            assert!(error.abs() < 1.001, "{mode:?} {leap:?}: {error}");
            let bound = snapshot.error_bound.expect("an estimate was used");
            assert!(error.abs() <= bound, "{mode:?} {leap:?}: {error} beyond {bound} at {}", sim.now);
            if mode == LeapMode::Slew && sim.now > MIDNIGHT + 205.0 {
                assert!(error.abs() < 1e-3, "{leap:?}: {error} at {}", sim.now);
            }
        }
        let error = sim.offset - utc(leap, sim.now);
        assert!(error.abs() < 1e-3 && sim.snapshot().synchronized, "{mode:?} {leap:?}: {error}");
        assert!(sim.steps.is_empty() && jumps(&sim) == 0);
        assert_eq!(leaps_announced(&sim).len(), usize::from(mode == LeapMode::Slew));
    }
}

#[test]
fn an_observer_follows_the_leap_second_that_others_do() {
    let orders = Config { mode: Mode::Observe, leap: LeapMode::Step, ..config(3) };
    let mut sim = leap_sim(orders, Leap::Insert);
    sim.run(MIDNIGHT - sim.now);
    sim.jump(-1.0);
    sim.run(10.0);
    let offset = sim.snapshot().offset.expect("it is measured");
    assert!((offset - (sim.offset - utc(Leap::Insert, sim.now))).abs() < 1e-3, "{offset}");
    assert_eq!((leaps_announced(&sim), jumps(&sim)), (vec![-1.0], 0));
}

#[test]
fn a_lone_announcement_is_not_believed_nor_one_on_another_day() {
    let calm: fn() -> Script = || Box::new(|_| Behaviour { offset: SHIFT, ..HONEST });
    let liar: Script = Box::new(|_| Behaviour { offset: SHIFT, leap: Leap::Insert, ..HONEST });
    let mut sim = Sim::booted(config(3), SHIFT, vec![liar, calm(), calm()], STARTED, 4);
    sim.run(MIDNIGHT - 100.0);
    assert_eq!((sim.snapshot().leap, sim.status.expect("it is told").1), (Leap::None, Leap::None));
    sim.run(1000.0);
    assert!((sim.offset - SHIFT).abs() < 1e-3 && leaps_announced(&sim).is_empty());
    // In the middle of January.
    let announcing: fn() -> Script = || Box::new(|_| Behaviour { leap: Leap::Insert, ..HONEST });
    let mut sim = Sim::booted(config(2), 0.0, vec![announcing(), announcing()], STARTED, 4);
    sim.run(600.0);
    assert_eq!((sim.snapshot().leap, sim.status.expect("it is told").1), (Leap::None, Leap::None));
}

#[test]
fn smeared_upstreams_are_followed_and_not_mixed() {
    // Smears a second over 2000 s, like ntpd.
    let smearing: fn() -> Script = || {
        Box::new(|now| Behaviour {
            offset: SHIFT - ((now - MIDNIGHT + 1000.0) / 2000.0).clamp(0.0, 1.0),
            stratum: 2,
            reference_id: [254, 0, 1, 2],
            ..HONEST
        })
    };
    let orders = Config { smeared: true, max_slew_rate: 5e-3, ..config(3) };
    let servers = vec![smearing(), leaping(Leap::Insert), smearing()];
    let mut sim = Sim::booted(orders.clone(), SHIFT, servers, STARTED, 4);
    sim.run(MIDNIGHT);
    assert!((sim.offset - SHIFT + 0.5).abs() < 0.05, "{}", sim.offset - SHIFT);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.leap, snapshot.sources[1].state), (Leap::None, SourceState::Unusable));
    assert!(snapshot.sources[1].why.contains("Mixed: it announces"), "{snapshot:?}");
    sim.run(3000.0);
    assert!((sim.offset - SHIFT + 1.0).abs() < 1e-3, "{}", sim.offset - SHIFT);
    assert!(sim.steps.is_empty() && jumps(&sim) == 0 && leaps_announced(&sim).is_empty());
    // If smearing is not declared, a server that smears is not used.
    let servers = vec![smearing(), leaping(Leap::Insert), leaping(Leap::Insert)];
    let mut sim = Sim::booted(Config { smeared: false, ..orders }, SHIFT, servers, STARTED, 4);
    sim.run(600.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.leap, snapshot.sources[0].state), (Leap::Insert, SourceState::Unusable));
    assert!(snapshot.sources[0].why.contains("254.0.1.2"), "{snapshot:?}");
}

#[test]
fn the_kernels_tai_offset_is_set() {
    let table = |entries: &str| LeapTable::parse(&format!("#@ 4100000000\n{entries}")).expect("a table");
    let mut sim = leap_sim(config(3), Leap::Insert);
    assert_eq!(sim.tai, None);
    // 2017-01-01 and 2027-07-01.
    sim.engine.learn_leap_table(table("3692217600 37\n4023388800 38"));
    sim.run(10.0);
    assert_eq!(sim.tai, Some(37));
    sim.run(MIDNIGHT + 10.0 - sim.now);
    assert_eq!(sim.tai, Some(38));
}
