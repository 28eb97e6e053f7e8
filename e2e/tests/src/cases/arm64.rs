//! The image for arm64 holds a program for arm64 that works: under emulation, in a network namespace of its own, it
//! serves NTP and answers `status`. So does the kubectl plugin for arm64: it makes a policy of a file of chrony.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use lab::wait;
use xtask::{
    checkout,
    image::{self, Arch},
    packages, plugin, process,
};

pub(super) fn run() -> anyhow::Result<()> {
    packages::ensure_for_arm64()?;
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", "aarch64-unknown-linux-gnu"]).current_dir(checkout::root());
    process::run(&mut rustup)?;
    image::build_programs(Arch::Arm64)?;
    let folder = env::temp_dir().join(format!("timesync-arm64-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = start(&folder).and_then(|mut agent| {
        let result = serves(&folder, &mut agent);
        // It may have ended by itself.
        let _ = agent.kill();
        agent.wait()?;
        result
    });
    let result = result.and_then(|()| converts(&folder));
    let removed = fs::remove_dir_all(folder);
    result?;
    Ok(removed?)
}

/// Of the plugin's commands this one needs no cluster.
fn converts(folder: &Path) -> anyhow::Result<()> {
    plugin::build(Arch::Arm64)?;
    let program = image::program_for(plugin::NAME, Arch::Arm64);
    let file = folder.join("chrony.conf");
    fs::write(&file, "server ntp.example.com iburst\n")?;
    let policy = process::run(Command::new(EMULATOR).arg(program).arg("convert").arg(file))?;
    ensure!(
        policy.contains("kind: TimeSyncPolicy") && policy.contains("server: ntp.example.com"),
        "the plugin says: {policy}"
    );
    Ok(())
}

/// Starts the agent, without the right to set a clock. It observes, and serves the local clock.
fn start(folder: &Path) -> anyhow::Result<Child> {
    let config = format!(
        "[agent]\nstateDirectory = \"{0}\"\nsocket = \"{0}/agent.sock\"\n\n[profile]\nmode = \"Observe\"\n\n\
         [profile.stratum]\nlocal = 10\nactivateAfter = \"1s\"\n",
        folder.display()
    );
    fs::write(folder.join("agent.toml"), config)?;
    let script = format!(
        "ip link set lo up && exec {EMULATOR} {} run --config {}",
        program().display(),
        folder.join("agent.toml").display()
    );
    let log = fs::File::create(checkout::images().join("arm64-agent.log"))?;
    Command::new("setpriv")
        .args([
            "--bounding-set",
            "-sys_time",
            "--inh-caps",
            "-sys_time",
            "unshare",
            "--net",
            "sh",
            "-c",
            &script,
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the agent")
}

const EMULATOR: &str = "qemu-aarch64-static";

fn program() -> PathBuf {
    image::program_for("timesync-agent", Arch::Arm64)
}

fn serves(folder: &Path, agent: &mut Child) -> anyhow::Result<()> {
    let id = agent.id();
    let inside = |words: &str| process::sh(&format!("nsenter --net=/proc/{id}/ns/net {words}"));
    // setpriv, unshare and sh replace themselves by the next one, so the namespace is that of the child.
    wait::until("an answer on UDP 123", "10 s", Duration::from_secs(120), || {
        ensure!(agent.try_wait()?.is_none(), "the agent has ended");
        Ok(inside("ntpdig 127.0.0.1").ok().filter(|said| said.contains("s10 no-leap")))
    })
    .with_context(|| process::tail(&checkout::images().join("arm64-agent.log"), 20))?;
    let status = inside(&format!(
        "{EMULATOR} {} status --config {}/agent.toml",
        program().display(),
        folder.display()
    ))?;
    ensure!(
        status.contains(": serving, ") && status.contains("Synchronized    : yes"),
        "status says: {status}"
    );
    Ok(())
}
