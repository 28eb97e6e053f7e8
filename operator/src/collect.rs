//! The sixth step: what the agents say. One long poll per agent, each a task of its own; what it hears, or why it hears
//! nothing, goes into one channel. Nothing is concluded here: that is `reports`.
use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use contract::Report;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::mpsc::Sender,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::fetch::AgentPod;

/// What an agent said, or why it said nothing.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) node: String,
    pub(crate) pod: String,
    pub(crate) result: Result<Arc<Report>, Failure>,
}

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Our own token is not there.
    #[error("cannot read the token file")]
    Token(#[source] std::io::Error),
    /// No connection, or a broken one.
    #[error("cannot connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Another token than ours.
    #[error("the agent does not take our token")]
    Unauthorized,
    /// Another answer than a report.
    #[error("the agent answered with status {0}")]
    Status(StatusCode),
    /// An answer that is no report.
    #[error("the answer is no report")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    /// One word, for the metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Token(_) => "Token",
            Self::Connect(_) => "Connect",
            Self::Timeout => "Timeout",
            Self::Unauthorized => "Unauthorized",
            Self::Status(_) => "Status",
            Self::Decode(_) => "Decode",
        }
    }
}

/// The polls that run.
pub(crate) struct Collector {
    polls: HashMap<String, ((String, u16), AbortHandle)>,
    token_file: PathBuf,
    answers: Sender<Answer>,
}

impl Collector {
    /// None yet; answers will go to `answers`.
    pub(crate) fn new(token_file: PathBuf, answers: Sender<Answer>) -> Self {
        Self { polls: HashMap::new(), token_file, answers }
    }

    /// Polls exactly these agents from now on.
    pub(crate) fn follow<'a>(&mut self, agents: impl Iterator<Item = &'a AgentPod>) {
        let wanted: HashMap<_, _> =
            agents.filter_map(|agent| Some((agent.uid.as_str(), (agent, agent.address.as_ref()?)))).collect();
        self.polls.retain(|uid, (address, poll)| {
            let stays = wanted.get(uid.as_str()).is_some_and(|(_, wanted)| *wanted == address);
            if !stays {
                poll.abort();
            }
            stays
        });
        for (uid, (agent, address)) in wanted {
            if !self.polls.contains_key(uid) {
                let poll = Poll {
                    node: agent.node.clone(),
                    pod: agent.uid.clone(),
                    address: address.clone(),
                    token_file: self.token_file.clone(),
                    answers: self.answers.clone(),
                };
                let task = tokio::spawn(poll.run());
                self.polls.insert(uid.to_owned(), (address.clone(), task.abort_handle()));
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.polls.values().for_each(|(_, poll)| poll.abort());
    }
}

/// The poll of one agent.
struct Poll {
    node: String,
    pod: String,
    address: (String, u16),
    token_file: PathBuf,
    answers: Sender<Answer>,
}

/// On the node's own network; a SYN that is lost twice still fits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The agent holds its answer for 30 s; the rest is for a slow node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// An agent with much to tell, or one that does not wait, must not fill our time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
/// Well within the 90 s after which a node counts as silent.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(15);
/// A report with 16 sources and its transitions has a few KiB.
const LARGEST_REPORT: usize = 1 << 20;

impl Poll {
    async fn run(self) {
        let mut back_off = Duration::from_secs(1);
        loop {
            let (heard, failure) = self.session().await;
            if heard {
                back_off = Duration::from_secs(1);
            }
            if self.answer(Err(failure)).await.is_err() {
                return;
            }
            sleep(back_off).await;
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    async fn answer(&self, result: Result<Arc<Report>, Failure>) -> Result<(), ()> {
        let answer = Answer { node: self.node.clone(), pod: self.pod.clone(), result };
        self.answers.send(answer).await.map_err(|_| ())
    }

    /// Polls over one connection until it fails. Sequence numbers hold for one run of the agent, and a connection
    /// outlives no run: each session begins with `after=0`.
    async fn session(&self) -> (bool, Failure) {
        let mut heard = false;
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(failure) => return (heard, failure),
        };
        let mut after = 0;
        loop {
            match self.ask(&mut connection.sender, after).await {
                Ok(report) => {
                    heard = true;
                    after = report.sequence;
                    if self.answer(Ok(Arc::new(report))).await.is_err() {
                        return (heard, Failure::Timeout);
                    }
                }
                Err(failure) => return (heard, failure),
            }
            sleep(SHORTEST_INTERVAL).await;
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let (host, port) = &self.address;
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)));
        let stream =
            stream.await.map_err(|_| Failure::Timeout)?.map_err(|error| Failure::Connect(error.into()))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| Failure::Connect(error.into()))?;
        // Its error, if any, is also that of the request under way.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, driver: driver.abort_handle() })
    }

    async fn ask(&self, sender: &mut SendRequest<Empty<Bytes>>, after: u64) -> Result<Report, Failure> {
        // Read each time: the kubelet renews mounted Secrets. A few bytes in memory; no reason to leave this thread.
        let token = std::fs::read_to_string(&self.token_file).map_err(Failure::Token)?;
        let (host, port) = &self.address;
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let request = Request::get(format!("/status?after={after}&wait=30s"))
            .header(HOST, host)
            .header(AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(Empty::new())
            .map_err(|error| Failure::Connect(error.into()))?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|error| Failure::Connect(error.into()))?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Failure::Unauthorized),
                status => return Err(Failure::Status(status)),
            }
            let body = Limited::new(response.into_body(), LARGEST_REPORT)
                .collect()
                .await
                .map_err(Failure::Decode)?;
            serde_json::from_slice(&body.to_bytes()).map_err(|error| Failure::Decode(error.into()))
        };
        timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| Failure::Timeout)?
    }
}

