//! The result of adjtimex in each state of the agent and after its end: for programs that read the kernel's status
//! (timedatectl, node_exporter), and for the next agent. docs/agent.md has the same as a table.
use super::STARTED;
use crate::{
    Action, BootState, Config, Event, Leap, LeapTable, LocalClock, Mode, OnExternalStep, Reason,
    sim::{Behaviour, HONEST, Script, Sim, Timex, ahead, config, honest, stories::leap_seconds},
};

/// Runs, and compares the kernel's status with the agent's and with the truth, four times a second.
fn watch(sim: &mut Sim, seconds: f64) {
    let end = sim.now + seconds;
    while sim.now < end {
        sim.run(0.25);
        holds(sim);
    }
}

#[track_caller]
fn holds(sim: &Sim) {
    let (timex, snapshot) = (sim.timex(), sim.snapshot());
    // A node that serves its own clock has no true time, so the kernel's status is unsynchronised.
    let synchronized = snapshot.synchronized && snapshot.reason != Reason::LocalClock;
    assert_eq!(timex.synchronized, synchronized, "{timex:?} {snapshot:?} at {}", sim.now);
    is_true(sim, timex);
}

/// Checks that the status is true, and that all readers draw the same conclusion.
#[track_caller]
fn is_true(sim: &Sim, timex: Timex) {
    if timex.synchronized {
        assert!(sim.offset.abs() <= timex.max_error, "{} beyond {timex:?} at {}", sim.offset, sim.now);
        assert!(timex.estimated_error <= timex.max_error && timex.max_error < 16.0, "{timex:?}");
    } else {
        // node_exporter's alert and timedatectl read maxerror.
        assert_eq!((timex.max_error, timex.leap), (16.0, Leap::None), "at {}", sim.now);
    }
}

fn silent_from(at: f64) -> Script {
    Box::new(move |now| Behaviour { silent: now >= at, ..HONEST })
}

fn turning_at(at: f64, offset: f64) -> Script {
    Box::new(move |now| Behaviour { offset: if now < at { 0.0 } else { offset }, ..HONEST })
}

#[test]
fn from_a_boot_to_holdover_and_back() {
    for seed in 1..=5 {
        let silent =
            || -> Script { Box::new(|now| Behaviour { silent: (600.0..3600.0).contains(&now), ..HONEST }) };
        let orders = Config { error_bound_threshold: 0.02, ..config(3) };
        let servers = vec![silent(), silent(), silent()];
        let mut sim = Sim::booted(orders, 3.0, servers, BootState::default(), seed);
        assert_eq!((sim.timex().synchronized, sim.timex().max_error), (false, 16.0));
        watch(&mut sim, 600.0);
        let steady = sim.timex();
        assert!(
            steady.synchronized && steady.max_error < 0.01 && steady.estimated_error < 1e-3,
            "{steady:?}"
        );
        watch(&mut sim, 900.0);
        let held = sim.timex();
        assert_eq!(sim.snapshot().reason, Reason::Holdover);
        assert!(held.max_error > steady.max_error + 5e-3, "{held:?} after {steady:?}");
        assert!(held.estimated_error > steady.estimated_error, "{held:?} after {steady:?}");
        watch(&mut sim, 2000.0);
        assert_eq!(sim.snapshot().reason, Reason::ErrorBound);
        watch(&mut sim, 600.0);
        assert!(sim.timex().synchronized, "{:?}", sim.snapshot());
    }
}

