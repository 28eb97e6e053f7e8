//! The servers that are compared: starts each at the server's end of a lane, and measures its processor time and
//! memory.
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use lab::{
    agent_http::series,
    daemon::{self, Daemon},
    upstream, wait,
};
use xtask::{checkout, process};

use crate::{
    load::{Tally, capture::Deviation, lane::Lane},
    usage,
};

/// A running server.
#[derive(Debug)]
pub(crate) struct Contestant {
    /// The name in the output.
    pub(crate) name: &'static str,
    /// Its NTP port.
    pub(crate) port: u16,
    /// Its process id.
    pub(crate) pid: u32,
    /// The number of client addresses.
    pub(crate) addresses: u32,
    /// A file with recorded requests to send to it.
    requests: Option<PathBuf>,
}

/// The processor of the server, and that of the generator. Two workers may use both.
const SERVER_CPU: &str = "1";
const CLIENT_CPU: &str = "0";

/// The default number of client addresses.
pub(crate) const ADDRESSES: u32 = 1000;

impl Contestant {
    /// The agent: release build, one file, local stratum. `serve` are lines for `[profile.serve]`.
    pub(crate) fn agent(
        lane: &Lane,
        name: &'static str,
        port: u16,
        flags: &str,
        serve: &str,
    ) -> anyhow::Result<Self> {
        let folder = folder(name)?;
        let text = format!(
            "[agent]\nstateDirectory = \"{}\"\nkeysDirectory = \"{}\"\nhttpAddress = \"127.0.0.1:{http}\"\n\
             [profile]\nmode = \"Observe\"\nstratum = {{ local = 10, activateAfter = \"0s\" }}\n\
             [[profile.restrict]]\nsource = \"default\"\nflags = [{flags}]\n\
             [profile.serve]\nport = {port}\n{serve}\n",
            folder.join("state").display(),
            super::keys::keys().display(),
            http = http_port(port),
        );
        fs::write(folder.join("agent.toml"), text)?;
        let cpus = if serve.contains("workers") { "0,1" } else { SERVER_CPU };
        start(lane, name, port, cpus, &program(), &format!("run --config {}/agent.toml", folder.display()))
    }

    /// Debian's chronyd with a local clock. `lines` are added to its file.
    pub(crate) fn chronyd(lane: &Lane, name: &'static str, port: u16, lines: &str) -> anyhow::Result<Self> {
        let folder = folder(name)?;
        let here = folder.display();
        let text = format!(
            "local stratum 1\nallow all\nport {port}\ncmdport 0\nbindcmdaddress /\npidfile {here}/pid\n{lines}"
        );
        fs::write(folder.join("chrony.conf"), text)?;
        let words = format!("-x -d -u root -f {here}/chrony.conf");
        start(lane, name, port, SERVER_CPU, Path::new("/usr/sbin/chronyd"), &words)
    }

    /// The bare loop, which answers one in `one_in` requests.
    pub(crate) fn bare(lane: &Lane, name: &'static str, port: u16, one_in: u8) -> anyhow::Result<Self> {
        let words = format!("serve-bare --port {port} --one-in {one_in}");
        start(lane, name, port, SERVER_CPU, &env::current_exe()?, &words)
    }

    /// Sets the number of client addresses.
    pub(crate) fn asked_by(mut self, addresses: u32) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets the requests to send, a file for `bench load --replay`.
    pub(crate) fn asked_in(mut self, requests: PathBuf) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Sends requests to it for `seconds`, as fast as possible.
    pub(crate) fn ask(&self, lane: &Lane, seconds: u32) -> anyhow::Result<Tally> {
        let replay = self.requests.as_ref().map(|file| format!("--replay {}", file.display()));
        let words =
            format!("--addresses {} --seconds {seconds} {}", self.addresses, replay.unwrap_or_default());
        ask(lane, self.port, &words)
    }

    /// User and system time so far, seconds.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        usage::processor_seconds(&self.pid.to_string())
    }

    /// Resident memory, megabytes.
    pub(crate) fn megabytes(&self) -> anyhow::Result<f64> {
        usage::megabytes(&self.pid.to_string())
    }
}

/// Runs `bench load` with the options `words` against the server on `port`.
pub(crate) fn ask(lane: &Lane, port: u16, words: &str) -> anyhow::Result<Tally> {
    // With the highest priority, so that the server never waits for requests.
    let text = own(&lane.at_clients(), upstream::at_once(), &format!("load --port {port} {words}"))?;
    serde_json::from_str(&text).with_context(|| format!("the generator says {text}"))
}

/// Measures for `seconds` the error of the transmit times of the server on `port`.
pub(crate) fn capture(lane: &Lane, port: u16, seconds: f64) -> anyhow::Result<Deviation> {
    let text =
        own(&lane.at_server(), upstream::at_once(), &format!("capture --port {port} --seconds {seconds}"))?;
    serde_json::from_str(&text).with_context(|| format!("the capture says {text}"))
}

/// Runs this program on the generator's processor. `place` and `urgency` are command prefixes.
pub(crate) fn own(place: &str, urgency: &str, words: &str) -> anyhow::Result<String> {
    let program = env::current_exe()?;
    process::sh(&format!("{place} taskset -c {CLIENT_CPU} {urgency} {} {words}", program.display()))
}

/// The value of one of an agent's metrics.
pub(crate) fn metric(lane: &Lane, agent: &Contestant, name: &str) -> anyhow::Result<f64> {
    let words = format!("get --port {} --path /metrics", http_port(agent.port));
    let text = own(&lane.at_server(), "", &words)?;
    series(&text, name)?.with_context(|| format!("no {name} in {text}"))
}

/// Until it is dropped, another process uses half of the server's processor. Without it, the queue of a server that
/// drops most requests would often be empty, since the generator is hardly faster than such a server.
pub(crate) struct Rival(());

impl Rival {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Daemon::new(RIVAL, "sha256sum")
            .wrap(&format!("taskset -c {SERVER_CPU}"))
            .args("/dev/zero")
            .start()?;
        Ok(Self(()))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // If this fails, the end of the whole measurement tries again and reports the error.
        let _ = daemon::end(RIVAL, "-KILL");
    }
}

const RIVAL: &str = "bench-rival";

/// The agent's program. Unlike that in the image, it is not linked with a static libc.
fn program() -> PathBuf {
    checkout::target().join("release/timesync-agent")
}

/// Builds it.
pub(crate) fn build() -> anyhow::Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--locked", "-p", "timesync-agent"]);
    fs::create_dir_all(checkout::state())?;
    let log = checkout::state().join("bench-cargo.log");
    process::run_shown(&mut cargo, "building the agent", "3 min the first time", &log)
}

fn start(
    lane: &Lane,
    name: &'static str,
    port: u16,
    cpus: &str,
    program: &Path,
    words: &str,
) -> anyhow::Result<Contestant> {
    let process = format!("bench-{name}");
    let pid = Daemon::new(&process, program)
        .wrap(&lane.at_server())
        .wrap(&format!("taskset -c {cpus}"))
        .args(words)
        .start()?;
    wait::until(&format!("{name} to answer"), "1 s", Duration::from_secs(30), || {
        daemon::expect_running(&process)?;
        let tally = ask(lane, port, "--addresses 1 --rate 100 --seconds 0.1")?;
        Ok((tally.answered > 0).then_some(()))
    })?;
    Ok(Contestant { name, port, pid, addresses: ADDRESSES, requests: None })
}

/// Makes a server's folder, empty.
pub(crate) fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = checkout::state().join("bench").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The agent's HTTP port.
fn http_port(port: u16) -> u16 {
    port + 10_000
}
