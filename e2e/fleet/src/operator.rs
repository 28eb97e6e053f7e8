//! The operator under test, as a process with the chart's arguments and rights. Measures it in /proc, and reads its own
//! HTTP endpoints.
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use lab::{
    agent_http,
    daemon::{self, Daemon},
    install, wait,
};
use xtask::process;

use crate::stage::Stage;

/// A running operator; it ends with the stage.
pub struct Operator {
    /// Its name as a daemon, as a pod, and as the holder of a Lease.
    pub name: String,
    pid: u32,
    /// The address of its own HTTP endpoints.
    address: String,
}

/// The resources that a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub(crate) at: Instant,
    pub(crate) processor_secs: f64,
    /// Resident memory in megabytes, at present and at its peak.
    pub megabytes: f64,
    pub(crate) peak_megabytes: f64,
}

/// The limit in a container: containerd 2 leaves the soft limit at 1,024.
pub const CONTAINER_LIMIT: u32 = 1024;
/// Enough for a descriptor per agent.
pub(crate) const AMPLE_LIMIT: u32 = 16_384;

impl Operator {
    /// Starts `program` with this soft limit of file descriptors. Each operator needs another `number`.
    pub(crate) fn start(
        stage: &Stage,
        program: &Path,
        number: usize,
        descriptors: u32,
    ) -> anyhow::Result<Self> {
        let name = format!("operator-{number}");
        let address = format!("127.30.{}.{}:9818", 1 + number / 250, number % 250 + 1);
        let mut daemon = Daemon::new(&name, program)
            // The hard limit does not change.
            .wrap(&format!("prlimit --nofile={descriptors}:"))
            .env("KUBECONFIG", stage.kubeconfig.display().to_string())
            .env("POD_NAMESPACE", install::NAMESPACE)
            .env("POD_NAME", &name);
        for argument in &stage.arguments {
            daemon = daemon.arg(argument);
        }
        let pid = daemon.args(&format!("--listen {address}")).start()?;
        Ok(Self { name, pid, address })
    }

    /// The status and the body of its answer to `GET path`.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        agent_http::get(&self.address, None, path).with_context(|| format!("{path} of {}", self.name))
    }

    /// A metric with its labels, such as `a_total{kind="b"}`; 0 if there is none yet.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        Ok(agent_http::series(&self.get("/metrics")?.1, series)?.unwrap_or(0.0))
    }

    /// Sends a signal such as `-STOP`, and does not wait for its effect.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        process::sh(&format!("kill {signal} {}", self.pid)).map(drop)
    }

    /// Returns true if it has ended.
    pub fn has_ended(&self) -> bool {
        !daemon::running(&self.name)
    }

    /// Ends it, by a signal such as `-TERM`.
    pub fn end(self, signal: &str) -> anyhow::Result<()> {
        daemon::end(&self.name, signal)
    }

    /// Fails with its log if it has ended.
    pub fn expect_running(&self) -> anyhow::Result<()> {
        daemon::expect_running(&self.name)
    }

    /// The resources that it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{}/{file}", self.pid))
                .with_context(|| format!("{} is gone", self.name))
        };
        let status = read("status")?;
        let megabytes = |field: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .with_context(|| format!("no {field}"))?;
            anyhow::Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        // proc(5): user and system time are fields 14 and 15, in hundredths of a second.
        let stat = read("stat")?;
        let fields: Vec<_> = stat.rsplit_once(") ").context("no stat")?.1.split(' ').collect();
        Ok(Usage {
            at: Instant::now(),
            processor_secs: (fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0,
            megabytes: megabytes("VmRSS:")?,
            peak_megabytes: megabytes("VmHWM:")?,
        })
    }

    /// Returns the number of cores that it uses on average during `span`.
    pub(crate) fn cores(&self, span: Duration) -> anyhow::Result<f64> {
        let before = self.usage()?;
        wait::holds_for("the operator runs", span, || self.expect_running())?;
        let after = self.usage()?;
        Ok((after.processor_secs - before.processor_secs) / (after.at - before.at).as_secs_f64())
    }
}
