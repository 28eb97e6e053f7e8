//! `bench`: measures the cluster, the server under load and the operator at scale, and writes each one's part of
//! docs/benchmarks.md. Progress goes to standard error, the part to standard output. It must never move the clock of
//! the host: nothing that it starts has CAP_SYS_TIME.
#![forbid(unsafe_code)]

mod usage;
mod ratio;

mod cluster;
mod load;
mod server;
mod scale;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{agent_http, alone, liar};
use xtask::interrupt;

#[derive(Parser)]
#[command(name = "bench", about = "Measures, and writes docs/benchmarks.md")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measures a cluster, then the server, and writes their parts of docs/benchmarks.md.
    All,
    /// Measures the server alone, and writes its part of docs/benchmarks.md.
    Server,
    /// Measures the operator with a fleet of simulated agents, and writes its part of docs/benchmarks.md.
    Scale {
        /// Nodes; the page has tables of 1000 and 5000.
        #[arg(long, env = "NODES", default_value_t = 1000)]
        nodes: usize,
    },
    /// An NTP server whose time can be bent (started by the harness itself).
    #[command(hide = true, name = liar::VERB)]
    ServeNtp(liar::Options),
    /// Asks a server from many addresses (started by the harness itself, in a namespace).
    #[command(hide = true)]
    Load(load::Options),
    /// A server that does nothing but answer (started by the harness itself).
    #[command(hide = true)]
    ServeBare(load::bare::Options),
    /// Measures how late a server's transmit times are (started by the harness itself, in a namespace).
    #[command(hide = true)]
    Capture(load::capture::Options),
    /// Prints what an agent on this host answers to HTTP (started by the harness itself, in a namespace).
    #[command(hide = true)]
    Get {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        path: String,
    },
    /// Prints what a server is asked (started by the harness itself, in a namespace).
    #[command(hide = true)]
    Record(load::capture::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    interrupt::watch()?;
    let measures = matches!(verb, Verb::All | Verb::Server | Verb::Scale { .. });
    let _alone = if measures { alone::lock()? } else { None };
    match verb {
        Verb::All => cluster::run().and_then(|()| server::run()),
        Verb::Server => server::run(),
        Verb::Scale { nodes } => scale::run(nodes),
        Verb::ServeNtp(options) => liar::serve(&options),
        Verb::Load(options) => load::run(&options),
        Verb::ServeBare(options) => load::bare::serve(&options),
        Verb::Capture(options) => load::capture::run(&options),
        Verb::Get { port, path } => {
            print!("{}", agent_http::get(("127.0.0.1", port), None, &path)?.1);
            Ok(())
        }
        Verb::Record(options) => load::capture::record(&options),
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
