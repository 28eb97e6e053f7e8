//! Strangers at the agent's HTTP port, and another process in its place: health, and those who know the token, go on.
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use contract::TransitionKind;

use crate::{
    bench::{Agent, Folder, free_udp_port, wait_for},
    files,
};

const TOKEN: &str = "a long and secret word";

/// An agent that asks for the token in a file, which is there or not.
fn guarded(folder: &Folder, token: Option<&str>) -> Agent {
    let path = folder.path().join("token");
    if let Some(token) = token {
        fs::write(&path, token).unwrap();
    }
    let line = format!("tokenFile = \"{}\"\n", path.display());
    let agent = Agent::start(folder, &files::alone_with(&line, free_udp_port(), free_udp_port()));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    agent
}

/// How many of these the agent has closed.
fn closed(held: &[TcpStream]) -> usize {
    let is_closed = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        !matches!(stream.read(&mut [0; 100]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    held.iter().filter(|stream| is_closed(stream)).count()
}

#[test]
fn two_hundred_idle_connections_keep_nobody_away() {
    let folder = Folder::new();
    let agent = guarded(&folder, Some(TOKEN));
    let mut operator = agent.converse(TOKEN);
    assert_eq!(operator.ask("/status").unwrap().status, 200);
    let (descriptors, memory) = (agent.descriptors(), agent.resident());
    let held: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = agent.connect();
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ");
            stream
        })
        .collect();
    // The flood comes from the address of everybody who asks here.
    let (code, said) = agent.command(&["healthy"]);
    assert_eq!((code, said.as_str()), (0, "ok\n"));
    for _ in 0..3 {
        assert_eq!(operator.ask("/status").unwrap().status, 200);
        assert_eq!(agent.get("/metrics", None).0, 200);
        assert_eq!(agent.get("/status", Some(TOKEN)).0, 200);
    }
    assert_eq!(operator.ask("/status?after=1&wait=100ms").unwrap().status, 200);
    wait_for("a limit", || agent.descriptors() <= descriptors + 40);
    assert!(agent.resident() < memory + (4 << 10), "{memory} KiB, then {} KiB", agent.resident());
    // No request within 5 s, and the rest goes too; but not those who know the token.
    wait_for("all closed", || closed(&held) == held.len());
    assert_eq!(operator.ask("/status").unwrap().status, 200);
}

#[test]
fn status_needs_the_token() {
    let folder = Folder::new();
    let agent = guarded(&folder, Some("first\n"));
    let check =
        |token: Option<&str>, expected: u16| assert_eq!(agent.get("/status", token).0, expected, "{token:?}");
    check(None, 401);
    check(Some("second"), 401);
    check(Some("first"), 200);
    assert_eq!(agent.get("/metrics", None).0, 200);
    let (_, text) = agent.command(&["status", "--http-address", agent.http()]);
    assert!(text.contains("Profile"), "the command line knows the token: {text}");
    // On its way to the nodes both count.
    let path = folder.path().join("token");
    let mut operator = agent.converse("first");
    fs::write(&path, "second\n").unwrap();
    check(Some("second"), 200);
    check(Some("first"), 200);
    assert_eq!(operator.ask("/status").unwrap().status, 200);
    check(Some("third"), 401);
    fs::write(folder.path().join("other"), "third").unwrap();
    let other =
        files::alone_with(&format!("tokenFile = \"{}\"\n", folder.path().join("other").display()), 1, 2);
    let file = folder.path().join("other.toml");
    fs::write(&file, other.replace("STATE", "/nonexistent").replace("HTTP", agent.http())).unwrap();
    let (code, text) = agent.run(&["status", "--config", file.to_str().unwrap()]);
    assert!(code == 1 && text.contains("is not proven to be the agent: it answers 401"), "{text}");
}

#[test]
fn an_agent_runs_before_its_token_is_there() {
    let folder = Folder::new();
    let agent = guarded(&folder, None);
    assert_eq!(agent.get("/status", Some(TOKEN)).0, 503);
    assert_eq!(agent.get("/status", None).0, 401);
    let (code, _) = agent.command(&["healthy"]);
    assert_eq!(code, 0);
    let (_, text) = agent.command(&["status"]);
    assert!(text.contains("Profile"), "root needs no token: {text}");
    fs::write(folder.path().join("token"), TOKEN).unwrap();
    assert_eq!(agent.get("/status", Some(TOKEN)).0, 200);
}

#[test]
fn who_has_the_port_is_told_and_the_clock_is_steered() {
    let folder = Folder::new();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = squatter.local_addr().unwrap();
    let text = files::alone(free_udp_port(), free_udp_port());
    let agent = Agent::start_at(&folder, &text, address.to_string());
    let line = format!("(pid {}) has {address}: the operator cannot ask this agent", std::process::id());
    wait_for("the holder named", || agent.command(&["status"]).1.contains(&line));
    let (code, said) = agent.command(&["healthy", "--ready"]);
    assert_eq!((code, said.as_str()), (0, "ok\n"));
    let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
    assert!(log.contains("HTTP port cannot be opened"), "{log}");
    drop(squatter);
    wait_for("HTTP after all", || agent.get("/healthz", None).0 == 200);
    let report = agent.report();
    assert_eq!(report.http_message, "");
    assert!(report.transitions.iter().any(|t| t.kind == TransitionKind::HttpPortTaken));
}

#[test]
fn a_frozen_agent_is_not_healthy() {
    let folder = Folder::new();
    let (code, text) = crate::bench::run(&["healthy", "--config", "/nonexistent"]);
    assert!(code == 1 && text.contains("/nonexistent"), "{text}");
    let agent = guarded(&folder, Some(TOKEN));
    wait_for("readiness", || agent.command(&["healthy", "--ready"]).0 == 0);
    agent.signal("STOP");
    let (code, text) = agent.command(&["healthy"]);
    assert!(code == 1 && text.contains("no agent answers"), "{text}");
    agent.signal("CONT");
    wait_for("health again", || agent.command(&["healthy"]).0 == 0);
}
