//! The fourth step: the objects that carry the plan out. Pure: texts of profiles, the ConfigMap, the Secret with the
//! keys, and the annotation of each agent's pod, and of these only what differs from what is there, so that a restart writes nothing.
use std::collections::{BTreeMap, BTreeSet};

use contract::{Assignment, Profile, ProfileName};

use crate::{
    fetch::AgentPod,
    keys::{self, Data},
    plan::{Choice, Plan, PlannedNode},
    validate::{Policy, Validated},
};

/// Objects that are ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) policies: Vec<PreparedPolicy>,
    pub(crate) nodes: Vec<PreparedNode>,
    /// Every key that the ConfigMap is to have, with its text.
    pub(crate) profiles: BTreeMap<ProfileName, String>,
    /// Whether the ConfigMap has to be written.
    pub(crate) profiles_differ: bool,
    /// All that the Secret with the keys is to hold.
    pub(crate) keys: Data,
    /// Whether the Secret has to be written.
    pub(crate) keys_differ: bool,
    /// Pods whose annotation has to be written, with its value.
    pub(crate) annotations: Vec<(AgentPod, Assignment)>,
}

/// A policy and its profile.
#[derive(Debug)]
pub(crate) struct PreparedPolicy {
    pub(crate) policy: Policy,
    /// The profile that is in force under its name.
    pub(crate) profile: Option<ProfileName>,
    /// How many nodes it lost, by the name of the policy that took them.
    pub(crate) lost: BTreeMap<String, usize>,
}

/// A node and its profile.
#[derive(Debug)]
pub(crate) struct PreparedNode {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) agents: Vec<AgentPod>,
    pub(crate) wanted: Assignment,
    /// Whether a key that it needs is another one now.
    pub(crate) keys_changed: bool,
}

impl PreparedNode {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<&str> {
        match &self.wanted {
            Assignment::Profile(profile) => Some(profile.policy()),
            Assignment::None | Assignment::Unassigned => None,
        }
    }
}

/// Why nothing could be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A profile has no text.
    #[error("cannot write the profile of policy {policy} as TOML")]
    Render { policy: String, source: toml::ser::Error },
}

/// Builds what the plan needs. `known` holds texts seen earlier, for keys that somebody deleted by hand; `reported`
/// holds every profile that an agent is known to run.
pub(crate) fn build(
    validated: Validated,
    plan: Plan,
    known: &BTreeMap<ProfileName, String>,
    reported: &BTreeSet<ProfileName>,
) -> Result<Prepared, Error> {
    let rendered = render(&validated.policies)?;
    let mut nodes: Vec<_> = plan.nodes.into_iter().map(|node| assign(node, &rendered)).collect();
    let profiles = texts(&validated, &nodes, &rendered, known, reported);
    let files = files(&profiles);
    let keys = key_files(&validated, files.values());
    mark_changes(&mut nodes, &files, &validated.secrets.held, &keys);
    let keys_differ = keys != validated.secrets.held;
    let mut lost = plan.lost;
    let prepare = |policy: Policy| {
        let profile = match rendered.get(&policy.name) {
            Some((profile, _)) => Some(profile.clone()),
            None => in_force(&policy.name, &nodes).or_else(|| policy.last_good()),
        };
        let lost = lost.remove(&policy.name).unwrap_or_default();
        PreparedPolicy { policy, profile, lost }
    };
    let policies = validated.policies.into_iter().map(prepare).collect();
    let ours = validated.profiles.iter().filter_map(|(key, text)| Some((ProfileName::from_key(key)?, text)));
    let profiles_differ = !ours.eq(profiles.iter().map(|(name, text)| (name.clone(), text)));
    let differing = nodes.iter().flat_map(|node| node.agents.iter().map(|agent| (agent, &node.wanted)));
    let differing =
        differing.filter(|(agent, wanted)| agent.annotation.as_deref() != Some(&wanted.to_string()));
    let annotations = differing.map(|(agent, wanted)| (agent.clone(), wanted.clone())).collect();
    Ok(Prepared { policies, nodes, profiles, profiles_differ, keys, keys_differ, annotations })
}

/// Name and text of the profile of each policy that nodes can be given, by the policy's name.
fn render(policies: &[Policy]) -> Result<BTreeMap<String, (ProfileName, String)>, Error> {
    let ready = policies.iter().filter_map(|policy| Some((&policy.name, policy.ready()?)));
    ready
        .map(|(policy, profile)| {
            let text = text(profile).map_err(|source| Error::Render { policy: policy.clone(), source })?;
            Ok((policy.clone(), (ProfileName::of(policy, &text), text)))
        })
        .collect()
}

