//! Another program that steers the clock: it is detected within seconds, and the agent only observes while it writes.
//! Changes by the kernel itself are no sign of another program; every other story tests that, too (`sim::rival`).
use proptest::prelude::*;

use super::STARTED;
use crate::{
    Foreign, Leap, Mode, Transition,
    sim::{Sim, Timex, config, honest, stories::leap_seconds},
};

/// A settled clock. Other programs may appear.
fn followed(seed: u64) -> Sim {
    let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, seed);
    // So that the error bound is some milliseconds.
    sim.path.delay = 5e-3;
    sim.run(600.0);
    sim.beside_others(false);
    sim
}

/// Another program acts every `pause` seconds, `times` times. Then another `pause` passes.
fn acts(sim: &mut Sim, times: u32, pause: f64, act: impl Fn(&mut Sim, u32)) {
    for number in 0..times {
        act(sim, number);
        sim.run(pause);
    }
}

/// The ways in which other daemons write.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// chronyd: frequency and status.
    Frequency,
    /// systemd-timesyncd, ntpd: an offset for the kernel's PLL.
    Loop,
    /// openntpd: adjtime.
    Slew,
    /// An administrator's script: only `adjtimex` with a status.
    Status,
    /// Only maxerror.
    Error,
    /// A guest agent: steps.
    Step,
}

/// Another program writes. The values depend on `number`.
fn writes(sim: &mut Sim, way: Way, number: u32) {
    let even = if number.is_multiple_of(2) { 1.0 } else { -1.0 };
    let (wall, timex) = (sim.clocks().wall, sim.timex());
    match way {
        Way::Frequency => sim.kernel_ppm = -30.0 + even * (1.0 + f64::from(number)),
        Way::Loop => {
            sim.kernel.tell(Timex { synchronized: true, max_error: 0.05, ..timex }, wall);
            (sim.kernel.steered, sim.kernel.slew) = (true, 2e-4 * even);
        }
        Way::Slew => sim.kernel.slew = 2e-4 * even,
        Way::Status => sim.kernel.tell(Timex { leap: Leap::Insert, max_error: 0.5, ..timex }, wall),
        Way::Error => sim.kernel.tell(Timex { max_error: timex.max_error / 2.0, ..timex }, wall),
        Way::Step => sim.jump(0.02 * even),
    }
}

fn conflicts(sim: &Sim) -> Vec<(f64, Foreign)> {
    let sign = |(at, announced): &(f64, Transition)| match announced {
        Transition::Conflict(sign) => Some((*at, *sign)),
        _ => None,
    };
    sim.announced.iter().filter_map(sign).collect()
}

fn ends(sim: &Sim) -> Vec<f64> {
    let ended =
        |(at, announced): &(f64, Transition)| (*announced == Transition::ConflictEnded).then_some(*at);
    sim.announced.iter().filter_map(ended).collect()
}

/// Returns true if the agent touched the clock between two times.
fn touched(sim: &Sim, from: f64, to: f64) -> bool {
    sim.watch.touched.iter().any(|at| (from..to).contains(at))
}

#[test]
fn each_way_to_steer_is_noticed_and_left_alone() {
    let check = |way: Way, within: f64, expected: &[Foreign]| {
        let mut sim = followed(3);
        let begin = sim.now;
        acts(&mut sim, 20, 16.0, |sim, number| writes(sim, way, number));
        let seen = conflicts(&sim);
        assert!(seen.len() == 1 && expected.contains(&seen[0].1), "{way:?}: {seen:?}");
        assert!(seen[0].0 - begin <= within, "{way:?}: noticed after {} s", seen[0].0 - begin);
        assert!(!touched(&sim, seen[0].0 + 1e-6, sim.now), "{way:?}: it writes on");
        let snapshot = sim.snapshot();
        assert_eq!((snapshot.kernel_frequency_ppm, snapshot.offset.is_some()), (0.0, true), "{way:?}");
    };
    check(Way::Frequency, 3.0, &[Foreign::Frequency]);
    check(Way::Loop, 3.0, &[Foreign::Slew]);
    check(Way::Slew, 3.0, &[Foreign::Slew]);
    // The agent's next write would hide these signs. It checks before it writes.
    check(Way::Status, 18.0, &[Foreign::Status]);
    check(Way::Error, 18.0, &[Foreign::Error]);
    check(Way::Step, 18.0, &[Foreign::Step]);
}

