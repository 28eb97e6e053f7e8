//! What moves a rollout on: the nodes' reports, a user's request, and time.
use std::{collections::BTreeSet, time::Instant};

use api::{PauseReason, RolloutRequest, RolloutState, RolloutVerb};
use contract::{ProfileName, Report};

use super::{
    judge::{Demands, Verdict, Watched, is_well},
    order::{self, Candidate, Rank},
    stage::{MOST_EXCUSED, Rollout},
};
use crate::message::some;

/// A node that has an agent, and that the policy takes, or has until another one takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) node: &'a str,
    /// Empty if it is not known.
    pub(crate) zone: &'a str,
    /// The profile in its annotation.
    pub(crate) present: Option<&'a ProfileName>,
    /// The profile that it is to run now.
    pub(crate) assigned: Option<&'a ProfileName>,
    pub(crate) report: Option<&'a Report>,
}

/// The longest message in the status, octets.
const LONGEST_MESSAGE: usize = 1024;
/// The longest value of the annotation that is kept, octets.
const LONGEST_REQUEST: usize = 253;

impl Rollout {
    /// Acts on the annotation's value, judges the nodes, and lets the next ones have the profile. Without `demands` it only
    /// acts on the value. Returns the nodes whose profile may be another one now.
    pub(super) fn step(
        &mut self,
        members: &[Member<'_>],
        request: Option<&str>,
        demands: Option<Demands>,
        now: Instant,
    ) -> BTreeSet<String> {
        let all = || members.iter().map(|member| member.node.to_owned()).collect();
        for member in members {
            if member.present.is_some_and(|present| present.policy() == self.target.policy()) {
                self.immediate.remove(member.node);
            }
        }
        if self.act(request, members) {
            return all();
        }
        // The policy cannot be carried out now: no node gets its profile, and none is judged by it.
        let Some(demands) = demands else { return BTreeSet::new() };
        if self.state == RolloutState::Aborted {
            return BTreeSet::new();
        }
        let (holders, held): (Vec<&Member<'_>>, Vec<_>) =
            members.iter().partition(|member| member.assigned == Some(&self.target));
        if std::mem::take(&mut self.resumed) {
            // Which of them had the profile before this rollout is not known any more.
            self.released.extend(holders.iter().map(|member| member.node.to_owned()));
        }
        if self.state == RolloutState::Done {
            if held.is_empty() {
                return BTreeSet::new();
            }
            // Nodes of another policy are to come.
            self.begin(RolloutState::Progressing);
        }
        let is_takeover = self.last_good.as_ref() == Some(&self.target);
        // If the profile was rolled out before, what happens to its former nodes has other causes.
        let watched: Vec<_> =
            holders.into_iter().filter(|each| !is_takeover || self.released.contains(each.node)).collect();
        let proven = self.judge(&watched, demands, now);
        if self.state != RolloutState::Progressing {
            return BTreeSet::new();
        }
        if held.is_empty() && self.last_good.is_none() && self.released.is_empty() {
            // The first profile of nodes that had none: there is nothing to go back to, so nothing to wait for.
            return self.complete();
        }
        match proven {
            Progress::Stop(reason, message) => {
                self.pause(reason, message);
                BTreeSet::new()
            }
            Progress::Wait(nodes) => {
                self.waiting = nodes;
                BTreeSet::new()
            }
            Progress::Go if held.is_empty() => self.complete(),
            Progress::Go => self.release_next(watched.len(), &held, members.len(), demands, now),
        }
    }

    fn complete(&mut self) -> BTreeSet<String> {
        self.begin(RolloutState::Done);
        self.last_good = Some(self.target.clone());
        BTreeSet::new()
    }

    /// Acts on the annotation's value once. Returns true if nodes may get another profile.
    fn act(&mut self, request: Option<&str>, members: &[Member<'_>]) -> bool {
        let Some(text) = request else {
            self.acted = None;
            return false;
        };
        let kept = &text[..text.floor_char_boundary(LONGEST_REQUEST)];
        if self.acted.as_deref() == Some(kept) {
            return false;
        }
        self.acted = Some(kept.to_owned());
        let Some(request) = RolloutRequest::of(text).filter(|request| request.hash == self.target.hash())
        else {
            return false;
        };
        match (request.verb, self.state) {
            (RolloutVerb::Pause, RolloutState::Progressing) => {
                self.pause(PauseReason::Requested, String::new());
                false
            }
            (RolloutVerb::Resume, RolloutState::Paused) => {
                self.resume(members);
                false
            }
            (RolloutVerb::Resume, RolloutState::Aborted) => {
                self.begin(RolloutState::Progressing);
                true
            }
            (RolloutVerb::Abort, RolloutState::Progressing | RolloutState::Paused) => {
                self.begin(RolloutState::Aborted);
                true
            }
            _ => false,
        }
    }

    /// Goes on. The nodes for which it was paused are not waited for any more.
    fn resume(&mut self, members: &[Member<'_>]) {
        let pause = self.pause.take();
        self.state = RolloutState::Progressing;
        if pause.is_none_or(|(reason, _)| reason == PauseReason::Requested) {
            return;
        }
        let holders = members.iter().filter(|member| member.assigned == Some(&self.target));
        let holders: Vec<_> = holders.map(|member| member.node.to_owned()).collect();
        let failing = |node: &&String| self.watched.get(*node).is_some_and(|watched| watched.failing);
        let mut named: Vec<_> = holders.iter().filter(failing).cloned().collect();
        if named.is_empty() {
            // The operator began again since. It does not know which ones failed.
            let unproven = |node: &&String| self.watched.get(*node).is_none_or(|watched| !watched.proven);
            named = holders.iter().filter(unproven).cloned().collect();
        }
        self.excused.extend(named);
        while self.excused.len() > MOST_EXCUSED {
            self.excused.pop_last();
        }
    }

    /// Judges the nodes that have the profile.
    fn judge(&mut self, holders: &[&Member<'_>], demands: Demands, now: Instant) -> Progress {
        let names: BTreeSet<&str> = holders.iter().map(|member| member.node).collect();
        self.watched.retain(|node, _| names.contains(node.as_str()));
        let (mut pending, mut unproven, mut silent, mut worse) = (vec![], vec![], vec![], vec![]);
        let mut proven = false;
        for member in holders {
            let watched =
                self.watched.entry(member.node.to_owned()).or_insert_with(|| Watched::new(None, now));
            let verdict = watched.judge(member.report, &self.target, demands, &self.settings, now);
            watched.failing =
                matches!(verdict, Verdict::NoAnswer(_) | Verdict::Regression(_) | Verdict::Unproven(_));
            if self.excused.contains(member.node) {
                continue;
            }
            let named = |why: String| format!("{} ({why})", member.node);
            match verdict {
                Verdict::Proven => proven = true,
                Verdict::Pending => pending.push(member.node.to_owned()),
                Verdict::Unproven(why) => unproven.push(named(why)),
                Verdict::NoAnswer(why) => silent.push(named(why)),
                Verdict::Regression(why) => worse.push(named(why)),
            }
        }
        let stop = |reason, nodes: Vec<String>| {
            let mut message = some(nodes.into_iter());
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            Progress::Stop(reason, message)
        };
        if !worse.is_empty() {
            worse.extend(silent);
            return stop(PauseReason::Regression, worse);
        }
        if !silent.is_empty() {
            return stop(PauseReason::NoAnswer, silent);
        }
        if !pending.is_empty() {
            return Progress::Wait(some(pending.into_iter()));
        }
        // A node that was not well before may be broken by itself. But some node must have proven the profile.
        if !unproven.is_empty() && !proven {
            return stop(PauseReason::NoAnswer, unproven);
        }
        Progress::Go
    }

    /// Lets the next nodes have the profile.
    fn release_next(
        &mut self,
        holders: usize,
        held: &[&Member<'_>],
        total: usize,
        demands: Demands,
        now: Instant,
    ) -> BTreeSet<String> {
        let well = |member: &Member<'_>| member.report.map(|report| is_well(report, demands));
        let rank = |member: &Member<'_>| {
            let own = member.assigned.filter(|assigned| assigned.policy() == self.target.policy());
            match well(member) {
                None => Rank::Silent,
                Some(_) if own.is_some() && own != self.last_good.as_ref() => Rank::HalfWay,
                Some(true) => Rank::Well,
                Some(false) => Rank::Unwell,
            }
        };
        let candidates: Vec<_> = held
            .iter()
            .map(|member| Candidate { node: member.node, zone: member.zone, rank: rank(member) })
            .collect();
        let next = match self.settings.canary.checked_sub(holders).filter(|lack| *lack > 0) {
            Some(lack) => order::canaries(candidates, lack),
            None => order::batch(candidates, self.settings.batch_of(total)),
        };
        for node in &next {
            let member = held.iter().find(|member| member.node == *node);
            let was_well = member.map(|member| well(member).unwrap_or(false));
            self.release(node, was_well, now);
        }
        self.waiting = some(next.iter().map(|node| (*node).to_owned()));
        next.into_iter().map(str::to_owned).collect()
    }
}

/// What follows from the verdicts on all nodes.
enum Progress {
    /// All nodes have proven the profile, or are not waited for.
    Go,
    /// These nodes have not proven it yet.
    Wait(String),
    /// The rollout pauses, for this reason and these nodes.
    Stop(PauseReason, String),
}
