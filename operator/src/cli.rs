//! The command line.
use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

use crate::{
    node_fields::NodeWrites,
    placement::{Affinity, NodeSelector, Placement, Tolerations},
};

/// Keeps the clocks of a cluster right: reads TimeSyncPolicies, tells each node's agent what to run, and reports back.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the controller.
    ///
    /// Of several replicas one leads, by Lease `timesync-operator` in its namespace; the others wait. The connection to
    /// Kubernetes is that of the pod, or of $KUBECONFIG outside a cluster. The log goes to stderr; set its level by
    /// $RUST_LOG (error, warn, info, debug).
    ///
    /// For each policy a profile is written to ConfigMap `timesync-profiles`, each agent's pod is annotated with the
    /// profile that it is to run, and what the agents say becomes the status of the policy and a NodeClock per node:
    /// `kubectl get tsp,nclk`.
    Run(Run),
    /// Clear nodes and statuses before the release is uninstalled.
    ///
    /// Takes Lease `timesync-operator`, so that the operator writes nothing more until five minutes later. Annotates the pod
    /// of each agent that keeps a static pod with `timesync.dev/boot: remove`, and waits until the agents report that nothing
    /// is left for the next boot, a minute at most. Then sets each condition of every TimeSyncPolicy and NodeClock to Unknown,
    /// reason `Uninstalled`, and removes what was counted and measured. With the flags below it also removes conditions,
    /// taints and labels of timesync.dev from all Nodes.
    ///
    /// It ends within three minutes. What could not be done is named in the log; the exit code is 0 all the same, so that
    /// `helm uninstall`, which runs this, goes on.
    Uninstall(Uninstall),
}

/// Who the agents are, and how they are asked.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// Namespace of the operator, its agents, its ConfigMap and its Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "timesync-system")]
    pub(crate) namespace: String,
    /// Secret in that namespace whose key `token` holds the token of the agents' /status. The agents mount it. A change is
    /// used at once, and the former token for five minutes more.
    #[arg(long, value_name = "NAME", default_value = "timesync-token")]
    pub(crate) token_secret: String,
    /// Labels of the agents' pods.
    #[arg(long, default_value = "app.kubernetes.io/name=timesync,app.kubernetes.io/component=agent")]
    pub(crate) agent_selector: String,
    /// Port of the agents' HTTP server, where the pod has no container port named `http`.
    #[arg(long, default_value_t = 9817)]
    pub(crate) agent_port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) agents: Agents,
    /// Name of this replica in the Lease; it must differ between replicas.
    #[arg(long, env = "POD_NAME", default_value = "timesync-operator")]
    pub(crate) identity: String,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, default_value = "[::]:8080")]
    pub(crate) listen: SocketAddr,
    /// Create the Secret with the token, with a random one, if it does not exist. A Secret that exists is never changed.
    #[arg(long)]
    pub(crate) create_token_secret: bool,
    #[command(flatten)]
    pub(crate) agent_nodes: AgentNodes,
    #[command(flatten)]
    pub(crate) node_writes: NodeWrites,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub(crate) agents: Agents,
    #[command(flatten)]
    pub(crate) node_writes: NodeWrites,
}

/// Which nodes get an agent, as the pod template of the agents' DaemonSet says it.
///
/// A node that these exclude needs no agent: policies count it apart, and wait for it with nothing.
#[derive(Debug, Args)]
pub(crate) struct AgentNodes {
    /// The template's nodeSelector, as JSON: {"kubernetes.io/os":"linux"}. A node without these labels gets no agent.
    /// Absent: no node is excluded by its labels.
    #[arg(long, value_name = "JSON")]
    pub(crate) agent_node_selector: Option<NodeSelector>,
    /// The template's affinity, as JSON. Its nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution says which nodes
    /// get an agent; the rest is the scheduler's affair. Absent: no node is excluded by it.
    #[arg(long, value_name = "JSON")]
    pub(crate) agent_affinity: Option<Affinity>,
    /// The template's tolerations, as JSON: [{"operator":"Exists"}]. A node with a taint NoSchedule or NoExecute that is not
    /// tolerated gets no agent; what every DaemonSet tolerates (node.kubernetes.io/unschedulable and others) counts by itself.
    /// Absent: no node is excluded by its taints.
    #[arg(long, value_name = "JSON")]
    pub(crate) agent_tolerations: Option<Tolerations>,
}