/// The same profile always has the same text: fields in the order of the struct, no map anywhere.
fn text(profile: &Profile) -> Result<String, toml::ser::Error> {
    toml::to_string(profile)
}

fn assign(node: PlannedNode, rendered: &BTreeMap<String, (ProfileName, String)>) -> PreparedNode {
    let wanted = match &node.choice {
        Choice::Nothing => Assignment::None,
        Choice::Wish(policy) => {
            rendered.get(policy).map_or(Assignment::None, |(profile, _)| Assignment::Profile(profile.clone()))
        }
        Choice::LastGood(profile) => Assignment::Profile(profile.clone()),
    };
    PreparedNode {
        name: node.facts.name,
        uid: node.facts.uid,
        agents: node.agents,
        wanted,
        keys_changed: false,
    }
}

/// The profile of a refused policy that some node runs.
fn in_force(policy: &str, nodes: &[PreparedNode]) -> Option<ProfileName> {
    nodes.iter().find_map(|node| match &node.wanted {
        Assignment::Profile(profile) if profile.policy() == policy => Some(profile.clone()),
        _ => None,
    })
}

/// What the ConfigMap is to hold: the profile of each good policy, and whatever an annotation or an agent still names.
fn texts(
    validated: &Validated,
    nodes: &[PreparedNode],
    rendered: &BTreeMap<String, (ProfileName, String)>,
    known: &BTreeMap<ProfileName, String>,
    reported: &BTreeSet<ProfileName>,
) -> BTreeMap<ProfileName, String> {
    let mut named: BTreeSet<ProfileName> = reported.clone();
    let annotations = validated.agents.iter().map(AgentPod::assignment);
    let wanted = nodes.iter().map(|node| node.wanted.clone());
    named.extend(annotations.chain(wanted).filter_map(|assignment| match assignment {
        Assignment::Profile(profile) => Some(profile),
        Assignment::None | Assignment::Unassigned => None,
    }));
    named.extend(
        validated.policies.iter().filter(|policy| policy.ready().is_none()).filter_map(Policy::last_good),
    );
    let mut texts: BTreeMap<_, _> = rendered.values().cloned().collect();
    for name in named {
        // What somebody wrote under a name that does not fit is as good as gone.
        let there = validated.profiles.get(&name.key()).filter(|text| name.names(text));
        if let Some(text) = there.or_else(|| known.get(&name)).cloned() {
            texts.entry(name).or_insert(text);
        }
    }
    texts
}

/// The files that each profile speaks of. One that cannot be read, of another version, needs what it has: nothing of
/// it is known here.
fn files(profiles: &BTreeMap<ProfileName, String>) -> BTreeMap<ProfileName, BTreeSet<String>> {
    let read = |(name, text): (&ProfileName, &String)| {
        let profile = toml::from_str::<Profile>(text).ok()?;
        Some((name.clone(), keys::files(&profile)))
    };
    profiles.iter().filter_map(read).collect()
}

/// Every file that a policy asks for, or that an agent may still be using, with what it is to hold.
fn key_files<'a>(validated: &Validated, in_use: impl Iterator<Item = &'a BTreeSet<String>>) -> Data {
    let mut names: BTreeSet<String> = in_use.flatten().cloned().collect();
    names.extend(
        validated.policies.iter().filter_map(|policy| policy.wish.as_ref().ok()).flat_map(keys::files),
    );
    let content = |name: String| validated.secrets.content(&name).cloned().map(|content| (name, content));
    names.into_iter().filter_map(content).collect()
}

