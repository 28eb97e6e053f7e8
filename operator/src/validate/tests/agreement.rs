//! API server, operator and agent accept the same policies. Random policies, made from fixed seeds, go all the way: the
//! CRD's schema and CEL, as the API server evaluates them; this operator; the text of the profile; the agent's reader
//! and check. They are made from the schema, so they have values at and beyond each limit.
use api::TimeSyncPolicy;
use profile::Checked;
use serde_json::{Value, json};

use crate::{keys::Secrets, validate::validate_policy};

mod random;
mod schema;
mod strategy;
mod texts;

use random::Random;

/// The number of policies that operator and agent judge.
const POLICIES: u64 = 4_000;

/// The number of these that the API server's rules judge, since evaluating CEL takes seconds in a debug build.
/// `TIMESYNC_POLICIES` sets a larger number. The evaluator accepts a prefix with a leading zero (`/08`), which the API
/// server refuses, so none is drawn.
const JUDGED_BY_CEL: u64 = 41;

/// How one policy is judged.
struct Outcome {
    /// Why the API server refuses it; empty if it does not.
    api: Vec<String>,
    operator: Result<Checked, String>,
}

impl Outcome {
    fn of(policy: &Value, crd: &Value) -> Self {
        let mut api = schema::problems(policy, crd);
        // The API server evaluates no rule on an object that violates the schema.
        if api.is_empty() {
            let read: TimeSyncPolicy = serde_json::from_value(policy.clone()).expect("it fits the schema");
            api.extend(kube::core::cel::validate_cel(&read).err().map(|errors| errors.to_string()));
        }
        Self { api, operator: judged(policy) }
    }
}

/// The operator's verdict.
fn judged(policy: &Value) -> Result<Checked, String> {
    let guard = serde_json::from_value(policy.clone()).expect("a guard reads every object");
    validate_policy(&guard, &Secrets::default()).checked.map_err(|refusal| refusal.to_string())
}

/// The agent's verdict on a text.
fn agent(text: &str) -> Result<Checked, String> {
    let profile: profile::Profile = toml::from_str(text).map_err(|error| error.to_string())?;
    profile::check(&profile).map_err(|error| error.to_string())
}

