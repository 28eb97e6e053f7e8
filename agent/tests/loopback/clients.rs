//! Programs that users have as clients of the agent, each as it is packaged, on port 123 of a network of its own.
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{
    bench::{Agent, Folder, Process, harmless, namespace::alone, unpacked, wait_for},
    files,
};

/// An agent that serves this machine's own clock at stratum 5 on port 123, and the answers that it has sent.
struct Server {
    agent: Agent,
    folder: Folder,
}

impl Server {
    fn start() -> Self {
        let folder = Folder::new();
        let agent = Agent::start(&folder, &files::serving_own_clock(123));
        agent.wait_for_own_clock();
        Self { agent, folder }
    }

    /// A client that is asked to say the offset and then ends: what it said.
    fn asked_by(&self, command: &mut Command) -> String {
        let before = self.agent.report().server.answered;
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{command:?}: {said}");
        wait_for("the answer counted", || self.agent.report().server.answered > before);
        said
    }

    /// A client that runs on: waits until it says `wanted`.
    fn followed_by(&self, command: &mut Command, wanted: &str) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Read beside the test, so that silence ends the test and not its patience.
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line.unwrap_or_default())));
        let _process = Process(child);
        let mut said = Vec::new();
        while said.last().is_none_or(|last: &String| !last.contains(wanted)) {
            let line = lines.recv_timeout(Duration::from_secs(60));
            said.push(line.unwrap_or_else(|error| panic!("{error} for {wanted:?}:\n{}", said.join("\n"))));
        }
        wait_for("the answer counted", || self.agent.report().server.answered > 0);
    }
}

#[test]
fn chronyd_asks_once() {
    alone(|| {
        let server = Server::start();
        for address in ["127.0.0.1", "::1"] {
            let mut chronyd = harmless("/usr/sbin/chronyd");
            chronyd.args([
                "-Q",
                "-U",
                "-u",
                "root",
                "-t",
                "30",
                &format!("server {address} iburst maxsamples 4"),
            ]);
            let pid = server.folder.path().join("pid");
            let said = server.asked_by(chronyd.arg(format!("pidfile {}", pid.display())));
            assert!(said.contains("System clock wrong by"), "{said}");
        }
    });
}

#[test]
fn ntpdig_asks_once() {
    alone(|| {
        let said = Server::start().asked_by(harmless("ntpdig").arg("127.0.0.1"));
        assert!(said.contains("127.0.0.1 s5 no-leap"), "{said}");
    });
}

#[test]
fn systemd_timesyncd_follows() {
    alone(|| {
        let server = Server::start();
        let program = unpacked("systemd-timesyncd", "lib/systemd/systemd-timesyncd");
        // It reads no other folders than these, hence a view of the file system of its own; as root it would want the
        // right to set the clock; and the user that it becomes must reach it, wherever it is unpacked.
        let script = format!(
            "set -e; mount -t tmpfs none /mnt; cp {} /mnt/timesyncd; chmod -R a+rX /mnt\n\
             mkdir -p /run/systemd; mount -t tmpfs none /run/systemd\n\
             mkdir /run/systemd/timesyncd.conf.d; mkdir -m 777 /run/systemd/timesync\n\
             printf '[Time]\\nNTP=127.0.0.1\\n' > /run/systemd/timesyncd.conf.d/test.conf\n\
             export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console\n\
             exec setpriv --reuid 65534 --regid 65534 --clear-groups /mnt/timesyncd 2>&1",
            program.display()
        );
        let mut timesyncd = harmless("unshare");
        server.followed_by(timesyncd.args(["--mount", "sh", "-c", &script]), "stratum      : 5");
    });
}

#[test]
fn ntpsecs_daemon_follows() {
    alone(|| {
        let server = Server::start();
        // It wants port 123 for itself, so it looks on from next door.
        let neighbour = crate::bench::namespace::Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        let file = server.folder.path().join("ntp.conf");
        fs::write(&file, "server 192.0.2.1 iburst minpoll 0 maxpoll 2\ndisable ntp\nrestrict 127.0.0.1\n")
            .unwrap();
        let mut daemon = neighbour.command(unpacked("ntpsec", "usr/sbin/ntpd").to_str().unwrap());
        daemon.args(["-n", "-c", file.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null());
        let _daemon = Process(daemon.spawn().unwrap());
        let mut said = String::new();
        wait_for("ntpd has several answers", || {
            let mut ntpq = neighbour.command(unpacked("ntpsec", "usr/bin/ntpq").to_str().unwrap());
            let output = ntpq.args(["-pn", "127.0.0.1"]).output().unwrap();
            said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            said.contains("*192.0.2.1")
        });
        // It may select its source with the first answer.
        wait_for("the fourth answer is counted", || server.agent.report().server.answered >= 4);
    });
}
