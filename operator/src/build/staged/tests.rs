//! Rollouts in a simulated fleet of 200 nodes in four zones: which nodes get a profile, when, and what stops it. The
//! operator's memory, the cluster's objects and the agents are simulated; everything in between is the operator's own.
use std::collections::BTreeMap;

use api::{PauseReason, RolloutState, RolloutStatus, TimeSyncPolicyStatus};
use contract::{Assignment, ConflictReport, ProfileError, ProfileFailure, Reason};

use super::*;
use crate::{
    fetch::{Fetched, Profiles},
    fixtures::{agent, report},
    validate::validate,
};

mod fleet;
mod takeover;

use fleet::{Fault, Fleet};

const GOOD: &str = "192.0.2.10";
const NEXT: &str = "192.0.2.11";
const BAD: &str = "198.51.100.9";
const STAGED: &str = "{canary: 3, batch: 25%, settle: 5s}";

/// A fleet on which `GOOD` is rolled out, and is to be followed by `upstream`.
fn edited(upstream: &str) -> Fleet {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    assert_eq!((fleet.state(), fleet.updated(GOOD)), (RolloutState::Done, 200));
    fleet.edit(upstream);
    fleet
}

#[test]
fn the_first_profile_goes_to_all_nodes_at_once() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(1);
    assert_eq!(fleet.updated(GOOD), 200);
}

#[test]
fn canaries_come_first_then_batches_of_all_zones() {
    let mut fleet = edited(NEXT);
    let (mut sizes, mut before) = (Vec::new(), 0);
    for _ in 0..120 {
        let zones_before = fleet.zones_of(NEXT);
        fleet.run(1);
        let now = fleet.updated(NEXT);
        if now != before {
            sizes.push(now - before);
            let gained = fleet
                .zones_of(NEXT)
                .into_iter()
                .map(|(zone, count)| count - zones_before.get(&zone).copied().unwrap_or_default());
            let gained: Vec<usize> = gained.filter(|count| *count > 0).collect();
            // Zones have 80, 60, 40 and 20 nodes.
            assert!(gained.len() >= 3 && gained.iter().all(|count| *count <= 20), "{gained:?}");
            before = now;
        }
    }
    assert_eq!(sizes, [3, 50, 50, 50, 47]);
    assert_eq!(fleet.state(), RolloutState::Done);
    assert_eq!(fleet.status().last_good, Some(fleet.name_of(NEXT).to_string()));
    assert!(!fleet.is_stored(GOOD), "no node needs it any more");
}

#[test]
fn a_stage_waits_until_the_one_before_has_settled() {
    let mut fleet = edited(NEXT);
    // An agent has its first answer after 3 s, and must be well for 5 s.
    fleet.run(8);
    assert_eq!(fleet.updated(NEXT), 3);
    fleet.run(3);
    assert_eq!(fleet.updated(NEXT), 53);
}

#[test]
fn each_kind_of_bad_profile_stops_at_the_canaries() {
    let kinds = [
        (Fault::Silent, 200, PauseReason::NoAnswer, "no answer accepted under it"),
        (Fault::Holdover, 200, PauseReason::NoAnswer, "Holdover"),
        (Fault::Unsynchronized, 30, PauseReason::Regression, "unsynchronised: NoMajority"),
        (Fault::Conflict, 30, PauseReason::Regression, "another program steers the clock"),
        (Fault::Refused, 30, PauseReason::Regression, "refuses it: unknown field"),
        (Fault::Offset, 30, PauseReason::Regression, "offset 80ms is beyond thresholds.offset"),
        (Fault::Gone, 200, PauseReason::NoAnswer, "its agent does not report"),
    ];
    for (fault, after, reason, message) in kinds {
        let mut fleet = edited(BAD);
        fleet.fault = Some(fault);
        fleet.run(after);
        let status = fleet.status();
        assert_eq!((status.state, status.paused), (RolloutState::Paused, Some(reason)), "{fault:?}");
        assert!(status.message.contains(message), "{fault:?}: {}", status.message);
        fleet.run(60);
        assert_eq!((fleet.updated(BAD), fleet.updated(GOOD)), (3, 197), "{fault:?}");
        let finding = fleet.prepared.rollouts.of("default").unwrap().finding(3, 200).unwrap();
        assert_eq!((finding.status, finding.reason), (Some(false), "Paused"));
        assert!(finding.message.contains(&format!("resume:{}", fleet.name_of(BAD).hash())), "{finding:?}");
        fleet.annotation = Some("abort:00000000".to_owned());
        fleet.run(1);
        let finding = fleet.prepared.rollouts.of("default").unwrap().finding(3, 200).unwrap();
        assert!(finding.message.ends_with("does nothing: it names another profile."), "{finding:?}");
    }
}

