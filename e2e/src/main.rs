//! `e2e`: brings up a real Kubernetes cluster whose nodes have clocks of their own, shows the project's main job on it
//! (`demo`), and tests it (`test`). In: the command line. Out: progress on standard error, results on standard output,
//! the exit code. It must never move the clock of the machine it runs on: what it starts has no CAP_SYS_TIME.
#![forbid(unsafe_code)]

mod checkout;
mod alone;
mod interrupt;
mod readings;
mod ticks;
mod wait;
mod process;
mod daemon;

mod packages;
mod tools;
mod image;
mod kernel;
mod cpio;
mod vm_image;

mod pki;
mod network;
mod upstream;
mod liar;
mod control_plane;
mod node;
mod channel;
mod vm;
mod machine;
mod qmp;
mod cluster;

mod truth;
mod calendar;
mod kubectl;
mod agent_http;
mod ntp_query;
mod install;
mod under_test;
mod event;
mod load;

mod demo;
mod demo_context;
mod clocks;
mod cases;
mod bench;
mod scale;
mod page;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "e2e", about = "A real cluster for demo and tests")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs the Debian packages that are missing (as root), or lists them.
    Packages,
    /// Builds Kubernetes, containerd and helm into the cache.
    Tools {
        /// Only these programs, e.g. `helm`.
        names: Vec<String>,
        /// Print where this program lies, and build nothing.
        #[arg(long, conflicts_with = "names")]
        path: Option<String>,
    },
    /// Builds the images into target/images.
    Images,
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
    /// Measures, and writes its part of docs/benchmarks.md.
    Bench,
    /// Measures the server alone, and writes its part of docs/benchmarks.md.
    BenchServer,
    /// Measures the operator with a fleet of simulated agents, and writes its part of docs/benchmarks.md.
    BenchScale {
        /// Nodes; the page has tables of 1000 and 5000.
        #[arg(long, env = "NODES", default_value_t = 1000)]
        nodes: usize,
    },
    /// Writes standard input into this part of docs/benchmarks.md (for `make sim`).
    #[command(hide = true)]
    Page { part: String },
    /// Prints offset and RTC of each virtual machine, measured from outside.
    Truth,
    /// An NTP server whose time can be bent (started by the harness itself).
    #[command(hide = true)]
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
    /// Prints what a server is asked (started by the harness itself, in a namespace).
    #[command(hide = true)]
    Record(load::capture::Options),
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
    let shared = matches!(
        verb,
        Verb::Truth
            | Verb::ServeNtp(_)
            | Verb::Load(_)
            | Verb::ServeBare(_)
            | Verb::Capture(_)
            | Verb::Record(_)
            | Verb::List
            | Verb::Tools { .. }
            | Verb::Packages
            | Verb::Images
            | Verb::Page { .. }
    );
    let _alone = if shared { None } else { alone::lock()? };
    match verb {
        Verb::Packages => packages::ensure(),
        Verb::Tools { path: Some(name), .. } => {
            println!("{}", tools::path(&name)?.display());
            Ok(())
        }
        Verb::Tools { names, path: None } => tools::build(&names),
        Verb::Images => image::build_all(),
        Verb::Up { wrong } => cluster::up_and_leave(wrong),
        Verb::Down | Verb::DemoDown => cluster::down(),
        Verb::Demo(options) => demo::run(&options),
        Verb::Test { names, keep } => cases::run(&names, keep),
        Verb::List => {
            cases::list();
            Ok(())
        }
        Verb::Bench => bench::run(),
        Verb::BenchServer => bench::run_server(),
        Verb::BenchScale { nodes } => scale::run(nodes),
        Verb::Page { part } => page::read(&part),
        Verb::Truth => cluster::print_truth(),
        Verb::ServeNtp(options) => liar::serve(&options),
        Verb::Load(options) => load::run(&options),
        Verb::ServeBare(options) => load::bare::serve(&options),
        Verb::Capture(options) => load::capture::run(&options),
        Verb::Record(options) => load::capture::record(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
