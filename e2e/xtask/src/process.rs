//! Runs programs to their end. Commands in; their output, or an error that contains it, out.
use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{checkout, ticks::Ticks};

/// cargo, in the checkout: the one that started this program, or that of PATH.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout::root());
    cargo
}

/// Runs a command to its end. Returns its output. If it fails, the error contains the output.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{}: {}: {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end. A failure of the command is no error.
pub fn output(command: &mut Command) -> anyhow::Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))
}

/// Runs a program with its arguments, separated by spaces, to its end.
pub fn sh(words: &str) -> anyhow::Result<String> {
    let mut words = words.split_whitespace();
    run(Command::new(words.next().context("a command")?).args(words))
}

/// Runs a long command and shows progress. Its output goes to `log`. If it fails, the error contains the end of `log`.
pub fn run_shown(command: &mut Command, what: &str, usually: &str, log: &Path) -> anyhow::Result<()> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    let mut ticks = Ticks::start(what, usually);
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("{what}: {status}; {} ends:\n{}", log.display(), tail(log, 20));
            }
            ticks.done();
            return Ok(());
        }
        ticks.tick();
        thread::sleep(Duration::from_millis(50));
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
