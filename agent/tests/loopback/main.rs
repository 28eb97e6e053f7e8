//! The real binary on loopback, beside Debian's chronyd as its upstream. High ports, mode Observe, and no process has
//! the right to set the clock. Tests wait for conditions; none depends on speed.
#![forbid(unsafe_code)]

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod bench;
mod files;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod authority;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod relay;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod clients;
mod timing_loops;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod local_clock;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod orphans;
mod duplicates;
mod tiers;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod dns;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod names;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod proof;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod restrict;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod signed;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod flood;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod hostile;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod nts_server;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod boot;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod causes;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod disk;
mod interleaved;
mod timezone;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod queries;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod strangers;
mod unprivileged;

#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod waiting;

use std::{net::UdpSocket, time::Duration};

use bench::{Agent, Chronyd, Folder, free_udp_port, wait_for};
use contract::{Assignment, Mode, ProfileName, Reason, SourceState, TransitionKind};

#[test]
fn a_clock_is_watched_served_and_shown() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let served = free_udp_port();
    let agent = Agent::start(&folder, &files::alone_with("chronyMetrics = true\n", upstream.port, served));
    wait_for("synchronized", || agent.report().clock.synchronized);

    let report = agent.report();
    assert_eq!((report.clock.reason, report.clock.stratum), (Reason::Synchronized, 4));
    assert_eq!(report.clock.reference.as_deref(), Some("a"));
    assert_eq!((report.mode, report.profile_error.as_ref()), (Some(Mode::Observe), None));
    assert_eq!(report.sources[0].state, SourceState::Selected);
    let (offset, bound) = (report.clock.offset.unwrap(), report.clock.error_bound.unwrap());
    // Both read one clock, so the truth is 0.
    assert!(offset.abs() <= bound && bound < 0.1, "{offset} {bound}");
    let kinds: Vec<_> = report.transitions.iter().map(|t| t.kind).collect();
    assert!(kinds.contains(&TransitionKind::ProfileApplied) && kinds.contains(&TransitionKind::Synchronized));

    for path in ["/healthz", "/readyz"] {
        assert_eq!(agent.get(path, None), (200, "ok\n".to_owned()), "{path}");
    }
    let (_, metrics) = agent.get("/metrics", None);
    for line in [
        "timesync_synchronized 1",
        "timesync_mode_info{mode=\"Observe\"} 1",
        "timesync_source_state{source=\"a\",state=\"Selected\"} 1",
        "timesync_agent_reload_total{result=\"applied\"} 1",
        "timesync_server_serving 1",
        "chrony_tracking_stratum 4",
        "chrony_sources_reachability_success{source_address=\"127.0.0.1\",source_name=\"a\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }

    let (code, text) = agent.command(&["status"]);
    assert!(code == 0 && text.contains("Synchronized    : yes (Follows a)"), "{code} {text}");
    let (code, text) = agent.command(&["sources"]);
    assert!(code == 0 && text.contains("* a"), "{code} {text}");
    let (code, text) = agent.run(&["query", &format!("127.0.0.1:{served}")]);
    assert!(code == 0 && text.contains("version 4, stratum 4, refid 127.0.0.1, leap none"), "{code} {text}");
    wait_for("answers counted", || agent.report().server.answered == 4);

    assert!(agent.children().is_empty(), "the agent spawned {:?}", agent.children());
    assert_eq!(agent.stop(), 0);
    assert!(folder.path().join("state/time").exists(), "the time is kept at the end");
}

#[test]
fn an_upstream_that_falls_silent_is_noticed() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let agent = Agent::start(&folder, &files::alone(upstream.port, free_udp_port()));
    wait_for("synchronized", || agent.report().clock.synchronized);
    drop(upstream);
    wait_for("holdover", || agent.report().clock.reason == Reason::Holdover);
    let report = agent.report();
    assert!(report.transitions.iter().any(|t| t.kind == TransitionKind::UpstreamsUnreachable));
    wait_for("the source unreachable", || agent.report().sources[0].state == SourceState::Unreachable);
}

#[test]
fn an_ignored_range_is_not_heard_though_we_asked_it() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    // By name: an address under `ignore` would be refused at once.
    let text =
        files::alone(upstream.port, free_udp_port()).replace("\"127.0.0.1\"\nport", "\"localhost\"\nport");
    let agent = Agent::start(&folder, &text);
    wait_for("synchronized", || agent.report().clock.synchronized);
    agent.rewrite(&format!("{text}[[profile.restrict]]\nsource = \"127.0.0.0/8\"\nflags = [\"ignore\"]\n"));
    wait_for("nothing heard", || agent.report().clock.reason == Reason::Holdover);
    agent.rewrite(&text);
    wait_for("synchronized again", || agent.report().clock.reason == Reason::Synchronized);
}