#[test]
fn every_reason_to_be_unsynchronised_is_reported_at_once() {
    let check = |expected: Reason, change: &dyn Fn(&mut Config), servers: Vec<Script>| {
        let mut orders = config(servers.len());
        change(&mut orders);
        let mut sim = Sim::booted(orders, 0.0, servers, STARTED, 3);
        let mut seen = false;
        for _ in 0..4 * 1500 {
            sim.run(0.25);
            let reason = sim.snapshot().reason;
            // In its first second an agent keeps the status of the agent before it in this boot.
            if reason != Reason::Starting {
                holds(&sim);
            }
            seen |= reason == expected;
        }
        assert!(seen, "{expected:?}: {:?}", sim.snapshot());
    };
    let nothing = |_: &mut Config| {};
    check(Reason::NoUpstreams, &nothing, Vec::new());
    check(Reason::Unreachable, &nothing, vec![silent_from(0.0)]);
    check(Reason::NoMajority, &nothing, vec![honest(), turning_at(300.0, 0.5)]);
    check(
        Reason::TooFewSources,
        &|orders| orders.min_sources = 3,
        vec![honest(), honest(), turning_at(300.0, 0.5)],
    );
    check(
        Reason::RequiredMissing,
        &|orders| orders.sources[0].require = true,
        vec![turning_at(300.0, 0.5), honest(), honest()],
    );
    check(Reason::ErrorBound, &|orders| orders.error_bound_threshold = 5e-3, vec![silent_from(300.0)]);
    check(Reason::MaxChange, &|orders| orders.max_change = 0.1, vec![turning_at(300.0, 2.0)]);
    let orphan = LocalClock { stratum: 10, orphan: true, activate_after: 60.0 };
    check(Reason::LocalClock, &|orders| orders.local = Some(orphan), vec![silent_from(0.0)]);
}

#[test]
fn a_sign_is_never_hidden_by_an_own_write() {
    for by in [-3600.0, 0.05, 7200.0] {
        let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, 3);
        sim.run(300.3);
        sim.jump(by);
        // Not even between the two comparisons of the clocks.
        for _ in 0..2000 {
            sim.run(1e-3);
            is_true(&sim, sim.timex());
        }
        assert!(!sim.snapshot().synchronized);

        let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, 3);
        sim.run(300.0);
        sim.pass(2.0);
        sim.jump(by);
        let actions = sim.engine.handle(Event::Wakeup, sim.clocks());
        let announced =
            actions.iter().any(|action| matches!(action, Action::SetStatus { synchronized: true, .. }));
        assert!(!announced, "{actions:?}");
        sim.restart(STARTED);
        assert!(!sim.timex().synchronized, "it ended before the second look");
    }
}

#[test]
fn after_a_foreign_step_the_kernel_knows_what_the_agent_knows() {
    for policy in [OnExternalStep::Restore, OnExternalStep::Accept, OnExternalStep::Report] {
        let orders = Config { on_external_step: policy, ..config(3) };
        let mut sim = Sim::booted(orders, 0.0, vec![honest(), honest(), honest()], STARTED, 3);
        sim.run(300.3);
        sim.jump(0.05);
        sim.run(1.1);
        watch(&mut sim, 300.0);
        assert_eq!(sim.timex().synchronized, policy != OnExternalStep::Report, "{policy:?}");
    }
}

#[test]
fn an_agent_that_ends_leaves_the_truth_and_no_slew() {
    for seed in 1..=5 {
        let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, seed);
        sim.run(600.0);
        slew(&mut sim);
        let base = sim.snapshot().frequency_ppm;
        sim.restart(STARTED);
        assert_eq!(sim.kernel_ppm, base);
        assert!(sim.timex().synchronized && sim.timex().max_error >= sim.offset.abs(), "{:?}", sim.timex());
        // The next agent, seconds later: synchronised all the time.
        for _ in 0..200 {
            sim.run(0.05);
            assert!(sim.timex().synchronized, "{:?}", sim.snapshot());
            is_true(&sim, sim.timex());
        }
        // An agent that ends before its first reply changes nothing.
        sim.restart(STARTED);
        sim.restart(STARTED);
        assert!(sim.timex().synchronized);
        abandon(&mut sim);
    }
}

/// Moves true time by 20 ms. The clock follows at the largest rate.
fn slew(sim: &mut Sim) {
    let end = sim.now + 200.0;
    sim.offset += 0.02;
    while (sim.kernel_ppm - sim.snapshot().frequency_ppm).abs() < 499.0 {
        sim.run(1.0);
        assert!(sim.now < end, "{:?}", sim.snapshot());
    }
}

/// No agent runs any more: the kernel's bound must hold until it becomes unsynchronised.
fn abandon(sim: &mut Sim) {
    let begin = sim.now;
    while sim.timex().synchronized {
        sim.pass(60.0);
        is_true(sim, sim.timex());
        assert!(sim.now - begin < 16.0 / 500e-6 + 60.0, "{:?}", sim.timex());
    }
    assert!(sim.now - begin > 30_000.0);
}

