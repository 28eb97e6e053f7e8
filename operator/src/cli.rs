//! The command line.
use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

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
    /// Tell the agents to take their static pods off the nodes, before they are uninstalled.
    ///
    /// Annotates each agent's pod with `timesync.dev/boot: remove`, and waits until the agents report that nothing is left
    /// for the next boot, a minute at most. Nodes whose agent does not are named; the exit code is 0 all the same, so that
    /// `helm uninstall`, which runs this, goes on.
    Uninstall(Agents),
}

/// Who the agents are, and how they are asked.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// Namespace of the operator, its agents, its ConfigMap and its Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "timesync-system")]
    pub(crate) namespace: String,
    /// File with the token that the agents ask for at /status.
    #[arg(long, default_value = "/etc/timesync/token/token")]
    pub(crate) token_file: PathBuf,
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
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
