//! The simulated cluster: nodes, policies and their statuses.
use std::time::Duration;

use contract::ProfileName;
use k8s_openapi::{
    ByteString,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::*;
use crate::{
    condition::ACCEPTED,
    fetch::{Fetched, Profiles},
    keys::{SecretValue, Secrets},
    validate::validate,
};

/// A cluster of two control-plane nodes in two zones, and two workers.
pub(super) struct World {
    pub(super) tiers: Tiers,
    pub(super) nodes: BTreeMap<String, Arc<NodeFacts>>,
    pub(super) synchronized: BTreeSet<&'static str>,
    pub(super) policies: Vec<String>,
    /// By policy, as the operator would have written it.
    statuses: BTreeMap<String, api::TimeSyncPolicyStatus>,
    stored: BTreeMap<String, String>,
    edits: i64,
    pub(super) start: Instant,
}

impl World {
    pub(super) fn new(control_plane: &str, workers: &str) -> Self {
        let mut world = Self {
            tiers: Tiers::default(),
            nodes: BTreeMap::new(),
            synchronized: BTreeSet::new(),
            policies: vec![],
            statuses: BTreeMap::new(),
            stored: BTreeMap::new(),
            edits: 0,
            start: Instant::now(),
        };
        for (name, role, zone, address) in [
            ("c1", "control", "z1", "10.0.0.1"),
            ("c2", "control", "z2", "10.0.0.2"),
            ("w1", "worker", "z1", "10.0.1.1"),
            ("w2", "worker", "z2", "10.0.2.2"),
        ] {
            world.node(name, role, zone, &[address]);
        }
        world.set("control", &format!("{CONTROL_PLANE}, {control_plane}"));
        world.set("workers", workers);
        world
    }

    pub(super) fn node(&mut self, name: &str, role: &str, zone: &str, addresses: &[&str]) {
        let labels = [("role", role), ("topology.kubernetes.io/zone", zone)];
        let facts = NodeFacts {
            name: name.to_owned(),
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ..NodeFacts::default()
        };
        self.nodes.insert(name.to_owned(), Arc::new(facts));
    }

    pub(super) fn set(&mut self, name: &str, spec: &str) {
        self.policies.retain(|policy| !policy.contains(&format!("name: {name},")));
        self.edits += 1;
        let generation = self.edits;
        self.policies.push(format!("metadata: {{name: {name}, generation: {generation}}}, spec: {{{spec}}}"));
    }

    /// One run of the step, after which the statuses and profiles are stored.
    pub(super) fn run(&mut self, minutes: u64) -> BTreeMap<String, Policy> {
        let with_status = |policy: &String| {
            let name = policy.split_once("name: ").unwrap().1.split_once(',').unwrap().0;
            let status = self.statuses.get(name).cloned().unwrap_or_default();
            let status = serde_json::to_string(&status).unwrap();
            Arc::new(serde_norway::from_str(&format!("{{{policy}, status: {status}}}")).unwrap())
        };
        let fetched = Fetched {
            policies: self.policies.iter().map(with_status).collect(),
            profiles: Profiles { data: self.stored.clone(), version: None },
            secrets: Secrets {
                named: [(
                    "s".to_owned(),
                    Some([("k".to_owned(), SecretValue(ByteString(vec![b'x'])))].into()),
                )]
                .into(),
                ..Secrets::default()
            },
        };
        let mut validated = validate(fetched);
        let synchronized = &self.synchronized;
        let readiness = |facts: &NodeFacts| match synchronized.contains(facts.name.as_str()) {
            true => Readiness::Synchronized,
            false => Readiness::Present,
        };
        let cluster = ClusterNodes { nodes: &self.nodes, readiness: &readiness };
        let now = self.start + Duration::from_secs(minutes * 60);
        self.tiers.resolve(&mut validated, &cluster, now);
        for policy in &validated.policies {
            let mut status = policy.status.clone();
            status.tiers.clone_from(&policy.tiers.chosen);
            if let Some(checked) = policy.ready() {
                let text = toml::to_string(checked.profile()).unwrap();
                let name = ProfileName::of(&policy.name, &text);
                status.profile = Some(name.to_string());
                self.stored.insert(name.key(), text);
            }
            let is_accepted = if policy.checked.is_ok() { "True" } else { "False" };
            let accepted = Condition {
                type_: ACCEPTED.to_owned(),
                status: is_accepted.to_owned(),
                observed_generation: policy.generation,
                reason: "Any".to_owned(),
                message: String::new(),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
            };
            status.conditions = vec![accepted];
            self.statuses.insert(policy.name.clone(), status);
        }
        validated.policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect()
    }

    pub(super) fn restart(&mut self) {
        self.tiers = Tiers::default();
    }
}
