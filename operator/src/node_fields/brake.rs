//! Which nodes have the taint `timesync.dev/clock-wrong`: every node's verdict in, the set of tainted nodes out. Pure.
//!
//! One budget for the whole cluster. If more nodes qualify than it allows, their clocks probably have a common cause (an
//! upstream, the operator), and taints would only stop the cluster's work. Then no node is newly tainted, and taints of
//! the last ten minutes are removed. Older ones stay until their node is right.
use std::{collections::BTreeSet, time::Duration};

use crate::taint_rule::TaintRule;

/// A node as far as the taint is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a str,
    /// The rule of its policy; none if the policy has none.
    pub(crate) rule: Option<&'a TaintRule>,
    /// True if its policy is refused, so that the present rule is not known. The node keeps a taint that it has.
    pub(crate) refused: bool,
    /// The last verdict.
    pub(crate) status: Option<bool>,
    /// For how long the verdict has been False; none if it is not.
    pub(crate) wrong_for: Option<Duration>,
    /// For how long it has had the taint; none if it has none.
    pub(crate) tainted_for: Option<Duration>,
}

/// Why no taint is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The number of nodes whose clock is wrong, or that have the taint.
    pub(crate) wrong: usize,
    /// The number of nodes that may have the taint.
    pub(crate) budget: usize,
}

/// The decision for all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brake {
    /// The nodes that are to have the taint.
    pub(crate) tainted: BTreeSet<String>,
    /// Set while the taint is withheld from nodes that qualify for it.
    pub(crate) held: Option<Held>,
}

/// The number of nodes of the cluster that may have the taint: the smallest one of these rules. Without a rule no node is
/// newly tainted.
pub(crate) fn budget<'a>(rules: impl Iterator<Item = &'a TaintRule>, nodes: usize) -> usize {
    rules.map(|rule| rule.max_nodes.of_nodes(nodes)).min().unwrap_or(usize::MAX)
}

/// Taints that are younger are removed if too many nodes qualify.
const TAKEN_BACK: Duration = Duration::from_secs(600);

impl Brake {
    /// Decides for all nodes. `budget` is the number of nodes that may have the taint.
    pub(crate) fn judge<'a>(candidates: impl Iterator<Item = Candidate<'a>>, budget: usize) -> Self {
        let concerned = |each: &Candidate<'_>| {
            let keeps = each.refused && each.tainted_for.is_some();
            each.status != Some(true) && (each.rule.is_some() || keeps)
        };
        let of_node: Vec<_> = candidates.filter(concerned).collect();
        let qualifies = |each: &&Candidate<'_>| {
            let wrong_for = each.rule.zip(each.wrong_for);
            wrong_for.is_some_and(|(rule, wrong_for)| wrong_for >= rule.after)
        };
        let has_taint = |each: &&Candidate<'_>| each.tainted_for.is_some();
        let all = || of_node.iter();
        let qualified = all().filter(|each| qualifies(each) || has_taint(each)).count();
        // A common cause reaches the nodes one after the other. So a node is not tainted if others may follow.
        let wrong = all().filter(|each| each.wrong_for.is_some() || has_taint(each)).count();
        let old = |each: &&Candidate<'_>| each.tainted_for.is_some_and(|age| age >= TAKEN_BACK);
        let stays = |each: &&Candidate<'_>| match (qualified > budget, wrong > budget) {
            (true, _) => old(each),
            (false, true) => has_taint(each),
            (false, false) => has_taint(each) || qualifies(each),
        };
        let waits = wrong > budget && all().any(|each| qualifies(&each) && !stays(&each));
        Self {
            tainted: all().filter(stays).map(|each| each.node.to_owned()).collect(),
            held: waits.then_some(Held { wrong, budget }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portion::Portion;

    fn rule(max_nodes: Portion) -> TaintRule {
        TaintRule { effect: "NoSchedule", after: Duration::from_secs(120), max_nodes }
    }

    /// Judges nodes n0, n1, …, given as seconds since the verdict became False and since the taint.
    fn judge(
        rule: &TaintRule,
        nodes: usize,
        wrong: &[(Option<u64>, Option<u64>)],
    ) -> (Vec<String>, Option<Held>) {
        let names: Vec<_> = (0..wrong.len()).map(|index| format!("n{index}")).collect();
        let candidates = names.iter().zip(wrong).map(|(node, (wrong, tainted))| Candidate {
            node,
            rule: Some(rule),
            refused: false,
            status: wrong.map(|_| false),
            wrong_for: wrong.map(Duration::from_secs),
            tainted_for: tainted.map(Duration::from_secs),
        });
        let Brake { tainted, held } = Brake::judge(candidates, budget([rule].into_iter(), nodes));
        (tainted.into_iter().collect(), held)
    }

    #[test]
    fn a_few_wrong_nodes_are_tainted_in_time() {
        let rule = rule(Portion::Percent(10));
        assert_eq!(judge(&rule, 20, &[(Some(119), None)]), (vec![], None));
        assert_eq!(judge(&rule, 20, &[(Some(120), None)]), (vec!["n0".to_owned()], None));
        assert_eq!(judge(&rule, 11, &[(Some(130), None), (Some(120), None)]).0.len(), 2, "rounded up");
        assert_eq!(judge(&rule, 1, &[(Some(130), None)]).0.len(), 1, "at least one");
    }

    #[test]
    fn a_common_cause_taints_no_node() {
        let rule = rule(Portion::Count(1));
        // The first node qualifies before the others.
        let (tainted, held) = judge(&rule, 3, &[(Some(120), None), (Some(5), None), (Some(1), None)]);
        assert_eq!((tainted.len(), held), (0, Some(Held { wrong: 3, budget: 1 })));
        // A recent taint is removed if another node qualifies, an old one stays.
        let (tainted, held) = judge(&rule, 3, &[(Some(300), Some(180)), (Some(120), None)]);
        assert_eq!((tainted.len(), held), (0, Some(Held { wrong: 2, budget: 1 })));
        let (tainted, held) = judge(&rule, 3, &[(Some(900), Some(600)), (Some(120), None)]);
        assert_eq!((tainted, held), (vec!["n0".to_owned()], Some(Held { wrong: 2, budget: 1 })));
        // A node that is wrong for a moment does not remove the taint of another.
        assert_eq!(
            judge(&rule, 3, &[(Some(300), Some(180)), (Some(5), None)]),
            (vec!["n0".to_owned()], None)
        );
    }

    #[test]
    fn a_tainted_node_that_is_silent_keeps_its_taint_and_counts() {
        let rule = rule(Portion::Count(1));
        assert_eq!(judge(&rule, 9, &[(None, Some(60))]).0, ["n0"]);
        let (tainted, held) = judge(&rule, 9, &[(None, Some(900)), (Some(500), None)]);
        assert_eq!((tainted, held), (vec!["n0".to_owned()], Some(Held { wrong: 2, budget: 1 })));
    }

    #[test]
    fn a_node_that_is_right_or_without_a_rule_is_free() {
        let rule = rule(Portion::Count(1));
        let right = Candidate {
            node: "a",
            rule: Some(&rule),
            refused: false,
            status: Some(true),
            wrong_for: None,
            tainted_for: Some(Duration::from_secs(9)),
        };
        let free = Candidate { node: "b", rule: None, status: Some(false), ..right.clone() };
        let keeps = Candidate { node: "c", refused: true, ..free.clone() };
        let found = Brake::judge([right, free, keeps].into_iter(), 9);
        assert_eq!((found.tainted.into_iter().collect::<Vec<_>>(), found.held), (vec!["c".to_owned()], None));
    }
}
