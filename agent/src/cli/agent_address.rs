//! Where the running agent is found: what the subcommands that ask it have in common.
use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// Where the running agent is found.
#[derive(Debug, Args)]
pub(crate) struct AgentAddress {
    /// The running agent's file: its socket, address and token are taken from there
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(super) config: PathBuf,
    /// Ask here instead of over the local socket
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) http_address: Option<String>,
    /// The node whose agent is asked; by default this machine's host name
    #[arg(long, value_name = "NAME", env = "TIMESYNC_NODE_NAME")]
    pub(super) node_name: Option<String>,
    /// Print the report itself
    #[arg(long)]
    pub(super) json: bool,
}

/// Where packages and the chart put the agent's file.
pub(super) const DEFAULT_FILE: &str = "/etc/timesync/agent.toml";

/// An address given on the command line.
pub(super) fn http_address(text: &str) -> Result<SocketAddr, String> {
    crate::load::socket_address(text).map_err(|why| format!("{text:?} {why}"))
}

/// The node that this is: as it was told, or the host's name.
pub(super) fn node_name(given: &Option<String>) -> String {
    given.clone().unwrap_or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    })
}
