//! `kubectl timesync`: shows the clocks of a cluster, and says why one is not right. kubectl runs this program for that
//! command. It reads what the operator writes (TimeSyncPolicies and NodeClocks) and, if the user may, nodes, pods and
//! events. Only `rollout pause`, `resume` and `abort` change an object: an annotation of a policy.
//!
//! The data's way: `connect` → `fetch` → `observed` → a file per command, which makes a view of it → `output`.
#![forbid(unsafe_code)]

mod cli;

mod proxy;

mod connect;

mod server_clock;

mod fetch;

mod observed;

mod status;

mod nodes;

mod sources;

mod why;

mod wait;

mod top;

mod rollout;

mod bundle;

mod convert_file;

mod completion;

mod output;

mod table;

mod screen;

mod words;

#[cfg(test)]
mod golden;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        // The reader of a pipe has what it wants, as with `| head`.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::remark(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}