impl AgentNodes {
    /// The placement rule that these flags describe.
    pub(crate) fn placement(&self) -> Placement {
        Placement {
            node_selector: self.agent_node_selector.clone(),
            affinity: self.agent_affinity.clone(),
            tolerations: self.agent_tolerations.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory;
    use k8s_openapi::api::core::v1::Taint;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    fn run(arguments: &[&str]) -> Result<Run, String> {
        let all = ["timesync-operator", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Run(run) => Ok(run),
            Command::Uninstall(_) => Err("not what was asked for".to_owned()),
        }
    }

    #[test]
    fn which_nodes_get_an_agent() {
        let labels = BTreeMap::from([("os".to_owned(), "linux".to_owned())]);
        let placement = run(&[]).unwrap().agent_nodes.placement();
        assert!(placement.reaches("n1", &BTreeMap::new(), &[]));
        let terms =
            r#"{"nodeSelectorTerms":[{"matchExpressions":[{"key":"type","operator":"DoesNotExist"}]}]}"#;
        let affinity = format!(
            r#"--agent-affinity={{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{terms}}}}}"#
        );
        let arguments =
            [r#"--agent-node-selector={"os":"linux"}"#, affinity.as_str(), "--agent-tolerations=[]"];
        let placement = run(&arguments).unwrap().agent_nodes.placement();
        assert!(placement.reaches("n1", &labels, &[]));
        assert!(!placement.reaches("n1", &BTreeMap::new(), &[]));
    }

    /// The chart passes these values twice: to the DaemonSet and to the operator.
    #[test]
    fn the_chart_tells_the_operator_what_its_daemon_set_says() {
        for golden in ["default", "everything"] {
            let path =
                format!("{}/../charts/timesync/tests/golden/{golden}.yaml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let objects: Vec<Value> = serde_norway::Deserializer::from_str(&text)
                .map(|document| Value::deserialize(document).unwrap())
                .collect();
            let pod = |kind: &str| {
                &objects.iter().find(|object| object["kind"] == kind).unwrap()["spec"]["template"]["spec"]
            };
            let (agent, operator) = (pod("DaemonSet"), pod("Deployment"));
            let arguments: Vec<_> = operator["containers"][0]["args"].as_array().unwrap().iter().collect();
            let flag = |name: &str| -> Value {
                let place = arguments.iter().position(|argument| *argument == name).unwrap();
                serde_json::from_str(arguments[place + 1].as_str().unwrap()).unwrap()
            };
            assert_eq!(flag("--agent-node-selector"), agent["nodeSelector"], "{golden}");
            assert_eq!(flag("--agent-affinity"), agent["affinity"], "{golden}");
            assert_eq!(flag("--agent-tolerations"), agent["tolerations"], "{golden}");
            let arguments: Vec<_> =
                arguments.iter().skip(1).map(|argument| argument.as_str().unwrap()).collect();
            run(&arguments).unwrap();
        }
    }

    #[test]
    fn the_charts_defaults_reach_machines_and_no_virtual_nodes() {
        let values = include_str!("../../charts/timesync/values.yaml");
        let agent = &serde_norway::from_str::<Value>(values).unwrap()["agent"];
        let flag = |name: &str, value: &str| format!("--agent-{name}={}", agent[value]);
        let arguments = [
            flag("node-selector", "nodeSelector"),
            flag("affinity", "affinity"),
            flag("tolerations", "tolerations"),
        ];
        let placement = run(&arguments.each_ref().map(String::as_str)).unwrap().agent_nodes.placement();
        let reaches = |more: &[(&str, &str)], taint: &str| {
            let linux = [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "amd64")];
            let labels =
                linux.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let taint = Taint { key: taint.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
            placement.reaches("n1", &labels.collect(), &[taint])
        };
        assert!(reaches(&[], "node-role.kubernetes.io/control-plane"));
        assert!(reaches(&[("kubernetes.io/arch", "arm64")], "a"));
        assert!(reaches(&[("type", "worker"), ("eks.amazonaws.com/compute-type", "hybrid")], "a"));
        for label in [
            ("kubernetes.io/os", "windows"),
            ("kubernetes.io/arch", "riscv64"),
            ("type", "virtual-kubelet"),
            ("eks.amazonaws.com/compute-type", "fargate"),
            ("virtualization", "virtualnode2"),
            ("node.kubernetes.io/instance-type", "eklet"),
            ("liqo.io/type", "virtual-node"),
        ] {
            assert!(!reaches(&[label], "virtual-kubelet.io/provider"), "{label:?}");
        }
    }

    #[test]
    fn a_malformed_flag_is_named() {
        let error = run(&["--agent-tolerations", "everything"]).unwrap_err();
        assert!(
            error.contains("--agent-tolerations <JSON>") && error.contains("a list of tolerations"),
            "{error}"
        );
    }
}
