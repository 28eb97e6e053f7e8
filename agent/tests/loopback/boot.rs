//! `boot` and the one lock, with the real program. Nothing here can set the clock, so what `boot` measures it cannot mend.
use std::{fs, path::Path};

use contract::ProfileName;

use crate::{
    bench::{self, Agent, Chronyd, Folder, free_udp_port, wait_for},
    files,
};

/// The exit code of `boot` with this agent's file, and what it said.
fn boot(folder: &Folder, text: &str, arguments: &[&str]) -> (i32, String) {
    let file = bench::write_file(folder, text, "127.0.0.1:1");
    bench::run(&[&["boot", "--config", file.to_str().unwrap()], arguments].concat())
}

/// A profile on disk as an agent leaves it, and a file that watches a folder where nothing is handed over.
fn with_last_good(folder: &Folder, text: &str) -> String {
    let state = folder.path().join("state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("profile"), format!("{}\n{text}", ProfileName::of("p", text))).unwrap();
    files::watching(&folder.volume())
}

fn steering(upstream: u16, more: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"a\"\nserver = \"127.0.0.1\"\nport = {upstream}\niburst = true\nminPoll = 0\nmaxPoll = 2\n{more}"
    )
}

fn check(outcome: &(i32, String), code: i32, words: &[&str]) {
    for word in words {
        assert!(outcome.1.contains(word), "{word} is not in\n{}", outcome.1);
    }
    assert_eq!(outcome.0, code, "{}", outcome.1);
}

#[test]
fn a_server_is_asked_by_the_profile_on_disk() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let text = with_last_good(&folder, &steering(upstream.port, ""));
    let outcome = boot(&folder, &text, &["--timeout", "60s"]);
    let words = ["asked: a.", "No right to set the clock", "was not set. Follows a."];
    check(&outcome, 3, &words);
    // A boot is handled once.
    check(&boot(&folder, &text, &[]), 0, &["in this boot already: nothing to do"]);
}

#[test]
fn who_cannot_be_asked_is_named() {
    let folder = Folder::new();
    let text = with_last_good(&folder, &steering(free_udp_port(), "key = \"secret\"\n"));
    let words = ["Upstream a needs secret, which is not there", "No upstream can be used"];
    check(&boot(&folder, &text, &[]), 3, &words);

    let folder = Folder::new();
    let text = with_last_good(&folder, &steering(free_udp_port(), ""));
    check(&boot(&folder, &text, &["--timeout", "1s"]), 4, &["Not synchronised within 1 s; giving up"]);
    // Another try is allowed to do better.
    check(&boot(&folder, &text, &["--timeout", "1s"]), 4, &["Not synchronised within 1 s; giving up"]);

    let folder = Folder::new();
    let text = with_last_good(&folder, "mode = \"Observe\"\n");
    check(&boot(&folder, &text, &[]), 3, &["only observes"]);
    let folder = Folder::new();
    check(&boot(&folder, &files::watching(&folder.volume()), &[]), 3, &["No profile is known"]);
    check(&boot(&folder, "[agent]\nnonsense = 1\n", &[]), 1, &["unknown field"]);
}

#[test]
fn a_second_agent_waits_and_says_for_whom() {
    let (folder, upstream) = (Folder::new(), free_udp_port());
    let text = files::alone(upstream, free_udp_port());
    let first = Agent::start(&folder, &text);
    wait_for("the first one's profile", || first.report().profile.is_some());
    let second = Agent::start(&folder, &text);
    wait_for("the second one waits", || second.error() == "Waiting");
    let message = second.report().profile_error.unwrap().message;
    assert!(message.starts_with("timesync-agent run, pid "), "{message}");
    // It is alive, and not ready.
    assert_eq!(second.get("/healthz", None).0, 200);
    assert_eq!(second.get("/readyz", None).0, 503);
    // An agent that runs does not give way, and a boot has nothing to do beside it.
    check(&boot(&folder, &text, &[]), 0, &["timesync-agent run, pid ", "nothing to do"]);
    assert!(first.report().profile.is_some());
    assert_eq!(first.stop(), 0);
    wait_for("the second one's turn", || second.report().profile.is_some() && second.error().is_empty());
    assert_eq!(second.stop(), 0);
}

