//! The state that the operator keeps of one node, and the decision what to write for it. Pure: time is an argument.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{Assignment, TransitionKind};
use k8s_openapi::{api::events::v1::Event, jiff::Timestamp};

use crate::{
    budget::Budget,
    build::PreparedNode,
    events,
    facts::since,
    node_clock::{self, WriteUrgency, WrittenFigures},
    node_fields::ClockFields,
    reports::AgentState,
    stored_node_clock::StoredNodeClock,
};

/// The state that is kept of a node.
#[derive(Debug)]
pub(crate) struct NodeState {
    /// The desired assignment of the node, and since when it is desired.
    wanted: (Assignment, Instant),
    /// The figures in its NodeClock as last written.
    pub(crate) written: Option<WrittenFigures>,
    /// The agent instance, and the number of its last transition that became an Event.
    last_sent: Option<(String, u64)>,
    budget: Budget,
    /// What its Node is to say of the clock.
    pub(crate) fields: ClockFields,
    /// When this operator last wrote its Node.
    pub(crate) node_written: Option<Instant>,
    /// True if an Event about another process in the agent's place was sent, and that process is still there.
    impostor_event_sent: bool,
    /// The kinds of object that cannot be written for the node, each with the reason.
    pub(crate) troubles: BTreeMap<Trouble, String>,
}

/// What cannot be written for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    Annotation,
    Event,
    NodeClock,
    Node,
}

/// What is to be done for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeActions {
    /// There is at least one Event to send.
    pub(crate) events: bool,
    /// Whether its NodeClock is to be written. Events are sent before it.
    pub(crate) node_clock: WriteUrgency,
}

/// The Events to send about a node.
#[derive(Debug)]
pub(crate) struct PendingEvents {
    pub(crate) transitions: Option<Transitions>,
    /// The Event about another process in the agent's place.
    pub(crate) impostor: Vec<Event>,
    /// The number of transitions that exceed the node's budget.
    pub(crate) dropped: u64,
}

/// The transitions of a report for which no Event was sent yet.
#[derive(Debug)]
pub(crate) struct Transitions {
    /// The agent's instance.
    pub(crate) instance: String,
    /// The transitions that have an Event and are within the budget.
    pub(crate) events: Vec<TransitionEvent>,
    /// The number of the newest transition.
    pub(crate) last: u64,
}

/// The Events of a transition.
#[derive(Debug)]
pub(crate) struct TransitionEvent {
    /// The transition's number.
    pub(crate) number: u64,
    /// The kind whose budget it uses.
    pub(crate) kind: TransitionKind,
    pub(crate) events: Vec<Event>,
}

