//! What of an object goes into an archive: no values of environment variables, which may be passwords of a proxy; no
//! bookkeeping of the API server; of nodes and events only what concerns timesync. Pure.
use k8s_openapi::api::core::v1::{Event, Node};
use serde_json::{Map, Value, json};

/// An annotation with a copy of the whole object, as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The containers of timesync.
const OURS: [&str; 3] = ["agent", "operator", "uninstall"];

/// An object without bookkeeping, values of environment variables, and containers of strangers.
pub(super) fn object(mut object: Value) -> Value {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
        if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["containers", "initContainers", "ephemeralContainers"] {
            let Some(containers) = spec.get_mut(key).and_then(Value::as_array_mut) else { continue };
            // Other containers are those of strangers, such as a mesh, whose arguments may hold secrets.
            containers.retain(|each| each["name"].as_str().is_some_and(|name| OURS.contains(&name)));
            for variable in
                containers.iter_mut().filter_map(|each| each.get_mut("env")?.as_array_mut()).flatten()
            {
                hide(variable.as_object_mut());
            }
        }
    }
    object
}

fn hide(variable: Option<&mut Map<String, Value>>) {
    if let Some(value) = variable.and_then(|variable| variable.get_mut("value")) {
        *value = json!("(left out)");
    }
}

/// What of a node concerns timesync: labels, taints, conditions, addresses, and versions.
pub(super) fn node(node: &Node) -> Value {
    let status = node.status.clone().unwrap_or_default();
    let annotations = node.metadata.annotations.iter().flatten();
    let ours: Map<String, Value> = annotations
        .filter(|(key, _)| key.contains("timesync.dev/"))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.metadata.name,
            "labels": node.metadata.labels,
            "annotations": ours,
            "creationTimestamp": node.metadata.creation_timestamp,
        },
        "spec": {
            "taints": node.spec.as_ref().and_then(|spec| spec.taints.clone()),
            "unschedulable": node.spec.as_ref().and_then(|spec| spec.unschedulable),
        },
        "status": {
            "conditions": status.conditions,
            "addresses": status.addresses,
            "nodeInfo": status.node_info,
        },
    })
}

/// Returns true for events of the namespace of timesync, and in `default` for those of the operator.
pub(super) fn is_ours(event: &Event, namespace: &str) -> bool {
    namespace != "default" || crate::observed::EventFacts::of(event).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_and_copies_are_left_out() {
        let pod = json!({
            "metadata": {"name": "a", "managedFields": [{}], "annotations": {LAST_APPLIED: "{\"secret\"}", "b": "c"}},
            "spec": {"containers": [{"name": "mesh", "args": ["--password"]}, {"name": "agent", "env": [
                {"name": "HTTPS_PROXY", "value": "http://user:password@proxy"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]}]},
        });
        let text = object(pod).to_string();
        assert!(
            !text.contains("password") && !text.contains("secret\\") && !text.contains("managedFields"),
            "{text}"
        );
        assert!(
            text.contains("HTTPS_PROXY") && text.contains("secretKeyRef") && text.contains("\"b\":\"c\""),
            "{text}"
        );
    }

    #[test]
    fn of_a_node_only_what_concerns_timesync_is_kept() {
        let whole: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "annotations": {"a.example.com/key": "private", "timesync.dev/x": "y"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"nodeInfo": null, "images": [{"names": ["private"]}]},
        }))
        .unwrap();
        let text = node(&whole).to_string();
        assert!(!text.contains("private") && text.contains("timesync.dev/x"), "{text}");
    }
}
