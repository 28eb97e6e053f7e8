//! An agent never follows itself: by none of its addresses, also one that is added later, and not by a translated one
//! that leads back to it. Other NTP programs of the host, and other agents there, are servers like any.
use std::{
    net::UdpSocket,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use contract::{Reason, Report, SourceReport, SourceState};

use crate::{
    bench::{
        Agent, Chronyd, Folder, free_udp_port,
        namespace::{Neighbour, alone},
        run, wait_for,
    },
    relay::Relay,
};

/// An agent's file with these upstreams, each a kind, a host and a port, that serves its own clock on `port`.
fn file(upstreams: &[(&str, &str, u16)], port: u16, more: &str) -> String {
    let upstream = |(number, (kind, host, port)): (usize, &(&str, &str, u16))| {
        format!(
            "[[profile.upstreams]]\nname = \"u{number}\"\n{kind} = \"{host}\"\nport = {port}\niburst = true\n\
             minPoll = 0\nmaxPoll = 1\n"
        )
    };
    let upstreams: String = upstreams.iter().enumerate().map(upstream).collect();
    let more = if more.is_empty() { "activateAfter = \"0s\"\n" } else { more };
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n[profile]\nmode = \"Observe\"\n{upstreams}\
         [profile.stratum]\nlocal = 10\n{more}[profile.serve]\nport = {port}\n"
    )
}

fn source(report: &Report, name: &str) -> SourceReport {
    report.sources.iter().find(|source| source.name.starts_with(name)).cloned().expect("it is in the list")
}

fn wait_for_source(agent: &Agent, name: &str, is_so: impl Fn(&SourceReport) -> bool) -> SourceReport {
    let mut found = None;
    wait_for(&format!("{name} as expected"), || {
        // A report may come before the engine knows its upstreams.
        let sources = agent.report().sources;
        found =
            sources.into_iter().find(|source| source.name.starts_with(name)).filter(|source| is_so(source));
        found.is_some()
    });
    found.expect("it was just found")
}

