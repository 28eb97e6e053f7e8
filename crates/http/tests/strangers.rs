//! The server on loopback, and strangers who do what they should not: hold connections, send headers without an end,
//! and repeat what others said.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::{Extension, Router, routing::get};
use contract::proof::{CHALLENGE_PATH, NONCE_HEADER, PROOF_HEADER};
use timesync_http::{
    Caller, Client, Gate, Head, LARGEST_HEAD, Limits, Session, Token, TokenFile, ask, request, serve,
};

const LIMITS: Limits = Limits { connections: 64, per_address: 32, lifetime: Duration::from_secs(8) };

/// A server of the agent of n1 with the token `sesame`, in a thread for ever.
fn server() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf =
        std::env::temp_dir().join(format!("timesync-http-strangers-{}-{count}", std::process::id()));
    fs::write(&path, "sesame\n").unwrap();
    let gate = Gate::new("n1".to_owned(), "i1".to_owned(), TokenFile::new(path));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/who", get(|Extension(caller): Extension<Caller>| async move { format!("{caller:?}") }))
        .route("/metrics", get(|| async { "metrics\n" }));
    thread::spawn(move || runtime.block_on(serve(listener, router, LIMITS, Some(Arc::new(gate)))));
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn token() -> Token {
    Token::new(b"sesame").unwrap()
}

/// One request on a connection, with a header field that [`ask`] would not send; the answer's head and body.
fn exchange(mut stream: &TcpStream, target: &str, header: (&str, &str)) -> (Head, Vec<u8>) {
    stream.write_all(request(target, "a", Some(header)).as_bytes()).unwrap();
    let (mut octets, mut buffer) = (Vec::new(), [0; LARGEST_HEAD]);
    let (head, end) = loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "an answer, not {octets:?}");
        octets.extend_from_slice(&buffer[..read]);
        if let Some(whole) = Head::parse(&octets).unwrap() {
            break whole;
        }
    };
    let mut body = octets.split_off(end);
    let first = body.len();
    body.resize(head.length, 0);
    stream.read_exact(&mut body[first..]).unwrap();
    (head, body)
}

/// The challenge on a connection.
fn handshake(stream: &TcpStream) -> Session {
    let client = Client::new(Some("n1")).unwrap();
    let (head, body) = exchange(stream, CHALLENGE_PATH, (NONCE_HEADER, &client.nonce()));
    assert_eq!(head.status, 200);
    client.accept(&body).unwrap()
}

/// A proven request.
fn ask_on(stream: &TcpStream, session: &mut Session) -> String {
    let proof = session.request(&token(), "/who");
    let (head, body) = exchange(stream, "/who", (PROOF_HEADER, &proof));
    session.check(&token(), "/who", head.status, &body, head.proof.as_deref()).unwrap();
    String::from_utf8(body).unwrap()
}

fn plain(address: SocketAddr, target: &str) -> (u16, String) {
    let answer = ask(connect(address), None, None, target).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

/// How many of these the server has closed.
fn closed(held: &[TcpStream]) -> usize {
    let is_closed = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut reader = *stream;
        !matches!(reader.read(&mut [0; 1000]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    held.iter().filter(is_closed).count()
}

fn wait_for(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn idle_connections_keep_nobody_away() {
    let address = server();
    let trusted = connect(address);
    let mut session = handshake(&trusted);
    assert_eq!(ask_on(&trusted, &mut session), "Proven");
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(address);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: ").unwrap();
        held.push(stream);
    }
    // From the same address as all of these.
    assert_eq!(plain(address, "/metrics"), (200, "metrics\n".to_owned()));
    assert_eq!(ask_on(&trusted, &mut session), "Proven");
    assert_eq!(meet_and_ask(address), "Proven");
    wait_for("the limit of an address", 5, || closed(&held) >= held.len() - LIMITS.per_address);
    // What is left has no headers within 5 s, and none is closed but by that.
    wait_for("all closed", 10, || closed(&held) == held.len());
    assert_eq!(ask_on(&trusted, &mut session), "Proven");
}

fn meet_and_ask(address: SocketAddr) -> String {
    let stream = connect(address);
    let mut session = handshake(&stream);
    ask_on(&stream, &mut session)
}

#[test]
fn a_connection_that_proves_nothing_ends() {
    let address = server();
    let (begun, stream) = (Instant::now(), connect(address));
    // It keeps asking, so it is never idle.
    let header = ("x", "y");
    while begun.elapsed() < Duration::from_secs(7) {
        assert_eq!(exchange(&stream, "/metrics", header).0.status, 200);
        thread::sleep(Duration::from_millis(500));
    }
    wait_for("its end", 5, || closed(std::slice::from_ref(&stream)) == 1);
    assert!(begun.elapsed() >= LIMITS.lifetime, "{:?}", begun.elapsed());
}

#[test]
fn headers_without_an_end_cost_little() {
    let address = server();
    let before = resident();
    let (mut held, chunk) = (Vec::new(), vec![b'a'; 16384]);
    for _ in 0..400 {
        let mut stream = connect(address);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: ").unwrap();
        stream.set_nonblocking(true).unwrap();
        held.push(stream);
    }
    for _ in 0..24 {
        for stream in &mut held {
            let _ = stream.write(&chunk);
        }
    }
    assert_eq!(plain(address, "/metrics").0, 200);
    assert!(resident() < before + (10 << 10), "{before} KiB, then {} KiB", resident());
}

/// KiB of memory that this process has.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_others_proved_proves_nothing() {
    let address = server();
    let stream = connect(address);
    let mut session = handshake(&stream);
    let proof = session.request(&token(), "/who");
    assert_eq!(exchange(&stream, "/who", (PROOF_HEADER, &proof)).0.status, 200);
    // Again on this connection, which ends it; on another one; on one without a challenge; and none at all.
    assert_eq!(exchange(&stream, "/who", (PROOF_HEADER, &proof)).0.status, 401);
    wait_for("its end", 5, || closed(std::slice::from_ref(&stream)) == 1);
    let other = connect(address);
    handshake(&other);
    assert_eq!(exchange(&other, "/who", (PROOF_HEADER, &proof)).0.status, 401);
    assert_eq!(exchange(&connect(address), "/who", (PROOF_HEADER, &proof)).0.status, 401);
    let (head, body) = exchange(&connect(address), "/who", ("x", "y"));
    assert!(head.status == 200 && head.proof.is_none() && body.starts_with(b"Unproven("));
    // Another target than the one that was proven.
    let stream = connect(address);
    let proof = handshake(&stream).request(&token(), "/who?after=1");
    assert_eq!(exchange(&stream, "/who?after=2", (PROOF_HEADER, &proof)).0.status, 401);
    let wrong = Token::new(b"sesam").unwrap();
    let error = ask(connect(address), Some(&wrong), Some("n1"), "/who").unwrap_err().to_string();
    assert_eq!(error, "it answers 401: the proof of the token is wrong");
    let error = ask(connect(address), Some(&token()), Some("n2"), "/who").unwrap_err().to_string();
    assert_eq!(error, "it says that it is the agent of node \"n1\"");
}

#[test]
fn requests_that_are_not_for_us() {
    let address = server();
    let check = |text: &str, expected: &str| {
        let mut stream = connect(address);
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with(expected), "{text:.100}: {answer}");
    };
    check("GET /who HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 413 ");
    check("POST /who HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 413 ");
    check("GET /challenge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 ");
    check(&format!("GET /who HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)), "HTTP/1.1 431 ");
    check("SSH-2.0-x\r\n\r\n", "HTTP/1.1 400 ");
    check("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200 ");
}
