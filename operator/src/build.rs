//! The fourth step: the desired content of the cluster. It consists of each node's assignment and, derived from these,
//! the texts of the ConfigMap and the keys of the Secret. Pure. The result is kept, so that of thousands of nodes only
//! those for which something changed are planned again.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use contract::{Assignment, ProfileName};
use profile::{Checked, Profile, Thresholds};

use crate::{
    facts::{AgentPod, NodeFacts, is_older},
    fetch::Profiles,
    keys::{self, Data, Secrets},
    plan::{Choice, Planned, plan},
    rollout::Rollouts,
    translate::FieldError,
    validate::{Policy, PolicyError, Validated},
};

mod staged;

/// The desired content of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// In order of precedence.
    pub(crate) policies: Vec<Policy>,
    pub(crate) nodes: BTreeMap<String, PreparedNode>,
    /// The content of the operator's ConfigMap, as last seen or written.
    held: Profiles,
    secrets: Secrets,
    /// For each policy that can be assigned to nodes, by its name: the name of its profile.
    rendered: BTreeMap<String, ProfileName>,
    /// The texts of profiles that were made here, or read from the ConfigMap. They serve to restore a key that was
    /// deleted by hand.
    texts: BTreeMap<ProfileName, ProfileText>,
    /// Profiles for which there is no room, and the object that lacks the room.
    no_room: BTreeMap<ProfileName, &'static str>,
    rules: Vec<AssignmentRule>,
    /// How far the profiles of policies with `rollout` are.
    pub(crate) rollouts: Rollouts,
    size_limit: SizeLimit,
}

/// The largest number of octets of profiles, and of keys, that is stored. Tests use a smaller one.
#[derive(Clone, Copy, Debug)]
struct SizeLimit(usize);

impl Default for SizeLimit {
    fn default() -> Self {
        Self(MOST_DATA)
    }
}

/// A node and its profile.
#[derive(Clone, Debug)]
pub(crate) struct PreparedNode {
    pub(crate) facts: Arc<NodeFacts>,
    /// The newest is last.
    pub(crate) agents: Vec<Arc<AgentPod>>,
    /// The policy that takes precedence. While its profile goes out in stages, the node may still have a profile of
    /// another policy.
    pub(crate) planned: Option<String>,
    pub(crate) wanted: Assignment,
    /// Policies that match the node too, but have lower precedence.
    pub(crate) lost: Vec<String>,
    /// True if the DaemonSet's selector, affinity and tolerations let an agent run on this node.
    pub(crate) reached: bool,
}

impl PreparedNode {
    /// The node's name.
    pub(crate) fn name(&self) -> &str {
        &self.facts.name
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<&str> {
        self.wanted.profile().map(ProfileName::policy)
    }
}

/// A profile's text, and the files that it names. If the text cannot be read, because another version wrote it, its
/// files are not known, and the set is empty.
#[derive(Debug)]
struct ProfileText {
    text: String,
    files: BTreeSet<String>,
    thresholds: Thresholds,
}

/// Which nodes a policy selects, and which profile they get. If no rule changes, no node needs a new plan.
#[derive(Debug, PartialEq, Eq)]
struct AssignmentRule {
    policy: String,
    selector: Option<String>,
    profile: Option<ProfileName>,
    last_good: Option<ProfileName>,
    staged: bool,
}

/// The desired content of the ConfigMap and of the Secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DesiredContent {
    /// Keys of the ConfigMap, each with a profile's text.
    pub(crate) profiles: BTreeMap<String, String>,
    /// Files, each a key of the Secret.
    pub(crate) keys: Data,
}

/// Octets of data that the operator stores in a ConfigMap or a Secret. The API server accepts 1 MiB; the rest is for
/// data of other writers.
const MOST_DATA: usize = 900_000;

