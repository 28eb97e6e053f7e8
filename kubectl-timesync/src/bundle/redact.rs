//! What of an object goes into an archive: no values of environment variables, which may be passwords of a proxy; no
//! bookkeeping of the API server; of nodes, pods and events only what concerns timesync. Pure.
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use serde_json::{Map, Value, json};

use crate::observed::EventFacts;

/// An annotation with a copy of the whole object, as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The containers of timesync.
const OURS: [&str; 3] = ["agent", "operator", "uninstall"];

/// An object without bookkeeping, and a pod without values of environment variables and without what strangers put into
/// it.
pub(super) fn object(mut object: Value) -> Value {
    let is_pod = object["kind"] == "Pod";
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
        if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
            // A mesh or a network plugin writes its settings there.
            annotations.retain(|key, _| !is_pod || is_of_timesync(key));
        }
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["containers", "initContainers", "ephemeralContainers"] {
            let Some(containers) = spec.get_mut(key).and_then(Value::as_array_mut) else { continue };
            containers.retain(is_ours_container);
            for variable in
                containers.iter_mut().filter_map(|each| each.get_mut("env")?.as_array_mut()).flatten()
            {
                hide(variable.as_object_mut());
            }
        }
    }
    if let Some(status) = object.get_mut("status").filter(|_| is_pod).and_then(Value::as_object_mut) {
        for key in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
            if let Some(containers) = status.get_mut(key).and_then(Value::as_array_mut) {
                containers.retain(is_ours_container);
            }
        }
    }
    object
}

/// Returns true for a container of timesync. Others are those of strangers, such as a mesh, whose arguments may hold
/// secrets.
fn is_ours_container(container: &Value) -> bool {
    container["name"].as_str().is_some_and(|name| OURS.contains(&name))
}

/// Returns true for an annotation of timesync.
fn is_of_timesync(key: &str) -> bool {
    key.split_once('/')
        .is_some_and(|(domain, _)| domain == "timesync.dev" || domain.ends_with(".timesync.dev"))
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
        .filter(|(key, _)| is_of_timesync(key))
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

/// Which objects of the namespace are timesync's: the names of its pods, and of what has made them.
pub(super) fn owners(pods: &[&Pod]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for pod in pods {
        names.extend(pod.metadata.name.clone());
        for owner in pod.metadata.owner_references.iter().flatten() {
            names.insert(owner.name.clone());
            // A ReplicaSet has the name of its Deployment, and a hash.
            if let Some((deployment, _)) = owner.name.rsplit_once('-').filter(|_| owner.kind == "ReplicaSet")
            {
                names.insert(deployment.to_owned());
            }
        }
    }
    names
}

/// Returns true for events that the operator wrote, and for those about an object of timesync: one of these names, or a
/// pod or a ReplicaSet that is gone, whose name begins with one of them; an object of the API; the objects that the
/// operator writes, which have fixed names.
pub(super) fn is_ours(event: &Event, owners: &BTreeSet<String>) -> bool {
    let about = &event.involved_object;
    if EventFacts::of(event).is_some()
        || about.api_version.as_deref().is_some_and(|v| v.starts_with("timesync.dev/"))
    {
        return true;
    }
    let Some(name) = about.name.as_deref() else { return false };
    let is_of = |owner: &String| {
        name.strip_prefix(owner.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    name.starts_with("timesync-") || owners.iter().any(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_and_copies_are_left_out() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {"name": "a", "managedFields": [{}], "annotations": {
                LAST_APPLIED: "{\"secret\"}", "mesh.example.com/config": "password", "nottimesync.dev/x": "password",
                "timesync.dev/profile": "c",
            }},
            "spec": {"containers": [{"name": "mesh", "args": ["--password"]}, {"name": "agent", "env": [
                {"name": "HTTPS_PROXY", "value": "http://user:password@proxy"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]}]},
            "status": {"containerStatuses": [
                {"name": "mesh", "state": {"waiting": {"message": "password"}}}, {"name": "agent"},
            ]},
        });
        let text = object(pod).to_string();
        assert!(
            !text.contains("password") && !text.contains("secret\\") && !text.contains("managedFields"),
            "{text}"
        );
        assert!(
            text.contains("HTTPS_PROXY")
                && text.contains("secretKeyRef")
                && text.contains("timesync.dev/profile"),
            "{text}"
        );
        // The user's own annotations of a policy say something about it.
        let policy =
            json!({"kind": "TimeSyncPolicy", "metadata": {"annotations": {LAST_APPLIED: "x", "a/b": "c"}}});
        assert_eq!(object(policy)["metadata"]["annotations"], json!({"a/b": "c"}));
    }

    #[test]
    fn events_of_strangers_in_the_same_namespace_are_left_out() {
        let pod = |name: &str, kind: &str, owner: &str| -> Pod {
            let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u"});
            serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [owner]}})).unwrap()
        };
        let agent = pod("clock-agent-x7k2p", "DaemonSet", "clock-agent");
        let operator = pod("clock-operator-6c9f4d7b5-q2m8z", "ReplicaSet", "clock-operator-6c9f4d7b5");
        let owners = owners(&[&agent, &operator]);
        let check = |version: &str, name: &str, by: &str, expected: bool| {
            let event: Event = serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {"apiVersion": version, "name": name}, "reportingComponent": by,
            }))
            .unwrap();
            assert_eq!(is_ours(&event, &owners), expected, "{name} {by}");
        };
        check("v1", "clock-agent-x7k2p", "kubelet", true);
        check("v1", "clock-agent-gone1", "kubelet", true);
        check("apps/v1", "clock-agent", "daemonset-controller", true);
        check("apps/v1", "clock-operator", "deployment-controller", true);
        check("apps/v1", "clock-operator-7d8f9", "replicaset-controller", true);
        check("coordination.k8s.io/v1", "timesync-operator", "x", true);
        check("timesync.dev/v1alpha1", "n1", "x", true);
        check("v1", "n1", "timesync-operator", true);
        check("v1", "n1", "kubelet", false);
        check("v1", "clock-agents-of-others", "kubelet", false);
        check("v1", "database-0", "kubelet", false);
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