#[test]
fn the_slew_ends_with_the_agent_unless_another_program_set_the_frequency() {
    for way in [Way::Loop, Way::Slew, Way::Status, Way::Step, Way::Frequency] {
        let mut sim = followed(4);
        let base = sim.snapshot().frequency_ppm;
        // True time moves, so that the engine slews at the largest rate.
        sim.offset += 0.2;
        while (sim.kernel_ppm - sim.snapshot().frequency_ppm).abs() < 499.0 {
            sim.run(1.0);
            assert!(sim.now < 1000.0, "{:?}", sim.snapshot());
        }
        acts(&mut sim, 3, 16.0, |sim, number| writes(sim, way, number));
        assert_eq!(conflicts(&sim).len(), 1, "{way:?}: {:?}", sim.announced);
        let expected = if matches!(way, Way::Frequency) { -27.0 } else { base };
        // The engine's frequency has improved slightly by now.
        assert!((sim.kernel_ppm - expected).abs() < 2.0, "{way:?}: {} for {expected}", sim.kernel_ppm);
    }
}

#[test]
fn a_conflict_is_over_without_foreign_writes_and_the_clock_is_slewed() {
    for way in [Way::Frequency, Way::Loop, Way::Slew, Way::Status, Way::Error, Way::Step] {
        let mut sim = followed(5);
        // The other program writes for three minutes.
        acts(&mut sim, 12, 16.0, |sim, number| writes(sim, way, number));
        let (last, steps) = (sim.now - 16.0, sim.steps.len());
        sim.run(85.0);
        let ended = ends(&sim);
        assert!(ended.len() == 1 && (74.0..79.0).contains(&(ended[0] - last)), "{way:?}: {ended:?} {last}");
        sim.run(900.0);
        assert_eq!(conflicts(&sim).len(), 1, "{way:?}: it takes its own writes for another process's");
        assert!(sim.snapshot().synchronized && sim.timex().synchronized, "{way:?}: {:?}", sim.snapshot());
        assert!(sim.offset.abs() < 1e-3, "{way:?}: {}", sim.offset);
        assert_eq!(sim.steps.len(), steps, "{way:?}: {:?}", sim.steps);
        assert!(!sim.kernel.steered && sim.kernel.slew == 0.0, "{way:?}: the kernel's loop goes on");
    }
}

#[test]
fn a_step_each_minute_is_restored_only_once() {
    let mut sim = followed(6);
    let begin = sim.now;
    acts(&mut sim, 10, 60.0, |sim, _| sim.jump(3.0));
    assert_eq!(sim.steps.len(), 1, "{:?}", sim.steps);
    let [(at, Foreign::Step)] = conflicts(&sim)[..] else { panic!("{:?}", sim.announced) };
    assert!((60.0..63.0).contains(&(at - begin)), "{at}");
    // The other program left the clock off by 27 s: outside the start phase no step is allowed, so it is slewed.
    let offset = sim.offset;
    sim.run(600.0);
    assert_eq!((ends(&sim).len(), sim.steps.len()), (1, 1));
    assert!(sim.offset < offset - 0.2, "{} after {offset}", sim.offset);
}

#[test]
fn a_visible_program_extends_the_conflict() {
    let mut sim = followed(7);
    sim.beside_others(true);
    acts(&mut sim, 12, 16.0, |sim, number| writes(sim, Way::Frequency, number));
    let last = sim.now - 16.0;
    sim.run(1000.0);
    assert_eq!(ends(&sim), []);
    sim.beside_others(false);
    sim.run(2.0);
    assert_eq!(ends(&sim).len(), 1, "it has ended");

    let mut sim = followed(7);
    sim.beside_others(true);
    acts(&mut sim, 12, 16.0, |sim, number| writes(sim, Way::Frequency, number));
    sim.run(1300.0);
    assert!(ends(&sim).len() == 1 && ends(&sim)[0] - last >= 1199.0, "{:?}", ends(&sim));
}

#[test]
fn repeated_conflicts_last_longer_and_longer() {
    let mut sim = followed(8);
    // A program that writes every 1000 s and is not seen to run: about chronyd's longest poll interval.
    acts(&mut sim, 40, 1000.0, |sim, number| writes(sim, Way::Frequency, number));
    let times = conflicts(&sim).len();
    assert_eq!(times, 5, "75, 150, 300, 600 s, and then never: {:?}", conflicts(&sim));
}

