//! The local clock: served in silence, and never against what an upstream says; and what its follower knows of it.
use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use contract::{Reason, TransitionKind};

use crate::bench::{Agent, Folder, free_udp_port, run, wait_for};

/// A server of stratum 2 that is ahead by some seconds, or silent.
struct Upstream {
    port: u16,
    ahead: Arc<AtomicI64>,
}

const SILENT: i64 = i64::MAX;

impl Upstream {
    fn start(ahead: i64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (port, ahead) = (socket.local_addr().unwrap().port(), Arc::new(AtomicI64::new(ahead)));
        let told = Arc::clone(&ahead);
        thread::spawn(move || {
            let mut asked = [0; 1024];
            while let Ok((_, client)) = socket.recv_from(&mut asked) {
                let ahead = told.load(Ordering::Relaxed);
                if ahead != SILENT {
                    let _ = socket.send_to(&answer(&asked, ahead), client);
                }
            }
        });
        Self { port, ahead }
    }

    fn tell(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

/// LI 0, version 4, mode 4; root delay 0, dispersion 1 ms; its reference is 192.0.2.7.
fn answer(asked: &[u8], ahead: i64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = (now.as_secs() as i64 + 2_208_988_800 + ahead) as u32;
    let fraction = ((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000) as u32;
    let now = [seconds.to_be_bytes(), fraction.to_be_bytes()].concat();
    let head = [0x24, 2, 0, 0xec, 0, 0, 0, 0, 0, 0, 0, 64, 192, 0, 2, 7];
    [&head[..], &now, &asked[40..48], &now, &now].concat()
}

/// An agent that asks `upstream` each second and serves on `port`.
fn agent(folder: &Folder, upstream: u16, port: u16, stratum: &str) -> Agent {
    let text = format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n[profile]\nmode = \"Observe\"\n{stratum}\
         [[profile.upstreams]]\nname = \"a\"\nserver = \"127.0.0.1\"\nport = {upstream}\niburst = true\n\
         minPoll = 0\nmaxPoll = 0\n[profile.serve]\nport = {port}\n"
    );
    Agent::start(folder, &text)
}

const LOCAL: &str = "stratum = { local = 10, activateAfter = \"0s\" }\n";

/// What a stranger is told who asks there.
fn told(port: u16) -> String {
    run(&["query", &format!("127.0.0.1:{port}")]).1
}

/// By metric and report, which are asked one after the other: a change between them is waited out.
fn is_local(agent: &Agent) -> bool {
    let mut local = false;
    wait_for("metric and report say the same", || {
        local = agent.report().clock.reason == Reason::LocalReference;
        let (_, metrics) = agent.get("/metrics", None);
        local == metrics.lines().any(|line| line == "timesync_local_reference 1")
    });
    local
}

#[test]
fn a_clock_that_an_upstream_calls_wrong_is_not_served() {
    let (folder, port) = (Folder::new(), free_udp_port());
    let upstream = Upstream::start(-30);
    let agent = agent(&folder, upstream.port, port, LOCAL);
    wait_for("the upstream heard", || agent.report().clock.reason == Reason::ErrorBound);
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        assert!(told(port).contains("leap unsynchronised"), "{}", told(port));
        // Ten seconds of silence are more than eight polls, and make nothing right.
        if end - Instant::now() < Duration::from_secs(12) {
            upstream.tell(SILENT);
        }
    }
    assert!(!agent.report().clock.synchronized && !is_local(&agent));
}

#[test]
fn who_serves_and_who_follows_a_local_clock_say_so() {
    let (folders, ports) = ([Folder::new(), Folder::new()], [free_udp_port(), free_udp_port()]);
    let upstream = Upstream::start(SILENT);
    let first = agent(&folders[0], upstream.port, ports[0], LOCAL);
    let second = agent(&folders[1], ports[0], ports[1], "");
    wait_for("the local clock served", || {
        told(ports[0]).contains("stratum 10, refid 127.127.1.1, leap none")
    });
    wait_for("it is followed", || is_local(&second));
    for (agent, stratum, says) in [
        (&first, 10, "this node serves its own clock"),
        (&second, 11, "Follows a, whose time is that of a local"),
    ] {
        let report = agent.report();
        let clock = &report.clock;
        assert!(is_local(agent) && clock.synchronized && clock.start_phase, "{clock:?}");
        assert!(clock.stratum == stratum && clock.message.contains(says), "{clock:?}");
        let kinds: Vec<_> = report.transitions.iter().map(|transition| transition.kind).collect();
        assert!(kinds.contains(&TransitionKind::LocalReference), "{kinds:?}");
        assert!(!kinds.contains(&TransitionKind::Synchronized), "{kinds:?}");
    }
    // Nobody knows that this time is right, so it is no floor for the next boot.
    assert_eq!(second.stop(), 0);
    assert!(!folders[1].path().join("state/time").exists());

    upstream.tell(0);
    wait_for("true time followed", || first.report().clock.reason == Reason::Synchronized);
    let clock = first.report().clock;
    assert!(!is_local(&first) && !clock.start_phase && clock.stratum == 3, "{clock:?}");
    assert!(told(ports[0]).contains("stratum 3"), "{}", told(ports[0]));
}