impl Prepared {
    /// Takes the present policies. If a rule changed, plans every node again and returns true.
    pub(crate) fn take(&mut self, validated: Validated) -> bool {
        let Validated { policies, profiles, secrets } = validated;
        self.policies = policies;
        self.hold_profiles(profiles);
        let before = std::mem::replace(&mut self.secrets, secrets);
        if is_older(self.secrets.held_version.as_deref(), before.held_version.as_deref()) {
            (self.secrets.held, self.secrets.held_version) = (before.held, before.held_version);
        }
        for (key, text) in &self.held.data {
            // Ignores a text whose name or hash does not match: it was written by hand.
            if let Some(name) = ProfileName::from_key(key).filter(|name| name.names(text)) {
                self.texts.entry(name).or_insert_with(|| ProfileText::of(text.clone()));
            }
        }
        self.rendered.clear();
        let mut refused = BTreeMap::new();
        for policy in &mut self.policies {
            let Some(text) = policy.ready().map(text) else { continue };
            match text {
                Ok(text) => {
                    let name = ProfileName::of(&policy.name, &text);
                    if let Some(what) = self.no_room.get(&name) {
                        refused.insert(name, *what);
                        policy.checked = Err(PolicyError::NoRoom(what));
                        continue;
                    }
                    self.rendered.insert(policy.name.clone(), name.clone());
                    self.texts.entry(name).or_insert_with(|| ProfileText::of(text));
                }
                Err(error) => {
                    let why = format!("it cannot be written as TOML: {error}");
                    policy.checked = Err(FieldError::new("spec", why).into());
                }
            }
        }
        self.no_room = refused;
        self.update_rules()
    }

    fn update_rules(&mut self) -> bool {
        self.follow_rollouts();
        let rule = |policy: &Policy| AssignmentRule {
            policy: policy.name.clone(),
            selector: policy.selector.as_ref().map(ToString::to_string),
            profile: self.rendered.get(&policy.name).cloned(),
            last_good: if policy.ready().is_none() { policy.last_good() } else { None },
            staged: policy.rollout.is_some(),
        };
        let rules: Vec<_> = self.policies.iter().map(rule).collect();
        let differ = rules != self.rules;
        if differ {
            self.rules = rules;
            let all: Vec<String> = self.nodes.keys().cloned().collect();
            all.iter().for_each(|name| self.plan_again(name));
        }
        differ
    }

    /// Plans one node.
    pub(crate) fn node(&mut self, facts: Arc<NodeFacts>, agents: Vec<Arc<AgentPod>>, reached: bool) {
        let is_there =
            |profile: &ProfileName| self.texts.contains_key(profile) && !self.no_room.contains_key(profile);
        let taking = self.policies.iter().filter(|policy| !self.rollouts.is_withdrawn(&policy.name));
        let before = self.nodes.get(&facts.name).and_then(|before| before.wanted.profile());
        let Planned { choice, mut lost } = plan(taking, &facts.labels, &agents, before, &is_there);
        let wanted = match &choice {
            Choice::Nothing => Assignment::None,
            Choice::Policy(policy) => match self.rendered.get(policy).cloned() {
                Some(profile) => Assignment::Profile(self.in_turn(policy, profile, &lost, &facts, &agents)),
                None => Assignment::None,
            },
            Choice::LastGood(profile) => {
                let rollout = self.rollouts.of(profile.policy());
                let kept = rollout.map_or(profile, |rollout| rollout.kept(profile));
                Assignment::Profile(kept.clone())
            }
        };
        let planned = choice.policy().map(str::to_owned);
        let mut node = PreparedNode { facts, agents, planned, wanted, lost: vec![], reached };
        lost.retain(|policy| node.policy() != Some(policy));
        node.lost = lost;
        self.nodes.insert(node.name().to_owned(), node);
    }

    /// Returns what is to be stored: the profiles that nodes are to run, and those that an annotation or an agent still
    /// names (`reported`). Refuses policies for which there is no room, the newest first. The second value is true if
    /// the refusals changed: then the policies must be judged again.
    pub(crate) fn content(&mut self, reported: &BTreeSet<ProfileName>) -> (DesiredContent, bool) {
        let named = self.named(reported);
        let mut content = self.hold(&named);
        let refused = self.refuse_without_room(&mut content);
        let kept: BTreeSet<_> = self.rendered.values().chain(self.no_room.keys()).collect();
        self.texts.retain(|name, _| named.contains(name) || kept.contains(name));
        (content, refused)
    }

    fn named(&self, reported: &BTreeSet<ProfileName>) -> BTreeSet<ProfileName> {
        let mut named = reported.clone();
        for node in self.nodes.values() {
            let annotations = node.agents.iter().map(|agent| agent.assignment());
            let assignments = annotations.chain([node.wanted.clone()]);
            named.extend(assignments.filter_map(|assignment| assignment.profile().cloned()));
        }
        named.extend(self.rollouts.last_good().cloned());
        let refused = self.policies.iter().filter(|policy| policy.ready().is_none());
        let last_good = refused.filter_map(Policy::last_good);
        named.extend(last_good.filter(|profile| !self.no_room.contains_key(profile)));
        named
    }