#[test]
fn an_observer_has_no_conflict_and_a_beginner_takes_over() {
    let mut sim = followed(9);
    sim.reconfigure(crate::Config { mode: Mode::Observe, ..config(3) });
    acts(&mut sim, 10, 16.0, |sim, number| writes(sim, Way::Loop, number));
    acts(&mut sim, 10, 16.0, |sim, number| writes(sim, Way::Frequency, number));
    assert_eq!(conflicts(&sim), []);
    sim.reconfigure(config(3));
    sim.run(300.0);
    assert_eq!((conflicts(&sim), sim.snapshot().synchronized), (Vec::new(), true));

    // Another agent starts, and another daemon wrote in between.
    writes(&mut sim, Way::Loop, 1);
    writes(&mut sim, Way::Frequency, 1);
    sim.restart(STARTED);
    sim.run(300.0);
    assert_eq!((conflicts(&sim), sim.snapshot().synchronized), (Vec::new(), true));
}

#[test]
fn orders_to_observe_end_a_conflict_and_so_does_an_agents_end() {
    let fought = |seed| {
        let mut sim = followed(seed);
        acts(&mut sim, 3, 16.0, |sim, number| writes(sim, Way::Frequency, number));
        assert_eq!((conflicts(&sim).len(), ends(&sim).len()), (1, 0));
        sim
    };
    let mut sim = fought(10);
    let theirs = sim.kernel_ppm;
    sim.reconfigure(crate::Config { mode: Mode::Observe, ..config(3) });
    assert_eq!((ends(&sim).len(), sim.kernel_ppm), (1, theirs));
    let mut sim = fought(11);
    let (theirs, word) = (sim.kernel_ppm, sim.timex());
    let before = sim.watch.touched.len();
    sim.end(false);
    assert_eq!((sim.kernel_ppm, sim.timex(), sim.watch.touched.len()), (theirs, word, before));
}

#[test]
fn changes_by_the_kernel_itself_are_no_sign() {
    // Nine hours without the agent: maxerror has reached 16 s, and the kernel is unsynchronised.
    let mut sim = followed(12);
    sim.pass(40_000.0);
    assert!(!sim.timex().synchronized);
    sim.run(600.0);
    assert_eq!((conflicts(&sim), sim.snapshot().synchronized), (Vec::new(), true));
    // The kernel's leap second.
    for leap in [Leap::Insert, Leap::Delete] {
        let mut sim = leap_seconds::announced(leap);
        sim.beside_others(false);
        sim.run(2.0 * 3600.0);
        assert!(
            sim.announced.iter().any(|(_, announced)| matches!(announced, Transition::LeapSecond { .. })),
            "{leap:?}"
        );
        assert_eq!(conflicts(&sim), [], "{leap:?}");
    }
    // A step by another program, and the agent's step after it.
    let mut sim = followed(13);
    sim.jump(3600.0);
    sim.run(600.0);
    assert_eq!((conflicts(&sim), sim.steps.len()), (Vec::new(), 1));
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Frequency),
        Just(Way::Loop),
        Just(Way::Slew),
        Just(Way::Status),
        Just(Way::Error),
        Just(Way::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Another program writes at random intervals, at least twice a minute: its second write is detected within
    /// seconds. From then on the agent writes nothing until the other program has been silent for a minute.
    #[test]
    fn two_writers_never_fight(
        way in ways(),
        pauses in proptest::collection::vec(1.5..29.0_f64, 3..20),
        silence in 20.0..150.0_f64,
        seed in 1_u64..1000,
    ) {
        let mut sim = followed(seed);
        let mut written = Vec::new();
        for (number, pause) in pauses.iter().enumerate() {
            // Once it pauses for longer, perhaps long enough that the agent steers again.
            let pause = if number == pauses.len() / 2 { silence } else { *pause };
            writes(&mut sim, way, number as u32);
            written.push(sim.now);
            sim.run(pause);
        }
        let seen = conflicts(&sim);
        prop_assert!(!seen.is_empty() && seen[0].0 <= written[1] + 3.0, "{seen:?} {written:?}");
        for touch in &sim.watch.touched {
            let recent: Vec<_> = written.iter().filter(|at| (*touch - 74.0..*touch - 3.0).contains(at)).collect();
            prop_assert!(recent.len() < 2, "we write at {touch}, he did at {recent:?}");
        }
    }
}
