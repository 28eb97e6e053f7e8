//! Pauses of the node: suspended, or paused by its hypervisor; and events that look like a pause.
use super::{
    STARTED,
    jumps::{RESTORE, orders, settled, silent_later},
};
use crate::{
    Config, CorrectionRefusal, OnExternalStep, Reason, SourceState, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

#[test]
fn a_paused_machine_is_stepped_within_max_change_and_never_slewed_for_hours() {
    for (policy, max_change, reason, steps) in [
        (RESTORE, 1000.0, Reason::MaxChange, 0),
        (RESTORE, 3600.0, Reason::Synchronized, 1),
        (OnExternalStep::Report, 3600.0, Reason::ExternalStep, 0),
    ] {
        for sources in [1, 3] {
            let mut sim = settled(Config { max_change, ..orders(policy) }, honest);
            if sources == 1 {
                sim = Sim::booted(
                    Config { max_change, on_external_step: policy, ..config(1) },
                    0.0,
                    vec![honest()],
                    STARTED,
                    5,
                );
                sim.run(1800.0);
            }
            sim.pause(1200.0, None);
            let resumed = sim.now;
            while sim.snapshot().synchronized {
                sim.run(0.1);
            }
            // The longest poll interval.
            assert!(sim.now - resumed < 66.0, "{}", sim.now - resumed);
            sim.run(15.0);
            let snapshot = sim.snapshot();
            assert_eq!(
                (snapshot.reason, sim.steps.len(), sim.resumed()),
                (reason, steps, 1),
                "{:?}",
                sim.announced
            );
            sim.run(600.0);
            let expected = if steps == 0 { -1200.0 } else { 0.0 };
            assert!((sim.offset - expected).abs() < 0.01, "{}", sim.offset);
            assert_eq!((sim.snapshot().reason, sim.external().len()), (reason, 0));
            // The refusal remains until the configuration changes; then the clock is stepped.
            if reason == Reason::MaxChange {
                sim.reconfigure(Config { max_change: 3600.0, ..sim.config.clone() });
                sim.run(90.0);
                assert!(sim.offset.abs() < 1e-3 && sim.steps.len() == 1, "{}", sim.offset);
            }
        }
    }
    let mut sim = settled(Config { max_change: 3600.0, ..orders(OnExternalStep::Accept) }, honest);
    sim.pause(1200.0, None);
    sim.run(600.0);
    assert!(sim.steps.is_empty() && sim.offset > -1200.0 && sim.offset < -1199.0, "{}", sim.offset);
}

#[test]
fn a_second_pause_within_ten_minutes_is_refused_for_as_long() {
    let mut sim = settled(Config { max_change: 3600.0, ..orders(RESTORE) }, honest);
    for (paused, steps, reason) in [(60.0, 1, Reason::Synchronized), (60.0, 1, Reason::ResumeRefused)] {
        sim.pause(paused, None);
        sim.run(100.0);
        assert_eq!((sim.steps.len(), sim.snapshot().reason), (steps, reason));
    }
    let refused = |announced: &Transition| matches!(announced, Transition::CorrectionRefused { why: CorrectionRefusal::TooSoon, offset } if (offset + 60.0).abs() < 0.1);
    assert_eq!(
        sim.announced.iter().filter(|(_, announced)| refused(announced)).count(),
        1,
        "{:?}",
        sim.announced
    );
    sim.run(300.0);
    assert!((sim.offset + 60.0).abs() < 0.01, "{}", sim.offset);
    sim.run(200.0);
    assert_eq!((sim.steps.len(), sim.snapshot().reason), (2, Reason::Synchronized));
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
}

#[test]
fn a_sleep_is_not_a_jump_and_what_it_left_wrong_is_stepped() {
    for (error, steps) in [(0.4, 1), (3e-3, 0)] {
        let mut sim = settled(orders(RESTORE), honest);
        sim.suspend(1200.0, error);
        assert_eq!(sim.snapshot().reason, Reason::UnexplainedJump);
        sim.run(15.0);
        assert_eq!((sim.external().len(), sim.resumed(), sim.steps.len()), (0, 1, steps));
        sim.run(30.0);
        assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
        assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    }
    // After a second pause so soon, an offset that can be slewed is slewed.
    let mut sim = settled(orders(RESTORE), honest);
    sim.suspend(60.0, 0.1);
    sim.run(30.0);
    sim.suspend(60.0, 0.1);
    sim.run(30.0);
    assert!(sim.steps.len() == 1 && sim.snapshot().synchronized, "{:?}", sim.snapshot());
    // A program set the clock while the node was suspended.
    let mut sim = settled(orders(RESTORE), honest);
    sim.jump(50.0);
    sim.suspend(60.0, 0.1);
    sim.run(15.0);
    assert_eq!((sim.external().len(), sim.resumed(), sim.steps.len()), (1, 1, 1));
    assert!(sim.offset.abs() < 5e-3, "{}", sim.offset);
}

#[test]
fn half_an_hour_without_a_network_ends_without_a_step() {
    let mut sim = settled(orders(RESTORE), silent_later);
    sim.run(1700.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (true, Reason::Holdover));
    sim.run(300.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    let (_, largest) = sim.error_over(600.0);
    assert!(largest < 2e-3 && sim.steps.is_empty() && sim.resumed() == 0, "{largest}");
}

#[test]
fn one_server_that_jumps_is_alone_with_it() {
    let leaps: fn(f64) -> Script = |every| {
        Box::new(move |now| Behaviour {
            offset: if now > 1800.0 && (now / every) as u64 % 2 == 1 { 600.0 } else { 0.0 },
            ..HONEST
        })
    };
    let mut sim = settled(orders(RESTORE), honest);
    let quiet = sim.snapshot().sources[1].sent;
    sim.run(1800.0);
    let usual = sim.snapshot().sources[1].sent - quiet;
    for every in [20.0, 100.0, 400.0] {
        sim.servers[0] = leaps(every);
        let asked = |sim: &Sim| sim.snapshot().sources[1].sent;
        let before = asked(&sim);
        for _ in 0..1800 {
            sim.run(1.0);
            assert!(sim.snapshot().synchronized, "{:?}", sim.snapshot());
        }
        assert!(sim.offset.abs() < 1e-3 && sim.steps.is_empty() && sim.resumed() == 0, "{}", sim.offset);
        // The other servers get two more requests in 64 s.
        assert!(asked(&sim) - before < usual + 2 * 1800 / 64 + 8, "{} {usual}", asked(&sim) - before);
    }
    sim.servers[0] = honest();
    sim.run(200.0);
    assert_ne!(sim.snapshot().sources[0].state, SourceState::Falseticker);
}

#[test]
fn a_pause_after_which_only_one_of_two_answers_is_noticed_when_the_other_is_gone() {
    let mut wanted = Config { max_change: 3600.0, ..config(2) };
    for source in &mut wanted.sources {
        (source.min_poll, source.max_poll) = (4, 4);
    }
    let gone: Script = Box::new(|now| Behaviour { silent: now > 1800.0, ..HONEST });
    let mut sim = Sim::booted(wanted, 0.0, vec![honest(), gone], STARTED, 5);
    sim.run(1800.0);
    sim.pause(1200.0, None);
    sim.run(300.0);
    assert_eq!((sim.steps.len(), sim.resumed()), (1, 1), "{:?}", sim.announced);
    assert!(sim.offset.abs() < 1e-3 && sim.snapshot().synchronized, "{}", sim.offset);
}
