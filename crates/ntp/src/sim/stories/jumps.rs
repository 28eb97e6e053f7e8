//! Large corrections after the start: somebody else moved the clock, or the servers want too much.
use super::STARTED;
use crate::{
    Reason, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

#[test]
fn a_correction_beyond_the_largest_change_is_refused_once_and_told() {
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
    let refused = |told: &&(f64, Transition)| matches!(told.1, Transition::CorrectionRefused { .. });
    assert_eq!(sim.told.iter().filter(refused).count(), 1);
    sim.run(500.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn a_foreign_jump_is_named_and_slewed_away_after_the_start() {
    let mut sim = Sim::new(config(3), 0.0, vec![honest(), honest(), honest()]);
    sim.run(300.0);
    sim.jump(0.05);
    // It is looked at every second.
    sim.run(1.1);
    assert_eq!(sim.snapshot().reason, Reason::UnexplainedJump);
    let jump = sim.told.iter().find_map(|(_, told)| match told {
        Transition::UnexplainedJump { by } => Some(*by),
        _ => None,
    });
    assert!(jump.is_some_and(|by| (by - 0.05).abs() < 1e-4), "{:?}", sim.told);
    assert!(matches!(sim.status, Some((false, _, _))));
    sim.run(20.0);
    assert!(sim.snapshot().synchronized, "{:?}", sim.snapshot());
    sim.run(200.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert!(sim.steps.is_empty());
}