#[test]
fn a_killed_agents_bound_holds_though_its_slew_goes_on() {
    for seed in 1..=5 {
        let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, seed);
        sim.run(600.0);
        slew(&mut sim);
        // No random walk: the kernel adds 500 ppm for everything, and the slew alone may need as much.
        sim.wander = 0.0;
        abandon(&mut sim);
    }
}

#[test]
fn an_observer_leaves_the_kernel_alone() {
    let observing = |sources| Config { mode: Mode::Observe, ..config(sources) };
    let mut sim = Sim::new(observing(3), 0.0, vec![honest(), honest(), honest()]);
    sim.run(600.0);
    assert_eq!((sim.status, sim.timex().synchronized, sim.rates.len()), (None, false, 0));
    // An agent that steered before has handed back the clock.
    let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, 3);
    sim.run(600.0);
    slew(&mut sim);
    let base = sim.snapshot().frequency_ppm;
    sim.drift = None;
    sim.reconfigure(observing(3));
    assert_eq!((sim.kernel_ppm, sim.drift.map(|drift| drift.frequency_ppm)), (base, Some(base)));
    let (announced, rates) = (sim.status, sim.rates.len());
    for _ in 0..1000 {
        sim.run(1.0);
        is_true(&sim, sim.timex());
    }
    assert_eq!((sim.status, sim.rates.len()), (announced, rates));
    // And back.
    sim.reconfigure(config(3));
    sim.run(30.0);
    watch(&mut sim, 60.0);
    assert!(sim.timex().max_error < 0.01);
}

#[test]
fn a_leap_second_is_armed_while_it_is_announced_and_looked_after() {
    let armed = || {
        let sim = leap_seconds::announced(Leap::Insert);
        assert_eq!(sim.timex().leap, Leap::Insert);
        sim
    };
    let mut sim = armed();
    sim.restart(STARTED);
    assert!(sim.timex().synchronized && sim.timex().leap == Leap::None, "{:?}", sim.timex());
    // The next agent arms it again.
    sim.run(30.0);
    assert_eq!(sim.timex().leap, Leap::Insert);

    // The agent is killed: the next one does not trust a bit that it did not set itself.
    let mut sim = armed();
    sim.end(true);
    sim.pass(2.0);
    assert_eq!(sim.timex().leap, Leap::Insert);
    sim.begin();
    assert!(sim.timex().synchronized && sim.timex().leap == Leap::None, "{:?}", sim.timex());
    sim.run(30.0);
    assert_eq!(sim.timex().leap, Leap::Insert);

    let mut sim = armed();
    let observing = Config { mode: Mode::Observe, ..sim.config.clone() };
    sim.reconfigure(observing);
    assert_eq!(sim.timex().leap, Leap::None);

    // The announcement is withdrawn.
    let mut sim = armed();
    sim.servers = leap_seconds::calm(3);
    sim.run(120.0);
    assert_eq!(sim.timex().leap, Leap::None);

    // The clock becomes unsynchronised.
    let mut sim = armed();
    sim.servers = vec![ahead(1.0), ahead(2.0), ahead(3.0)];
    sim.run(400.0);
    assert_eq!((sim.snapshot().synchronized, sim.timex().leap), (false, Leap::None));
}

#[test]
fn tai_is_set_again_after_a_conflict() {
    let mut sim = Sim::booted(config(3), 0.0, vec![honest(), honest(), honest()], STARTED, 3);
    let table = LeapTable::parse("#@ 4100000000\n3692217600 37").expect("a table");
    sim.engine.learn_leap_table(table);
    sim.run(60.0);
    assert_eq!(sim.tai, Some(37));
    sim.tai = None;
    sim.reconfigure(Config { mode: Mode::Observe, ..config(3) });
    sim.run(60.0);
    assert_eq!(sim.tai, None);
    sim.reconfigure(config(3));
    sim.run(60.0);
    assert_eq!(sim.tai, Some(37));
}
