//! One connection to an agent: the challenge once, then questions whose answers prove themselves. Nothing of an answer is
//! read before that.
use std::time::Duration;

use contract::{
    limits::LARGEST_REPORT,
    proof::{CHALLENGE_PATH, NONCE_HEADER, PROOF_HEADER},
};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use timesync_http::{Client, Session, Token, Untrusted};
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};

use super::{Failure, Impostor, Unproven};

/// Closed when dropped.
pub(super) struct Channel {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
    host: String,
    token: Token,
}

/// On the node's own network; a SYN that is lost twice still fits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An agent does not keep a challenge waiting.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read of it at a time, and the most that its headers may have. Each of thousands of connections keeps so much.
const BUFFER: usize = 4 << 10;
const LARGEST_CHALLENGE: usize = 4 << 10;

impl Channel {
    /// Connects to the agent of `node`, and exchanges nonces with whoever answers.
    pub(super) async fn open(
        (host, port): &(String, u16),
        node: &str,
        token: Token,
    ) -> Result<(Self, Session), Failure> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)));
        let stream =
            stream.await.map_err(|_| Failure::Timeout)?.map_err(|error| Failure::Connect(error.into()))?;
        let handshake =
            http1::Builder::new().read_buf_exact_size(Some(BUFFER)).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| Failure::Connect(error.into()))?;
        // Its error, if any, is also that of the request under way.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut channel = Self { sender, driver, host, token };
        let client = Client::new(Some(node)).map_err(|error| Failure::Connect(error.into()))?;
        // The connection stands: who does not answer now, or not in HTTP, is no agent, or one that hangs.
        let nonce = client.nonce();
        let answer = timeout(CHALLENGE_TIMEOUT, channel.challenge(&nonce)).await;
        let body = answer.unwrap_or(Err(Unproven::Silent)).map_err(|why| channel.unproven(why))?;
        let session = client.accept(&body).map_err(|why| channel.unproven(Unproven::Untrusted(why)))?;
        Ok((channel, session))
    }

    async fn challenge(&mut self, nonce: &str) -> Result<Bytes, Unproven> {
        let sent = self.get(CHALLENGE_PATH, NONCE_HEADER, nonce).await;
        let response = sent.map_err(|error| match error.is_parse() {
            true => Unproven::Untrusted(Untrusted::NoAgent),
            false => Unproven::Silent,
        })?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE => return Err(Unproven::NoToken),
            _ => return Err(Unproven::Untrusted(Untrusted::NoAgent)),
        }
        let body = Limited::new(response.into_body(), LARGEST_CHALLENGE).collect().await;
        Ok(body.map_err(|_| Unproven::Untrusted(Untrusted::NoAgent))?.to_bytes())
    }

    /// The body of the agent's answer, waited for no longer than `limit`.
    pub(super) async fn ask(
        &mut self,
        session: &mut Session,
        target: &str,
        limit: Duration,
    ) -> Result<Bytes, Failure> {
        let proof = session.request(&self.token, target);
        let exchange = async {
            let response = self.get(target, PROOF_HEADER, &proof).await;
            let response = response.map_err(|error| Failure::Connect(error.into()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_REPORT).collect().await.map_err(unread)?;
            let (status, body) = (head.status, body.to_bytes());
            let proof = head.headers.get(PROOF_HEADER).map(|proof| proof.as_bytes());
            match session.check(&self.token, target, status.as_u16(), &body, proof) {
                Ok(()) if status == StatusCode::OK => Ok(body),
                Ok(()) => Err(Failure::Status(status)),
                Err(_) if status == StatusCode::UNAUTHORIZED => Err(self.unproven(Unproven::Refused)),
                Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => Err(self.unproven(Unproven::NoToken)),
                Err(why) => Err(self.unproven(Unproven::Untrusted(why))),
            }
        };
        timeout(limit, exchange).await.map_err(|_| Failure::Timeout)?
    }

    async fn get(&mut self, target: &str, header: &str, value: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::get(target).header(HOST, &self.host).header(header, value);
        let request = request.body(Empty::new()).expect("a path, a host and digits make a request");
        self.sender.send_request(request).await
    }

    /// What a failure means as long as nothing was proven on this connection: whoever took the nonce did not prove to be
    /// the agent.
    pub(super) fn before_proof(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Connect(_) | Failure::Timeout | Failure::Decode(_) => self.unproven(Unproven::Silent),
            Failure::TooLarge => self.unproven(Unproven::Untrusted(Untrusted::TooLarge(LARGEST_REPORT))),
            failure => failure,
        }
    }

    fn unproven(&self, why: Unproven) -> Failure {
        Failure::Unproven(Impostor { address: self.host.clone(), why })
    }
}

/// Why a body was not read to its end.
fn unread(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    if error.is::<LengthLimitError>() { Failure::TooLarge } else { Failure::Decode(error) }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