/// A connection, closed when dropped.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{
        Router,
        extract::RawQuery,
        http::HeaderMap,
        response::{IntoResponse, Response},
        routing::get,
    };
    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;
    use crate::fixtures::report;

    /// Polls an agent that answers by `answer`, and gives its first two results; `asked` takes the queries.
    async fn polled(
        answer: fn() -> Response,
        asked: Arc<Mutex<Vec<String>>>,
    ) -> Vec<Result<u64, &'static str>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = async move |RawQuery(query): RawQuery, headers: HeaderMap| {
            asked.lock().unwrap().push(query.unwrap_or_default());
            match headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
                Some("Bearer sesame") => answer(),
                _ => StatusCode::UNAUTHORIZED.into_response(),
            }
        };
        let agent = Router::new().route("/status", get(status));
        let server = tokio::spawn(async move { axum::serve(listener, agent).await });
        let token_file = std::env::temp_dir().join(format!("timesync-token-{}-{port}", std::process::id()));
        std::fs::write(&token_file, "sesame\n").unwrap();
        let (answers, mut received) = mpsc::channel(8);
        let mut collector = Collector::new(token_file.clone(), answers);
        let pod = AgentPod {
            name: "agent".to_owned(),
            uid: "u".to_owned(),
            node: "n1".to_owned(),
            created: None,
            address: Some(("127.0.0.1".to_owned(), port)),
            annotation: None,
        };
        collector.follow([&pod].into_iter());
        let mut results = Vec::new();
        for _ in 0..2 {
            let answer = timeout(Duration::from_secs(10), received.recv()).await.unwrap().unwrap();
            assert_eq!((answer.node.as_str(), answer.pod.as_str()), ("n1", "u"));
            results.push(answer.result.map(|report| report.sequence).map_err(|failure| failure.reason()));
        }
        collector.follow([].into_iter());
        assert!(collector.polls.is_empty());
        server.abort();
        std::fs::remove_file(token_file).unwrap();
        results
    }

    #[tokio::test]
    async fn a_report_is_followed_by_a_wait_for_the_next() {
        let asked = Arc::default();
        let answer = || serde_json::to_string(&report()).unwrap().into_response();
        assert_eq!(polled(answer, Arc::clone(&asked)).await, [Ok(7), Ok(7)]);
        assert_eq!(asked.lock().unwrap()[..2], ["after=0&wait=30s", "after=7&wait=30s"]);
    }

    #[tokio::test]
    async fn what_is_no_report_is_a_reason() {
        let check = async |answer: fn() -> Response, reason: &'static str| {
            let asked = Arc::default();
            assert_eq!(polled(answer, Arc::clone(&asked)).await, [Err(reason), Err(reason)]);
            assert_eq!(asked.lock().unwrap()[1], "after=0&wait=30s", "a failure begins a new session");
        };
        check(|| "<html>".into_response(), "Decode").await;
        check(|| vec![b' '; LARGEST_REPORT + 1].into_response(), "Decode").await;
        check(|| StatusCode::UNAUTHORIZED.into_response(), "Unauthorized").await;
        check(|| StatusCode::SERVICE_UNAVAILABLE.into_response(), "Status").await;
    }
}