#[test]
fn who_waits_can_be_told_to_end() {
    let folder = Folder::new();
    let text = files::alone(free_udp_port(), free_udp_port());
    let first = Agent::start(&folder, &text);
    wait_for("the first one's profile", || first.report().profile.is_some());
    let second = Agent::start(&folder, &text);
    wait_for("the second one waits", || second.error() == "Waiting");
    assert_eq!(second.stop(), 0);
    let alone = Agent::start_with(&folder, &text, &["--engine-only"]);
    wait_for("the lone engine waits", || log(&folder).contains("waiting until it ends"));
    assert_eq!(alone.stop(), 0);
    assert!(first.report().profile.is_some());
}

#[test]
fn an_observer_says_that_the_clock_is_behind_and_leaves_it() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/time"), "4000000000000000000\n").unwrap();
    // A lone server would not be believed against the saved time.
    let (another, second) = (Folder::new(), free_udp_port());
    let other = Chronyd::start(&another, 3);
    let text = format!(
        "{}[[profile.upstreams]]\nname = \"second\"\nserver = \"127.0.0.1\"\nport = {}\niburst = true\nminPoll = 0\n\
         maxPoll = 0\n",
        files::alone(upstream.port, second),
        other.port
    );
    let agent = Agent::start(&folder, &text);
    wait_for("synchronized", || agent.report().clock.synchronized);
    assert!(log(&folder).contains("behind the last time known to be right"));
    assert!(!log(&folder).contains("cannot be set"), "nothing was tried");
    let clock = agent.report().clock;
    assert_eq!((clock.raised, clock.steps), (0, 0));
    // The wrong time gives way to the one that servers confirm.
    assert_eq!(agent.stop(), 0);
    assert!(fs::read_to_string(folder.path().join("state/time")).unwrap().trim() < "4000000000000000000");
}

fn log(folder: &Folder) -> String {
    fs::read_to_string(folder.path().join("agent.log")).unwrap()
}

#[test]
fn a_boot_gives_way_to_an_agent_that_waits() {
    let folder = Folder::new();
    let text = with_last_good(&folder, &steering(free_udp_port(), ""));
    let file = bench::write_file(&folder, &text, "127.0.0.1:1");
    let arguments = ["boot", "--config", file.to_str().unwrap(), "--timeout", "10m", "--remove-after", "10m"];
    let boot = bench::start(&arguments, &folder.path().join("boot.log"));
    let said = |word: &str| fs::read_to_string(folder.path().join("boot.log")).unwrap().contains(word);
    wait_for("the boot has the lock", || said("asked: a."));
    let agent = Agent::start(&folder, &text);
    wait_for("the profile from disk", || agent.report().profile.is_some());
    assert!(said("An agent waits: it goes on."));
    // And ends, since an agent has come.
    assert_eq!(boot.ended(), 0);
}

#[test]
fn a_pod_that_nobody_comes_for_is_removed() {
    let folder = Folder::new();
    let host = folder.path().join("host");
    fs::create_dir_all(host.join("manifests")).unwrap();
    let boot_pod = format!(
        "hostRoot = \"{}\"\n[agent.boot]\nstaticPod = true\nimage = \"i\"\nmanifestDirectory = \"/manifests\"\n",
        host.display()
    );
    let text = files::alone_with(&boot_pod, free_udp_port(), free_udp_port());
    let agent = Agent::start(&folder, &text);
    let state = || agent.report().boot.map(|boot| boot.state);
    wait_for("the manifest", || state() == Some(contract::BootPodState::Installed));
    let (code, status) = agent.command(&["status"]);
    assert!(code == 1 && status.contains("Boot pod        : Installed"), "{status}");
    assert_eq!(agent.stop(), 0);
    let program = folder.path().join("state/bin/timesync-agent");
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    assert!(is_there(&host.join("manifests/timesync-boot.yaml")), "an agent that ends leaves it");

    // What kubelet would start: that program, with that file.
    let config = folder.path().join("state/boot.toml");
    let mut command = bench::harmless(program.to_str().unwrap());
    let output = command.args(["boot", "--remove-after", "1s", "--config"]).arg(&config).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("No agent came within 1 s"), "{text}");
    assert!(
        !is_there(&host.join("manifests/timesync-boot.yaml")) && !is_there(&program) && !is_there(&config)
    );
}
