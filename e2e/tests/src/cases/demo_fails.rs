//! The demo can fail: with a policy that observes, and with the upstream stopped.
use std::{env, process::Command};

use anyhow::ensure;
use lab::alone;
use xtask::{interrupt, process};

pub(super) fn in_observe_mode() -> anyhow::Result<()> {
    run(&["--mode", "Observe"])
}

pub(super) fn without_upstream() -> anyhow::Result<()> {
    run(&["--upstream-stopped"])
}

fn run(words: &[&str]) -> anyhow::Result<()> {
    interrupt::check()?;
    eprintln!("  e2e demo {} (usually 2 min) …", words.join(" "));
    let mut command = Command::new(env::current_exe()?);
    // A cluster that nobody disturbs is right within half of this.
    command.args(["demo", "--within", "40"]).args(words).env_remove("DEMO_CONTEXT").env(alone::HELD, "1");
    let output = process::output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "the demo passed with {words:?}");
    ensure!(
        said.contains("the clocks did not come right"),
        "the demo failed with {words:?}, but for another reason: {}",
        said.lines().last().unwrap_or_default()
    );
    Ok(())
}
