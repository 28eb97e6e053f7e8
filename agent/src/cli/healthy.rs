//! `healthy`: asks the running agent over its local socket if it is alive, or ready; for probes.
use std::{path::PathBuf, str, time::Duration};

use clap::Args;

use super::{agent_address::DEFAULT_FILE, ask};
use crate::load;

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Healthy {
    /// The running agent's file: its socket is named there
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Ask whether it does what it was told to, not only whether it is alive
    #[arg(long)]
    ready: bool,
}

/// Less than the timeout of a probe.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Prints the agent's answer. Returns true if it is good.
pub(super) fn act(healthy: &Healthy) -> Result<bool, ask::Error> {
    let socket = load::agent_file(&healthy.config)?.agent.socket();
    let target = if healthy.ready { "/readyz" } else { "/healthz" };
    let answer = ask::local(&socket, target, TIMEOUT)?;
    println!("{}", str::from_utf8(&answer.body).unwrap_or_default().trim());
    Ok(answer.status == 200)
}