#[test]
fn a_template_lets_upstreams_in_where_all_are_ignored() {
    let folder = Folder::new();
    let (upstream, served) = (Chronyd::start(&folder, 3), free_udp_port());
    let text = files::alone(upstream.port, served);
    let line = |source: &str, flags: &str| {
        format!("[[profile.restrict]]\nsource = \"{source}\"\nflags = [{flags}]\n")
    };
    let agent =
        Agent::start(&folder, &format!("{text}{}{}", line("default", "\"ignore\""), line("source", "")));
    wait_for("synchronized", || agent.report().clock.synchronized);
    // The upstream's address may ask, too; another one may not.
    let answers = |from: &str| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut request = [0; 48];
        request[0] = 4 << 3 | 3;
        socket.send_to(&request, ("127.0.0.1", served)).unwrap();
        socket.recv(&mut [0; 64]).is_ok()
    };
    wait_for("the upstream's address served", || answers("127.0.0.1"));
    let dropped = agent.report().server.dropped;
    assert!(!answers("127.0.0.2"));
    wait_for("the other one dropped", || agent.report().server.dropped > dropped);
}

#[test]
fn profiles_are_handed_over_in_a_folder() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let volume = folder.volume();
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    assert_eq!(agent.get("/readyz", None), (503, "no profile runs\n".to_owned()));
    assert_eq!(agent.report().clock.reason, Reason::NoProfile);

    let served = free_udp_port();
    let (first, text) = files::profile(upstream.port, served, "");
    volume.swap(&first.to_string(), &[(&first.key(), &text)]);
    wait_for("the first profile", || agent.report().profile.as_ref() == Some(&first));
    wait_for("synchronized", || agent.report().clock.synchronized);
    assert_eq!(agent.get("/readyz", None).0, 200);

    let (second, second_text) = files::profile(upstream.port, served, "[stratum]\nlocal = 10\n");
    let files = [(first.key(), text), (second.key(), second_text.clone())];
    let named: Vec<_> = files.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    volume.swap(&second.to_string(), &named);
    wait_for("the second profile", || agent.report().profile.as_ref() == Some(&second));
    assert!(agent.report().clock.synchronized, "a change of profile loses nothing");

    // A name without a file, then the file: no other change of the assignment.
    let (third, third_text) = files::profile(upstream.port, served, "[stratum]\nlocal = 11\n");
    volume.swap(&third.to_string(), &named);
    wait_for("the missing profile told", || agent.error() == "ProfileMissing");
    assert_eq!(agent.report().profile.as_ref(), Some(&second));
    volume.swap(&third.to_string(), &[(&third.key(), &third_text)]);
    wait_for("the third profile", || agent.report().profile.as_ref() == Some(&third));
    assert_eq!(agent.error(), "");

    volume.swap("none", &[]);
    wait_for("no profile", || {
        let report = agent.report();
        report.profile.is_none() && report.clock.reason == Reason::NoProfile
    });
    let report = agent.report();
    assert_eq!((report.assignment, report.mode), (Assignment::None, None));
    wait_for("port closed", || !agent.report().server.serving);
    assert_eq!(agent.get("/readyz", None).0, 200, "to do nothing is what it was told");
    assert!(!folder.path().join("state/profile").exists());
}

#[test]
fn a_bad_profile_is_refused_and_the_good_one_goes_on() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let volume = folder.volume();
    let (good, text) = files::profile(upstream.port, free_udp_port(), "");
    volume.swap(&good.to_string(), &[(&good.key(), &text)]);
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("synchronized", || agent.report().clock.synchronized);

    let bad_text = text.replace("maxPoll = 2", "maxPoll = -1");
    let bad = ProfileName::of("p", &bad_text);
    volume.swap(&bad.to_string(), &[(&bad.key(), &bad_text)]);
    wait_for("refused", || agent.error() == "ProfileInvalid");
    let report = agent.report();
    assert_eq!(report.assignment, Assignment::Profile(bad));
    let message = report.profile_error.unwrap().message;
    assert!(message.contains("upstreams[0].maxPoll: -1 is not within 0 to 17"), "{message}");
    assert_eq!(report.profile.as_ref(), Some(&good));
    assert!(report.clock.synchronized);

    // Changed by hand: the text is not what its name says.
    let (other, other_text) = files::profile(upstream.port, free_udp_port(), "");
    volume.swap(&other.to_string(), &[(&other.key(), &format!("{other_text}\n# by hand\n"))]);
    wait_for("refused by its hash", || agent.error() == "HashMismatch");
    assert_eq!(agent.report().profile.as_ref(), Some(&good));
    let refusals = || {
        let transitions = agent.report().transitions;
        transitions.iter().filter(|t| t.kind == TransitionKind::ProfileRefused).count()
    };
    assert_eq!(refusals(), 2, "each is told once");

    // Repaired, without another assignment.
    volume.swap(&other.to_string(), &[(&other.key(), &other_text)]);
    wait_for("repaired", || agent.report().profile.as_ref() == Some(&other));
    assert_eq!((agent.error(), refusals()), (String::new(), 2));
}

