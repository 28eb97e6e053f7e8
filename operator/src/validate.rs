//! The second step: decides which policies can be carried out. The API server has checked most rules. Here a policy is
//! refused, with a reason, if the object cannot be read, or if the check of profiles refuses it. Agents make the same
//! check, so every agent accepts a profile that is accepted here. Pure: the fetched state in; the validated state out.
//! A refused policy stays in the list, since its last good profile stays in force.
use std::collections::BTreeSet;

use api::{ROLLOUT_ANNOTATION, TimeSyncPolicy};
use contract::ProfileName;
use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Resource, ResourceExt,
    core::{DeserializeGuard, Selector},
};
use profile::Checked;

use crate::{
    fetch::{Fetched, Profiles},
    keys::{self, KeyAvailability, Secrets},
    rollout::Settings,
    taint_rule::TaintRule,
    tier::{PolicyTiers, TierAvailability},
    translate::{self, Counts, FieldError},
};

/// The fetched state, in which every policy is either valid or refused.
#[derive(Debug)]
pub(crate) struct Validated {
    /// In order of precedence: highest priority, then oldest, then first by name.
    pub(crate) policies: Vec<Policy>,
    pub(crate) profiles: Profiles,
    pub(crate) secrets: Secrets,
}

impl Validated {
    /// The Secrets that valid policies name.
    pub(crate) fn secrets_named(&self) -> BTreeSet<String> {
        let good = self.policies.iter().filter_map(|policy| policy.checked.as_ref().ok());
        good.flat_map(|checked| keys::secrets(checked.profile())).collect()
    }

    /// Returns true if a valid policy needs keys that seal cookies.
    pub(crate) fn wants_cookie_keys(&self) -> bool {
        let asks =
            |checked: &Checked| checked.serve().nts.as_ref().is_some_and(|nts| nts.cookie_keys.is_some());
        self.policies.iter().filter_map(|policy| policy.checked.as_ref().ok()).any(asks)
    }
}

/// A policy.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) generation: Option<i64>,
    pub(crate) reference: ObjectReference,
    pub(crate) priority: i32,
    pub(crate) created: Option<Timestamp>,
    /// None if the policy cannot be read. Then it keeps the nodes that it has.
    pub(crate) selector: Option<Selector>,
    /// The profile that it asks for, or why it is refused.
    pub(crate) checked: Result<Checked, PolicyError>,
    /// When its nodes are tainted, as the spec says it: see [`Policy::taint_rule`].
    pub(crate) node_taint: Option<TaintRule>,
    /// Whether the Secrets hold the keys that the profile needs.
    pub(crate) key_availability: KeyAvailability,
    /// Its upstreams with nodes. Until `resolve` has found the nodes, `checked` has placeholders for them.
    pub(crate) tiers: PolicyTiers,
    /// How its profile goes out; none if to all nodes at once.
    pub(crate) rollout: Option<Settings>,
    /// The value of the annotation about its rollout.
    pub(crate) rollout_request: Option<String>,
    /// Its stored status.
    pub(crate) status: api::TimeSyncPolicyStatus,
}

impl Policy {
    /// The profile that nodes can get; none unless the policy is valid, all its keys exist, and its tiers have nodes.
    pub(crate) fn ready(&self) -> Option<&Checked> {
        let checked = self.checked.as_ref().ok()?;
        if matches!(self.tiers.availability, TierAvailability::Missing(_)) {
            return None;
        }
        matches!(self.key_availability, KeyAvailability::Complete | KeyAvailability::Kept(_))
            .then_some(checked)
    }

    /// When its nodes are tainted; none if they are not, or if the policy is refused, by whatever step.
    pub(crate) fn taint_rule(&self) -> Option<&TaintRule> {
        self.node_taint.as_ref().filter(|_| self.checked.is_ok())
    }

    /// The last profile that was in force for all nodes, from before the policy was refused. One whose rollout was not
    /// completed does not count, also if it was the first one.
    pub(crate) fn last_good(&self) -> Option<ProfileName> {
        let Some(rollout) = &self.status.rollout else {
            // Profiles went to all nodes at once.
            return self.status.profile.as_ref()?.parse().ok();
        };
        rollout.last_good.as_ref()?.parse().ok()
    }

