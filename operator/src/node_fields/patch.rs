//! The patches that give a Node its desired fields; none for fields that it has already. Pure.
use contract::limits;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde_json::{Value, json};

use crate::{
    condition::{Finding, status_word},
    facts::{CLOCK_CONDITION, NodeFacts},
    node_fields::{
        bound_label::BOUND_LABEL,
        desired::{Desired, DesiredFields},
        writes::{NodeWrites, STARTUP_TAINT, WRONG_TAINT},
    },
    taint_rule::TaintRule,
};

/// What is to be written to a Node. The writer adds the version that was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodePatches {
    /// A merge patch of labels and taints.
    pub(crate) node: Option<Value>,
    /// A strategic merge patch of the status. It changes one condition, and no other one.
    pub(crate) status: Option<Value>,
    /// True if the condition's status changes.
    flips: bool,
}

/// Whether a Node is to have the taint for a wrong clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WrongTaint<'a> {
    Absent,
    /// With the effect of this rule.
    Present(&'a TaintRule),
    AsIs,
}

impl NodePatches {
    /// The patches; none if the Node is as desired, as far as `writes` has the operator write it.
    pub(crate) fn of(
        desired: &DesiredFields,
        wrong: WrongTaint<'_>,
        facts: &NodeFacts,
        writes: NodeWrites,
        time: Timestamp,
    ) -> Option<Self> {
        let mut node = json!({"metadata": {}});
        if writes.node_labels {
            let told = facts.labels.get(BOUND_LABEL).map(String::as_str);
            let label = match &desired.bound {
                Desired::AsIs => told,
                Desired::Absent => None,
                Desired::Present(class) => Some(class.label()),
            };
            if label != told {
                node["metadata"]["labels"] = json!({ BOUND_LABEL: label });
            }
        }
        if writes.node_taints {
            let taints = taints(desired, wrong, facts, time);
            if taints != facts.taints {
                node["spec"] = json!({ "taints": taints });
            }
        }
        let changed = node != json!({"metadata": {}});
        let status = if writes.node_condition { condition(&desired.condition, facts, time) } else { None };
        let told = facts.clock_condition.as_ref().map(|stored| stored.status);
        let flips = match &desired.condition {
            Desired::AsIs => false,
            Desired::Absent => told.is_some(),
            Desired::Present(finding) => told != Some(finding.status),
        };
        let flips = status.is_some() && flips;
        let patches = Self { node: changed.then_some(node), status, flips };
        (patches.count() > 0).then_some(patches)
    }

    /// Returns true if other programs act on the change: the condition's status, or a taint.
    pub(crate) fn is_urgent(&self) -> bool {
        self.flips || self.node.as_ref().is_some_and(|node| node.get("spec").is_some())
    }

    /// The number of writes.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.node.is_some()) + usize::from(self.status.is_some())
    }
}

/// The patches that remove everything that timesync has written to a Node, and the taint with which it registered.
pub(crate) fn cleared(facts: &NodeFacts, writes: NodeWrites) -> Option<NodePatches> {
    let desired = DesiredFields { condition: Desired::Absent, bound: Desired::Absent, synchronized: true };
    NodePatches::of(&desired, WrongTaint::Absent, facts, writes, Timestamp::UNIX_EPOCH)
}

/// The Node's taints with ours as they are to be, in their order.
fn taints(desired: &DesiredFields, wrong: WrongTaint<'_>, facts: &NodeFacts, time: Timestamp) -> Vec<Taint> {
    let mut taints = facts.taints.clone();
    taints.retain(|taint| !(desired.synchronized && taint.key == STARTUP_TAINT));
    match wrong {
        WrongTaint::AsIs => {}
        WrongTaint::Absent => taints.retain(|taint| taint.key != WRONG_TAINT),
        WrongTaint::Present(rule) => {
            let before = taints.iter().find(|taint| taint.key == WRONG_TAINT);
            let added = before.and_then(|taint| taint.time_added.clone()).unwrap_or_else(|| {
                // The API server stores whole seconds.
                Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
            });
            let has_it = before.is_some_and(|taint| taint.effect == rule.effect);
            if !has_it {
                taints.retain(|taint| taint.key != WRONG_TAINT);
                taints.push(Taint {
                    key: WRONG_TAINT.to_owned(),
                    effect: rule.effect.to_owned(),
                    time_added: Some(added),
                    value: None,
                });
            }
        }
    }
    taints
}

