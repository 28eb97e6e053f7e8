//! A full disk under the agent's state folder: a small tmpfs in a mount namespace of the
//! test's own.
use std::{fs, io::Write, path::Path, process::Command};

use contract::Report;

use crate::{
    bench::{Agent, Chronyd, Folder, free_udp_port, namespace::alone, wait_for},
    files,
};

fn mount(arguments: &str, folder: &Path) {
    let mut command = Command::new("mount");
    command.args(arguments.split(' ')).arg(folder);
    assert!(command.status().unwrap().success(), "mount {arguments}");
}

/// Writes until nothing more fits.
fn fill(folder: &Path) {
    let mut file = fs::File::create(folder.join("filler")).unwrap();
    while file.write(&[0; 512]).is_ok_and(|written| written > 0) {}
}

fn lines_with(folder: &Folder, what: &str) -> usize {
    let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
    log.lines().filter(|line| line.contains(what)).count()
}

fn error(report: &Report) -> &str {
    report.state_error.as_deref().unwrap_or_default()
}

const TROUBLE: &str = "State folder cannot be written";

#[test]
fn a_full_disk_is_told_once_and_the_lock_is_held() {
    alone(|| {
        let folder = Folder::new();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        mount("-t tmpfs -o size=64k none", &state);
        fill(&state);
        let upstream = Chronyd::start(&folder, 3);
        let segment = state.join("shm");
        let lines = format!("clockBoundSegment = \"{}\"\n", segment.display());
        let text = files::alone_with(&lines, upstream.port, free_udp_port());
        let agent = Agent::start(&folder, &text);
        wait_for("synchronized", || agent.report().clock.synchronized);
        assert!(error(&agent.report()).contains("No space left on device"), "{:?}", agent.report());
        let (_, shown) = agent.command(&["status"]);
        assert!(
            shown.contains("State           : not saved: ") && shown.contains("No space left"),
            "{shown}"
        );
        let writable = |value| {
            let (_, metrics) = agent.get("/metrics", None);
            metrics.lines().any(|line| line == format!("timesync_state_writable {value}"))
        };
        assert!(writable(0));

        assert_eq!(
            lines_with(&folder, "ClockBound segment cannot be written"),
            1,
            "a mapped file has its place"
        );

        let beside = Folder::new();
        let other = text.replace("STATE", state.to_str().unwrap());
        let second = Agent::start(&beside, &other);
        wait_for("the second one waits", || second.error() == "Waiting");
        assert_eq!(second.stop(), 0);
        assert_eq!(lines_with(&folder, TROUBLE), 1, "the disk is told once");

        fs::remove_file(state.join("filler")).unwrap();
        wait_for("all is saved", || agent.report().state_error.is_none());
        assert!(writable(1));
        assert_eq!(lines_with(&folder, "State folder can be written again"), 1);
        assert!(state.join("boot").exists(), "what waited is written");
        fill(&state);
        assert_eq!(agent.stop(), 0);
        assert_eq!(lines_with(&folder, TROUBLE), 2);
        assert_eq!(lines_with(&folder, "panicked"), 0);
    });
}
