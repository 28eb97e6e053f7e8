//! `restrict … ignore`: that range gets no answer, another one does. Asked by Debian's chronyd, which sets no clock.
use std::{process::Command, time::Duration};

use anyhow::ensure;
use lab::{network, under_test, vm};
use xtask::{checkout, process};

/// Two clients; the second one's range is ignored.
const CLIENTS: [(&str, &str); 2] = [("tse2e-open", "172.30.0.220"), ("tse2e-shut", "172.30.0.222")];

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    for (namespace, address) in CLIENTS {
        network::namespace(namespace, &[address])?;
    }
    let agent = vm::VMS[0].address();
    ensure!(answered(CLIENTS[0].0, &agent)? && answered(CLIENTS[1].0, &agent)?, "both get answers at first");
    under_test::apply_four(
        "  restrict:\n  - {source: default}\n  - {source: 172.30.0.222/31, flags: [ignore]}\n",
    )?;
    under_test::wait_for_profile(Duration::from_secs(30))?;
    ensure!(!answered(CLIENTS[1].0, &agent)?, "the ignored range got an answer");
    ensure!(answered(CLIENTS[0].0, &agent)?, "another range got no answer");
    under_test::settle()
}

/// Whether chronyd, asked to look once, got an answer.
fn answered(namespace: &str, server: &str) -> anyhow::Result<bool> {
    // A file of our own: chronyd removes what it is told to write its process id to.
    let pid_file = format!("pidfile {}", checkout::state().join("query.pid").display());
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(network::inside(namespace).split(' '))
        .args(["/usr/sbin/chronyd", "-Q", "-x", "-t", "6", "-u", "root"])
        .args([&format!("server {server} iburst"), "cmdport 0", &pid_file]);
    let output = process::output(&mut command)?;
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let (found, none) = (text.contains("System clock wrong by"), text.contains("Timeout reached"));
    ensure!(found != none, "chronyd says neither: {text}");
    Ok(found)
}
