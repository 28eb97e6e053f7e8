//! A single query by Debian's chronyd, as a client of a node.
use std::process::Command;

use anyhow::ensure;
use lab::network;
use xtask::{checkout, process};

/// Returns true if a single query by chronyd got an answer within `limit` seconds. It sets no clock.
pub(super) fn answered(namespace: &str, limit: &str, directives: &[&str]) -> anyhow::Result<bool> {
    // A file of its own: chronyd removes the file that it gets for its process id.
    let pid_file = format!("pidfile {}", checkout::state().join("query.pid").display());
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(network::inside(namespace).split(' '))
        .args(["/usr/sbin/chronyd", "-Q", "-x", "-t", limit, "-u", "root"])
        .args(directives)
        .args(["cmdport 0", &pid_file]);
    let output = process::output(&mut command)?;
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let (found, none) = (text.contains("System clock wrong by"), text.contains("Timeout reached"));
    ensure!(found != none, "chronyd says neither: {text}");
    Ok(found)
}
