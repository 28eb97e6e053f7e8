//! The manifest that agents write for kubelet, which they do without knowing Kubernetes, is a pod by its schema, and one that
//! kubelet takes from a file: no field is unknown, and nothing of the API is named in it.
use std::{fs, path::Path};

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

#[test]
fn the_manifest_is_a_static_pod() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/boot_pod/golden.yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let written: Value = serde_norway::from_str(&text).expect("it is YAML");
    let pod: Pod = serde_norway::from_str(&text).expect("it is a pod");
    // What is not in the schema would be lost on the way.
    assert_eq!(serde_json::to_value(&pod).expect("a pod can be written"), written);
    let spec = pod.spec.expect("it has a spec");
    // https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
    assert_eq!((spec.service_account_name, spec.image_pull_secrets), (None, None));
    assert!(spec.volumes.unwrap_or_default().iter().all(|volume| volume.host_path.is_some()));
    assert!(spec.containers.iter().all(|container| container.env_from.is_none()));
    let variables = spec.containers.iter().flat_map(|container| container.env.iter().flatten());
    assert!(variables.into_iter().all(|variable| variable.value_from.is_none()));
}
