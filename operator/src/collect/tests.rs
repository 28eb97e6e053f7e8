//! Polls of agents, and of other processes in their place, on loopback.
use std::{
    fs,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::RawQuery,
    response::{IntoResponse, Response},
    routing::get,
};
use contract::{Transition, TransitionKind, limits::LARGEST_REPORT};
use hyper::StatusCode;
use timesync_http::{Gate, Limits, TokenFile};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::fixtures::report;

mod admitted;

/// A file with a token, as an agent has it; removed when dropped.
struct Secret(PathBuf);

impl Secret {
    fn new(token: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("timesync-collect-{}-{count}", std::process::id()));
        fs::write(&path, token).unwrap();
        Self(path)
    }

    /// What an operator knows whose Secret holds the same.
    fn tokens(&self) -> Arc<Tokens> {
        let tokens = Tokens::new();
        tokens.note(Ok(Token::new(&fs::read(&self.0).unwrap()).unwrap()), false, Instant::now());
        Arc::new(tokens)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Longer than an answer takes on a machine that is busy with other things.
const TIMEOUT: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits { connections: 8, per_address: 8, lifetime: Duration::from_secs(30) };

/// The next `count` results of polling n1 at a port, with the token in a file.
async fn polled(port: u16, secret: &Secret, count: usize) -> Vec<Result<u64, String>> {
    let (answers, mut received) = mpsc::channel(8);
    let mut collector = Collector::new(secret.tokens(), answers);
    collector.follow([&pod(port)].into_iter());
    let mut results = Vec::new();
    for _ in 0..count {
        let answer = timeout(TIMEOUT, received.recv()).await.unwrap().unwrap();
        assert_eq!((answer.node.as_str(), answer.pod.as_str()), ("n1", "u"));
        let result = answer.result.map(|report| report.sequence);
        results.push(result.map_err(|failure| format!("{}: {failure}", failure.reason())));
    }
    collector.follow([].into_iter());
    assert!(collector.polls.is_empty());
    results
}

/// An agent of `node` that knows the token in a file and answers with `answer`. `asked` receives the queries.
async fn agent(
    node: &str,
    secret: &Secret,
    answer: fn() -> Response,
    asked: &Arc<Mutex<Vec<String>>>,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::clone(asked);
    let status = async move |RawQuery(query): RawQuery| {
        asked.lock().unwrap().push(query.unwrap_or_default());
        answer()
    };
    let gate = Gate::new(node.to_owned(), "i1".to_owned(), TokenFile::new(secret.0.clone()));
    let router = Router::new().route("/status", get(status));
    tokio::spawn(timesync_http::serve(listener, router, LIMITS, Some(Arc::new(gate))));
    port
}

fn well() -> Response {
    serde_json::to_string(&report()).unwrap().into_response()
}

#[tokio::test]
async fn a_report_is_followed_by_a_wait_for_the_next() {
    let (asked, secret) = (Arc::default(), Secret::new("sesame\n"));
    let port = agent("n1", &secret, well, &asked).await;
    assert_eq!(polled(port, &secret, 2).await, [Ok(7), Ok(7)]);
    assert_eq!(asked.lock().unwrap()[..2], ["after=0&wait=30s", "after=7&wait=30s"]);
}

#[tokio::test]
async fn what_is_no_report_is_a_reason() {
    let check = async |answer: fn() -> Response, expected: &str| {
        let (asked, secret) = (Arc::default(), Secret::new("sesame\n"));
        let port = agent("n1", &secret, answer, &asked).await;
        for result in polled(port, &secret, 2).await {
            assert!(result.clone().unwrap_err().starts_with(expected), "{result:?}");
        }
        assert_eq!(asked.lock().unwrap()[1], "after=0&wait=30s", "a failure begins a new session");
    };
    check(|| "<html>".into_response(), "Decode").await;
    // The proof covers the body, which is not read to its end.
    let too_large = "TooLarge: what answers at 127.0.0.1:";
    check(|| vec![b' '; LARGEST_REPORT + 1].into_response(), too_large).await;
    check(|| Json(with_transitions(14_000)).into_response(), too_large).await;
    check(|| Json(with_text(900_000)).into_response(), too_large).await;
    check(|| vec![b'['; LARGEST_REPORT].into_response(), "Decode").await;
    check(|| StatusCode::SERVICE_UNAVAILABLE.into_response(), "Status").await;
}

fn with_transitions(count: u64) -> Report {
    let transition = |number| Transition {
        number,
        at: 1.8e9,
        kind: TransitionKind::Stepped,
        message: "The clock was stepped by 3.000s".to_owned(),
    };
    Report { transitions: (1..=count).map(transition).collect(), ..report() }
}

fn with_text(length: usize) -> Report {
    let mut report = report();
    report.clock.message = "x".repeat(length);
    report
}

#[tokio::test]
async fn a_report_is_cut_before_anybody_sees_it() {
    let answer = || {
        let mut report = with_transitions(300);
        report.transitions[3].number = u64::MAX;
        report.clock.message = "x".repeat(20_000);
        Json(report).into_response()
    };
    let (asked, secret) = (Arc::default(), Secret::new("sesame\n"));
    let port = agent("n1", &secret, answer, &asked).await;
    let report = heard(port, &secret).await;
    let numbers: Vec<_> = report.transitions.iter().map(|transition| transition.number).collect();
    assert_eq!(numbers, (237..=300).collect::<Vec<_>>());
    assert_eq!(report.clock.message.len(), 1024);
}

/// The report that the collector makes of the first answer.
async fn heard(port: u16, secret: &Secret) -> Box<Report> {
    let (answers, mut received) = mpsc::channel(8);
    let mut collector = Collector::new(secret.tokens(), answers);
    collector.follow([&pod(port)].into_iter());
    timeout(TIMEOUT, received.recv()).await.unwrap().unwrap().result.unwrap()
}

fn pod(port: u16) -> AgentPod {
    AgentPod {
        name: "agent".to_owned(),
        uid: "u".to_owned(),
        node: "n1".to_owned(),
        created: None,
        address: Some(("127.0.0.1".to_owned(), port)),
        annotation: None,
        version: None,
    }
}

#[tokio::test]
async fn whoever_is_not_the_agent_is_not_heard() {
    let check = async |node: &str, ours: &str, theirs: &str, expected: &str| {
        let (asked, ours, theirs) = (Arc::default(), Secret::new(ours), Secret::new(theirs));
        let port = agent(node, &theirs, well, &asked).await;
        let expected = expected.replace("PORT", &port.to_string());
        assert_eq!(polled(port, &ours, 2).await, [Err(expected.clone()), Err(expected)]);
        assert!(asked.lock().unwrap().is_empty());
    };
    let at = "what answers at 127.0.0.1:PORT is not proven to be the agent";
    let said = |reason: &str, why: &str| format!("{reason}: {at}: {why}");
    check("n1", "sesame", "open", &said("Unauthorized", "it does not accept the token")).await;
    check("n1", "sesame", "", &said("NoToken", "it says that it has no token yet")).await;
    let other = "it says that it is the agent of node \"n2\"";
    check("n2", "sesame", "sesame", &said("Unproven", other)).await;
}

/// A server that answers every connection with `said`, and keeps what it received.
async fn squatter(said: &'static [u8]) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, told) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<u8>>>::default());
    let taken = Arc::clone(&told);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = [0; 4096];
            let length = stream.read(&mut text).await.unwrap();
            taken.lock().unwrap().extend(&text[..length]);
            stream.write_all(said).await.unwrap();
        }
    });
    (port, told)
}

