//! Prepared faults: the objects as the operator writes them in, in `tests/why/*.yaml`; the explanation out, in the `.txt`
//! of the same name. UPDATE_GOLDEN=1 writes the texts anew: read what changed before it is committed.
use std::{collections::BTreeSet, fs, path::PathBuf};

use api::LastStep;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    observed::{Observed, Unread, events, fixture},
    screen::Screen,
    why::{Explanation, Severity, Subject, explain, text},
};

/// Each prepared fault, and the cause that must be behind all: the deepest one of the first chain.
const FAULTS: [(&str, &str); 27] = [
    ("healthy", "Healthy"),
    ("no-policy", "NoPolicySelects"),
    ("first-secret-missing", "SecretMissing"),
    ("first-tier-empty", "TierEmpty"),
    ("first-refused-viewer", "PolicyRefused"),
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

#[test]
fn a_node_waits_for_the_first_policy_that_selects_it() {
    let root = |observed: &Observed| {
        let explanation = explain(&Subject::new(observed, "n1"), &Ok(Vec::new()));
        let whats: Vec<_> =
            explanation.chains[0].causes.iter().map(|cause| (cause.id, cause.what.clone())).collect();
        (explanation.chains[0].root().unwrap().id, format!("{whats:?}"))
    };
    let mut observed = fixture("first-secret-missing");
    // The one with the higher priority selects it, and the operator has not read it.
    let edge = observed.policies.iter_mut().find(|policy| policy.spec.priority == 10).unwrap();
    (edge.spec.node_selector, edge.metadata.generation) = (None, Some(2));
    let (id, whats) = root(&observed);
    assert!(id == "PolicyNotRead" && whats.contains("Policy edge") && !whats.contains("default"), "{whats}");
    // Of nodes nothing is known: the other one may select it, and is ready, so it is not what the node waits for.
    let mut observed = fixture("first-refused-viewer");
    let mut ready = fixture("no-policy").policies.remove(0);
    ready.metadata.name = Some("ready".to_owned());
    observed.policies.push(ready);
    let (id, whats) = root(&observed);
    assert!(id == "PolicyRefused" && !whats.contains("ready"), "{whats}");
    // One that is being deleted does not count.
    observed.policies[0].metadata.deletion_timestamp = Some(Time(observed.now));
    assert_eq!(root(&observed).0, "NoPolicySelects");
}

#[test]
fn a_tier_without_nodes_is_told_while_the_former_profile_runs() {
    let mut observed = fixture("secret-missing");
    let status = observed.policies[0].status.as_mut().unwrap();
    let found = status.conditions.iter_mut().find(|each| each.type_ == "RolledOut").unwrap();
    found.reason = "TierEmpty".to_owned();
    let chains = explain(&Subject::new(&observed, "n1"), &Ok(Vec::new())).chains;
    assert_eq!(chains[0].root().map(|cause| cause.id), Some("TierEmpty"));
}

#[test]
fn a_step_by_another_process_is_told_for_a_day() {
    let check = |time: &str, by: &str, is_told: bool| {
        let mut observed = fixture("healthy");
        let status = observed.clocks[0].status.as_mut().unwrap();
        status.last_external_step =
            Some(LastStep { time: Some(Time(time.parse().unwrap())), by: by.to_owned() });
        let chains = explain(&Subject::new(&observed, "n1"), &Ok(Vec::new())).chains;
        assert_eq!(chains.iter().any(|chain| chain.causes[0].id == "ExternalStep"), is_told, "{time} {by}");
    };
    // It is 2026-11-30T12:00:00Z.
    check("2026-11-30T11:00:00Z", "1.5s", true);
    check("2026-11-29T12:30:00Z", "-20ms", true);
    check("2026-11-29T11:30:00Z", "1.5s", false);
    // Forward by 100 days, an hour ago and three days ago, of a clock that was right.
    check("2027-03-10T11:00:00Z", "8640000s", true);
    check("2027-03-07T12:00:00Z", "8640000s", false);
    // An hour ago, of a clock that was 100 days behind.
    check("2026-11-30T11:00:00Z", "8640000s", true);
}
