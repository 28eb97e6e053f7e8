//! The objects in `examples` that are not of this API: each is of a known kind of Kubernetes, and each of its fields is
//! one of that kind. `rules.rs` judges the policies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{fs, path::Path};

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
    core::v1::Pod,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[test]
fn every_field_of_the_examples_is_known() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for text in fs::read_to_string(&path).unwrap().split("\n---\n") {
            let object: Value = serde_norway::from_str(text).unwrap();
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            match kind.as_str() {
                // Of this API, and of another project, whose types are not here.
                "TimeSyncPolicy" | "NodeReadinessRule" => {}
                "Pod" => assert_of::<Pod>(&object),
                "MutatingAdmissionPolicy" => assert_of::<MutatingAdmissionPolicy>(&object),
                "MutatingAdmissionPolicyBinding" => assert_of::<MutatingAdmissionPolicyBinding>(&object),
                _ => panic!("{}: the kind {kind:?} has no type here: add it", path.display()),
            }
            kinds.push(kind);
        }
    }
    for kind in ["Pod", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "TimeSyncPolicy"] {
        assert!(kinds.iter().any(|found| found == kind), "no example is a {kind}");
    }
}

/// The type ignores a field that it does not know, so that field is missing afterwards. It also checks group and
/// version.
fn assert_of<T: DeserializeOwned + Serialize>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), object);
}

/// The policy mounts what the chart's agents write, into the pods that the page names.
#[test]
fn the_admission_policy_mounts_the_chart_s_segment() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let example = read("examples/clockbound-mutating-admission-policy.yaml");
    let policy: MutatingAdmissionPolicy =
        serde_norway::from_str(example.split("\n---\n").next().unwrap()).unwrap();
    let spec = policy.spec.unwrap();
    let expression = spec.mutations.unwrap().remove(0).apply_configuration.unwrap().expression.unwrap();
    let folder = "/var/run/clockbound";
    assert!(read("charts/timesync/templates/agent.yaml").contains(&format!("path: {folder}\n")));
    assert!(read("charts/timesync/templates/agent-config.yaml").contains(&format!("\"{folder}/shm0\"")));
    assert!(expression.contains(&format!("path: \"{folder}\"")), "{expression}");
    assert_eq!(expression.matches(&format!("mountPath: \"{folder}\", readOnly: true")).count(), 2);
    let selector = spec.match_constraints.unwrap().object_selector.unwrap().match_labels.unwrap();
    let label = "timesync.dev/clock-bound-segment";
    assert_eq!(selector.into_iter().collect::<Vec<_>>(), [(label.to_owned(), "true".to_owned())]);
    assert!(
        read("docs/wait.md").contains(&format!("{label}: \"true\"")),
        "docs/wait.md does not name the label"
    );
}