#[tokio::test]
async fn a_squatter_learns_nothing_and_says_nothing() {
    let check = async |said: &'static [u8], expected: &str| {
        let (port, told) = squatter(said).await;
        let result = polled(port, &Secret::new("sesame"), 1).await;
        let error = result[0].clone().unwrap_err();
        assert!(error.starts_with("Unproven: ") && error.ends_with(expected), "{error}");
        let told = String::from_utf8(told.lock().unwrap().clone()).unwrap();
        assert!(told.starts_with("GET /challenge ") && !told.contains("sesame"), "{told}");
    };
    let foreign = "it does not answer as an agent of this version does";
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", foreign).await;
    check(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", foreign).await;
    check(b"SSH-2.0-x\r\n", foreign).await;
    check(b"", "it takes the connection and does not answer").await;
}

/// Both have the first token. Then the operator gets the second one, and the agent gets it later.
#[tokio::test]
async fn a_change_of_the_token_is_not_noticed() {
    let (asked, ours, theirs) = (Arc::default(), Secret::new("first"), Secret::new("first"));
    let port = agent("n1", &theirs, well, &asked).await;
    let (answers, mut received) = mpsc::channel(1);
    let tokens = ours.tokens();
    let renew = |text: &str| tokens.note(Ok(Token::new(text.as_bytes()).unwrap()), false, Instant::now());
    let mut collector = Collector::new(Arc::clone(&tokens), answers);
    collector.follow([&pod(port)].into_iter());
    let mut heard = async || {
        for _ in 0..4 {
            let answer = timeout(TIMEOUT, received.recv()).await.unwrap().unwrap();
            assert!(answer.result.is_ok(), "{:?}", answer.result);
        }
    };
    heard().await;
    renew("second");
    heard().await;
    fs::write(&theirs.0, "second").unwrap();
    heard().await;
    // The other way round.
    fs::write(&theirs.0, "third").unwrap();
    heard().await;
    renew("third");
    heard().await;
}