fn crd() -> Value {
    let [(_, policies), _] = api::crds().unwrap();
    serde_json::to_value(policies).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn what_the_api_takes_every_agent_takes() {
    let crd = crd();
    let asked = std::env::var("TIMESYNC_POLICIES").ok().and_then(|count| count.parse().ok());
    let count: u64 = asked.unwrap_or(JUDGED_BY_CEL);
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..count {
        let policy = Random::new(seed).policy(&crd);
        let shown = || format!("seed {seed}: {policy}");
        let Outcome { api, operator } = Outcome::of(&policy, &crd);
        match &operator {
            Ok(checked) => {
                let as_spec = refused_as_spec(checked, &policy, &crd);
                assert!(as_spec.is_empty() || is_beyond_cel(&policy), "{as_spec:?}\n{}", shown());
            }
            Err(why) if api.is_empty() => {
                assert!(why.contains(COVERED) && is_beyond_cel(&policy), "{why}\n{}", shown());
            }
            Err(_) => {}
        }
        if api.is_empty() { taken += 1 } else { refused += 1 }
    }
    // A generator that makes only valid policies, or only invalid ones, would prove little.
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

#[test]
fn what_the_operator_takes_every_agent_takes() {
    let crd = crd();
    let mut taken = 0;
    for seed in 0..POLICIES {
        let policy = Random::new(seed).policy(&crd);
        if let Ok(checked) = judged(&policy) {
            let text = toml::to_string(checked.profile()).unwrap();
            assert_eq!(agent(&text), Ok(checked), "seed {seed}: {policy}\n{text}");
            taken += 1;
        }
    }
    assert!(taken > POLICIES / 10, "{taken} taken");
}

/// Why the API server would refuse the profile as a policy's spec; empty if it would not. The two have the same fields,
/// but a profile names the files that Secrets become.
fn refused_as_spec(checked: &Checked, policy: &Value, crd: &Value) -> Vec<String> {
    let mut policy = policy.clone();
    let mut spec = serde_json::to_value(checked.profile()).expect("a profile can be written");
    let fields = spec.as_object_mut().expect("a profile is a table");
    fields.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    let upstreams = fields.get_mut("upstreams").and_then(Value::as_array_mut);
    for upstream in upstreams.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(key) = upstream.remove("key") {
            upstream.insert("keyRef".to_owned(), secret(&key));
        }
        if let Some(ca) = upstream.get_mut("nts").and_then(|nts| nts.get_mut("ca")) {
            *ca = secret(ca);
        }
    }
    for key in fields["serve"]["keys"].as_array_mut().into_iter().flatten() {
        *key = secret(key);
    }
    if fields["serve"]["keys"].is_null() {
        fields["serve"].as_object_mut().expect("the server is a table").remove("keys");
    }
    if let Some(nts) = fields["serve"].get_mut("nts") {
        *nts = json!({"tlsSecret": secret(&nts["certificate"])["name"], "port": nts["port"]});
    }
    policy["spec"] = spec;
    let mut refused = Outcome::of(&policy, crd).api;
    // An agent without Kubernetes has files with any names.
    let of_secret = [".keyRef", ".ca", ".keys[", ".tlsSecret"];
    refused.retain(|why| !of_secret.iter().any(|part| why.contains(part)));
    refused
}

/// The key of a Secret that a file comes from.
fn secret(file: &Value) -> Value {
    let (name, key) = file.as_str().and_then(|file| file.split_once('_')).unwrap_or_default();
    json!({"name": name, "key": key})
}

/// The check's message about an upstream that an `ignore` entry covers.
const COVERED: &str = "is covered by a restrict entry with ignore";

/// Returns true for two mistakes that the rule on the access list does not see, because that would cost too much:
/// entries for port 123 alone, and one network in two spellings. The operator's condition reports them.
fn is_beyond_cel(policy: &Value) -> bool {
    let entries: Vec<_> = policy["spec"]["restrict"].as_array().into_iter().flatten().collect();
    let networks: Vec<_> =
        entries.iter().map(|entry| network(entry["source"].as_str().unwrap_or_default())).collect();
    let twice = |n: usize| networks[..n].iter().any(|other| other == &networks[n]);
    let of_everybody = ["default", "0.0.0.0/0", "::/0"];
    let for_all = entries.iter().filter(|entry| of_everybody.iter().any(|all| entry["source"] == json!(all)));
    for_all.count() > 1
        || (0..networks.len()).any(twice)
        || entries.iter().any(|entry| entry["flags"].to_string().contains("ntpport"))
}

/// A source in one normal spelling.
fn network(source: &str) -> String {
    source.parse::<profile::Network>().map_or_else(|_| source.to_owned(), |network| format!("{network:?}"))
}

#[test]
fn no_step_of_zero_and_no_list_that_ignores_everybody() {
    let crd = crd();
    for spec in [
        json!({"upstreams": [{"name": "a", "server": "h"}], "clock": {"step": {"threshold": "0s"}}}),
        json!({"upstreams": [{"name": "a", "server": "h"}], "restrict": [{"source": "default", "flags": ["ignore"]}]}),
    ] {
        let policy = json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "TimeSyncPolicy",
            "metadata": {"name": "p"}, "spec": spec});
        let Outcome { api, operator } = Outcome::of(&policy, &crd);
        assert!(!api.is_empty() && operator.is_err(), "{policy}");
    }
    let profile = toml::from_str(
        "[[upstreams]]\nname = 'a'\nserver = 'h'\n[[restrict]]\nsource = 'default'\nflags = ['ignore']",
    );
    assert!(profile::check(&profile.unwrap()).is_err());
}