fn condition(desired: &Desired<Finding>, facts: &NodeFacts, time: Timestamp) -> Option<Value> {
    let stored = facts.clock_condition.as_ref();
    let condition = match desired {
        Desired::AsIs => return None,
        Desired::Absent => {
            stored?;
            json!({"type": CLOCK_CONDITION, "$patch": "delete"})
        }
        Desired::Present(Finding { status, reason, message }) => {
            let mut message = message.clone();
            limits::limit_message(&mut message);
            let same = stored.filter(|stored| stored.status == *status);
            // Messages of the other statuses have figures that change all the time.
            let same_message =
                *status != Some(true) || stored.is_some_and(|stored| stored.message == message);
            if same.is_some_and(|same| same.reason == *reason) && same_message {
                return None;
            }
            let since = same.and_then(|same| same.since).unwrap_or(time);
            json!({
                "type": CLOCK_CONDITION,
                "status": status_word(*status),
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": Time(time),
                "lastTransitionTime": Time(since),
            })
        }
    };
    Some(json!({"status": {"conditions": [condition]}}))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{facts::ClockCondition, node_fields::bound_label::BoundClass, portion::Portion};

    const ALL: NodeWrites = NodeWrites { node_condition: true, node_taints: true, node_labels: true };

    fn taint(key: &str, effect: &str, added: Option<i64>) -> Taint {
        let time_added = added.map(|secs| Time(Timestamp::from_second(secs).unwrap()));
        Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added }
    }

    fn facts() -> NodeFacts {
        NodeFacts {
            taints: vec![taint("other", "NoExecute", Some(1)), taint(STARTUP_TAINT, "NoSchedule", None)],
            ..NodeFacts::default()
        }
    }

    fn good() -> DesiredFields {
        DesiredFields {
            condition: Desired::Present(Finding::new(Some(true), "Synchronized", "It is right.")),
            bound: Desired::Present(BoundClass::from_label("le-1ms").unwrap()),
            synchronized: true,
        }
    }

    fn rule() -> TaintRule {
        TaintRule { effect: "NoExecute", after: Duration::ZERO, max_nodes: Portion::Count(1) }
    }

    fn patches(desired: &DesiredFields, wrong: WrongTaint<'_>, facts: &NodeFacts) -> Option<NodePatches> {
        NodePatches::of(desired, wrong, facts, ALL, Timestamp::from_second(60).unwrap())
    }

    #[test]
    fn a_synchronised_node_gets_all_fields_once() {
        let NodePatches { node, status, flips: _ } = patches(&good(), WrongTaint::Absent, &facts()).unwrap();
        let expected = json!({
            "metadata": {"labels": {"timesync.dev/clock-bound": "le-1ms"}},
            "spec": {"taints": [{"key": "other", "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:01Z"}]},
        });
        assert_eq!(node, Some(expected));
        let condition = &status.unwrap()["status"]["conditions"][0];
        assert_eq!(condition["status"], "True");
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:01:00Z");
        let stored = NodeFacts {
            taints: vec![taint("other", "NoExecute", Some(1))],
            labels: [(BOUND_LABEL.to_owned(), "le-1ms".to_owned())].into(),
            clock_condition: Some(ClockCondition {
                status: Some(true),
                reason: "Synchronized".to_owned(),
                message: "It is right.".to_owned(),
                since: Some(Timestamp::UNIX_EPOCH),
            }),
            ..NodeFacts::default()
        };
        assert_eq!(patches(&good(), WrongTaint::Absent, &stored), None);
        let mut holdover = good();
        holdover.condition = Desired::Present(Finding::new(Some(true), "Holdover", "It still is."));
        let patches = patches(&holdover, WrongTaint::Absent, &stored).unwrap();
        assert!(!patches.is_urgent(), "the status is the same");
        let status = patches.status.unwrap();
        let condition = &status["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z", "the status is the same");
    }

    #[test]
    fn the_taint_of_a_wrong_clock_comes_and_goes_alone() {
        let unsynchronized = DesiredFields { synchronized: false, ..DesiredFields::default() };
        let rule = rule();
        let present = WrongTaint::Present(&rule);
        let node = patches(&unsynchronized, present, &facts()).unwrap().node.unwrap();
        let taints = node["spec"]["taints"].as_array().unwrap();
        assert_eq!(taints.len(), 3, "the startup taint stays until the first synchronisation");
        let expected =
            json!({"key": WRONG_TAINT, "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:00Z"});
        assert_eq!(taints[2], expected);
        let mut tainted = facts();
        tainted.taints.push(taint(WRONG_TAINT, "NoExecute", Some(7)));
        assert_eq!(patches(&unsynchronized, present, &tainted), None);
        assert_eq!(patches(&unsynchronized, WrongTaint::AsIs, &tainted), None);
        let freed = patches(&unsynchronized, WrongTaint::Absent, &tainted).unwrap().node.unwrap();
        assert_eq!(freed["spec"]["taints"].as_array().unwrap().len(), 2);
        tainted.taints[2].effect = "NoSchedule".to_owned();
        let changed = patches(&unsynchronized, present, &tainted).unwrap().node.unwrap();
        assert_eq!(changed["spec"]["taints"][2]["effect"], "NoExecute");
        assert_eq!(changed["spec"]["taints"][2]["timeAdded"], "1970-01-01T00:00:07Z");
    }

    #[test]
    fn only_what_is_switched_on_is_written() {
        let of =
            |writes| NodePatches::of(&good(), WrongTaint::Absent, &facts(), writes, Timestamp::UNIX_EPOCH);
        assert_eq!(of(NodeWrites::default()), None);
        let condition = of(NodeWrites { node_condition: true, ..NodeWrites::default() }).unwrap();
        assert!(condition.node.is_none() && condition.status.is_some());
        let labels = of(NodeWrites { node_labels: true, ..NodeWrites::default() }).unwrap();
        assert!(labels.node.unwrap().get("spec").is_none() && labels.status.is_none());
    }

    #[test]
    fn nothing_of_ours_is_left() {
        let mut stored = facts();
        stored.taints.push(taint(WRONG_TAINT, "NoSchedule", Some(7)));
        stored.labels = [(BOUND_LABEL.to_owned(), "none".to_owned())].into();
        stored.clock_condition = Some(ClockCondition::default());
        let NodePatches { node, status, flips: _ } = cleared(&stored, ALL).unwrap();
        let node = node.unwrap();
        assert_eq!(node["metadata"]["labels"], json!({"timesync.dev/clock-bound": null}));
        assert_eq!(node["spec"]["taints"].as_array().unwrap().len(), 1);
        assert_eq!(status.unwrap()["status"]["conditions"][0]["$patch"], "delete");
        stored = NodeFacts { taints: vec![taint("other", "NoExecute", None)], ..NodeFacts::default() };
        assert_eq!(cleared(&stored, ALL), None);
    }
}
