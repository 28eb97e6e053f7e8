//! Programs that run in the background. A file records their process ids, and only recorded processes are ever ended.
//! None of them can set the host's clock.
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use xtask::{checkout, process};

/// A program to be started in the background.
pub struct Daemon {
    name: String,
    words: Vec<String>,
    wrapped_in: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

impl Daemon {
    /// `name` identifies the daemon in [`end`].
    pub fn new(name: &str, program: impl AsRef<Path>) -> Self {
        Self {
            name: name.to_owned(),
            words: vec![program.as_ref().display().to_string()],
            wrapped_in: Vec::new(),
            env: Vec::new(),
            log: checkout::state().join("log").join(format!("{name}.log")),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<str>) -> Self {
        self.words.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments from one text, split at white space.
    pub fn args(mut self, args: &str) -> Self {
        self.words.extend(args.split_whitespace().map(str::to_owned));
        self
    }

    /// Starts it through another program, such as `nsenter --net=…`. The last wrap is the innermost.
    pub fn wrap(mut self, words: &str) -> Self {
        self.wrapped_in.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.env.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it without CAP_SYS_TIME and in its own session, and records it. Returns its process id.
    pub fn start(self) -> anyhow::Result<u32> {
        fs::create_dir_all(checkout::state().join("log"))?;
        let log = File::create(&self.log)?;
        // Each of these programs execs the next one, so the process id stays the same.
        let mut command = Command::new("setsid");
        command
            .args(["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
            .args(&self.wrapped_in)
            .args(&self.words)
            .envs(self.env)
            .current_dir(checkout::state())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let line = format!("{} {} {}\n", child.id(), started_at(child.id()).unwrap_or(0), self.name);
        OpenOptions::new().create(true).append(true).open(record())?.write_all(line.as_bytes())?;
        Ok(child.id())
    }
}

fn record() -> PathBuf {
    checkout::state().join("processes")
}

/// Returns true if the daemon with this name runs.
pub fn running(name: &str) -> bool {
    recorded().iter().any(|entry| entry.name == name && entry.alive())
}

/// Fails with the end of the log if the daemon with this name has ended.
pub fn expect_running(name: &str) -> anyhow::Result<()> {
    if !running(name) {
        let log = checkout::state().join("log").join(format!("{name}.log"));
        bail!("{name} ended; {} ends:\n{}", log.display(), process::tail(&log, 15));
    }
    Ok(())
}

/// Process id of a running daemon.
pub(crate) fn id(name: &str) -> Option<u32> {
    recorded().into_iter().rev().find(|entry| entry.name == name && entry.alive()).map(|entry| entry.pid)
}

/// Sends a signal such as `-KILL` to the daemons whose names begin with `prefix`, and waits until they have ended.
pub fn end(prefix: &str, signal: &str) -> anyhow::Result<()> {
    let doomed: Vec<_> =
        recorded().into_iter().filter(|entry| entry.name.starts_with(prefix) && entry.alive()).collect();
    for entry in &doomed {
        // The daemon may end by itself in the meantime.
        let _ = process::output(Command::new("kill").args([signal, &entry.pid.to_string()]))?;
    }
    for _ in 0..200 {
        if !doomed.iter().any(Entry::alive) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("{prefix} does not end on {signal}");
}

struct Entry {
    pid: u32,
    started: u64,
    name: String,
}

impl Entry {
    /// Returns true if the process runs. Another process that got the same process id later does not count.
    fn alive(&self) -> bool {
        started_at(self.pid) == Some(self.started)
    }
}

fn recorded() -> Vec<Entry> {
    let text = fs::read_to_string(record()).unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split(' ');
        Some(Entry {
            pid: words.next()?.parse().ok()?,
            started: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// The start time of a process in clock ticks since boot (field 22 of proc(5) stat); none if it has ended or is a
/// zombie.
fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if after_name.first() == Some(&"Z") { None } else { after_name.get(19)?.parse().ok() }
}
