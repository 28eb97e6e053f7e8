//! Prepared faults: the objects as the operator writes them in, in `tests/why/*.yaml`; the explanation out, in the `.txt`
//! of the same name. UPDATE_GOLDEN=1 writes the texts anew: read what changed before it is committed.
use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::{
    observed::{Unread, events, fixture},
    screen::Screen,
    why::{Explanation, Severity, Subject, explain, text},
};

/// Each prepared fault, and the cause that must be behind all: the deepest one of the first chain.
const FAULTS: [(&str, &str); 24] = [
    ("healthy", "Healthy"),
    ("no-policy", "NoPolicySelects"),
    ("no-agent", "NoAgentPod"),
    ("agent-crashes", "AgentNotRunning"),
    ("agent-silent", "PortUnreachable"),
    ("agent-silent-viewer", "AgentSilent"),
    ("node-down", "NodeNotReady"),
    ("holdover", "NoReply"),
    ("error-bound", "NoReply"),
    ("name", "NameUnresolved"),
    ("no-majority", "UpstreamsDiffer"),
    ("falseticker", "Falseticker"),
    ("conflict", "OtherDaemon"),
    ("max-change", "MaxChange"),
    ("profile-refused", "ProfileRefused"),
    ("profile-missing", "ProfileMissing"),
    ("secret-missing", "SecretMissing"),
    ("upstream-unsynchronised", "UpstreamUnsynchronized"),
    ("upstream-distant", "UpstreamTooDistant"),
    ("port-taken", "PortTaken"),
    ("rtc", "RTCBattery"),
    ("operator-down", "OperatorNotReady"),
    ("impostor", "AgentNotProven"),
    ("nts-certificate", "NTSCertificate"),
];

/// Later ones, which need other times or nodes.
const MORE: [(&str, &str); 2] = [("external-step", "ExternalStep"), ("rollout-paused", "RolloutPaused")];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/why")
}

fn explained(case: &str) -> Explanation {
    let observed = fixture(case);
    let found = if observed.nodes.is_err() {
        Err(Unread::Failed("not permitted".to_owned()))
    } else {
        Ok(events(case))
    };
    explain(&Subject::new(&observed, "n1"), &found)
}

fn faults() -> impl Iterator<Item = (&'static str, &'static str)> {
    FAULTS.into_iter().chain(MORE)
}

#[test]
fn the_right_cause_is_behind_each_fault() {
    for (case, expected) in faults() {
        let explanation = explained(case);
        let chain = &explanation.chains[0];
        let ids: Vec<_> = chain.causes.iter().map(|cause| cause.id).collect();
        assert_eq!(chain.root().map(|cause| cause.id), Some(expected), "{case}: {ids:?}");
        let is_healthy = chain.severity == Severity::Fine;
        assert_eq!(is_healthy, case == "healthy", "{case}");
        let todo = chain.causes.iter().any(|cause| !cause.todo.is_empty());
        assert!(todo || is_healthy, "{case} says nothing of what to do");
    }
}

#[test]
fn each_fault_is_explained_in_these_words() {
    for (case, _) in faults() {
        let made = text(&explained(case), fixture(case).now, &Screen::of_file());
        let file = folder().join(format!("{case}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &made).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == made,
            "{} is old: read this, then UPDATE_GOLDEN=1 cargo test -p kubectl-timesync\n{made}",
            file.display()
        );
        // Commands are not broken.
        let is_short = |line: &str| line.chars().count() <= 100;
        let commands: Vec<_> = explained(case).chains.into_iter().flat_map(|chain| chain.causes).collect();
        let commands: Vec<_> = commands.into_iter().flat_map(|cause| cause.todo).collect();
        let is_command =
            |line: &str| commands.iter().any(|each| each.command.as_deref() == Some(line.trim()));
        assert!(made.lines().all(|line| is_short(line) || is_command(line)), "{case}: a long line");
    }
}

#[test]
fn each_file_is_a_fault_of_the_list() {
    let files = fs::read_dir(folder()).unwrap().flatten();
    let names: BTreeSet<_> =
        files.map(|file| file.path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let expected: BTreeSet<_> = faults().map(|(case, _)| case.to_owned()).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_program_reads_the_same_chain() {
    let value = serde_json::to_value(explained("holdover")).unwrap();
    assert_eq!(value["state"], "Holdover");
    assert_eq!(value["chains"][0]["severity"], "Degraded");
    assert_eq!(value["chains"][0]["causes"][0]["id"], "Holdover");
    assert_eq!(value["chains"][0]["causes"][1]["depth"], 1);
}
