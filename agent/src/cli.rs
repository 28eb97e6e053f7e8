//! The command line: one file per subcommand, each of which returns whether it found things well.
use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod agent_address;
mod ask;
mod boot;
mod check;
mod convert;
mod healthy;
mod query;
mod rtc;
mod run;
mod sources;
mod status;
mod wait;

use agent_address::AgentAddress;

const EXAMPLES: &str = "\
Examples:
  timesync-agent check /etc/timesync/agent.toml     is the file right, field by field?
  timesync-agent run --config /etc/timesync/agent.toml
  timesync-agent status                             how right is this node's clock?
  timesync-agent sources                            what does it think of each upstream?
  timesync-agent query ntp.example.com              how far is this clock from that server?
  timesync-agent wait --bound 1ms                   until this clock is right within 1 ms
  timesync-agent convert /etc/ntp.conf              what would a policy be that says the same?

Offsets are this clock minus true time: positive means that this clock is ahead.";

/// Keeps this node's clock right: an NTP client and server that takes its orders from a file.
#[derive(Debug, Parser)]
#[command(name = "timesync-agent", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// What is logged, to standard error: error, warn, info, debug, or a filter as in RUST_LOG
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent
    #[command(after_help = "\
Example:
  timesync-agent run --config /etc/timesync/agent.toml

The file says where things are, and either what to run ([profile]) or where profiles are handed over ([agent.watch]).
A changed profile is taken while the agent runs; a bad one is refused, and the one before goes on. Without CAP_SYS_TIME
the agent observes. SIGTERM leaves the clock on its last good frequency and ends with 0.")]
    Run(run::Run),
    /// Set the clock right after a boot, before an agent can run
    #[command(after_help = boot::EXAMPLES)]
    Boot(boot::BootCommand),
    /// Check an agent's file or a profile, and say which field is wrong
    #[command(after_help = "\
Example:
  $ timesync-agent check agent.toml
  agent.toml: profile.upstreams[1].minPoll: 9 is larger than maxPoll 6

Exit code 0 if the file is right, 1 if not.")]
    Check {
        /// An agent's file, or a profile alone
        file: PathBuf,
    },
    /// Ask an NTP server four times, and compare
    #[command(after_help = "\
Examples:
  timesync-agent query ntp.example.com
  timesync-agent query 192.0.2.10:1123
  timesync-agent query 2001:db8::1
  timesync-agent query [2001:db8::1]:1123
  timesync-agent query fe80::1%eth0                a link-local address, and the interface behind which it is

Of a name with several addresses each is asked until one answers. Exit code 0 only if a synchronised server answered.")]
    Query {
        /// HOST or HOST:PORT; an IPv6 address needs brackets if a port follows
        host: String,
    },
    /// Show how right this node's clock is, as the running agent knows it
    #[command(after_help = "Exit code 0 if the clock is synchronised, 1 if not, or if no agent answers.")]
    Status(AgentAddress),
    /// Show every upstream, as the running agent sees it
    #[command(after_help = "\
Marks: * selected, + combined, - agrees and is not needed, x falseticker, ? unreachable or not usable,
~ no majority. Exit code 0 if one is selected.")]
    Sources(AgentAddress),
    /// Ask the running agent over its local socket whether it is alive; for probes
    #[command(after_help = "\
Examples:
  timesync-agent healthy             alive: the clock's loop turns
  timesync-agent healthy --ready     and a profile runs, or none is wanted

Only root may ask. Exit code 0 if it is so, 1 if not, or if no agent answers.")]
    Healthy(healthy::Healthy),
    /// Wait until the clock of this node is right; for init containers and units
    #[command(after_help = wait::EXAMPLES)]
    Wait(wait::Wait),
    /// Make a policy, or an agent's file, of an ntp.conf or a chrony.conf
    #[command(after_help = convert::EXAMPLES)]
    Convert(convert::Convert),
    /// Read or write the hardware clock, as hwclock -r and hwclock -w do
    #[command(after_help = "\
Examples:
  timesync-agent rtc read
  timesync-agent rtc write                     needs root, and a system clock that is right
  timesync-agent rtc read --host-root /host    in a container that sees the host's files there

Whether the clock shows UTC or local time, and in which zone, the host's /etc/adjtime and /etc/localtime say. They are
only read: who writes with --utc or --localtime against /etc/adjtime must change it too, or the next boot goes wrong.
Exit code 0 if the clock was read, or written and verified; 1 if not.")]
    Rtc(rtc::Rtc),
}

impl Cli {
    /// Does what was asked; the exit code says how it found things.
    ///
    /// # Errors
    /// When it could not be done.
    pub(crate) fn act(self) -> Result<ExitCode, Error> {
        let is_well = match self.command {
            Command::Boot(boot) => return Ok(boot.act()?),
            Command::Convert(convert) => return Ok(convert.act()?),
            Command::Run(run) => run.act().map(|()| true)?,
            Command::Check { file } => check::act(&file),
            Command::Query { host } => query::act(&host)?,
            Command::Status(running) => status::act(&running)?,
            Command::Sources(running) => sources::act(&running)?,
            Command::Healthy(healthy) => healthy::act(&healthy)?,
            Command::Wait(wait) => wait.act().map(|()| true)?,
            Command::Rtc(rtc) => rtc.act()?,
        };
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Why a subcommand could not do its work: each one's own reasons.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `run`.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// `boot`.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// `query`.
    #[error(transparent)]
    Query(#[from] query::Error),
    /// `status`, `sources` and `healthy`.
    #[error(transparent)]
    Ask(#[from] ask::Error),
    /// `wait`.
    #[error(transparent)]
    Wait(#[from] wait::Error),
    /// `convert`.
    #[error(transparent)]
    Convert(#[from] convert::Error),
    /// `rtc`.
    #[error(transparent)]
    Rtc(#[from] crate::rtc::Error),
}
