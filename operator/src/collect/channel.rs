//! One connection to an agent: the challenge once, then requests whose answers are proven. No answer is read as a
//! report before its proof is checked. There are thousands of connections, and each waits nearly all the time. So none
//! keeps a buffer while it waits; an HTTP library's connection keeps one of 12 KiB.
use std::{io, time::Duration};

use contract::{
    limits::LARGEST_REPORT,
    proof::{CHALLENGE_PATH, NONCE_HEADER, PROOF_HEADER},
};
use hyper::StatusCode;
use timesync_http::{Client, Head, LARGEST_HEAD, NotHttp, Session, Token, Untrusted, request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::failure::{Failure, Impostor, Unproven};

/// A connection after the challenge. It is closed when dropped.
pub(super) struct Channel {
    stream: TcpStream,
    host: String,
    token: Token,
}

/// The agent is on the cluster's own network. A SYN that is lost twice still fits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An agent answers a challenge at once.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST_CHALLENGE: usize = 4 << 10;

/// Why there is no answer.
enum ReadError {
    Io(io::Error),
    NotHttp(NotHttp),
    TooLarge,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Channel {
    /// Connects to `node`'s agent, and exchanges nonces with the process that answers.
    pub(super) async fn open(
        (host, port): &(String, u16),
        node: &str,
        token: Token,
    ) -> Result<(Self, Session), Failure> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)));
        let stream =
            stream.await.map_err(|_| Failure::Timeout)?.map_err(|error| Failure::Connect(error.into()))?;
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut channel = Self { stream, host, token };
        let client = Client::new(Some(node)).map_err(|error| Failure::Connect(error.into()))?;
        // The connection is open. If the process does not answer now, or not in HTTP, it is no agent, or an agent that
        // hangs.
        let nonce = client.nonce();
        let answer = timeout(CHALLENGE_TIMEOUT, channel.challenge(&nonce)).await;
        let body = answer.unwrap_or(Err(Unproven::Silent)).map_err(|why| channel.unproven(why))?;
        let session = client.accept(&body).map_err(|why| channel.unproven(Unproven::Untrusted(why)))?;
        Ok((channel, session))
    }

    async fn challenge(&mut self, nonce: &str) -> Result<Vec<u8>, Unproven> {
        let answer = self.get(CHALLENGE_PATH, (NONCE_HEADER, nonce), LARGEST_CHALLENGE).await;
        let (head, body) = answer.map_err(|error| match error {
            ReadError::Io(_) => Unproven::Silent,
            ReadError::NotHttp(_) | ReadError::TooLarge => Unproven::Untrusted(Untrusted::NoAgent),
        })?;
        match head.status {
            200 => Ok(body),
            503 => Err(Unproven::NoToken),
            _ => Err(Unproven::Untrusted(Untrusted::NoAgent)),
        }
    }

    /// Returns the body of the agent's answer, after at most `limit`.
    pub(super) async fn ask(
        &mut self,
        session: &mut Session,
        target: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let proof = session.request(&self.token, target);
        let exchange = async {
            let answer = self.get(target, (PROOF_HEADER, &proof), LARGEST_REPORT).await;
            let (head, body) = answer.map_err(|error| match error {
                ReadError::Io(error) => Failure::Connect(error.into()),
                ReadError::NotHttp(error) => Failure::Connect(error.into()),
                ReadError::TooLarge => Failure::TooLarge,
            })?;
            let status = StatusCode::from_u16(head.status).map_err(|_| Failure::Connect(NotHttp.into()))?;
            match session.check(&self.token, target, head.status, &body, head.proof.as_deref()) {
                Ok(()) if status == StatusCode::OK => Ok(body),
                Ok(()) => Err(Failure::Status(status)),
                Err(_) if status == StatusCode::UNAUTHORIZED => Err(self.unproven(Unproven::Refused)),
                Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => Err(self.unproven(Unproven::NoToken)),
                Err(why) => Err(self.unproven(Unproven::Untrusted(why))),
            }
        };
        timeout(limit, exchange).await.map_err(|_| Failure::Timeout)?
    }

    /// One exchange. If the body is larger than `largest`, none of it is read.
    async fn get(
        &mut self,
        target: &str,
        field: (&str, &str),
        largest: usize,
    ) -> Result<(Head, Vec<u8>), ReadError> {
        self.stream.write_all(request(target, &self.host, Some(field)).as_bytes()).await?;
        // The poll waits here: memory for the answer is taken only when octets arrive.
        self.stream.readable().await?;
        let mut octets = Vec::with_capacity(512);
        let (head, end) = loop {
            if self.stream.read_buf(&mut octets).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some(whole) = Head::parse(&octets).map_err(ReadError::NotHttp)? {
                break whole;
            }
            octets.reserve_exact(LARGEST_HEAD);
        };
        let mut body = octets.split_off(end);
        if head.length > largest {
            return Err(ReadError::TooLarge);
        }
        let rest = head.length.checked_sub(body.len()).ok_or(ReadError::NotHttp(NotHttp))?;
        let read = (&mut self.stream).take(rest as u64).read_to_end(&mut body).await?;
        if read < rest {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok((head, body))
    }

    /// What a failure means while nothing is proven on this connection: the process that took the nonce did not prove
    /// to be the agent.
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