/// Looks for some seconds, in which twenty polls are due.
fn check_follows_nobody(agent: &Agent) {
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        let clock = agent.report().clock;
        assert!(!matches!(clock.reason, Reason::Synchronized | Reason::Holdover), "{clock:?}");
        assert!(clock.reference.is_none(), "{clock:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn command(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let done =
        Command::new(words[0]).args(&words[1..]).output().expect("iproute2 and nftables are installed");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn by_its_own_addresses_it_is_not_asked_and_says_so() {
    alone(|| {
        let _neighbour = Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        let own = ["127.0.0.1", "127.3.2.1", "192.0.2.1", "::1", "localhost"];
        for more in ["", "orphan = true\nactivateAfter = \"1s\"\n"] {
            let folder = Folder::new();
            let kinds = ["server", "peer"].into_iter().cycle();
            let mut upstreams: Vec<_> =
                own.into_iter().zip(kinds).map(|(host, kind)| (kind, host, 1123)).collect();
            upstreams.push(("pool", "localhost", 1123));
            let agent = Agent::start(&folder, &file(&upstreams, 1123, more));
            for number in 0..upstreams.len() {
                let itself = wait_for_source(&agent, &format!("u{number}"), |source| {
                    source.message.starts_with("It is this node itself")
                });
                assert_eq!((itself.state, itself.reach), (SourceState::Unusable, 0), "{itself:?}");
            }
            check_follows_nobody(&agent);
            // Before the port was open it could not know.
            assert!(agent.report().server.answered < 8, "it goes on asking itself");
        }
    });
}

#[test]
fn an_address_that_is_added_later_is_its_own_too() {
    alone(|| {
        let neighbour = Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        // Nobody listens there.
        for words in ["addr add 192.0.2.77/32 dev lo", "addr add 192.0.2.78/32 dev lo"] {
            assert!(neighbour.command("ip").args(words.split(' ')).status().unwrap().success());
        }
        let folder = Folder::new();
        let upstreams = [("server", "192.0.2.77", 123), ("server", "192.0.2.78", 123)];
        let agent = Agent::start(&folder, &file(&upstreams, 123, ""));
        wait_for("requests that are not answered", || agent.report().sources.len() == 2);
        assert!(!source(&agent.report(), "u0").message.contains("itself"));
        command("ip addr add 192.0.2.77/32 dev next");
        wait_for_source(&agent, "u0", |source| source.message.starts_with("It is this node itself"));
        assert!(!source(&agent.report(), "u1").message.contains("itself"));
        check_follows_nobody(&agent);
        command("ip addr del 192.0.2.77/32 dev next");
        wait_for_source(&agent, "u0", |source| !source.message.contains("itself"));
    });
}

#[test]
fn behind_a_translated_address_it_knows_its_own_answers() {
    alone(|| {
        let neighbour = Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        command("nft add table ip nat");
        command("nft add chain ip nat output { type nat hook output priority -100 ; }");
        command("nft add rule ip nat output ip daddr 192.0.2.100 udp dport 123 dnat to 192.0.2.1:123");
        let folders = [Folder::new(), Folder::new(), Folder::new()];
        let agent = Agent::start(&folders[0], &file(&[("server", "192.0.2.100", 123)], 123, ""));
        let itself =
            wait_for_source(&agent, "u0", |source| source.message.contains("come back to this node"));
        assert_eq!((itself.state, itself.reach), (SourceState::Unusable, 0), "{itself:?}");
        check_follows_nobody(&agent);
        assert!(agent.report().server.answered > 0, "its requests came to it");
        // To a neighbour it is a server, and a true server beside that address is followed.
        let http = "192.0.2.2:9817";
        let other = file(&[("server", "192.0.2.1", 123)], 1123, "").replace(
            "httpAddress = \"HTTP\"",
            &format!("httpAddress = \"HTTP\"\ntokenFile = \"{}\"", folders[1].path().join("token").display()),
        );
        std::fs::write(folders[1].path().join("token"), "a long and secret word").unwrap();
        let neighbours = Agent::start_next_door(&neighbour, &folders[1], &other, http);
        wait_for("the neighbour reaches it", || {
            let (code, body) = neighbours.get("/status", Some("a long and secret word"));
            let report = (code == 200).then(|| serde_json::from_str::<Report>(&body).unwrap());
            report.is_some_and(|report| report.sources.iter().any(|source| source.reach & 1 == 1))
        });
        let chronyd = Chronyd::start(&folders[2], 3);
        let both = [("server", "192.0.2.100", 123), ("server", "127.0.0.1", chronyd.port)];
        agent.rewrite(&file(&both, 123, ""));
        wait_for("the true server followed", || {
            let clock = agent.report().clock;
            assert_ne!(clock.reason, Reason::NoMajority);
            clock.synchronized && clock.reference.as_deref() == Some("u1")
        });
    });
}

#[test]
fn by_way_of_a_relay_it_knows_its_own_answers() {
    let folder = Folder::new();
    let (port, between) = (free_udp_port(), free_udp_port());
    let relay = Relay::start(([127, 0, 0, 1], between).into(), ([127, 0, 0, 1], port).into());
    let agent = Agent::start(&folder, &file(&[("server", "127.0.0.1", between)], port, ""));
    wait_for_source(&agent, "u0", |source| source.message.contains("come back to this node"));
    check_follows_nobody(&agent);
    assert!(!relay.seen().is_empty());
}

#[test]
fn whoever_copies_a_request_to_us_silences_no_server() {
    let folder = Folder::new();
    let (chronyd, port, between) = (Chronyd::start(&folder, 3), free_udp_port(), free_udp_port());
    let relay = Relay::start(([127, 0, 0, 1], between).into(), ([127, 0, 0, 1], chronyd.port).into());
    let agent = Agent::start(&folder, &file(&[("server", "127.0.0.1", between)], port, ""));
    // Each request is sent to our own server as well, many times, while its answer is on the way.
    relay.copy_to(([127, 0, 0, 1], port).into());
    wait_for("followed", || agent.report().clock.reference.as_deref() == Some("u0"));
    let before = source(&agent.report(), "u0");
    wait_for("twenty more answers", || relay.seen().len() > 20);
    let report = agent.report();
    let after = source(&report, "u0");
    assert!(report.clock.synchronized && report.server.answered > 20, "{:?}", report.server);
    assert_eq!((after.state, after.rejected), (SourceState::Selected, before.rejected), "{after:?}");
}

#[test]
fn two_agents_of_one_host_use_each_others_ports() {
    let folders = [Folder::new(), Folder::new()];
    let ports = [free_udp_port(), free_udp_port()];
    let list = ports.map(|port| ("peer", "127.0.0.1", port));
    let agents = [0, 1].map(|index| Agent::start(&folders[index], &file(&list, ports[index], "")));
    for (index, agent) in agents.iter().enumerate() {
        wait_for_source(agent, &format!("u{index}"), |source| {
            source.message.starts_with("It is this node itself")
        });
        let other = format!("u{}", 1 - index);
        let reached = wait_for_source(agent, &other, |source| {
            source.reach & 1 == 1 || source.message.contains("follows")
        });
        assert!(
            !reached.message.contains("itself") && !reached.message.contains("back to this node"),
            "{reached:?}"
        );
    }
}

#[test]
fn where_it_does_not_serve_another_daemon_is_a_server() {
    // Another daemon has the port before it.
    let folder = Folder::new();
    let chronyd = Chronyd::start(&folder, 3);
    wait_for("the daemon", || run(&["query", &format!("127.0.0.1:{}", chronyd.port)]).0 == 0);
    let upstreams = [("server", "127.0.0.1", chronyd.port)];
    let other = Folder::new();
    let agent = Agent::start(&other, &file(&upstreams, chronyd.port, ""));
    wait_for("followed", || agent.report().clock.reference.as_deref() == Some("u0"));
    assert!(!agent.report().server.serving);
    drop(agent);
    let off =
        file(&upstreams, chronyd.port, "").replace("[profile.serve]\n", "[profile.serve]\nenabled = false\n");
    let third = Folder::new();
    let agent = Agent::start(&third, &off);
    wait_for("followed", || agent.report().clock.reference.as_deref() == Some("u0"));
}

#[test]
fn in_one_thread_it_does_not_follow_itself_either() {
    let folder = Folder::new();
    let port = free_udp_port();
    let own = file(&[("server", "127.0.0.1", port)], port, "");
    let agent = Agent::start_with(&folder, &own, &["--engine-only"]);
    // It has no report; what it serves tells: a clock that follows itself has one stratum more.
    let asks = UdpSocket::bind("127.0.0.1:0").unwrap();
    asks.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let stratum = || {
        let mut datagram = [0; 48];
        datagram[0] = 0x23;
        asks.send_to(&datagram, ("127.0.0.1", port)).unwrap();
        asks.recv(&mut datagram).ok().map(|_| datagram[1])
    };
    wait_for("it serves its own clock", || stratum() == Some(10));
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(300));
        assert!(matches!(stratum(), Some(10) | None), "it follows itself");
    }
    assert_eq!(agent.stop(), 0);
}