    /// The last good profile, or else the one of a first rollout, which some nodes may have.
    pub(crate) fn in_force(&self) -> Option<ProfileName> {
        self.last_good().or_else(|| self.status.profile.as_ref()?.parse().ok())
    }
}

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    /// The object cannot be read as a policy.
    #[error("the object cannot be read: {0}")]
    Unreadable(String),
    /// The operator cannot carry out a field.
    #[error(transparent)]
    InvalidField(#[from] FieldError),
    /// The access list of one policy drops the requests of nodes of another one that asks its nodes.
    #[error("{0}")]
    TierRefusesNodes(String),
    /// There is no room for its profile or its keys besides those of older policies.
    #[error(
        "{0} would be larger than 900 kB, and what older policies need is kept: delete policies or keys that are not \
         needed, or make them smaller"
    )]
    NoRoom(&'static str),
}

impl PolicyError {
    /// The reason of the condition, one word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "Unreadable",
            Self::InvalidField(_) => "InvalidField",
            Self::TierRefusesNodes(_) => "TierRefusesNodes",
            Self::NoRoom(_) => "NoRoom",
        }
    }
}

/// Validates the policies, and sorts them by precedence.
pub(crate) fn validate(fetched: Fetched) -> Validated {
    let Fetched { policies, profiles, secrets } = fetched;
    // A policy that is being deleted no longer counts, even if another controller's finalizer keeps the object.
    let alive = policies.iter().filter(|policy| policy.meta().deletion_timestamp.is_none());
    let mut policies: Vec<Policy> = alive.map(|policy| validate_policy(policy, &secrets)).collect();
    policies.sort_by(|a, b| {
        b.priority.cmp(&a.priority).then_with(|| a.created.cmp(&b.created)).then_with(|| a.name.cmp(&b.name))
    });
    Validated { policies, profiles, secrets }
}

fn validate_policy(guard: &DeserializeGuard<TimeSyncPolicy>, secrets: &Secrets) -> Policy {
    let meta = guard.meta();
    let mut policy = Policy {
        name: guard.name_any(),
        generation: meta.generation,
        reference: guard.object_ref(&()),
        priority: 0,
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        selector: None,
        checked: Err(PolicyError::Unreadable(String::new())),
        node_taint: None,
        key_availability: KeyAvailability::Complete,
        tiers: PolicyTiers::default(),
        rollout: None,
        rollout_request: meta.annotations.as_ref().and_then(|all| all.get(ROLLOUT_ANNOTATION).cloned()),
        status: api::TimeSyncPolicyStatus::default(),
    };
    match &guard.0 {
        Err(invalid) => policy.checked = Err(PolicyError::Unreadable(invalid.error.clone())),
        Ok(object) => {
            policy.priority = object.spec.priority;
            policy.status = object.status.clone().unwrap_or_default();
            policy.tiers.chosen = policy.status.tiers.clone();
            match translate::selector(&object.spec) {
                Ok(selector) => {
                    policy.selector = Some(selector);
                    policy.checked = check(object, &mut policy.tiers);
                    match object.spec.node_taint.as_ref().map(TaintRule::of).transpose() {
                        Ok(rule) => policy.node_taint = rule,
                        Err(error) => policy.checked = Err(error.into()),
                    }
                }
                Err(error) => policy.checked = Err(error.into()),
            }
            match object.spec.rollout.as_ref().map(Settings::of).transpose() {
                Ok(settings) => policy.rollout = settings,
                Err(error) => policy.checked = Err(error.into()),
            }
        }
    }
    if let Ok(checked) = &policy.checked {
        policy.key_availability = secrets.key_availability(checked.profile());
    }
    policy
}

fn check(policy: &TimeSyncPolicy, tiers: &mut PolicyTiers) -> Result<Checked, PolicyError> {
    // The name becomes a part of a file's name. The API server limits it to 63 characters of a DNS label; an older API
    // server may not.
    if ProfileName::of(&policy.name_any(), "").to_string().parse::<ProfileName>().is_err() {
        return Err(FieldError::new("metadata.name", "it cannot be part of a file name").into());
    }
    let profile = translate::profile(&policy.spec)?;
    let asked = translate::tiers(&policy.spec)?;
    let counts = Counts::expected(&asked);
    let checked =
        profile::check(&profile).map_err(|error| translate::in_the_words_of_the_spec(&error, &counts))?;
    if !asked.is_empty() {
        tiers.availability = TierAvailability::Missing("its nodes were not chosen yet".to_owned());
    }
    tiers.asked = asked;
    Ok(checked)
}

#[cfg(test)]
mod tests {
    mod agreement;

    use std::sync::Arc;

    use super::*;