impl NodeState {
    /// A node of which nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            wanted: (Assignment::Unassigned, now),
            written: None,
            last_sent: None,
            budget: Budget::default(),
            fields: ClockFields::default(),
            node_written: None,
            impostor_event_sent: false,
            troubles: BTreeMap::new(),
        }
    }

    /// Decides what is to be done. `events_fail` says that the node's last Event could not be written; then its Events
    /// do not delay its NodeClock.
    pub(crate) fn decide(
        &mut self,
        node: &PreparedNode,
        agent: AgentState<'_>,
        known: Option<&StoredNodeClock>,
        events_fail: bool,
        (now, time): (Instant, Timestamp),
    ) -> NodeActions {
        if self.wanted.0 != node.wanted {
            self.wanted = (node.wanted.clone(), now);
        }
        if !matches!(agent, AgentState::Unproven(_)) {
            self.impostor_event_sent = false;
        }
        let events = match agent {
            AgentState::Report(report, _) => {
                let last_sent = self.last_sent(&report.instance, known);
                events::unsent(report, last_sent)
                    .any(|transition| events::type_and_action(transition.kind).is_some())
            }
            AgentState::Unproven(_) => !self.impostor_event_sent,
            AgentState::Waiting { .. } | AgentState::Silent(_) => false,
        };
        if events && !events_fail {
            return NodeActions { events, node_clock: WriteUrgency::No };
        }
        let reported = matches!(agent, AgentState::Report(..));
        let status = self.status(node, agent, known, time);
        let lag = now.saturating_duration_since(self.wanted.1);
        let node_clock = status.map_or(WriteUrgency::No, |status| {
            node_clock::due(&status, known, agent, self.written, lag, now)
        });
        if node_clock == WriteUrgency::No && self.has_unsaved_events(agent, known) {
            // Without this write the next operator would send them again. It can wait, since the next change often
            // needs a write anyway.
            let pause =
                self.written.map_or(Duration::MAX, |written| now.saturating_duration_since(written.at));
            let node_clock = if pause >= node_clock::LAG { WriteUrgency::Now } else { WriteUrgency::Later };
            return NodeActions { events, node_clock };
        }
        if node_clock == WriteUrgency::No && self.written.is_none() && reported {
            // An earlier operator wrote the NodeClock. From now on its figures are compared with the reports.
            let written_at = |known: &StoredNodeClock| known.updated_at.as_ref().map(|at| at.0);
            self.written = known.map(|known| WrittenFigures::of(agent, since(written_at(known), now, time)));
        }
        NodeActions { events, node_clock }
    }

    /// The status that the NodeClock is to have now.
    pub(crate) fn status(
        &self,
        node: &PreparedNode,
        agent: AgentState<'_>,
        known: Option<&StoredNodeClock>,
        time: Timestamp,
    ) -> Option<api::NodeClockStatus> {
        let last_sent = agent.report().and_then(|report| self.last_sent(&report.instance, known));
        node_clock::status(node, agent, known.unwrap_or(&StoredNodeClock::default()), last_sent, time)
    }

    /// The Events to send now. Those that exceed the node's budget are dropped.
    pub(crate) fn pending_events(
        &mut self,
        node: &PreparedNode,
        agent: AgentState<'_>,
        known: Option<&StoredNodeClock>,
        now: Instant,
        time: Timestamp,
    ) -> PendingEvents {
        let mut pending = PendingEvents { transitions: None, impostor: vec![], dropped: 0 };
        match agent {
            AgentState::Report(report, _) => {
                let mut events = Vec::new();
                let last = self.last_sent(&report.instance, known).unwrap_or(0);
                for transition in events::unsent(report, Some(last)) {
                    let (number, kind) = (transition.number, transition.kind);
                    let made = events::of_transition(node, known, &report.instance, transition, time);
                    if made.is_empty() {
                        continue;
                    }
                    match self.budget.take(kind, now) {
                        true => events.push(TransitionEvent { number, kind, events: made }),
                        false => pending.dropped += 1,
                    }
                }
                let last = report.transitions.last().map_or(last, |transition| transition.number.max(last));
                pending.transitions = Some(Transitions { instance: report.instance.clone(), events, last });
            }
            AgentState::Unproven(impostor) if !self.impostor_event_sent => {
                let pod = node.agents.first().map_or("", |agent| agent.uid.as_str());
                pending.impostor = events::of_impostor(node, known, pod, impostor, time);
            }
            AgentState::Unproven(_) | AgentState::Waiting { .. } | AgentState::Silent(_) => {}
        }
        pending
    }

    /// Records that the transitions of this instance up to a number became Events.
    pub(crate) fn events_were_sent(&mut self, instance: String, last: u64) {
        self.last_sent = Some((instance, last));
    }

    /// Returns to the budget the Events of these kinds, which could not be written. They will be tried again.
    pub(crate) fn give_back(&mut self, unsent: &[TransitionKind]) {
        unsent.iter().for_each(|kind| self.budget.give_back(*kind));
    }

    /// Records that the Event about another process in the agent's place was sent.
    pub(crate) fn impostor_event_was_sent(&mut self) {
        self.impostor_event_sent = true;
    }

    /// Records why an object of this kind cannot be written for the node; none if it could be written.
    pub(crate) fn note(&mut self, trouble: Trouble, why: Option<String>) {
        match why {
            Some(why) => self.troubles.insert(trouble, why),
            None => self.troubles.remove(&trouble),
        };
    }

    /// Returns true if an Event was sent that the stored NodeClock does not count yet.
    fn has_unsaved_events(&self, agent: AgentState<'_>, known: Option<&StoredNodeClock>) -> bool {
        let Some(report) = agent.report() else { return false };
        let saved = known.and_then(|known| known.last_transition(&report.instance));
        let last_sent = self.last_sent(&report.instance, known);
        let mut unsaved =
            events::unsent(report, saved).filter(|transition| Some(transition.number) <= last_sent);
        unsaved.any(|transition| events::type_and_action(transition.kind).is_some())
    }

    fn last_sent(&self, instance: &str, known: Option<&StoredNodeClock>) -> Option<u64> {
        let last_sent = self.last_sent.as_ref().filter(|(of, _)| of == instance).map(|(_, number)| *number);
        last_sent.max(known.and_then(|known| known.last_transition(instance)))
    }
}