    fn hold(&self, named: &BTreeSet<ProfileName>) -> DesiredContent {
        let texts = named.iter().filter_map(|name| Some((name, self.texts.get(name)?)));
        let mut content = DesiredContent::default();
        for (name, text) in texts {
            content.profiles.insert(name.key(), text.text.clone());
            for file in &text.files {
                if let Some(data) = self.secrets.content(file) {
                    content.keys.insert(file.clone(), data.clone());
                }
            }
        }
        content
    }

    /// If there is too little room, refuses policies whose profile or keys are not stored yet, the newest first, until
    /// the rest fits. If there is enough room, accepts one refused policy that fits now. If a stored key has grown and
    /// does not fit, keeps its former value. Returns true if a refusal changed.
    fn refuse_without_room(&mut self, content: &mut DesiredContent) -> bool {
        let SizeLimit(size_limit) = self.size_limit;
        let mut profiles: usize = content.profiles.iter().map(|(key, text)| key.len() + text.len()).sum();
        let mut keys: usize = content.keys.iter().map(|(file, data)| file.len() + data.0.0.len()).sum();
        if profiles <= size_limit && keys <= size_limit {
            let before = self.no_room.len();
            // A tenth stays free, so that the policy is not refused again immediately.
            let most = size_limit / 10 * 9;
            let fits = |name: &&ProfileName| {
                let Some(text) = self.texts.get(name) else { return true };
                let new = text.files.iter().filter(|file| !content.keys.contains_key(*file));
                let new: usize =
                    new.filter_map(|file| self.secrets.content(file)).map(|data| data.0.0.len()).sum();
                profiles + text.text.len() <= most && keys + new <= most
            };
            // One at a time: whether the next one fits depends on the size of this one.
            let fits = self.no_room.keys().find(fits).cloned();
            self.no_room.retain(|name, _| Some(name) != fits.as_ref());
            return self.no_room.len() != before;
        }
        let mut asking: Vec<_> = self.policies.iter().collect();
        asking.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
        let asking = asking.iter().filter_map(|policy| self.rendered.get(&policy.name));
        let before = self.no_room.len();
        for name in asking.filter(|name| content.profiles.contains_key(&name.key())) {
            let Some(text) = self.texts.get(name) else { continue };
            let new_files = text.files.iter().filter(|file| !self.secrets.held.contains_key(*file));
            let new_keys: usize =
                new_files.filter_map(|file| content.keys.get(file)).map(|data| data.0.0.len()).sum();
            if profiles > size_limit && !self.held.data.contains_key(&name.key()) {
                self.no_room.insert(name.clone(), "ConfigMap timesync-profiles");
            } else if keys > size_limit && new_keys > 0 {
                self.no_room.insert(name.clone(), "Secret timesync-keys");
            } else {
                continue;
            }
            profiles -= name.key().len() + text.text.len();
            keys = keys.saturating_sub(new_keys);
        }
        if keys > size_limit {
            for (file, held) in &self.secrets.held {
                if let Some(data) = content.keys.get_mut(file) {
                    data.clone_from(held);
                }
            }
        }
        self.no_room.len() != before
    }

    /// Returns true if the ConfigMap has to be written.
    pub(crate) fn profiles_differ(&self, content: &DesiredContent) -> bool {
        let ours = self.held.data.iter().filter(|(key, _)| ProfileName::from_key(key).is_some());
        !ours.eq(content.profiles.iter())
    }

    /// The files whose content in the Secret differs from the desired one.
    pub(crate) fn keys_that_differ(&self, content: &DesiredContent) -> BTreeSet<String> {
        let held = &self.secrets.held;
        let all = held.keys().chain(content.keys.keys());
        all.filter(|file| held.get(*file) != content.keys.get(*file)).cloned().collect()
    }

    /// The version of the ConfigMap that the next write replaces.
    pub(crate) fn profiles_version(&self) -> Option<&str> {
        self.held.version.as_deref()
    }