/// Says of each node whether what it is to run needs a file that is to hold something else than before.
fn mark_changes(
    nodes: &mut [PreparedNode],
    files: &BTreeMap<ProfileName, BTreeSet<String>>,
    before: &Data,
    now: &Data,
) {
    for node in nodes {
        let Assignment::Profile(profile) = &node.wanted else { continue };
        let mut needed = files.get(profile).into_iter().flatten();
        node.keys_changed = needed.any(|file| before.get(file) != now.get(file));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::{
        fetch::{Fetched, NodeFacts},
        plan::plan,
        validate::validate,
    };

    const POLICY: &str =
        "{metadata: {name: default}, spec: {upstreams: [{name: a, server: 192.0.2.10, iburst: true}]}}";

    fn fetched(policy: Option<&str>, annotation: Option<&str>, profiles: &[(&str, &str)]) -> Fetched {
        Fetched {
            policies: policy
                .into_iter()
                .map(|yaml| Arc::new(serde_norway::from_str(yaml).unwrap()))
                .collect(),
            nodes: vec![NodeFacts { name: "n1".to_owned(), ..NodeFacts::default() }],
            agents: vec![AgentPod {
                name: "agent".to_owned(),
                uid: "u".to_owned(),
                node: "n1".to_owned(),
                created: None,
                address: None,
                annotation: annotation.map(str::to_owned),
            }],
            profiles: profiles.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect(),
            ..Fetched::default()
        }
    }

    fn built(fetched: Fetched) -> Prepared {
        built_with(fetched, &BTreeMap::new(), &BTreeSet::new())
    }

    fn built_with(
        fetched: Fetched,
        known: &BTreeMap<ProfileName, String>,
        reported: &BTreeSet<ProfileName>,
    ) -> Prepared {
        let validated = validate(fetched);
        let plan = plan(&validated);
        build(validated, plan, known, reported).unwrap()
    }

    /// The profile that POLICY makes.
    fn good() -> (ProfileName, String) {
        built(fetched(Some(POLICY), None, &[])).profiles.pop_first().unwrap()
    }

    #[test]
    fn the_text_of_a_profile_is_golden() {
        // A change here gives every profile another name, and so makes every node of a user reload once.
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
        assert!(prepared.profiles_differ);
        assert_eq!(prepared.annotations[0].1, Assignment::Profile(name.clone()));
        let again = built(fetched(Some(POLICY), Some(&name.to_string()), &[(&name.key(), &text)]));
        assert!(!again.profiles_differ && again.annotations.is_empty(), "nothing to do twice");
    }

    #[test]
    fn an_edit_adds_a_key_and_the_old_one_stays_while_it_is_named() {
        let old = ProfileName::of("default", "old");
        let held = |annotation: &str, reported: &[ProfileName]| {
            let fetched = fetched(Some(POLICY), Some(annotation), &[(&old.key(), "old")]);
            let prepared = built_with(fetched, &BTreeMap::new(), &reported.iter().cloned().collect());
            prepared.profiles.contains_key(&old)
        };
        assert!(held(&old.to_string(), &[]), "the annotation names it");
        assert!(held(&good().0.to_string(), std::slice::from_ref(&old)), "an agent runs it");
        assert!(!held(&good().0.to_string(), &[]), "nobody names it");
    }

    #[test]
    fn a_deleted_policy_leaves_none() {
        let (name, text) = good();
        let prepared = built(fetched(None, Some(&name.to_string()), &[(&name.key(), &text)]));
        assert_eq!(prepared.annotations[0].1, Assignment::None);
        assert!(prepared.profiles.contains_key(&name), "until the agent has let go of it");
    }

    #[test]
    fn a_key_edited_by_hand_is_repaired() {
        let (name, text) = good();
        let prepared =
            built(fetched(Some(POLICY), Some(&name.to_string()), &[(&name.key(), "mode = \"Observe\"")]));
        assert!(prepared.profiles_differ);
        assert_eq!(prepared.profiles[&name], text);
    }

    #[test]
    fn a_key_of_a_refused_policy_is_repaired_from_memory() {
        let refused = "{metadata: {name: default}, spec: {stratum: {local: 99999}}}";
        let (name, text) = good();
        let known = BTreeMap::from([(name.clone(), text.clone())]);
        let prepared =
            built_with(fetched(Some(refused), Some(&name.to_string()), &[]), &known, &BTreeSet::new());
        assert!(prepared.profiles_differ);
        assert_eq!(prepared.profiles[&name], text);
        assert!(prepared.annotations.is_empty());
    }

    const KEYED: &str = "{metadata: {name: default}, spec: {upstreams: [{name: a, server: 192.0.2.10, keyRef: {name: s, key: k}}]}}";

    /// With Secrets `name/key=text`, and what `timesync-keys` holds, `file=text`.
    fn with_secrets(mut fetched: Fetched, named: &[&str], held: &[&str]) -> Fetched {
        let content = |text: &str| keys::Content(ByteString(text.as_bytes().to_vec()));
        for (place, text) in named.iter().map(|each| each.split_once('=').unwrap()) {
            let (name, key) = place.split_once('/').unwrap();
            let data = fetched.secrets.named.entry(name.to_owned()).or_default().get_or_insert_default();
            data.insert(key.to_owned(), content(text));
        }
        let held = held.iter().map(|each| each.split_once('=').unwrap());
        fetched.secrets.held = held.map(|(file, text)| (file.to_owned(), content(text))).collect();
        fetched
    }

    fn held(prepared: &Prepared) -> Vec<String> {
        let text = |(file, content): (&String, &keys::Content)| {
            format!("{file}={}", std::str::from_utf8(&content.0.0).unwrap())
        };
        prepared.keys.iter().map(text).collect()
    }

    #[test]
    fn keys_come_from_their_secrets() {
        let prepared = built(with_secrets(fetched(Some(KEYED), None, &[]), &["s/k=one", "s/other=x"], &[]));
        assert_eq!(held(&prepared), ["s_k=one"]);
        assert!(prepared.keys_differ && prepared.nodes[0].keys_changed);
        assert!(matches!(&prepared.annotations[0].1, Assignment::Profile(_)));
        let (name, text) = prepared.profiles.first_key_value().unwrap();
        assert!(text.contains("key = \"s_k\""), "{text}");
        let settled = || fetched(Some(KEYED), Some(&name.to_string()), &[(&name.key(), text)]);
        let same = built(with_secrets(settled(), &["s/k=one"], &["s_k=one"]));
        assert!(!same.keys_differ && !same.nodes[0].keys_changed && same.annotations.is_empty());
        let edited = built(with_secrets(settled(), &["s/k=two"], &["s_k=one"]));
        assert_eq!(held(&edited), ["s_k=two"]);
        assert!(edited.keys_differ && edited.nodes[0].keys_changed);
        assert!(edited.annotations.is_empty(), "the profile is the same");
        let mut deleted = with_secrets(settled(), &[], &["s_k=one"]);
        deleted.secrets.named.insert("s".to_owned(), None);
        let deleted = built(deleted);
        assert!(!deleted.keys_differ && deleted.annotations.is_empty(), "what runs goes on");
    }

    #[test]
    fn without_its_key_a_policy_waits_and_what_runs_goes_on() {
        let (name, text) = good();
        let waiting = |named: &[&str]| {
            let fetched = fetched(Some(KEYED), Some(&name.to_string()), &[(&name.key(), &text)]);
            built(with_secrets(fetched, named, &[]))
        };
        let prepared = waiting(&["s/other=x"]);
        assert!(!prepared.keys_differ && !prepared.profiles_differ && prepared.annotations.is_empty());
        assert_eq!(prepared.policies[0].profile, Some(name.clone()), "the one that runs");
        let prepared = waiting(&["s/k=one"]);
        assert_eq!(held(&prepared), ["s_k=one"]);
        assert!(matches!(&prepared.annotations[0].1, Assignment::Profile(new) if *new != name));
    }

    const SERVING: &str = "{metadata: {name: default}, spec: {stratum: {local: 10}, serve: {keys: [{name: s, key: k}], nts: {tlsSecret: t}}}}";

    #[test]
    fn what_a_server_needs_comes_along() {
        let serving = |tls: &[&str]| {
            let named = [&["s/k=one"], tls].concat();
            let mut fetched = with_secrets(fetched(Some(SERVING), None, &[]), &named, &[]);
            fetched.secrets.cookie_keys = Some(keys::Content(ByteString(b"made".to_vec())));
            built(fetched)
        };
        let prepared = serving(&["t/tls.crt=c", "t/tls.key=p", "t/ca.crt=x"]);
        assert_eq!(held(&prepared), ["nts-cookie-keys=made", "s_k=one", "t_tls.crt=c", "t_tls.key=p"]);
        assert!(matches!(&prepared.annotations[0].1, Assignment::Profile(_)));
        let prepared = serving(&["t/tls.crt=c"]);
        assert_eq!(prepared.policies[0].profile, None, "it waits for the Secret");
    }

    #[test]
    fn keys_for_cookies_are_no_longer_there_than_somebody_needs_them() {
        let cookies = |policy: &str| {
            let mut fetched = with_secrets(fetched(Some(policy), None, &[]), &[], &["nts-cookie-keys=made"]);
            fetched.secrets.cookie_keys = fetched.secrets.held.get(crate::cookie_keys::FILE).cloned();
            held(&built(fetched))
        };
        assert_eq!(cookies(SERVING), ["nts-cookie-keys=made"]);
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
        assert!(!prepared.profiles_differ);
    }
}