#[test]
fn without_pause_on_regression_only_missing_proof_pauses() {
    let mut fleet = edited(NEXT);
    fleet.rollout = "{canary: 3, batch: 25%, settle: 5s, pauseOnRegression: false}".to_owned();
    fleet.run(15);
    assert_eq!(fleet.updated(NEXT), 53);
    fleet.break_node(&fleet.holders(NEXT)[0].clone());
    fleet.run(60);
    assert_eq!(fleet.state(), RolloutState::Done, "the node had proven it before");
    fleet.edit(BAD);
    fleet.fault = Some(Fault::Unsynchronized);
    fleet.run(200);
    assert_eq!(fleet.status().paused, Some(PauseReason::NoAnswer));
}

#[test]
fn a_regression_in_a_later_batch_stops_there() {
    let mut fleet = edited(NEXT);
    fleet.run(15);
    let node = fleet.holders(NEXT)[7].clone();
    fleet.break_node(&node);
    fleet.run(60);
    let status = fleet.status();
    assert_eq!((status.state, fleet.updated(NEXT)), (RolloutState::Paused, 53));
    assert!(status.message.contains(&format!("{node} (unsynchronised")), "{}", status.message);
    // A node that still has the former profile is of no concern to it.
    let mut fleet = edited(NEXT);
    let node = fleet.holders(GOOD)[99].clone();
    fleet.break_node(&node);
    fleet.run(15);
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Progressing, 53));
}

#[test]
fn an_abort_brings_the_last_good_profile_back_and_acts_once() {
    let mut fleet = edited(BAD);
    fleet.fault = Some(Fault::Silent);
    fleet.run(200);
    let abort = format!("abort:{}", fleet.name_of(BAD).hash());
    fleet.annotation = Some(abort.clone());
    fleet.run(2);
    assert_eq!((fleet.state(), fleet.updated(GOOD)), (RolloutState::Aborted, 200));
    assert_eq!(fleet.status().acted, Some(abort));
    fleet.run(300);
    assert_eq!(fleet.updated(GOOD), 200, "it stays so");
    fleet.restart();
    fleet.run(60);
    assert_eq!((fleet.state(), fleet.updated(GOOD)), (RolloutState::Aborted, 200));
    // The left-over annotation touches neither the next edit nor the same one again.
    fleet.fault = None;
    for upstream in [NEXT, BAD] {
        fleet.edit(upstream);
        fleet.run(120);
        assert_eq!((fleet.state(), fleet.updated(upstream)), (RolloutState::Done, 200));
    }
}

#[test]
fn only_an_edit_undoes_a_pause_and_an_abort() {
    for (verb, state, bad) in [("abort", RolloutState::Aborted, 0), ("pause", RolloutState::Paused, 3)] {
        for restarted in [false, true] {
            let mut fleet = edited(BAD);
            fleet.run(2);
            fleet.annotation = Some(format!("{verb}:{}", fleet.name_of(BAD).hash()));
            fleet.run(2);
            let before = fleet.status();
            assert_eq!((before.state, fleet.updated(BAD)), (state, bad));
            if restarted {
                fleet.restart();
            }
            fleet.tier = Some("{name: t-1, server: 10.0.0.1}, ");
            fleet.run(60);
            let after = fleet.status();
            assert_eq!((after.state, after.paused), (state, before.paused), "{verb} {restarted}");
            assert_eq!((fleet.updated(BAD), fleet.updated(GOOD)), (bad, 200 - bad));
            // It can be resumed by the new name.
            assert_ne!(after.profile, before.profile);
            let hash = after.profile.rsplit('.').next().unwrap().to_owned();
            fleet.annotation = Some(format!("resume:{hash}"));
            fleet.run(120);
            assert_eq!((fleet.state(), fleet.updated(BAD)), (RolloutState::Done, 200));
            // And an edit begins a rollout.
            fleet.annotation = Some(format!("{verb}:{hash}"));
            fleet.edit(NEXT);
            fleet.run(120);
            assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
        }
    }
}

#[test]
fn an_aborted_rollout_can_be_resumed() {
    let mut fleet = edited(NEXT);
    fleet.run(3);
    let hash = fleet.name_of(NEXT).hash().to_owned();
    fleet.annotation = Some(format!("abort:{hash}"));
    fleet.run(2);
    assert_eq!(fleet.updated(GOOD), 200);
    fleet.annotation = Some(format!("resume:{hash}"));
    fleet.run(3);
    assert_eq!(fleet.updated(NEXT), 3, "from the beginning");
    fleet.run(120);
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
}

