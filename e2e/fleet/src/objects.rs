//! The objects of a fleet: nodes, and agents' pods made from the chart's template. They are as large as in a real
//! cluster. Pure: returns JSON.
use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// Where agents answer. Not the chart's port, which an agent of this machine may have.
pub(crate) const PORT: u16 = 29_817;

/// The address of the node in a slot: each has its own, and the kernel takes all of them for this machine.
pub(crate) fn address(slot: usize) -> String {
    format!("127.100.{}.{}", slot / 250, slot % 250 + 1)
}

/// A Ready node with all that kubelet says of one.
pub(crate) fn node(name: &str, slot: usize) -> Value {
    let address = address(slot);
    let quantities =
        json!({"cpu": "16", "memory": "65573420Ki", "pods": "110", "ephemeral-storage": "203056560Ki"});
    let image = |number: usize| {
        json!({"names": [format!("registry.example/team/service-{number}@sha256:{:064x}", number),
                         format!("registry.example/team/service-{number}:v1.{number}.0")], "sizeBytes": 48_000_000})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "m7i.4xlarge", "topology.kubernetes.io/region": "region-1",
                "topology.kubernetes.io/zone": format!("region-1{}", ["a", "b", "c"][slot % 3]),
            },
            "annotations": {"node.alpha.kubernetes.io/ttl": "15",
                            "volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": quantities,
            "allocatable": quantities,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                            "message": "kubelet is posting ready status"}],
            "images": (0..20).map(image).collect::<Vec<_>>(),
            "nodeInfo": {"machineID": format!("{slot:032x}"), "systemUUID": format!("{slot:032x}"),
                         "bootID": format!("{slot:032x}"), "kernelVersion": "6.12.0", "osImage": "Linux",
                         "containerRuntimeVersion": "containerd://2.1.0", "kubeletVersion": "v1.36.3",
                         "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"},
        },
    })
}

/// Makes pods as the DaemonSet's controller does.
pub(crate) struct Template {
    namespace: String,
    metadata: Value,
    spec: Value,
}

impl Template {
    /// That of the chart's DaemonSet, with our port.
    pub(crate) fn of(daemon_set: &Value) -> anyhow::Result<Self> {
        let namespace = daemon_set["metadata"]["namespace"].as_str().context("a namespace")?.to_owned();
        let template = &daemon_set["spec"]["template"];
        let (metadata, mut spec) = (template["metadata"].clone(), template["spec"].clone());
        let containers = spec["containers"].as_array_mut().context("containers")?;
        let ports = containers.iter_mut().filter_map(|container| container["ports"].as_array_mut()).flatten();
        let mut http: Vec<_> = ports.filter(|port| port["name"] == "http").collect();
        ensure!(http.len() == 1, "the agent has {} ports named http", http.len());
        (http[0]["containerPort"], http[0]["hostPort"]) = (json!(PORT), json!(PORT));
        Ok(Self { namespace, metadata, spec })
    }

    /// The pod on a node.
    pub(crate) fn pod(&self, name: &str, node: &str) -> Value {
        let (mut metadata, mut spec) = (self.metadata.clone(), self.spec.clone());
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(self.namespace);
        spec["nodeName"] = json!(node);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    /// What kubelet says of the pod once it runs.
    pub(crate) fn status(&self, slot: usize) -> Value {
        let address = address(slot);
        let conditions = [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        .map(|type_| json!({"type": type_, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}));
        let container = &self.spec["containers"][0];
        json!({"status": {
            "phase": "Running",
            "hostIP": address, "hostIPs": [{"ip": address}], "podIP": address, "podIPs": [{"ip": address}],
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": conditions,
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "ready": true, "started": true,
                "restartCount": 0, "imageID": format!("sha256:{:064x}", 1),
                "containerID": format!("containerd://{slot:064x}"),
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_an_address_of_its_own() {
        let all: std::collections::BTreeSet<_> = (0..5000).map(address).collect();
        assert_eq!(all.len(), 5000);
        assert!(all.iter().all(|address| address.parse::<std::net::Ipv4Addr>().is_ok()));
    }

    #[test]
    fn the_port_is_that_of_the_fleet() {
        let container = json!({"name": "agent", "ports": [{"name": "http", "containerPort": 9817}]});
        let set = json!({"metadata": {"namespace": "n"},
                         "spec": {"template": {"metadata": {}, "spec": {"containers": [container]}}}});
        let pod = Template::of(&set).unwrap().pod("p", "n1");
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["containerPort"], PORT);
        assert_eq!(pod["spec"]["nodeName"], "n1");
    }
}