    fn validated(yamls: &[&str]) -> Validated {
        let read = |yaml: &&str| Arc::new(serde_norway::from_str(yaml).unwrap());
        validate(Fetched { policies: yamls.iter().map(read).collect(), ..Fetched::default() })
    }

    #[test]
    fn a_policy_that_any_step_refuses_taints_no_node() {
        let yaml = "{metadata: {name: a}, spec: {stratum: {local: 10}, nodeTaint: {effect: NoSchedule}}}";
        let mut policy = validated(&[yaml]).policies.remove(0);
        assert_eq!(policy.taint_rule().map(|rule| rule.effect), Some("NoSchedule"));
        policy.checked = Err(PolicyError::NoRoom("ConfigMap timesync-profiles"));
        assert_eq!(policy.taint_rule(), None);
    }

    #[test]
    fn precedence_is_priority_then_age_then_name() {
        let policy = |name: &str, priority: i32, created: &str| {
            format!(
                "{{metadata: {{name: {name}, creationTimestamp: '{created}'}}, spec: {{priority: {priority}}}}}"
            )
        };
        let all = [
            policy("c", 0, "2026-01-02T00:00:00Z"),
            policy("b", 0, "2026-01-01T00:00:00Z"),
            policy("a", 0, "2026-01-02T00:00:00Z"),
            policy("d", 1, "2026-01-03T00:00:00Z"),
        ];
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let names: Vec<_> = validated(&all).policies.into_iter().map(|policy| policy.name).collect();
        assert_eq!(names, ["d", "b", "a", "c"]);
    }

    #[test]
    fn the_entry_for_sources_lets_answers_in() {
        let policy = |upstream: &str, restrict: &str| {
            let yaml = format!(
                "{{metadata: {{name: a}}, spec: {{upstreams: [{{name: u, {upstream}}}], restrict: [{restrict}]}}}}"
            );
            validated(&[&yaml]).policies[0].checked.is_ok()
        };
        let ignore = "{source: default, flags: [ignore]}";
        for named in ["server: h", "pool: h", "peer: h"] {
            assert!(!policy(named, ignore));
            assert!(policy(named, &format!("{ignore}, {{source: source}}")));
        }
        assert!(!policy("peer: 192.0.2.1", ignore));
        assert!(policy("server: h", "{source: 192.0.2.0/24, flags: [ignore]}"), "others are answered");
    }

    #[test]
    fn cookies_need_keys_only_where_nts_is_served() {
        let policy =
            |nts: &str| format!("{{metadata: {{name: a}}, spec: {{mode: Observe, serve: {{{nts}}}}}}}");
        assert!(validated(&[&policy("nts: {tlsSecret: t}")]).wants_cookie_keys());
        assert!(!validated(&[&policy("")]).wants_cookie_keys());
    }

    #[test]
    fn a_bad_policy_is_refused_and_the_others_stay() {
        let check = |yaml: &str, reason: &str, message: &str| {
            let validated = validated(&[yaml, "{metadata: {name: z}, spec: {stratum: {local: 10}}}"]);
            assert!(validated.policies[1].checked.is_ok());
            let refusal = validated.policies[0].checked.clone().unwrap_err();
            assert_eq!(refusal.reason(), reason);
            assert!(refusal.to_string().contains(message), "{refusal}");
        };
        check(
            "{metadata: {name: a}, spec: {stratum: {local: 10}, clock: {step: {threshold: 0s}}}}",
            "InvalidField",
            "spec.clock.step.threshold: must be more than 0s",
        );
        check(
            "{metadata: {name: a}, spec: {upstreams: [{name: a, server: h, pool: p, nts: {}, keyRef: {name: s, key: k}}]}}",
            "InvalidField",
            "spec.upstreams[0].server: set exactly one of server, peer, pool and device",
        );
        check("{metadata: {name: a}, spec: {mode: Later}}", "Unreadable", "Later");
        check(
            "{metadata: {name: a}, spec: {stratum: {local: 1000}}}",
            "InvalidField",
            "spec.stratum.local: 1000",
        );
        check(
            "{metadata: {name: a}, spec: {upstreams: [{name: u, server: h}], restrict: [{source: default, flags: [ignore]}]}}",
            "InvalidField",
            "spec.upstreams[0].server: every restrict entry has ignore",
        );
        check(
            "{metadata: {name: a}, spec: {nodeSelector: {matchExpressions: [{key: k, operator: In}]}}}",
            "InvalidField",
            "nodeSelector",
        );
    }
}