#[test]
fn resume_goes_on_without_the_nodes_that_failed() {
    for restarted in [false, true] {
        let mut fleet = edited(NEXT);
        fleet.run(2);
        let node = fleet.holders(NEXT)[0].clone();
        fleet.break_node(&node);
        fleet.run(30);
        assert_eq!(fleet.state(), RolloutState::Paused);
        if restarted {
            fleet.restart();
            fleet.run(2);
        }
        let hash = fleet.name_of(NEXT).hash().to_owned();
        fleet.annotation = Some(format!("resume:{hash}"));
        fleet.run(1);
        assert!(fleet.status().excused.contains(&node), "{:?}", fleet.status());
        fleet.run(3);
        assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Progressing, 53));
        // Another failure pauses again, and the same annotation does not act on it.
        let second = fleet.holders(NEXT).iter().find(|name| **name != node).unwrap().clone();
        fleet.break_node(&second);
        fleet.run(60);
        assert_eq!(fleet.state(), RolloutState::Paused);
        // The condition names a value that does.
        let again = format!("resume:{hash}:2");
        let message = fleet.prepared.rollouts.of("default").unwrap().finding(53, 200).unwrap().message;
        assert!(message.contains(&again), "{message}");
        fleet.annotation = Some(again);
        fleet.run(200);
        assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
    }
}

#[test]
fn a_pause_that_was_asked_for_ends_by_resume_and_excuses_no_node() {
    let mut fleet = edited(NEXT);
    fleet.run(2);
    let hash = fleet.name_of(NEXT).hash().to_owned();
    fleet.annotation = Some(format!("pause:{hash}"));
    fleet.run(300);
    assert_eq!((fleet.status().paused, fleet.updated(NEXT)), (Some(PauseReason::Requested), 3));
    fleet.annotation = Some(format!("resume:{hash}"));
    fleet.run(120);
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
    assert!(fleet.status().excused.is_empty());
}

#[test]
fn a_request_about_another_profile_does_nothing() {
    let mut fleet = edited(NEXT);
    fleet.annotation = Some("abort:00000000".to_owned());
    fleet.run(120);
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
}

#[test]
fn a_restarted_operator_continues_where_it_was() {
    let mut fleet = edited(NEXT);
    for second in 0..400 {
        let before = fleet.holders(NEXT);
        if second % 13 == 0 {
            fleet.restart();
        }
        fleet.run(1);
        let now = fleet.holders(NEXT);
        assert!(before.iter().all(|node| now.contains(node)), "{second}: a node lost the profile");
        assert!([0, 3, 53, 103, 153, 200].contains(&now.len()), "{second}: {}", now.len());
    }
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
    let mut fleet = edited(BAD);
    fleet.fault = Some(Fault::Silent);
    fleet.run(200);
    fleet.restart();
    fleet.run(1);
    assert_eq!((fleet.state(), fleet.updated(BAD)), (RolloutState::Paused, 3));
    assert_eq!(fleet.status().paused, Some(PauseReason::NoAnswer));
    assert!(fleet.is_stored(GOOD) && fleet.is_stored(BAD));
}

#[test]
fn after_a_restart_the_last_batch_of_a_first_rollout_is_judged() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    fleet.other = Some(("{}", NEXT));
    let mut before = Vec::new();
    while fleet.updated(NEXT) < 200 {
        before = fleet.holders(NEXT);
        fleet.run(1);
    }
    let last = fleet.holders(NEXT).into_iter().find(|node| !before.contains(node)).unwrap();
    fleet.break_node(&last);
    fleet.restart();
    fleet.run(60);
    let status = fleet.prepared.rollouts.of("other").unwrap().status();
    assert_eq!((status.state, status.last_good), (RolloutState::Paused, None));
    assert!(status.message.contains(&last), "{}", status.message);
}

#[test]
fn nodes_that_join_get_the_last_good_profile() {
    let mut fleet = edited(BAD);
    fleet.fault = Some(Fault::Silent);
    fleet.run(200);
    fleet.restart();
    fleet.join("late");
    fleet.run(2);
    assert_eq!(fleet.annotation_of("late"), fleet.name_of(GOOD));
    // So does a node whose pod is new; the node of a canary keeps its profile if the operator knows it.
    let canary = fleet.holders(BAD)[0].clone();
    fleet.replace_pod(&canary);
    fleet.run(2);
    assert_eq!(fleet.annotation_of(&canary), fleet.name_of(BAD));
}

