//! The simulated cluster: policies, the ConfigMap, pods with annotations, and agents that do what these say. A turn is a
//! second.
use std::time::Duration;

use super::*;

/// The label with a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is wrong with an agent that runs the profile of upstream `BAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Silent,
    Holdover,
    Unsynchronized,
    Conflict,
    Refused,
    Offset,
    Gone,
}

pub(super) struct Fleet {
    pub(super) prepared: Prepared,
    now: Instant,
    nodes: BTreeMap<String, FleetNode>,
    upstream: String,
    pub(super) rollout: String,
    pub(super) refused: bool,
    pub(super) annotation: Option<String>,
    /// Selector and upstream of a second policy, `other`, of higher priority.
    pub(super) other: Option<(&'static str, &'static str)>,
    pub(super) other_annotation: Option<String>,
    pub(super) fault: Option<Fault>,
    statuses: BTreeMap<String, TimeSyncPolicyStatus>,
    /// By policy, with its spec.
    generations: BTreeMap<String, (String, i64)>,
    /// A member of a tier of policy `default`, which no user chooses.
    pub(super) tier: Option<&'static str>,
    config_map: BTreeMap<String, String>,
    /// The objects that the operator has seen last, by kind and name.
    seen: BTreeMap<String, String>,
}

struct FleetNode {
    labels: BTreeMap<String, String>,
    annotation: Option<String>,
    /// The profile that runs, and since when.
    running: Option<(ProfileName, Instant)>,
    broken: bool,
    silent: bool,
    report: Report,
}