    /// The version of the Secret that the next write replaces.
    pub(crate) fn keys_version(&self) -> Option<&str> {
        self.secrets.held_version.as_deref()
    }

    /// Takes the ConfigMap as it was seen or written, unless a newer version is known: a watch may lag behind our own
    /// writes.
    pub(crate) fn hold_profiles(&mut self, held: Profiles) {
        if !is_older(held.version.as_deref(), self.held.version.as_deref()) {
            self.held = held;
        }
    }

    /// Takes the Secret as it was written.
    pub(crate) fn hold_keys(&mut self, held: Data, version: Option<String>) {
        if !is_older(version.as_deref(), self.secrets.held_version.as_deref()) {
            (self.secrets.held, self.secrets.held_version) = (held, version);
        }
    }

    /// Returns true if everything that an agent needs for this assignment is stored: the text, and every file that it
    /// names.
    pub(crate) fn is_stored(&self, wanted: &Assignment) -> bool {
        let Assignment::Profile(profile) = wanted else { return true };
        let stored = self.held.data.get(&profile.key()).is_some_and(|text| profile.names(text));
        let files = self.texts.get(profile).map(|text| &text.files);
        stored && files.into_iter().flatten().all(|file| self.secrets.held.contains_key(file))
    }

    /// Returns true if the assigned profile names one of these files.
    pub(crate) fn needs(&self, wanted: &Assignment, files: &BTreeSet<String>) -> bool {
        let text = wanted.profile().and_then(|profile| self.texts.get(profile));
        text.is_some_and(|text| !text.files.is_disjoint(files))
    }

    /// The thresholds by which a node's clock is judged: those of the profile that its agent runs, or else of the one that
    /// it is to run.
    pub(crate) fn thresholds(&self, running: Option<&ProfileName>, wanted: &Assignment) -> Thresholds {
        let known = running.into_iter().chain(wanted.profile()).find_map(|profile| self.texts.get(profile));
        known.map(|text| text.thresholds).unwrap_or_default()
    }

    /// The policy of this name.
    pub(crate) fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// The profile that is in force for a policy.
    pub(crate) fn profile(&self, policy: &Policy) -> Option<ProfileName> {
        let mut assigned = self.nodes.values().filter_map(|node| node.wanted.profile());
        let its = || assigned.find(|profile| profile.policy() == policy.name);
        self.rendered.get(&policy.name).or_else(its).cloned().or_else(|| policy.in_force())
    }
}

impl ProfileText {
    fn of(text: String) -> Self {
        let profile = toml::from_str::<Profile>(&text).unwrap_or_default();
        let (files, thresholds) = (keys::files(&profile), profile.thresholds);
        Self { text, files, thresholds }
    }
}

