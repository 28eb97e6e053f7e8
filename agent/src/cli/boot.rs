//! `boot`: sets the clock right once, before an agent can run. The exit code shows how far it came.
use std::{io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use contract::Span;
use profile::AgentFile;
use sys::signal;

use crate::{
    boot::{self, Boot, Outcome, print_line},
    boot_pod,
    load::{self, Desired, Origin},
    state::{State, boot_id},
};

pub(super) const EXAMPLES: &str = "\
Example:
  timesync-agent boot --config /var/lib/timesync/boot.toml

Sets the clock forward to the last time known to be right if it is behind it, asks the upstreams of the last good
profile, steps the clock once if that is needed, and ends. An agent that is waiting gets its turn at once.

Exit codes:
  0  the clock is synchronised, was so before in this boot, or an agent looks after it
  3  nobody can be asked, or the clock may not be set: there is no more than the last known time
  4  nobody answered in time; another try may do better";

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct BootCommand {
    /// The agent's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Give up after that time
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Span,
    /// Wait so long for an agent afterwards; if none comes, remove the static pod that this is
    #[arg(long, value_name = "DURATION")]
    remove_after: Option<Span>,
}

/// Why the boot did not begin, or was stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The agent's file, or the profile in it.
    #[error(transparent)]
    File(#[from] load::Error),
    /// The system has no thread, descriptor or random number left.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl BootCommand {
    /// Runs the boot.
    ///
    /// # Errors
    /// If the file is wrong, or the system has no resources left.
    pub(super) fn act(self) -> Result<ExitCode, Error> {
        let file = load::agent_file(&self.config)?;
        let profile = match &file.profile {
            None => None,
            Some(_) => {
                let origin = Origin::File(self.config.clone());
                match load::evaluate(&origin, &load::observe(&origin)).wanted? {
                    Desired::Profile(candidate) => Some(*candidate),
                    Desired::Keep | Desired::Nothing => None,
                }
            }
        };
        signal::stop_on_signals(None).map_err(io::Error::other)?;
        let timeout = self.timeout.as_duration();
        let boot = Boot { agent: file.agent.clone(), profile, boot_id: boot_id(), timeout };
        let outcome = boot.run()?;
        if let Some(limit) = self.remove_after
            && outcome != Outcome::TimedOut
        {
            wait_for_agent(&file, limit.as_duration());
        }
        Ok(exit_code(outcome))
    }
}

/// Waits until an agent has come. If none does, removes the static pod, and so ends this process.
fn wait_for_agent(file: &AgentFile, limit: Duration) {
    if !boot::no_agent_within(&file.agent.state_directory, limit) {
        return;
    }
    print_line(&format!("No agent came within {} s: the static pod is removed.", limit.as_secs()));
    let state = Arc::new(State::open(&file.agent.state_directory, &boot_id()));
    if let Err(error) = boot_pod::remove_unclaimed(file, state) {
        print_line(&format!("It cannot be removed: {error}."));
    }
}

/// The exit codes in [`EXAMPLES`]; 1 and 2 are for errors on the way.
fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Synchronized | Outcome::HandedOver => ExitCode::SUCCESS,
        Outcome::FloorOnly => ExitCode::from(3),
        Outcome::TimedOut => ExitCode::from(4),
    }
}
