//! Prints the profile: as a TimeSyncPolicy (YAML) or as an agent's file (TOML), without fields that have their default.
//! Only this module maps names of the profile to names of the policy.
use std::{mem, path::Path};

use contract::key_files;
use profile::{Leap, Nts, Profile, Upstream};
use serde::Serialize;
use serde_norway::{Mapping, Value};

/// A policy. Each file name `<secret>_<key>` becomes a reference to that key.
pub(super) fn policy(profile: &Profile, name: &str, origin: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy<'a> {
        api_version: &'static str,
        kind: &'static str,
        metadata: Metadata<'a>,
        spec: Value,
    }
    #[derive(Serialize)]
    struct Metadata<'a> {
        name: &'a str,
    }
    let policy = Policy {
        api_version: "timesync.dev/v1alpha1",
        kind: "TimeSyncPolicy",
        metadata: Metadata { name },
        spec: in_the_words_of_a_policy(said(profile)),
    };
    let text = serde_norway::to_string(&policy).expect("texts and numbers can be written as YAML");
    format!("{}{text}", head(origin))
}

/// A file for `run --config`.
pub(super) fn agent_file(profile: &Profile, rtc_device: Option<&Path>, origin: &str) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        agent: Option<Agent<'a>>,
        profile: Value,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Agent<'a> {
        rtc_device: &'a Path,
    }
    let agent = rtc_device.map(|rtc_device| Agent { rtc_device });
    let text = toml::to_string(&File { agent, profile: said(profile) });
    format!("{}{}", head(origin), text.expect("texts and numbers can be written as TOML"))
}

fn head(origin: &str) -> String {
    format!("# Made from {} by `timesync-agent convert`.\n", crate::lines::printable(origin))
}

/// The profile without what is the default.
fn said(profile: &Profile) -> Value {
    let plain: Upstream = serde_norway::from_str("name: ''").expect("all else of an upstream has a default");
    let (plain, nts) = (value(&plain), value(&Nts::default()));
    // These two are absent by default, but fields of them have defaults.
    let mut default = value(&Profile::default());
    let port = Mapping::from_iter([(Value::from("port"), Value::from(Nts::default().port))]);
    for (table, field, part) in
        [("clock", "leap", value(&Leap::default())), ("serve", "nts", Value::Mapping(port))]
    {
        if let Some(Value::Mapping(table)) = default.get_mut(table) {
            table.insert(Value::from(field), part);
        }
    }
    let Value::Mapping(mut fields) = without(value(profile), &default) else {
        return Value::Null;
    };
    for (_, upstreams) in fields.iter_mut().filter(|(field, _)| *field == "upstreams") {
        for upstream in upstreams.as_sequence_mut().into_iter().flatten() {
            *upstream = without(mem::take(upstream), &plain);
            if let Some(given) = upstream.get_mut("nts") {
                *given = without(mem::take(given), &nts);
            }
        }
    }
    Value::Mapping(fields)
}

fn value(of: &impl Serialize) -> Value {
    serde_norway::to_value(of).expect("a profile is made of texts and numbers")
}

/// `value` without the fields that `default` has as well.
fn without(value: Value, default: &Value) -> Value {
    let Value::Mapping(fields) = value else { return value };
    let mut kept = Mapping::new();
    for (field, value) in fields {
        let default = default.get(&field).unwrap_or(&Value::Null);
        if *default == value {
            continue;
        }
        let value = without(value, default);
        let says_nothing = default.is_mapping() && value.as_mapping().is_some_and(Mapping::is_empty);
        if !says_nothing {
            kept.insert(field, value);
        }
    }
    Value::Mapping(kept)
}

/// The same with references in place of files.
fn in_the_words_of_a_policy(value: Value) -> Value {
    match value {
        Value::Mapping(fields) => {
            let fields = fields.into_iter().filter(|(field, _)| *field != "privateKey");
            Value::Mapping(fields.map(field_of_a_policy).collect())
        }
        Value::Sequence(values) => {
            Value::Sequence(values.into_iter().map(in_the_words_of_a_policy).collect())
        }
        other => other,
    }
}

fn field_of_a_policy((field, value): (Value, Value)) -> (Value, Value) {
    let name = field.as_str().unwrap_or_default();
    let (name, value) = match name {
        "key" => ("keyRef".to_owned(), reference(value)),
        "ca" => (name.to_owned(), reference(value)),
        "keys" => {
            let keys = value.as_sequence().into_iter().flatten().cloned().map(reference);
            (name.to_owned(), Value::Sequence(keys.collect()))
        }
        // Both are in the one Secret of type kubernetes.io/tls.
        "certificate" => ("tlsSecret".to_owned(), reference(value).get("name").cloned().unwrap_or_default()),
        _ => (name.to_owned(), in_the_words_of_a_policy(value)),
    };
    (Value::String(name), value)
}

/// The Secret and the key that a file comes from.
fn reference(file: Value) -> Value {
    let file = file.as_str().unwrap_or_default();
    let (secret, key) = key_files::secret_and_key(file).unwrap_or((file, ""));
    let pairs = [("name", secret), ("key", key)];
    Value::Mapping(pairs.into_iter().map(|(k, v)| (Value::from(k), Value::from(v))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_default_is_not_written() {
        let profile: Profile = toml::from_str(
            "[[upstreams]]\nname = 'a'\nserver = 'h'\nmaxPoll = 10\nnts = {}\n[clock]\nmaxSlewRate = \
             500\nminSources = 2",
        )
        .unwrap();
        assert_eq!(
            agent_file(&profile, None, "f"),
            "# Made from f by `timesync-agent convert`.\n[[profile.upstreams]]\nname = \"a\"\nserver = \
             \"h\"\nmaxPoll = 10\n\n\
             [profile.upstreams.nts]\n\n[profile.clock]\nminSources = 2\n"
        );
        let policy = policy(&profile, "p", "f");
        assert!(policy.ends_with("maxPoll: 10\n    nts: {}\n  clock:\n    minSources: 2\n"), "{policy}");
    }

    #[test]
    fn files_become_references() {
        let profile: Profile = toml::from_str(
            "[[upstreams]]\nname = 'a'\nserver = 'h'\nkey = 's_k_1'\n[[upstreams]]\nname = 'b'\nserver = \
             'i'\nnts = { ca = 's_c' }\n\
             [serve]\nkeys = ['s_k']\nnts = { certificate = 't_tls.crt', privateKey = 't_tls.key' }",
        )
        .unwrap();
        let spec = in_the_words_of_a_policy(said(&profile));
        let expected =
            "{upstreams: [{name: a, server: h, keyRef: {name: s, key: k_1}}, {name: b, server: i, \
             nts: {ca: {name: s, key: c}}}],
              serve: {keys: [{name: s, key: k}], nts: {tlsSecret: t}}}";
        assert_eq!(spec, serde_norway::from_str::<Value>(expected).unwrap());
    }
}
