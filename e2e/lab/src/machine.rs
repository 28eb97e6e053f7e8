//! A machine without Kubernetes: a QEMU guest with its own kernel, system clock and hardware clock. The agent runs
//! there with a configuration file. The machine boots in some seconds. Tests act on it (scripts, files, network cable)
//! through QEMU, not through its network.
use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{Context, ensure};
use contract::Report;
use xtask::{checkout, process};

use crate::{
    calendar,
    channel::Channel,
    daemon::{self, Daemon},
    network, qmp, readings,
    truth::{self, Probe},
    wait,
};

mod image;

/// One of the machines.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// 1 or 2.
    number: u8,
}

/// There are two, so that two tests can run in parallel.
pub const MACHINES: [Machine; 2] = [Machine { number: 1 }, Machine { number: 2 }];

/// Writes what the machines boot; the agent must be built.
pub fn prepare() -> anyhow::Result<()> {
    image::write(&image::folder())
}

/// The agent's state folder, on a disk that keeps its content when the power is off.
pub(crate) const STATE: &str = "/state/timesync";
const CONFIG: &str = "/etc/timesync/agent.toml";

impl Machine {
    /// The script that starts the agent. All starts append to the same log.
    pub const START: &str = "timesync-agent run --config /etc/timesync/agent.toml >>/run/agent.log 2>&1 3>&- & echo $! >/run/agent.pid";

    /// Its name.
    pub fn name(self) -> String {
        format!("machine{}", self.number)
    }

    /// Its index in [`MACHINES`].
    pub fn index(self) -> usize {
        usize::from(self.number) - 1
    }

    fn address(self) -> String {
        format!("172.30.0.{}", 110 + self.number)
    }

    fn folder(self) -> PathBuf {
        checkout::state().join(self.name())
    }

    fn monitor(self) -> PathBuf {
        self.folder().join("qmp.sock")
    }

