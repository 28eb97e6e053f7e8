//! `GET /synchronized` and `wait`: against a real agent and its upstream, without an agent, and against programs that
//! are no agents.
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use contract::{Reason, Synchronized};

use crate::{
    bench::{
        Agent, Chronyd, Folder, Process, free_http_address, free_udp_port, harmless, is_root, run, wait_for,
    },
    files,
};

/// The answer of an agent, and its status code.
fn asked(agent: &Agent, target: &str) -> (u16, Synchronized) {
    let (code, body) = agent.get(target, None);
    (code, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{code} {body}: {error}")))
}

/// Runs `wait` at an address.
fn wait_at(address: &str, more: &[&str]) -> (i32, String) {
    run(&[&["wait", "--address", address], more].concat())
}

#[test]
fn a_wait_ends_when_the_clock_is_right() {
    let folder = Folder::new();
    let (upstream, served) = (Chronyd::start(&folder, 3), free_udp_port());
    // No process listens at that port.
    let agent = Agent::start(&folder, &files::alone(free_udp_port(), served));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    let (code, answer) = asked(&agent, "/synchronized");
    assert_eq!((code, answer.synchronized, answer.offset), (503, false, None), "{}", answer.message);
    let said = folder.path().join("said");
    let waiting = start_wait(&["--address", agent.http(), "--bound", "500ms", "--timeout", "90s"], &said);
    wait_for("a reason", || fs::read_to_string(&said).unwrap().contains("waiting for the clock: "));
    agent.rewrite(&files::alone(upstream.port, served));
    assert_eq!(waiting.ended(), 0, "{}", fs::read_to_string(&said).unwrap());
    let said = fs::read_to_string(&said).unwrap();
    assert!(said.contains("the clock is right: Synchronized: Follows a (offset "), "{said}");
    let (code, answer) = asked(&agent, "/synchronized?bound=500ms");
    assert_eq!((code, answer.synchronized, answer.reason), (200, true, Reason::Synchronized));
    assert!(answer.offset.is_some() && answer.error_bound.is_some(), "{answer:?}");
    assert_eq!(wait_at(agent.http(), &["--timeout", "0s"]).0, 0);

    // A bound that no clock has here.
    let (code, answer) = asked(&agent, "/synchronized?bound=0.001us");
    assert_eq!((code, answer.synchronized, answer.reason), (503, false, Reason::ErrorBound));
    let words = ["The error bound is ", "ms, and at most 0.001us is asked for"];
    assert!(words.iter().all(|word| answer.message.contains(word)), "{}", answer.message);
    let (code, said) = wait_at(agent.http(), &["--bound", "0.001us", "--timeout", "3s"]);
    assert!(code == 1 && said.contains("not right within 3s: ErrorBound: The error bound is "), "{said}");
    assert_eq!(said.matches("waiting for the clock").count(), 1, "numbers are no other reason: {said}");

    let refused = agent.get("/synchronized?bound=5", None);
    assert_eq!(refused.0, 400);
    assert!(
        refused.1.starts_with("bound: \"5\" is not a duration: write numbers with a unit"),
        "{}",
        refused.1
    );
    assert_eq!(agent.get("/synchronized?limit=5ms", None).0, 400);
    // Holdover: the clock is as right as its bound says.
    drop(upstream);
    wait_for("holdover", || agent.report().clock.reason == Reason::Holdover);
    let (code, answer) = asked(&agent, "/synchronized?bound=500ms");
    assert_eq!((code, answer.reason), (200, Reason::Holdover));
}

#[test]
fn other_methods_are_as_on_the_other_paths() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &files::serving_own_clock(free_udp_port()));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    for path in ["/metrics", "/synchronized"] {
        let head = |method: &str| {
            let mut stream = agent.connect();
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text.lines().next().unwrap_or_default().to_owned()
        };
        assert!(head("POST").contains(" 405 "), "{path}");
        assert!(!head("HEAD").contains(" 405 "), "{path}");
    }
}

#[test]
fn a_local_clock_is_not_right() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &files::serving_own_clock(free_udp_port()));
    wait_for("its own clock", || agent.report().clock.reason == Reason::LocalReference);
    let (code, answer) = asked(&agent, "/synchronized?bound=16s");
    assert_eq!((code, answer.synchronized, answer.reason), (503, false, Reason::LocalReference));
    let (code, said) = wait_at(agent.http(), &["--timeout", "1s"]);
    assert!(code == 1 && said.contains("within 1s: LocalReference: "), "{said}");
}

