//! `e2e`: starts a real Kubernetes cluster whose nodes have their own clocks, shows the project's main function on it
//! (`demo`), and tests it (`test`). Progress goes to standard error, results to standard output. It must never move the
//! clock of the host: nothing that it starts has CAP_SYS_TIME.
#![forbid(unsafe_code)]

mod event;

mod demo;
mod demo_context;
mod clocks;
mod cases;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{alone, cluster, liar};
use xtask::interrupt;

#[derive(Parser)]
#[command(name = "e2e", about = "A real cluster for demo and tests")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Brings a cluster up and leaves it.
    Up {
        /// With clocks some seconds off, and hardware clocks in 2020.
        #[arg(long)]
        wrong: bool,
    },
    /// Takes the cluster down; nothing happens if there is none.
    Down,
    /// Shows how a cluster's clocks come right; leaves the cluster up.
    Demo(demo::Options),
    /// Takes down what `demo` left.
    DemoDown,
    /// Runs the tests of these names, or all of them; `clocks` stands for those that need no cluster.
    Test {
        names: Vec<String>,
        /// Leave the cluster up after a failure.
        #[arg(long)]
        keep: bool,
    },
    /// Prints the names of the cluster tests.
    List,
    /// Prints offset and RTC of each virtual machine, measured from outside.
    Truth,
    /// An NTP server whose time can be bent (started by the harness itself).
    #[command(hide = true, name = liar::VERB)]
    ServeNtp(liar::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    interrupt::watch()?;
    let shared = matches!(verb, Verb::Truth | Verb::ServeNtp(_) | Verb::List);
    let _alone = if shared { None } else { alone::lock()? };
    match verb {
        Verb::Up { wrong } => cluster::up_and_leave(wrong),
        Verb::Down | Verb::DemoDown => cluster::down(),
        Verb::Demo(options) => demo::run(&options),
        Verb::Test { names, keep } => cases::run(&names, keep),
        Verb::List => {
            cases::list();
            Ok(())
        }
        Verb::Truth => cluster::print_truth(),
        Verb::ServeNtp(options) => liar::serve(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn it_can_be_started_as_a_time_server() {
        assert!(Cli::command().find_subcommand(liar::VERB).is_some());
    }
}