impl Fleet {
    /// Nodes in zones z0 to z3, of which each is smaller than the one before.
    pub(super) fn new(count: usize, rollout: &str) -> Self {
        let mut fleet = Self {
            prepared: Prepared::default(),
            now: Instant::now(),
            nodes: BTreeMap::new(),
            upstream: GOOD.to_owned(),
            rollout: rollout.to_owned(),
            refused: false,
            annotation: None,
            other: None,
            other_annotation: None,
            fault: None,
            statuses: BTreeMap::new(),
            generations: BTreeMap::new(),
            tier: None,
            config_map: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        for number in 0..count {
            let zone = match number % 10 {
                0..4 => "z0",
                4..7 => "z1",
                7..9 => "z2",
                _ => "z3",
            };
            fleet.add(&format!("n{number:03}"), zone);
        }
        fleet
    }

    fn add(&mut self, name: &str, zone: &str) {
        let mut report = report();
        report.profile = None;
        let labels = [(ZONE.to_owned(), zone.to_owned()), ("zone".to_owned(), zone.to_owned())];
        let node = FleetNode {
            labels: labels.into(),
            annotation: None,
            running: None,
            broken: false,
            silent: false,
            report,
        };
        self.nodes.insert(name.to_owned(), node);
    }

    pub(super) fn edit(&mut self, upstream: &str) {
        self.upstream = upstream.to_owned();
    }

    pub(super) fn join(&mut self, name: &str) {
        self.add(name, "z0");
    }

    pub(super) fn replace_pod(&mut self, name: &str) {
        self.nodes.get_mut(name).unwrap().annotation = None;
    }

    pub(super) fn break_node(&mut self, name: &str) {
        self.nodes.get_mut(name).unwrap().broken = true;
    }

    pub(super) fn silence(&mut self, name: &str) {
        self.nodes.get_mut(name).unwrap().silent = true;
    }

    pub(super) fn relabel(&mut self, name: &str, zone: &str) {
        self.nodes.get_mut(name).unwrap().labels.insert("zone".to_owned(), zone.to_owned());
    }

    /// Another operator begins: it knows the objects only.
    pub(super) fn restart(&mut self) {
        self.prepared = Prepared::default();
        self.seen.clear();
    }

    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.operate();
            self.run_agents();
            self.now += Duration::from_secs(1);
        }
    }

    fn policies(&mut self) -> Vec<String> {
        let generations = &mut self.generations;
        let mut policy = |name: &str, spec: String, tier: Option<&str>, annotation: &Option<String>| {
            let (known, generation) = generations.entry(name.to_owned()).or_default();
            *generation += i64::from(*known != spec);
            known.clone_from(&spec);
            let tier = tier.unwrap_or_default();
            let spec = spec.replace("upstreams: [", &format!("upstreams: [{tier}"));
            let annotations = annotation.as_ref().map_or_else(String::new, |value| {
                format!(", annotations: {{timesync.dev/rollout: '{value}'}}")
            });
            let status =
                serde_json::to_string(self.statuses.get(name).unwrap_or(&TimeSyncPolicyStatus::default()));
            format!(
                "{{metadata: {{name: {name}, generation: {generation}{annotations}}}, spec: {{{spec}}}, status: {}}}",
                status.unwrap()
            )
        };
        let rollout = match self.rollout.as_str() {
            "" => String::new(),
            rollout => format!(", rollout: {rollout}"),
        };
        let fault = if self.refused { ", stratum: {local: 99999}" } else { "" };
        let spec = format!("upstreams: [{{name: a, server: {}}}]{rollout}{fault}", self.upstream);
        let mut policies = vec![policy("default", spec, self.tier, &self.annotation)];
        if let Some((selector, upstream)) = self.other {
            let spec = format!(
                "priority: 5, nodeSelector: {{matchLabels: {selector}}}, upstreams: [{{name: a, server: {upstream}}}]{rollout}"
            );
            policies.push(policy("other", spec, None, &self.other_annotation));
        }
        policies
    }

    /// What the operator does within a second. Like the real one, it looks only at objects that have changed.
    fn operate(&mut self) {
        let policies = self.policies();
        if self.is_new("policies".to_owned(), policies.join("\n")) {
            let read = |yaml: &String| Arc::new(serde_norway::from_str(yaml).unwrap());
            let profiles = Profiles { data: self.config_map.clone(), version: None };
            let fetched =
                Fetched { policies: policies.iter().map(read).collect(), profiles, ..Fetched::default() };
            self.prepared.take(validate(fetched));
        }
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            let node = &self.nodes[&name];
            let (labels, annotation) = (node.labels.clone(), node.annotation.clone());
            if self.is_new(name.clone(), format!("{labels:?} {annotation:?}")) {
                let agents = vec![Arc::new(agent(&name, annotation.as_deref()))];
                let facts = NodeFacts { name, labels, ..NodeFacts::default() };
                self.prepared.node(Arc::new(facts), agents, true);
            }
        }
        let nodes = &self.nodes;
        let report = |name: &str| nodes.get(name).filter(|node| !node.silent).map(|node| &node.report);
        self.prepared.roll_out(&report, self.now);
        let running = self.nodes.values().filter_map(|node| node.running.clone()).map(|(name, _)| name);
        let (content, _) = self.prepared.content(&running.collect());
        self.config_map.clone_from(&content.profiles);
        let held = Profiles { data: content.profiles, version: None };
        self.prepared.hold_profiles(held);
        for (name, node) in &mut self.nodes {
            let wanted = &self.prepared.nodes[name].wanted;
            assert!(self.prepared.is_stored(wanted), "{name}: {wanted:?}");
            node.annotation = Some(wanted.to_string());
        }
        self.statuses.clear();
        for policy in &self.prepared.policies {
            let staged = self.prepared.rollouts.of(&policy.name);
            let status = TimeSyncPolicyStatus {
                profile: self.prepared.profile(policy).map(|profile| profile.to_string()),
                rollout: staged.map(crate::rollout::Rollout::status),
                ..TimeSyncPolicyStatus::default()
            };
            self.statuses.insert(policy.name.clone(), status);
        }
    }

    fn is_new(&mut self, name: String, content: String) -> bool {
        self.seen.insert(name, content.clone()) != Some(content)
    }

    fn run_agents(&mut self) {
        let bad = self.config_map.iter().filter(|(_, text)| text.contains(BAD));
        let bad: Vec<_> = bad.filter_map(|(key, _)| ProfileName::from_key(key)).collect();
        for node in self.nodes.values_mut() {
            let assigned = node.annotation.as_deref().and_then(|name| name.parse::<ProfileName>().ok());
            let faulty = assigned.as_ref().is_some_and(|name| bad.contains(name));
            let fault = self.fault.filter(|_| faulty);
            let running = node.running.as_ref().map(|(name, _)| name);
            if running != assigned.as_ref() && fault != Some(Fault::Refused) {
                node.running = assigned.clone().map(|name| (name, self.now));
            }
            node.silent = node.silent && fault.is_none() || fault == Some(Fault::Gone);
            node.report = report();
            let since = node.running.as_ref().map_or(self.now, |(_, since)| *since);
            node.report.assignment = assigned.clone().map_or(Assignment::None, Assignment::Profile);
            node.report.profile = node.running.as_ref().map(|(name, _)| name.clone());
            let clock = &mut node.report.clock;
            clock.confirmed = self.now.saturating_duration_since(since) >= Duration::from_secs(3);
            clock.synchronized = !node.broken;
            match fault {
                None | Some(Fault::Gone) => {}
                Some(Fault::Silent) => clock.confirmed = false,
                Some(Fault::Holdover) => clock.reason = Reason::Holdover,
                Some(Fault::Unsynchronized) => {
                    (clock.synchronized, clock.reason) = (false, Reason::NoMajority);
                }
                Some(Fault::Offset) => clock.offset = Some(0.08),
                Some(Fault::Conflict) => {
                    let (message, suspects) = (String::new(), vec![]);
                    node.report.conflict = Some(ConflictReport { since: 0.0, message, suspects });
                }
                Some(Fault::Refused) => {
                    let message = "unknown field".to_owned();
                    let reason = ProfileFailure::ProfileInvalid;
                    node.report.profile_error = Some(ProfileError { reason, message });
                }
            }
        }
    }

    pub(super) fn status(&self) -> RolloutStatus {
        self.statuses["default"].rollout.clone().unwrap()
    }

    pub(super) fn state(&self) -> RolloutState {
        self.status().state
    }

    /// The name of policy default's profile with this upstream.
    pub(super) fn name_of(&self, upstream: &str) -> ProfileName {
        let mut fleet = Self::new(1, "");
        fleet.edit(upstream);
        fleet.run(1);
        fleet.annotation_of("n000")
    }

    pub(super) fn annotation_of(&self, node: &str) -> ProfileName {
        self.nodes[node].annotation.as_ref().unwrap().parse().unwrap()
    }

    /// The nodes whose annotation names a profile with this upstream.
    pub(super) fn holders(&self, upstream: &str) -> Vec<String> {
        let has = |name: &String| {
            let key = self.annotation_of(name).key();
            self.config_map.get(&key).is_some_and(|text| text.contains(&format!("{upstream}\"")))
        };
        self.nodes.keys().filter(|name| has(name)).cloned().collect()
    }

    /// A profile with this upstream that a node has.
    pub(super) fn holders_name(&self, upstream: &str) -> Option<ProfileName> {
        self.holders(upstream).first().map(|node| self.annotation_of(node))
    }

    pub(super) fn updated(&self, upstream: &str) -> usize {
        self.holders(upstream).len()
    }

    /// How many nodes of each zone have a profile with this upstream.
    pub(super) fn zones_of(&self, upstream: &str) -> BTreeMap<String, usize> {
        let mut zones = BTreeMap::new();
        for node in self.holders(upstream) {
            *zones.entry(self.nodes[&node].labels[ZONE].clone()).or_default() += 1;
        }
        zones
    }

    pub(super) fn is_stored(&self, upstream: &str) -> bool {
        self.config_map.values().any(|text| text.contains(&format!("{upstream}\"")))
    }
}