#[test]
fn the_last_good_profile_outlives_the_agent_until_told_otherwise() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let volume = folder.volume();
    let (name, text) = files::profile(upstream.port, free_udp_port(), "");
    volume.swap(&name.to_string(), &[(&name.key(), &text)]);
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("the profile", || agent.report().profile.as_ref() == Some(&name));
    let before = agent.report();
    assert_eq!(agent.stop(), 0);

    volume.swap("", &[]);
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("the profile from disk", || agent.report().profile.as_ref() == Some(&name));
    let after = agent.report();
    assert_eq!((after.assignment, &after.boot_id), (Assignment::Unassigned, &before.boot_id));
    assert_ne!(after.instance, before.instance);
    wait_for("synchronized", || agent.report().clock.synchronized);

    volume.swap("none", &[]);
    wait_for("no profile", || agent.report().profile.is_none());
    assert_eq!(agent.stop(), 0);
    volume.swap("", &[]);
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    assert_eq!(agent.report().profile, None);
}

#[test]
fn a_change_of_the_own_file_is_taken_and_a_bad_one_refused() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let text = files::alone(upstream.port, free_udp_port());
    let agent = Agent::start(&folder, &text);
    wait_for("synchronized", || agent.report().clock.synchronized);
    let first = agent.report().profile;
    agent.rewrite(&text.replace("maxPoll = 2", "maxPoll = 3"));
    wait_for("another profile", || agent.report().profile != first);
    agent.rewrite(&text.replace("maxPoll = 2", "maxPoll = many"));
    wait_for("refused", || agent.error() == "ProfileInvalid");
    assert!(agent.report().clock.synchronized && agent.report().profile != first);
}

#[test]
fn a_taken_port_stops_nothing_else() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let holder = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let agent = Agent::start(&folder, &files::alone(upstream.port, port));
    wait_for("synchronized", || agent.report().clock.synchronized);
    wait_for("the trouble told", || agent.report().server.message.contains("PortTaken"));
    let report = agent.report();
    assert!(!report.server.serving);
    assert!(report.transitions.iter().any(|t| t.kind == TransitionKind::ServingFailed));
    drop(holder);
    wait_for("served after all", || agent.report().server.serving);
}

#[test]
fn a_long_poll_ends_with_the_news() {
    let folder = Folder::new();
    let volume = folder.volume();
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    // What is found at the start (the RTC, the port) is news too: wait until there has been none for a while.
    let mut seen = agent.report().sequence;
    wait_for("an end of the news", || {
        let before = std::mem::replace(&mut seen, 0);
        std::thread::sleep(Duration::from_secs(2));
        seen = agent.report().sequence;
        seen == before
    });
    let (name, text) = files::profile(free_udp_port(), free_udp_port(), "");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| agent.get(&format!("/status?after={seen}&wait=60s"), None));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished(), "there is no news yet");
        volume.swap(&name.to_string(), &[(&name.key(), &text)]);
        let (code, body) = waiting.join().unwrap();
        let report: contract::Report = serde_json::from_str(&body).unwrap();
        assert_eq!(code, 200);
        assert!(report.sequence > seen, "{seen}");
    });
    // A number of another instance is answered at once.
    assert_eq!(agent.get("/status?after=999999&wait=60s", None).0, 200);
    assert_eq!(agent.get("/status?after=x", None).0, 400);
}

#[test]
fn without_the_right_discipline_is_observed() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let text = files::alone(upstream.port, free_udp_port()).replace("\"Observe\"", "\"Discipline\"");
    let agent = Agent::start(&folder, &text);
    wait_for("synchronized", || agent.report().clock.synchronized);
    let report = agent.report();
    assert_eq!((report.mode, agent.error().as_str()), (Some(Mode::Observe), "NotPermitted"));
    assert_eq!(report.clock.steps, 0);
}

#[test]
fn alone_the_engine_is_one_thread() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let served = free_udp_port();
    let agent = Agent::start_with(&folder, &files::alone(upstream.port, served), &["--engine-only"]);
    wait_for("served and synchronized", || agent.run(&["query", &format!("127.0.0.1:{served}")]).0 == 0);
    assert_eq!(agent.threads(), 1);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn what_cannot_run_says_why_and_ends() {
    let folder = Folder::new();
    let check = |text: &str, arguments: &[&str], expected: &str| {
        let (code, said) = Agent::fails_with(&folder, text, arguments);
        assert!(code == 1 && said.contains(expected), "{code} {said}");
    };
    check("", &[], "profile: missing, and so is agent.watch");
    check("[profile]", &[], "profile.upstreams: mode Discipline needs an upstream");
    check("[profile]\nmode = \"Observe\"\nfoo = 1", &[], "line 3: unknown field `foo`");
    check("[agent.watch]\ndirectory = \"/x\"", &["--engine-only"], "--engine-only needs a [profile]");
    let (code, said) = bench::run(&["query", &format!("127.0.0.1:{}", free_udp_port())]);
    assert!(code == 1 && said.contains("no program listens on UDP port"), "{code} {said}");
    let (code, said) = bench::run(&["status", "--http-address", "127.0.0.1:1"]);
    assert!(code == 1 && said.contains("no agent answers at 127.0.0.1:1"), "{code} {said}");
}
