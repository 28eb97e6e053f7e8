//! The node agent: an NTP daemon that takes its orders from a file.
//!
//! The way of the data: `load` finds what is wanted, the crate `profile` checks every field, `assemble` makes the engine's words
//! of it, `engine` runs the pure engine on the system `clock` and asks the network (`resolve` for names, `auth` for proof, `state` for
//! what outlives it), `server` answers others, `rtc` looks after the hardware clock, `timezone` after the host's zone, `report` collects what all of
//! them know, `metrics` and `http` show it. `reload` holds the order; `cli` is the way in.
//! One such program at a time has the `lock`. `boot` is the way before all others after a boot of the node, with the `floor`
//! under the clock; `boot_pod` sees to it that kubelet goes it.
//! `panics` starts a part again that failed by a mistake of ours.
#![forbid(unsafe_code)]

mod cli;

mod reload;

mod load;

mod assemble;

mod engine;

mod auth;
mod clock;
mod host_root;
mod exposure;
mod leap_table;
mod text;
mod replace;
mod resolve;
mod send_error;
mod state;
mod lock;

mod floor;

mod boot;
mod boot_pod;

mod itself;
mod server;

mod key_server;

mod rtc;

mod timezone;

mod suspects;

mod panics;

mod report;

mod metrics;

mod clock_bound;

mod liveness;

mod http;

#[cfg(test)]
mod scratch;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match EnvFilter::try_new(&cli.log_level) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("--log-level: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Stamped by the system clock in UTC, so that one event on two nodes can be compared.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match cli.act() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("timesync-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