#[test]
fn without_a_profile_there_is_nothing_to_rely_on() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let volume = folder.volume();
    let agent = Agent::start(&folder, &files::watching(&volume));
    wait_for("HTTP", || agent.get("/healthz", None).0 == 200);
    let unknown = |agent: &Agent| {
        let (code, answer) = asked(agent, "/synchronized");
        (code, answer.synchronized, answer.reason) == (503, false, Reason::NoProfile)
    };
    assert!(unknown(&agent));
    let (name, text) = files::profile(upstream.port, free_udp_port(), "");
    volume.swap(&name.to_string(), &[(&name.key(), &text)]);
    let (code, said) = wait_at(agent.http(), &["--timeout", "60s"]);
    assert_eq!(code, 0, "{said}");
    volume.swap("none", &[]);
    wait_for("no profile", || unknown(&agent));
}

#[test]
fn an_agent_may_start_after_the_wait() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let address = free_http_address();
    let (code, said) = wait_at(&address, &["--timeout", "2s"]);
    assert!(code == 1 && said.contains("within 2s: ConnectionRefused: no program listens at "), "{said}");
    let said = folder.path().join("said");
    let waiting = start_wait(&["--address", &address, "--timeout", "90s"], &said);
    wait_for("a reason", || fs::read_to_string(&said).unwrap().contains("ConnectionRefused"));
    let agent = Agent::start_at(&folder, &files::alone(upstream.port, free_udp_port()), address);
    assert_eq!(waiting.ended(), 0, "{}", fs::read_to_string(&said).unwrap());
    assert!(agent.report().clock.synchronized);
}

#[test]
fn a_flood_of_connections_does_not_keep_a_wait_away() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let agent = Agent::start(&folder, &files::alone(upstream.port, free_udp_port()));
    wait_for("synchronized", || agent.report().clock.synchronized);
    let memory = agent.resident();
    let _held: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = agent.connect();
            let _ = stream.write_all(b"GET /synchronized?bound=1ms HTTP/1.1\r\nHost: x\r\nX-A: ");
            stream
        })
        .collect();
    for _ in 0..3 {
        let (code, said) = wait_at(agent.http(), &["--timeout", "0s"]);
        assert_eq!(code, 0, "{said}");
    }
    assert!(agent.resident() < memory + (4 << 10), "{memory} KiB, then {} KiB", agent.resident());
}

#[test]
fn a_frozen_agent_says_nothing_and_a_signal_ends_a_wait() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let agent = Agent::start(&folder, &files::alone(upstream.port, free_udp_port()));
    wait_for("synchronized", || agent.report().clock.synchronized);
    agent.signal("STOP");
    let begin = Instant::now();
    let (code, answer) = wait_at(agent.http(), &["--timeout", "2s"]);
    assert!(code == 1 && answer.contains("NoAnswer: no answer from "), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let said = folder.path().join("said");
    let waiting = start_wait(&["--address", agent.http(), "--timeout", "1h"], &said);
    wait_for("a reason", || fs::read_to_string(&said).unwrap().contains("NoAnswer"));
    waiting.signal("TERM");
    assert_eq!(waiting.ended(), 1);
    let said = fs::read_to_string(&said).unwrap();
    assert!(said.contains("a signal ended the wait before the clock was right: NoAnswer"), "{said}");
    agent.signal("CONT");
}

/// Accepts connections at an address of its own until the test's process ends, and does the same to each.
fn impostor(act: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = act(&mut stream);
            });
        }
    });
    address
}