/// The text of a profile that passed the check. The same profile always has the same text: its fields are in the order
/// of the struct, and it has no map.
fn text(checked: &Checked) -> Result<String, toml::ser::Error> {
    toml::to_string(checked.profile())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::{
        fetch::Fetched,
        fixtures::{Cluster, agent},
        validate::validate,
    };

    const POLICY: &str =
        "{metadata: {name: default}, spec: {upstreams: [{name: a, server: 192.0.2.10, iburst: true}]}}";

    /// A cluster of one node, whose agent has the given annotation.
    fn fetched(policy: Option<&str>, annotation: Option<&str>, profiles: &[(&str, &str)]) -> Cluster {
        let fetched = Fetched {
            policies: policy
                .into_iter()
                .map(|yaml| Arc::new(serde_norway::from_str(yaml).unwrap()))
                .collect(),
            profiles: Profiles {
                data: profiles.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect(),
                version: None,
            },
            ..Fetched::default()
        };
        Cluster { fetched, nodes: vec![("n1".to_owned(), vec![agent("n1", annotation)])] }
    }

    /// What is prepared for a cluster that the operator sees for the first time.
    struct Built {
        prepared: Prepared,
        content: DesiredContent,
    }

    impl Built {
        fn node(&self) -> &PreparedNode {
            &self.prepared.nodes["n1"]
        }

        fn annotates(&self) -> bool {
            self.node().agents[0].lacks(&self.node().wanted)
        }

        fn holds(&self, name: &ProfileName) -> bool {
            self.content.profiles.contains_key(&name.key())
        }

        fn profiles_differ(&self) -> bool {
            self.prepared.profiles_differ(&self.content)
        }

        fn keys_differ(&self) -> bool {
            !self.prepared.keys_that_differ(&self.content).is_empty()
        }

        /// Returns true if a key that the node's agent needs has changed.
        fn keys_changed(&self) -> bool {
            self.prepared.needs(&self.node().wanted, &self.prepared.keys_that_differ(&self.content))
        }
    }

    fn built(cluster: Cluster) -> Built {
        built_with(cluster, &BTreeMap::new(), &BTreeSet::new())
    }

    /// Five small profiles do not fit into this. The real limit would need many profiles, since the largest has a few
    /// kB.
    const SMALL_LIMIT: SizeLimit = SizeLimit(MOST_DATA / 100);

    fn built_in_little_room(cluster: Cluster) -> Built {
        built_from(Prepared { size_limit: SMALL_LIMIT, ..Prepared::default() }, cluster, &BTreeSet::new())
    }

    fn built_with(
        cluster: Cluster,
        known: &BTreeMap<ProfileName, String>,
        reported: &BTreeSet<ProfileName>,
    ) -> Built {
        let mut prepared = Prepared::default();
        for (name, text) in known {
            prepared.texts.insert(name.clone(), ProfileText::of(text.clone()));
        }
        built_from(prepared, cluster, reported)
    }

    fn built_from(mut prepared: Prepared, cluster: Cluster, reported: &BTreeSet<ProfileName>) -> Built {
        cluster.clone().prepare(&mut prepared);
        loop {
            let (content, again) = prepared.content(reported);
            if !again {
                return Built { prepared, content };
            }
            prepared.take(validate(cluster.fetched.clone()));
        }
    }

    /// The profile that POLICY makes.
    fn good() -> (ProfileName, String) {
        let (key, text) = built(fetched(Some(POLICY), None, &[])).content.profiles.pop_first().unwrap();
        (ProfileName::from_key(&key).unwrap(), text)
    }

    #[test]
    fn the_text_of_a_profile_is_golden() {
        // A change of this text gives every profile another name, so every node reloads once.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profile.toml");
        let (name, text) = good();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap());
        assert!(name.names(&text));
    }

    #[test]
    fn apply_writes_the_key_and_the_annotation() {
        let (name, text) = good();
        let prepared = built(fetched(Some(POLICY), None, &[]));
        assert!(prepared.profiles_differ() && !prepared.prepared.is_stored(&prepared.node().wanted));
        assert_eq!(
            (prepared.annotates(), &prepared.node().wanted),
            (true, &Assignment::Profile(name.clone()))
        );
        let again = built(fetched(Some(POLICY), Some(&name.to_string()), &[(&name.key(), &text)]));
        assert!(!again.profiles_differ() && !again.annotates(), "nothing to do twice");
        assert!(again.prepared.is_stored(&again.node().wanted));
    }

    #[test]
    fn an_edit_adds_a_key_and_the_old_one_stays_while_it_is_named() {
        let old = ProfileName::of("default", "old");
        let held = |annotation: &str, reported: &[ProfileName]| {
            let fetched = fetched(Some(POLICY), Some(annotation), &[(&old.key(), "old")]);
            let prepared = built_with(fetched, &BTreeMap::new(), &reported.iter().cloned().collect());
            prepared.holds(&old)
        };
        assert!(held(&old.to_string(), &[]), "the annotation names it");
        assert!(held(&good().0.to_string(), std::slice::from_ref(&old)), "an agent runs it");
        assert!(!held(&good().0.to_string(), &[]), "nobody names it");
    }

    #[test]
    fn a_deleted_policy_leaves_none() {
        let (name, text) = good();
        let prepared = built(fetched(None, Some(&name.to_string()), &[(&name.key(), &text)]));
        assert_eq!((prepared.annotates(), &prepared.node().wanted), (true, &Assignment::None));
        assert!(prepared.holds(&name), "until the agent has let go of it");
    }

    #[test]
    fn a_key_edited_by_hand_is_repaired() {
        let (name, text) = good();
        let prepared =
            built(fetched(Some(POLICY), Some(&name.to_string()), &[(&name.key(), "mode = \"Observe\"")]));
        assert!(prepared.profiles_differ() && !prepared.prepared.is_stored(&prepared.node().wanted));
        assert_eq!(prepared.content.profiles[&name.key()], text);
    }

    #[test]
    fn a_key_of_a_refused_policy_is_repaired_from_memory() {
        let refused = "{metadata: {name: default}, spec: {stratum: {local: 99999}}}";
        let (name, text) = good();
        let known = BTreeMap::from([(name.clone(), text.clone())]);
        let prepared =
            built_with(fetched(Some(refused), Some(&name.to_string()), &[]), &known, &BTreeSet::new());
        assert!(prepared.profiles_differ() && !prepared.annotates());
        assert_eq!(prepared.content.profiles[&name.key()], text);
    }

    const KEYED: &str = "{metadata: {name: default}, spec: {upstreams: [{name: a, server: 192.0.2.10, keyRef: {name: s, key: k}}]}}";

    /// Adds Secrets `name/key=text`, and the content of `timesync-keys`, `file=text`.
    fn with_secrets(mut cluster: Cluster, named: &[&str], held: &[&str]) -> Cluster {
        let content = |text: &str| keys::SecretValue(ByteString(text.as_bytes().to_vec()));
        for (place, text) in named.iter().map(|each| each.split_once('=').unwrap()) {
            let (name, key) = place.split_once('/').unwrap();
            let data =
                cluster.fetched.secrets.named.entry(name.to_owned()).or_default().get_or_insert_default();
            data.insert(key.to_owned(), content(text));
        }
        let held = held.iter().map(|each| each.split_once('=').unwrap());
        cluster.fetched.secrets.held = held.map(|(file, text)| (file.to_owned(), content(text))).collect();
        cluster
    }

    fn held(built: &Built) -> Vec<String> {
        let text = |(file, content): (&String, &keys::SecretValue)| {
            format!("{file}={}", std::str::from_utf8(&content.0.0).unwrap())
        };
        built.content.keys.iter().map(text).collect()
    }

    #[test]
    fn keys_come_from_their_secrets() {
        let prepared = built(with_secrets(fetched(Some(KEYED), None, &[]), &["s/k=one", "s/other=x"], &[]));
        assert_eq!(held(&prepared), ["s_k=one"]);
        assert!(prepared.keys_differ() && prepared.keys_changed());
        assert!(matches!(&prepared.node().wanted, Assignment::Profile(_)));
        let (key, text) = prepared.content.profiles.first_key_value().unwrap();
        let name = ProfileName::from_key(key).unwrap();
        assert!(text.contains("key = \"s_k\""), "{text}");
        let settled = || fetched(Some(KEYED), Some(&name.to_string()), &[(&name.key(), text)]);
        let same = built(with_secrets(settled(), &["s/k=one"], &["s_k=one"]));
        assert!(!same.keys_differ() && !same.keys_changed() && !same.annotates());
        let edited = built(with_secrets(settled(), &["s/k=two"], &["s_k=one"]));
        assert_eq!(held(&edited), ["s_k=two"]);
        assert!(edited.keys_differ() && edited.keys_changed());
        assert!(!edited.annotates(), "the profile is the same");
        let mut deleted = with_secrets(settled(), &[], &["s_k=one"]);
        deleted.fetched.secrets.named.insert("s".to_owned(), None);
        let deleted = built(deleted);
        assert!(!deleted.keys_differ() && !deleted.annotates(), "what runs goes on");
    }

    #[test]
    fn without_its_key_a_policy_waits_and_what_runs_goes_on() {
        let (name, text) = good();
        let waiting = |named: &[&str]| {
            let fetched = fetched(Some(KEYED), Some(&name.to_string()), &[(&name.key(), &text)]);
            built(with_secrets(fetched, named, &[]))
        };
        let prepared = waiting(&["s/other=x"]);
        assert!(!prepared.keys_differ() && !prepared.profiles_differ() && !prepared.annotates());
        let policy = &prepared.prepared.policies[0];
        assert_eq!(prepared.prepared.profile(policy), Some(name.clone()), "the one that runs");
        let prepared = waiting(&["s/k=one"]);
        assert_eq!(held(&prepared), ["s_k=one"]);
        assert!(matches!(&prepared.node().wanted, Assignment::Profile(new) if *new != name));
    }

    const SERVING: &str = "{metadata: {name: default}, spec: {stratum: {local: 10}, serve: {keys: [{name: s, key: k}], nts: {tlsSecret: t}}}}";

    #[test]
    fn what_a_server_needs_comes_along() {
        let serving = |tls: &[&str]| {
            let named = [&["s/k=one"], tls].concat();
            let mut fetched = with_secrets(fetched(Some(SERVING), None, &[]), &named, &[]);
            fetched.fetched.secrets.cookie_keys = Some(keys::SecretValue(ByteString(b"made".to_vec())));
            built(fetched)
        };
        let prepared = serving(&["t/tls.crt=c", "t/tls.key=p", "t/ca.crt=x"]);
        assert_eq!(held(&prepared), ["nts-cookie-keys=made", "s_k=one", "t_tls.crt=c", "t_tls.key=p"]);
        assert!(matches!(&prepared.node().wanted, Assignment::Profile(_)));
        let prepared = serving(&["t/tls.crt=c"]);
        assert_eq!(
            prepared.prepared.profile(&prepared.prepared.policies[0]),
            None,
            "it waits for the Secret"
        );
    }

    #[test]
    fn keys_for_cookies_are_no_longer_there_than_somebody_needs_them() {
        let cookies = |policy: &str| {
            let named = ["s/k=one", "t/tls.crt=c", "t/tls.key=p"];
            let mut fetched =
                with_secrets(fetched(Some(policy), None, &[]), &named, &["nts-cookie-keys=made"]);
            fetched.fetched.secrets.cookie_keys =
                fetched.fetched.secrets.held.get(contract::key_files::COOKIE_KEYS).cloned();
            held(&built(fetched))
        };
        assert!(cookies(SERVING).contains(&"nts-cookie-keys=made".to_owned()));
        assert_eq!(cookies(POLICY), [""; 0]);
    }

    #[test]
    fn a_key_stays_while_an_agent_may_use_it() {
        let old = "[[upstreams]]\nname = 'a'\nserver = 'h'\nkey = 'old_k'\n";
        let name = ProfileName::of("default", old);
        let keys = |reported: &[ProfileName]| {
            let fetched =
                with_secrets(fetched(Some(POLICY), None, &[(&name.key(), old)]), &[], &["old_k=one"]);
            held(&built_with(fetched, &BTreeMap::new(), &reported.iter().cloned().collect()))
        };
        assert_eq!(keys(std::slice::from_ref(&name)), ["old_k=one"]);
        assert_eq!(keys(&[]), [""; 0]);
    }

    #[test]
    fn what_others_put_into_the_config_map_is_left_alone() {
        let (name, text) = good();
        let prepared = built(fetched(
            Some(POLICY),
            Some(&name.to_string()),
            &[("notes.txt", "mine"), (&name.key(), &text)],
        ));
        assert!(!prepared.profiles_differ());
    }

    #[test]
    fn names_that_begin_alike_are_no_difference() {
        let policy = |name: &str, tier: &str| {
            let yaml = format!(
                "{{metadata: {{name: {name}}}, spec: {{mode: Observe, nodeSelector: {{matchLabels: {{t: {tier}}}}}}}}}"
            );
            Arc::new(serde_norway::from_str(&yaml).unwrap())
        };
        let mut cluster = fetched(None, None, &[]);
        let running = |policy: &str| ProfileName::of(policy, "");
        cluster.fetched.policies = vec![policy("edge", "a"), policy("edge-2", "b")];
        let names = [running("edge"), running("edge-2")];
        cluster.fetched.profiles.data = names.iter().map(|name| (name.key(), String::new())).collect();
        let built = built_with(cluster, &BTreeMap::new(), &names.into_iter().collect());
        assert_eq!(built.content.profiles.len(), 2);
        assert!(!built.profiles_differ());
    }

    /// Policies p0, p1, … of `kib` KiB each, one for each node; the last one is the newest.
    fn large(count: usize, kib: usize) -> Cluster {
        let mut cluster = fetched(None, None, &[]);
        let upstream =
            |index: usize| format!("{{name: u{index}, server: {}{index}.example.org}}", "a".repeat(60));
        for index in 0..count {
            let upstreams: Vec<_> = (0..kib * 8).map(upstream).collect();
            let yaml = format!(
                "{{metadata: {{name: p{index}, creationTimestamp: '2026-01-0{}T00:00:00Z'}}, \
                 spec: {{nodeSelector: {{matchLabels: {{n: n{index}}}}}, upstreams: [{}]}}}}",
                index + 1,
                upstreams.join(", ")
            );
            cluster.fetched.policies.push(Arc::new(serde_norway::from_str(&yaml).unwrap()));
        }
        let names = ["n0", "n1", "n2", "n3", "n4"];
        cluster.nodes =
            names[..count].iter().map(|name| ((*name).to_owned(), vec![agent(name, None)])).collect();
        cluster
    }

    #[test]
    fn the_newest_policy_is_refused_if_there_is_no_room() {
        let built = built_in_little_room(large(5, 2));
        let accepted: Vec<_> = built.prepared.policies.iter().map(|policy| policy.checked.is_ok()).collect();
        let stored = built.content.profiles.len();
        assert!((2..5).contains(&stored), "{stored}");
        assert_eq!(accepted, (0..5).map(|index| index < stored).collect::<Vec<_>>());
        let refusal = built.prepared.policies[4].checked.clone().unwrap_err();
        assert!(refusal.to_string().contains("ConfigMap timesync-profiles"), "{refusal}");
        assert_eq!(built.prepared.nodes["n4"].wanted, Assignment::None);
        assert!(built.content.profiles.values().map(String::len).sum::<usize>() < SMALL_LIMIT.0);
    }

    #[test]
    fn keys_without_room_refuse_the_newest_and_no_more() {
        // Four policies with a key of 250 kB each.
        let mut cluster = fetched(None, None, &[]);
        cluster.nodes.clear();
        for index in 0..4 {
            let yaml = format!(
                "{{metadata: {{name: p{index}, creationTimestamp: '2026-01-0{}T00:00:00Z'}}, spec: {{nodeSelector: \
                 {{matchLabels: {{n: n{index}}}}}, upstreams: [{{name: a, server: h, keyRef: {{name: s, key: k{index}}}}}]}}}}",
                index + 1
            );
            cluster.fetched.policies.push(Arc::new(serde_norway::from_str(&yaml).unwrap()));
            cluster.nodes.push((format!("n{index}"), vec![agent(&format!("n{index}"), None)]));
            let data =
                cluster.fetched.secrets.named.entry("s".to_owned()).or_default().get_or_insert_default();
            data.insert(format!("k{index}"), keys::SecretValue(ByteString(vec![b'x'; 250_000])));
        }
        let mut built = built(cluster.clone());
        let accepted: Vec<_> = built.prepared.policies.iter().map(|policy| policy.checked.is_ok()).collect();
        assert_eq!(accepted, [true, true, true, false]);
        assert_eq!((built.content.keys.len(), built.content.profiles.len()), (3, 3));
        assert!(!built.prepared.content(&BTreeSet::new()).1, "and it stays so");
        // Stored keys grow: nodes keep what they have.
        cluster.fetched.secrets.held = built.content.keys.clone();
        let data = cluster.fetched.secrets.named.get_mut("s").unwrap().as_mut().unwrap();
        data.values_mut().for_each(|content| content.0.0.extend([b'y'; 10_000].repeat(6)));
        cluster.fetched.policies.pop();
        built.prepared.take(validate(cluster.fetched.clone()));
        let (content, _) = built.prepared.content(&BTreeSet::new());
        assert_eq!(content.keys, cluster.fetched.secrets.held);
    }

    #[test]
    fn a_refused_policy_is_taken_once_there_is_room() {
        let cluster = large(5, 2);
        let mut prepared = built_in_little_room(cluster.clone()).prepared;
        let refused = prepared.no_room.len();
        assert!(refused > 0);
        let mut fewer = cluster.fetched;
        fewer.policies.drain(..4);
        assert!(prepared.take(validate(fewer.clone())));
        let (content, again) = prepared.content(&BTreeSet::new());
        assert_eq!((content.profiles.len(), again), (0, true));
        prepared.take(validate(fewer.clone()));
        assert_eq!(prepared.content(&BTreeSet::new()).0.profiles.len(), 1);
        assert!(prepared.policies[0].checked.is_ok());
    }

    #[test]
    fn what_no_node_needs_takes_no_room() {
        let mut cluster = large(5, 2);
        cluster.nodes.truncate(1);
        let built = built_in_little_room(cluster);
        assert_eq!(built.content.profiles.len(), 1);
        assert!(built.prepared.policies.iter().all(|policy| policy.checked.is_ok()));
    }
}