/// A NodeClock is written again after this time, so that a reader sees that an operator keeps it up to date. The time
/// is a little less than the five minutes that the description of its column UPDATED promises.
pub(crate) const REFRESH: Duration = Duration::from_secs(290);

/// Decides which NodeClocks are written only because they are old. It writes as many per second as are needed to reach
/// all in time, the oldest first. So thousands that were written together do not stay together.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    credit: f64,
    /// NodeClocks per second.
    rate: f64,
}

const MOST_SPENT: Duration = Duration::from_secs(5);

/// A NodeClock that is younger than this is not written again.
const YOUNGEST: Duration = Duration::from_secs(5);

impl Refresh {
    /// Returns the nodes whose NodeClocks are to be refreshed now, `elapsed` after the last call. `count` is the number
    /// of nodes, `busy` the number of NodeClocks to be written for other reasons. `written` has the nodes that can be
    /// written, and when this operator last wrote each.
    pub(crate) fn due<'a>(
        &mut self,
        elapsed: Duration,
        count: usize,
        busy: usize,
        written: impl Iterator<Item = (&'a str, Option<Instant>)>,
        now: Instant,
    ) -> Vec<&'a str> {
        self.rate = count as f64 / REFRESH.as_secs_f64();
        self.credit = (self.credit + elapsed.as_secs_f64() * self.rate).min(self.rate.max(1.0));
        let young = |at: &Instant| now.saturating_duration_since(*at) < YOUNGEST;
        let mut old: Vec<_> = written.filter(|(_, at)| !at.as_ref().is_some_and(young)).collect();
        let count = (self.credit.max(0.0) as usize).saturating_sub(busy).min(old.len());
        if count == 0 {
            return vec![];
        }
        old.select_nth_unstable_by_key(count - 1, |(_, at)| *at);
        old[..count].iter().map(|(name, _)| *name).collect()
    }

    /// Records that a NodeClock of this age was written for any reason. None means that this operator had not written
    /// it yet. The younger it was, the less its write counts. Many writes at the same time delay the others for at most
    /// a few seconds.
    pub(crate) fn spent(&mut self, age: Option<Duration>) {
        let spared = age.map_or(1.0, |age| (age.as_secs_f64() / REFRESH.as_secs_f64()).min(1.0));
        self.credit = (self.credit - spared).max(-MOST_SPENT.as_secs_f64() * self.rate);
    }
}

#[cfg(test)]
mod tests {
    use contract::Transition;

    use super::*;
    use crate::fixtures::{prepared_node, report};

    fn stepped(number: u64) -> Transition {
        Transition { number, at: 0.0, kind: TransitionKind::Stepped, message: String::new() }
    }