#[test]
fn answers_of_other_programs_are_neither_believed_nor_waited_for() {
    let check = |act: fn(&mut TcpStream) -> std::io::Result<()>, expected: &str| {
        let begin = Instant::now();
        let (code, said) = wait_at(&impostor(act), &["--timeout", "2s"]);
        assert!(code == 1 && said.contains(expected), "{expected}: {code} {said}");
        assert!(!said.contains('\u{1b}'), "the output has an escape sequence: {said:?}");
        // The limit is 2 s, and the last question may take 1 s more. An answer without an end must not extend this.
        assert!(begin.elapsed() < Duration::from_secs(30), "{expected}: {:?}", begin.elapsed());
    };
    let no_agent = "NoAgent: what listens at ";
    check(|stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"), no_agent);
    check(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"), no_agent);
    check(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), no_agent);
    // It contradicts its own status code.
    check(
        |stream| {
            let body = r#"{"synchronized":true,"reason":"Synchronized","message":""}"#;
            write!(stream, "HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        },
        no_agent,
    );
    // A body without an end, and a head without one, at full speed and slowly.
    check(
        |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        },
        "its answer is too long",
    );
    check(
        |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n")?;
            loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(100));
            }
        },
        "NoAnswer: no answer from ",
    );
    check(
        |stream| {
            loop {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
                thread::sleep(Duration::from_millis(100));
            }
        },
        "NoAnswer: no answer from ",
    );
    check(
        |stream| {
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        },
        no_agent,
    );
    check(
        |_| {
            thread::sleep(Duration::from_secs(60));
            Ok(())
        },
        "NoAnswer: no answer from ",
    );
    check(|_| Ok(()), no_agent);
    check(
        |stream| stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        "NotSupported: the agent at ",
    );
    check(
        |stream| {
            let body = r#"{"synchronized":false,"reason":"NoMajority","message":"\u001b[31mred\nline"}"#;
            write!(stream, "HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        },
        "NoMajority:  [31mred line",
    );
}

#[test]
fn the_segment_says_the_same_without_a_connection() {
    let folder = Folder::new();
    let upstream = Chronyd::start(&folder, 3);
    let segment = folder.path().join("clockbound/shm0");
    let path = segment.to_str().unwrap();
    let (code, said) = run(&["wait", "--segment", path, "--timeout", "1s"]);
    assert!(code == 1 && said.contains("SegmentMissing: "), "{said}");
    let (file, said) = (folder.path().join("said"), |path: &PathBuf| fs::read_to_string(path).unwrap());
    let waiting = start_wait(&["--segment", path, "--bound", "500ms", "--timeout", "90s"], &file);
    wait_for("a reason", || said(&file).contains("SegmentMissing"));
    let line = format!("clockBoundSegment = {path:?}\n");
    let agent = Agent::start(&folder, &files::alone_with(&line, upstream.port, free_udp_port()));
    // The test's folder is not writable for others, as the agent wants it.
    assert_eq!(waiting.ended(), 0, "{}", said(&file));
    assert!(said(&file).contains("the clock is right: Synchronized: "), "{}", said(&file));
    let (code, told) = run(&["wait", "--segment", path, "--bound", "0.001us", "--timeout", "1s"]);
    assert!(code == 1 && told.contains("within 1s: ErrorBound: The error bound is "), "{told}");
    if is_root() {
        as_nobody(&folder, path);
    }
    assert_eq!(agent.stop(), 0);
    // What the agent wrote last is true for longer, but no agent disciplines the clock any more.
    wait_for("silence", || run(&["wait", "--segment", path, "--timeout", "0s"]).1.contains("AgentSilent"));
    fs::write(&segment, "no segment").unwrap();
    let (code, told) = run(&["wait", "--segment", path, "--timeout", "0s"]);
    assert!(code == 1 && told.contains("NoSegment: "), "{told}");
}

/// A user without any capability can run `wait`.
fn as_nobody(folder: &Folder, segment: &str) {
    for path in [folder.path(), &folder.path().join("clockbound")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copy = folder.path().join("timesync-agent");
    fs::copy(env!("CARGO_BIN_EXE_timesync-agent"), &copy).unwrap();
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"];
    let output = harmless("setpriv")
        .args(user)
        .args(["--inh-caps", "-all", "--bounding-set", "-all"])
        .arg(copy)
        .args(["wait", "--segment", segment, "--bound", "500ms", "--timeout", "10s"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn wrong_arguments_end_with_2() {
    for arguments in [
        &["--bound", "1"][..],
        &["--bound", "0s"],
        &["--timeout", "soon"],
        &["--address", "node1"],
        &["--limit", "1ms"],
    ] {
        let (code, said) = run(&[&["wait"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {said}");
    }
}

/// Starts `wait` with what it says in a file.
fn start_wait(arguments: &[&str], said: &PathBuf) -> Process {
    let said = fs::File::create(said).unwrap();
    let mut command = harmless(env!("CARGO_BIN_EXE_timesync-agent"));
    Process(command.arg("wait").args(arguments).stderr(said).spawn().unwrap())
}
