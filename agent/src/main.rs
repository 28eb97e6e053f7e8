//! The node agent: an NTP daemon that takes its orders from a file.
//!
//! The way of the data: `load` finds the desired configuration, crate `profile` checks every field, `assemble`
//! translates it into the engine's words. `engine` runs the pure engine on the system `clock` and asks the network
//! (`resolve` for names, `auth` for proof, `state` for what outlives it). `server` answers clients, `rtc` keeps the
//! hardware clock, `timezone` the host's zone. `report` collects what all of them know; `metrics` and `http` show it.
//! `reload` holds the order, and `cli` is the entry.
//! Only one such program at a time has the `lock`. `boot` runs before all others after a boot of the node, with the
//! `floor` under the clock; `boot_pod` makes kubelet run it.
//! `panics` restarts a part that failed by a bug.
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

mod loop_detector;
mod cookie_keys;

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
    // Log times are in UTC by the system clock, so that an event on two nodes can be compared.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match cli.act() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("timesync-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