    #[test]
    fn what_happened_is_told_before_it_is_written() {
        let (node, now) = (prepared_node(), Instant::now());
        let at = (now, Timestamp::UNIX_EPOCH);
        let mut state = NodeState::new(now);
        let mut said = report();
        said.transitions = vec![stepped(1), stepped(2)];
        let agent = AgentState::Report(&said, Timestamp::UNIX_EPOCH);
        let found = state.decide(&node, agent, None, false, at);
        assert_eq!(found, NodeActions { events: true, node_clock: WriteUrgency::No });
        let found = state.decide(&node, agent, None, true, at);
        assert_eq!(
            found,
            NodeActions { events: true, node_clock: WriteUrgency::Now },
            "a refused Event holds up nothing"
        );
        let last_sent =
            state.pending_events(&node, agent, None, now, Timestamp::UNIX_EPOCH).transitions.unwrap();
        assert_eq!((last_sent.events.len(), last_sent.last), (2, 2));
        state.events_were_sent(last_sent.instance, last_sent.last);
        let found = state.decide(&node, agent, None, false, at);
        assert_eq!(found, NodeActions { events: false, node_clock: WriteUrgency::Now });
        let status = state.status(&node, agent, None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(status.agent.as_ref().unwrap().last_transition, 2);
        let mut clock = api::NodeClock::new("n1", api::NodeClockFields {});
        clock.status = Some(status);
        let written = StoredNodeClock { agent: None, ..StoredNodeClock::of(&clock) };
        state.written = Some(WrittenFigures::of(agent, now));
        let later = |secs| (now + Duration::from_secs(secs), Timestamp::UNIX_EPOCH);
        assert_eq!(
            state.decide(&node, agent, Some(&written), false, later(5)).node_clock,
            WriteUrgency::Later
        );
        let found = state.decide(&node, agent, Some(&written), false, later(20));
        assert_eq!(found.node_clock, WriteUrgency::Now, "an Event that the NodeClock does not count");
        said.instance = "another".to_owned();
        let agent = AgentState::Report(&said, Timestamp::UNIX_EPOCH);
        assert!(state.decide(&node, agent, None, false, at).events, "its numbers begin anew");
    }

    #[test]
    fn a_node_that_tells_without_end_has_a_budget() {
        let (node, now) = (prepared_node(), Instant::now());
        let at = (now, Timestamp::UNIX_EPOCH);
        let mut state = NodeState::new(now);
        let (mut events, mut dropped) = (0, 0);
        for poll in 0..100 {
            let mut said = report();
            said.transitions = (poll * 64..(poll + 1) * 64).map(|number| stepped(number + 1)).collect();
            let agent = AgentState::Report(&said, Timestamp::UNIX_EPOCH);
            let pending = state.pending_events(&node, agent, None, now, Timestamp::UNIX_EPOCH);
            let last_sent = pending.transitions.unwrap();
            events += last_sent.events.len();
            dropped += pending.dropped;
            state.events_were_sent(last_sent.instance, last_sent.last);
            assert!(
                !state.decide(&node, agent, None, false, at).events,
                "what was dropped does not come back"
            );
        }
        assert_eq!((events, dropped), (10, 6390));
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let (node, now) = (prepared_node(), Instant::now());
        let mut state = NodeState::new(now);
        let mut said = report();
        said.transitions = (1..=60).map(stepped).collect();
        let last = Transition { number: 61, kind: TransitionKind::ConflictEnded, ..stepped(61) };
        said.transitions.push(last);
        let agent = AgentState::Report(&said, Timestamp::UNIX_EPOCH);
        let pending = state.pending_events(&node, agent, None, now, Timestamp::UNIX_EPOCH);
        let numbers: Vec<_> = pending.transitions.unwrap().events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (1..=10).chain([61]).collect::<Vec<_>>());
        assert_eq!(pending.dropped, 50);
    }

    #[test]
    fn all_are_written_anew_in_time_and_never_together() {
        let start = Instant::now();
        let names: Vec<_> = (0..5000).map(|index| format!("n{index:04}")).collect();
        // All were written in the same second.
        let mut written: BTreeMap<&str, Instant> = names.iter().map(|name| (name.as_str(), start)).collect();
        let mut refresh = Refresh::default();
        let mut oldest = Duration::ZERO;
        for secs in 1..1200 {
            let now = start + Duration::from_secs(secs);
            let all = written.iter().map(|(name, at)| (*name, Some(*at)));
            let due = refresh.due(Duration::from_secs(1), written.len(), 0, all, now);
            assert!(due.len() <= 18, "{secs}: {}", due.len());
            for name in due {
                refresh.spent(Some(now - written[name]));
                written.insert(name, now);
            }
            if secs > 5 {
                oldest = oldest.max(written.values().map(|at| now - *at).max().unwrap());
            }
        }
        assert!(oldest <= Duration::from_secs(300), "{oldest:?}");
        let mut alone = Refresh::default();
        let one = [("n", Some(start))];
        let at = (1..1000).filter(|secs| {
            let now = start + Duration::from_secs(*secs);
            let due = !alone.due(Duration::from_secs(1), 1, 0, one.iter().copied(), now).is_empty();
            due.then(|| alone.spent(None)).is_some()
        });
        assert_eq!(at.take(2).collect::<Vec<_>>(), [290, 580]);
        // A NodeClock that was written for another reason need not be refreshed.
        let mut busy = Refresh::default();
        let mut count = 0;
        for secs in 1..=1000 {
            let now = start + Duration::from_secs(100 + secs);
            let all = names.iter().map(|name| (name.as_str(), None));
            let due = busy.due(Duration::from_secs(1), names.len(), 0, all, now).len();
            (0..due + 10).for_each(|_| busy.spent(None));
            // A NodeClock that is written each second does not spare the others their turn.
            (0..100).for_each(|_| busy.spent(Some(Duration::from_secs(1))));
            count += due;
        }
        assert!(
            (6500..=7000).contains(&count),
            "of 17240 writes in 1000 s some 10300 had another reason: {count}"
        );
    }
}
