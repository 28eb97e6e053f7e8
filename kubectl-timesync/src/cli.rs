//! The command line: a subcommand per question.
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::{runtime, signal};

use crate::{
    bundle, completion, connect, convert_file, fetch::Reader, nodes, output, rollout, sources, status, top,
    wait, why,
};

const AFTER: &str = "\
Examples:
  kubectl timesync status                        the cluster in one screen
  kubectl timesync why n3                        why this node's clock is not right, and what to do
  kubectl timesync wait --for bound=1ms          until no clock can be wrong by more than 1 ms

Reading needs the rights of the ClusterRole <release>-view: policies and NodeClocks. If nodes, pods and events can be read
as well, `why` says more. Exit code 0: done; 1: it failed, or `wait` timed out; 2: wrong command line; 3: `convert` left
something out.";

/// Shows the clocks of a cluster, and says why one is not right.
#[derive(Debug, Parser)]
#[command(name = "kubectl-timesync", bin_name = "kubectl timesync", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: connect::Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the cluster in one screen: policies, clocks by state, the worst nodes, what to look at first.
    Status(status::Status),
    /// Show a line for each node's clock.
    Nodes(nodes::Nodes),
    /// Show the upstreams as one node sees them.
    Sources(sources::Sources),
    /// Explain a node's clock: the causes, from condition to datagram, and what to do.
    Why(why::Why),
    /// Wait until clocks are synchronised, their error bounds are small, or policies are rolled out.
    Wait(wait::Wait),
    /// Show the clocks, the worst first, and renew the picture; q ends it.
    Top(top::Top),
    /// Show how far policies are rolled out; pause, resume or abort a staged rollout.
    Rollout(rollout::Rollout),
    /// Write a support archive: objects, logs and explanations, and no Secret.
    Bundle(bundle::Bundle),
    /// Print the policy that an ntp.conf or a chrony.conf becomes.
    Convert(convert_file::Convert),
    /// Print the program by which kubectl completes the words of this command.
    ///
    /// kubectl timesync completion > ~/.local/bin/kubectl_complete-timesync && chmod +x ~/.local/bin/kubectl_complete-timesync
    Completion,
    #[command(name = "__complete", hide = true)]
    Complete(completion::Complete),
}

/// Runs the command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { command, flags } = cli;
    match command {
        Command::Convert(convert) => convert.run(),
        Command::Completion => {
            output::write(completion::SCRIPT)?;
            Ok(ExitCode::SUCCESS)
        }
        command => {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(connected(command, &flags))?;
            // A thread that reads keys must not keep the program alive.
            runtime.shutdown_background();
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn connected(command: Command, flags: &connect::Flags) -> anyhow::Result<()> {
    if let Command::Complete(complete) = &command {
        return complete.run(&Cli::command(), flags).await;
    }
    let reader = Reader::new(connect::client(flags).await?, &flags.namespace);
    match command {
        Command::Status(status) => status.run(&reader).await,
        Command::Nodes(nodes) => nodes.run(&reader).await,
        Command::Sources(sources) => sources.run(&reader).await,
        Command::Why(why) => why.run(&reader).await,
        Command::Wait(wait) => wait.run(&reader).await,
        Command::Top(top) => top.run(&reader).await,
        Command::Rollout(rollout) => rollout.run(&reader).await,
        Command::Bundle(bundle) => {
            // So that its unfinished file is removed.
            tokio::select! {
                done = bundle.run(&reader) => done,
                _ = signal::ctrl_c() => anyhow::bail!("interrupted; nothing was written"),
            }
        }
        Command::Convert(_) | Command::Completion | Command::Complete(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_kubectl_can_stand_behind_the_command() {
        let cli = Cli::try_parse_from(["x", "why", "n1", "--context", "prod", "-n", "time"]).unwrap();
        assert_eq!((cli.flags.context.as_deref(), cli.flags.namespace.as_str()), (Some("prod"), "time"));
    }
}