#[test]
fn the_next_edit_begins_anew_with_the_nodes_that_are_half_way() {
    let mut fleet = edited(NEXT);
    fleet.run(15);
    let half_way = fleet.holders(NEXT);
    fleet.edit("192.0.2.12");
    fleet.run(3);
    let canaries = fleet.holders("192.0.2.12");
    assert!(canaries.len() == 3 && canaries.iter().all(|node| half_way.contains(node)), "{canaries:?}");
    assert_eq!(fleet.status().last_good, Some(fleet.name_of(GOOD).to_string()));
    fleet.annotation = Some(format!("abort:{}", fleet.name_of("192.0.2.12").hash()));
    fleet.run(2);
    assert_eq!(fleet.updated(GOOD), 200, "also those that had the one in between");
}

#[test]
fn a_return_to_the_last_good_profile_is_immediate() {
    let mut fleet = edited(NEXT);
    fleet.run(15);
    fleet.edit(GOOD);
    fleet.run(2);
    assert_eq!((fleet.state(), fleet.updated(GOOD)), (RolloutState::Done, 200));
}

#[test]
fn without_the_field_all_nodes_get_it_at_once() {
    let mut fleet = edited(NEXT);
    fleet.run(3);
    fleet.rollout = String::new();
    fleet.run(1);
    assert_eq!(fleet.updated(NEXT), 200);
}

#[test]
fn nodes_that_are_broken_do_not_hold_it_up() {
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    let broken = [fleet.holders(GOOD)[0].clone(), fleet.holders(GOOD)[150].clone()];
    broken.iter().for_each(|node| fleet.break_node(node));
    fleet.silence(&fleet.holders(GOOD)[30].clone());
    fleet.run(2);
    fleet.edit(NEXT);
    fleet.run(300);
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
    // But if no node proves it, it stops.
    let mut fleet = Fleet::new(200, STAGED);
    fleet.run(20);
    fleet.holders(GOOD).iter().for_each(|node| fleet.break_node(node));
    fleet.run(2);
    fleet.edit(NEXT);
    fleet.run(300);
    assert_eq!((fleet.status().paused, fleet.updated(NEXT)), (Some(PauseReason::NoAnswer), 3));
}

#[test]
fn a_refused_policy_keeps_the_last_profile_that_was_completed() {
    let mut fleet = edited(NEXT);
    fleet.run(3);
    fleet.refused = true;
    fleet.join("late");
    fleet.run(5);
    assert_eq!((fleet.updated(NEXT), fleet.annotation_of("late")), (3, fleet.name_of(GOOD)));
    fleet.refused = false;
    fleet.run(200);
    assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 201));
}

#[test]
fn an_abort_acts_while_the_policy_cannot_be_carried_out() {
    for restart in [false, true] {
        let mut fleet = edited(BAD);
        fleet.fault = Some(Fault::Silent);
        fleet.run(200);
        let bad = fleet.name_of(BAD);
        fleet.refused = true;
        fleet.run(2);
        assert_eq!((fleet.state(), fleet.updated(BAD)), (RolloutState::Paused, 3));
        if restart {
            fleet.restart();
            fleet.run(2);
        }
        let abort = format!("abort:{}", bad.hash());
        fleet.annotation = Some(abort.clone());
        fleet.run(3);
        assert_eq!((fleet.state(), fleet.updated(BAD), fleet.updated(GOOD)), (RolloutState::Aborted, 0, 200));
        assert_eq!(fleet.status().acted, Some(abort));
        fleet.fault = None;
        fleet.refused = false;
        fleet.edit(NEXT);
        fleet.run(200);
        assert_eq!((fleet.state(), fleet.updated(NEXT)), (RolloutState::Done, 200));
    }
}

#[test]
fn a_policy_that_was_made_again_does_not_inherit_a_rollout() {
    let mut prepared = Prepared::default();
    let mut take = |uid: &str, local: u32| {
        let policy = format!(
            "{{metadata: {{name: p, uid: {uid}, generation: 1}}, spec: {{stratum: {{local: {local}}}, rollout: {{}}}}}}"
        );
        let policies = vec![Arc::new(serde_norway::from_str(&policy).unwrap())];
        prepared.take(validate(Fetched { policies, ..Fetched::default() }));
        prepared.rollouts.of("p").is_some()
    };
    assert!(take("a", 10));
    assert!(take("a", 99999), "it stays while the policy is refused");
    assert!(!take("b", 99999));
}
