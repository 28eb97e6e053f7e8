//! Rollouts in which another policy takes the nodes: what they get until their turn, and what gives them back.
use super::*;

#[test]
fn a_restarted_operator_continues_a_takeover() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    fleet.other = Some(("{zone: z1}", NEXT));
    fleet.run(120);
    assert_eq!(fleet.updated(NEXT), 60);
    // The profile is known to be good; its policy takes more nodes.
    fleet.other = Some(("{}", NEXT));
    for second in 0..200 {
        if second % 13 == 4 {
            fleet.restart();
        }
        fleet.run(1);
        let now = fleet.updated(NEXT);
        assert!([60, 63, 113, 163, 200].contains(&now), "{second}: {now}");
    }
    assert_eq!(fleet.updated(NEXT), 200);
}

#[test]
fn a_takeover_is_a_rollout() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    // Another policy with a higher priority takes all nodes of a zone.
    fleet.other = Some(("{zone: z1}", NEXT));
    fleet.run(3);
    assert_eq!((fleet.updated(NEXT), fleet.updated(GOOD)), (3, 197));
    let of_other = |fleet: &Fleet| fleet.prepared.rollouts.of("other").unwrap().status();
    fleet.run(120);
    assert_eq!((of_other(&fleet).state, fleet.updated(NEXT)), (RolloutState::Done, 60));
    // Its selector takes more: these are staged, too, although its profile is known to be good.
    fleet.other = Some(("{}", NEXT));
    fleet.run(3);
    assert_eq!((of_other(&fleet).state, fleet.updated(NEXT)), (RolloutState::Progressing, 63));
    fleet.run(10);
    assert_eq!(fleet.updated(NEXT), 113);
    // A deletion acts at once.
    fleet.other = None;
    fleet.run(2);
    assert_eq!(fleet.updated(GOOD), 200);
}

#[test]
fn an_aborted_takeover_gives_the_nodes_back() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    // It has taken more of them than the former policy has canaries.
    fleet.other = Some(("{}", BAD));
    fleet.run(15);
    assert_eq!(fleet.updated(BAD), 53);
    let hash = fleet.holders_name(BAD).unwrap().hash().to_owned();
    fleet.other_annotation = Some(format!("abort:{hash}"));
    fleet.run(2);
    assert_eq!(fleet.updated(GOOD), 200);
    fleet.restart();
    fleet.run(30);
    assert_eq!(fleet.updated(GOOD), 200);
    fleet.other_annotation = Some(format!("resume:{hash}"));
    fleet.run(3);
    assert_eq!(fleet.updated(BAD), 3);
}

#[test]
fn nodes_that_join_during_a_first_takeover_get_the_former_policy() {
    for fault in [None, Some(Fault::Silent)] {
        let mut fleet = Fleet::new(200, STAGED);
        fleet.run(20);
        fleet.fault = fault;
        fleet.other = Some(("{}", BAD));
        fleet.run(2);
        fleet.join("early");
        fleet.run(1);
        assert_eq!(fleet.annotation_of("early"), fleet.name_of(GOOD));
        fleet.run(200);
        fleet.join("late");
        fleet.run(2);
        // Either all nodes have proven it, or it is paused.
        let (good, bad) = if fault.is_none() { (0, 202) } else { (199, 3) };
        assert_eq!((fleet.updated(GOOD), fleet.updated(BAD)), (good, bad), "{fault:?}");
    }
}

#[test]
fn nodes_that_wait_for_a_takeover_follow_their_own_policy() {
    for (verb, state) in [("pause", RolloutState::Paused), ("abort", RolloutState::Aborted)] {
        let mut fleet = Fleet::new(200, STAGED);
        fleet.run(20);
        fleet.other = Some(("{zone: z1}", NEXT));
        fleet.run(120);
        fleet.other = Some(("{}", NEXT));
        fleet.run(3);
        let hash = fleet.holders_name(NEXT).unwrap().hash().to_owned();
        fleet.other_annotation = Some(format!("{verb}:{hash}"));
        fleet.run(2);
        assert_eq!(fleet.prepared.rollouts.of("other").unwrap().status().state, state);
        assert_eq!((fleet.updated(NEXT), fleet.updated(GOOD)), (63, 137));
        let third = "192.0.2.12";
        fleet.edit(third);
        fleet.run(3);
        assert_eq!((fleet.updated(third), fleet.updated(GOOD)), (3, 134), "{verb}: stage by stage");
        fleet.run(120);
        assert_eq!((fleet.state(), fleet.updated(third)), (RolloutState::Done, 137));
        // An abort reaches them, too.
        fleet.edit(BAD);
        fleet.fault = Some(Fault::Silent);
        fleet.run(3);
        assert_eq!(fleet.updated(BAD), 3);
        fleet.annotation = Some(format!("abort:{}", fleet.name_of(BAD).hash()));
        fleet.run(2);
        assert_eq!((fleet.updated(third), fleet.updated(NEXT)), (137, 63));
    }
}

#[test]
fn a_changed_label_acts_at_once() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    fleet.other = Some(("{zone: z1}", NEXT));
    fleet.run(120);
    let node = fleet.holders(GOOD)[0].clone();
    fleet.relabel(&node, "z1");
    fleet.run(1);
    assert_eq!((fleet.updated(NEXT), fleet.annotation_of(&node).policy()), (61, "other"));
    fleet.run(10);
    assert_eq!(fleet.updated(NEXT), 61, "it stays so");
}