    /// Switches it on for the first time. `rtc` is the time that its hardware clock shows: `utc` for the right time, or
    /// a date.
    pub fn start(self, rtc: &str) -> anyhow::Result<()> {
        let folder = self.folder();
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("shm"), vec![0; 1 << 20])?;
        process::run(Command::new("mke2fs").current_dir(&folder).args([
            "-q",
            "-t",
            "ext4",
            "state.ext4",
            "16M",
        ]))?;
        network::tap(&self.name())?;
        self.switch_on(rtc)
    }

    fn switch_on(self, rtc: &str) -> anyhow::Result<()> {
        let (name, folder, image) = (self.name(), self.folder(), image::folder());
        // Removes the output of its former run, in which [`Self::wait_for_hand`] would find its words.
        fs::write(folder.join("console.log"), "")?;
        let (here, image) = (folder.display(), image.display());
        // vm.rs gives the reasons for tsc=reliable and the other options.
        let kernel = format!(
            "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off e2e.name={name} e2e.address={}",
            self.address()
        );
        Daemon::new(&name, "qemu-system-x86_64")
            .args("-nodefaults -no-user-config -display none -M pc,hpet=off -accel tcg,thread=multi")
            .args("-cpu max,vendor=GenuineIntel -smp 1 -m 256M")
            .args(&format!("-kernel {image}/vmlinuz -initrd {image}/initrd -append"))
            .arg(kernel)
            .args(&format!("-rtc base={rtc},clock=vm -serial file:{here}/console.log"))
            .args(&format!("-qmp unix:{here}/qmp.sock,server=on,wait=off"))
            .args(&format!("-drive file={here}/state.ext4,if=virtio,format=raw"))
            .args(&format!("-netdev tap,id=n0,ifname={},script=no,downscript=no", network::tap_name(&name)))
            .args(&format!(
                "-device virtio-net-pci,netdev=n0,id=card,romfile=,mac=52:54:00:79:00:0{}",
                self.number
            ))
            .args(&format!("-object memory-backend-file,id=shm,size=1M,share=on,mem-path={here}/shm"))
            .args("-device ivshmem-plain,memdev=shm -device virtio-serial-pci")
            .args(&format!("-chardev socket,id=hand,path={here}/hand.sock,server=on,wait=off"))
            .args("-device virtserialport,chardev=hand,name=e2e.hand")
            .start()?;
        self.wait_for_hand()
    }

    /// Waits until the guest is ready for scripts and questions about its clock.
    fn wait_for_hand(self) -> anyhow::Result<()> {
        wait::until(&format!("{} to boot", self.name()), "10 s", Duration::from_secs(300), || {
            daemon::expect_running(&self.name())?;
            let console = fs::read(self.folder().join("console.log")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            Ok((console.contains("clockprobe: ready") && console.contains("hand: ready")).then_some(()))
        })
    }

    /// Presses the reset button. The hardware clock continues.
    pub fn reset(self) -> anyhow::Result<()> {
        fs::write(self.folder().join("console.log"), "")?;
        qmp::order(&self.monitor(), "system_reset")?;
        self.wait_for_hand()
    }

    /// Switches it off and on. QEMU sets a hardware clock only to whole seconds, and takes a quarter of a second to
    /// start. So this waits for the moment at which the hardware clock seems to have continued.
    pub fn power_cycle(self) -> anyhow::Result<()> {
        const SECOND: i64 = 1_000_000_000;
        let offset = self.rtc_offset()?;
        daemon::end(&self.name(), "-KILL")?;
        let now = truth::nanoseconds()? + offset;
        let base = (now + SECOND / 4).div_euclid(SECOND) + 1;
        let wait = base * SECOND - SECOND / 4 - now;
        thread::sleep(Duration::from_nanos(wait.unsigned_abs()));
        self.switch_on(calendar::shown(base).trim_end_matches('Z'))
    }

    /// Pauses it: all its clocks stop.
    pub fn pause(self) -> anyhow::Result<()> {
        qmp::order(&self.monitor(), "stop")
    }

    /// Ends the pause.
    pub fn resume(self) -> anyhow::Result<()> {
        qmp::order(&self.monitor(), "cont")
    }

    /// Connects or disconnects its network cable.
    pub fn set_link(self, up: bool) -> anyhow::Result<()> {
        qmp::set_link(&self.monitor(), "card", up)
    }

    /// A probe that measures its clock from outside.
    pub fn probe(self) -> anyhow::Result<Probe> {
        Probe::open(&self.name(), &self.folder().join("shm"))
    }

    /// Its hardware clock minus the host's clock, nanoseconds. Reads until the second changes, so the error is a few
    /// milliseconds.
    pub fn rtc_offset(self) -> anyhow::Result<i64> {
        qmp::rtc_offset(&self.monitor())
    }

    /// Runs a script in it. Returns what the script printed, or an error if it failed.
    pub fn run(self, script: &str) -> anyhow::Result<String> {
        let (code, output) = self.try_run(script)?;
        ensure!(code == 0, "{}: `{script}` ended with {code}: {}", self.name(), output.trim());
        Ok(output)
    }

    /// Runs a script in it. Returns the script's exit code and what it printed.
    pub fn try_run(self, script: &str) -> anyhow::Result<(i32, String)> {
        let result = Channel::at(self.folder().join("hand.sock")).run(script, 60)?;
        let (code, output) = &result;
        readings::note(&format!("{}: {script}", self.name()), &format!("exit code {code}: {output}"));
        Ok(result)
    }

    /// Writes a file in it.
    pub fn put(self, path: &str, contents: &str) -> anyhow::Result<()> {
        Channel::at(self.folder().join("hand.sock")).put(path, contents.as_bytes(), "644")
    }

    /// Starts the agent with this profile (TOML, the text below `[profile]`).
    pub fn start_agent(self, profile: &str) -> anyhow::Result<()> {
        let file = format!("[agent]\nstateDirectory = \"{STATE}\"\n\n{profile}");
        self.put(CONFIG, &file)?;
        self.run(Self::START)?;
        self.wait_for("to answer", Duration::from_secs(60), |_| true).map(drop)
    }

    /// Ends the agent, if it runs.
    pub fn stop_agent(self) -> anyhow::Result<()> {
        self.run(
            "[ -e /run/agent.pid ] || exit 0; kill $(cat /run/agent.pid) 2>/dev/null\n\
                  while kill -0 $(cat /run/agent.pid) 2>/dev/null; do sleep 0.1; done; rm -f /run/agent.pid",
        )
        .map(drop)
    }

    /// The report of its agent.
    pub fn report(self) -> anyhow::Result<Report> {
        // The command fails if the clock is not synchronised, which is no error here.
        let (_, text) = self.try_run("timesync-agent status --json 2>/dev/null")?;
        let report: Report = serde_json::from_str(&text).context("the agent's report")?;
        let Report { clock, conflict, rtc, .. } = &report;
        readings::note(&format!("{}'s agent", self.name()), &format!("{clock:?}, {conflict:?}, {rtc:?}"));
        Ok(report)
    }

    /// Waits until the agent's report is as wanted.
    pub fn wait_for(
        self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Report) -> bool,
    ) -> anyhow::Result<Report> {
        wait::until(&format!("{} {what}", self.name()), "", limit, || {
            daemon::expect_running(&self.name())?;
            // An agent that has just been started does not answer yet.
            Ok(self.report().ok().filter(|report| wanted(report)))
        })
    }

    /// The end of the agent's log.
    pub fn log_end(self) -> String {
        self.run("tail -n 80 /run/agent.log").unwrap_or_else(|error| format!("{error:#}"))
    }

    /// The whole log of the agent and the console output, to find the cause of a failure.
    pub fn logs(self) -> String {
        let agent = self.run("cat /run/agent.log").unwrap_or_else(|error| format!("{error:#}"));
        let console = fs::read(self.folder().join("console.log")).unwrap_or_default();
        format!("{agent}\n--- console ---\n{}", String::from_utf8_lossy(&console))
    }
}
