//! The client's side: it does not use an answer until the agent has proven that it knows the token. [`Client`] and
//! [`Session`] do no I/O. [`ProvenConnection`] and [`ask`] are for programs without an async runtime.
use std::io::{self, BufRead, BufReader, Read, Write};

use contract::proof::{CHALLENGE_PATH, Challenge, NONCE_HEADER, Nonce, PROOF_HEADER};

use crate::{
    head::{self, Head, LARGEST_HEAD, NotHttp},
    proof::{Exchange, Handshake, nonce, unhex},
    token::Token,
};

/// Why an answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The body of the answer to the challenge is not a challenge as agents send it.
    #[error("it does not answer as an agent of this version does")]
    NoAgent,
    /// The answer comes from the agent of another node.
    #[error("it says that it is the agent of node {0:?}")]
    OtherNode(String),
    /// The answer has no MAC, or a wrong one.
    #[error("it does not prove that it knows the token")]
    Unproven,
    /// The body is larger than the client reads, in octets. The client did not read it to its end, so it cannot check
    /// the MAC, which covers the whole body.
    #[error("its answer is larger than {} KiB, which no agent's is, so nobody can tell who sends it", .0 >> 10)]
    TooLarge(usize),
}

/// A client before it has received the challenge.
#[derive(Debug)]
pub struct Client {
    node: Option<String>,
    nonce: Nonce,
}

impl Client {
    /// A client for the agent of `node`, or for any agent that knows the token.
    ///
    /// # Errors
    /// If the system gives no random number.
    pub fn new(node: Option<&str>) -> io::Result<Self> {
        Ok(Self { node: node.map(str::to_owned), nonce: nonce()? })
    }

    /// The value of [`NONCE_HEADER`] in the request for a challenge.
    pub fn nonce(&self) -> String {
        hex::encode(self.nonce)
    }

    /// Takes the body of the answer to that request. Nothing in it is believed until the next answer proves it.
    ///
    /// # Errors
    /// If the body is not a challenge, or is the challenge of another node's agent.
    pub fn accept(self, body: &[u8]) -> Result<Session, Untrusted> {
        let Challenge { node, instance, nonce } =
            serde_json::from_slice(body).map_err(|_| Untrusted::NoAgent)?;
        let agent = unhex(nonce.as_bytes()).ok_or(Untrusted::NoAgent)?;
        match self.node {
            Some(wanted) if wanted != node => {
                // The sender is not authenticated: keep no more of the text than a host name can have.
                Err(Untrusted::OtherNode(node.chars().take(LONGEST_NAME).collect()))
            }
            _ => {
                Ok(Session { handshake: Handshake { client: self.nonce, agent, node, instance }, counter: 0 })
            }
        }
    }
}

/// RFC 1123: no host name is longer.
const LONGEST_NAME: usize = 253;

/// A client after the challenge, on one connection.
#[derive(Debug)]
pub struct Session {
    handshake: Handshake,
    counter: u64,
}

impl Session {
    /// The value of [`PROOF_HEADER`] in the next request, which is `GET target` without a body.
    pub fn request(&mut self, token: &Token, target: &str) -> String {
        self.counter += 1;
        self.handshake.request(token, self.exchange(target))
    }

    /// Checks that the agent sent the answer to that request. `proof` is the answer's [`PROOF_HEADER`].
    ///
    /// # Errors
    /// If the agent did not send it.
    pub fn check(
        &self,
        token: &Token,
        target: &str,
        status: u16,
        body: &[u8],
        proof: Option<&[u8]>,
    ) -> Result<(), Untrusted> {
        let proven = proof.is_some_and(|proof| {
            self.handshake.proves_response(token, self.exchange(target), status, body, proof)
        });
        if proven { Ok(()) } else { Err(Untrusted::Unproven) }
    }

    fn exchange<'a>(&self, target: &'a str) -> Exchange<'a> {
        Exchange { counter: self.counter, method: "GET", target }
    }
}

/// Why [`ask`] returns no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection failed.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The answer is not the agent's.
    #[error("{0}")]
    Untrusted(#[from] Untrusted),
    /// The server refuses. It is the agent, or another process in its place.
    #[error("it answers {status}: {message}")]
    Refused {
        /// Status code.
        status: u16,
        /// Body.
        message: String,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
    proof: Option<Vec<u8>>,
}

/// Sends one request, `GET target`, over a stream. With a token, the answer is believed only if it comes from an agent
/// that knows the token, and from `node`'s agent if a node is given. Without a token, any answer is returned.
///
/// # Errors
/// If there is no answer, or the answer is not believed.
pub fn ask(
    stream: impl Read + Write,
    token: Option<&Token>,
    node: Option<&str>,
    target: &str,
) -> Result<HttpResponse, RequestError> {
    match token {
        Some(token) => ProvenConnection::open(stream, token.clone(), node)?.ask(target),
        None => Ok(get(&mut BufReader::new(stream), target, None)?),
    }
}

/// A connection after the exchange of nonces, for any number of requests.
#[derive(Debug)]
pub struct ProvenConnection<S> {
    stream: BufReader<S>,
    token: Token,
    session: Session,
}

impl<S: Read + Write> ProvenConnection<S> {
    /// Exchanges nonces with the agent of `node`, if one is named.
    ///
    /// # Errors
    /// If the server is not that agent.
    pub fn open(stream: S, token: Token, node: Option<&str>) -> Result<Self, RequestError> {
        let (mut stream, client) = (BufReader::new(stream), Client::new(node)?);
        let challenge = get(&mut stream, CHALLENGE_PATH, Some((NONCE_HEADER, &client.nonce())))?;
        match challenge.status {
            200 => Ok(Self { stream, token, session: client.accept(&challenge.body)? }),
            401 | 403 | 503 => Err(refused(&challenge)),
            _ => Err(Untrusted::NoAgent.into()),
        }
    }

    /// Asks `GET target`.
    ///
    /// # Errors
    /// If there is no answer, or the answer is not believed.
    pub fn ask(&mut self, target: &str) -> Result<HttpResponse, RequestError> {
        let proof = self.session.request(&self.token, target);
        let answer = get(&mut self.stream, target, Some((PROOF_HEADER, &proof)))?;
        match self.session.check(&self.token, target, answer.status, &answer.body, answer.proof.as_deref()) {
            Ok(()) => Ok(answer),
            Err(_) if answer.status != 200 => Err(refused(&answer)),
            Err(untrusted) => Err(untrusted.into()),
        }
    }
}

fn refused(answer: &HttpResponse) -> RequestError {
    let message = String::from_utf8_lossy(&answer.body[..answer.body.len().min(1000)]);
    // Any process may have written it, and it is shown on a terminal.
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    RequestError::Refused { status: answer.status, message: message.trim().chars().map(plain).collect() }
}

/// One exchange by HTTP/1.1. Only httparse is used, no HTTP client: a proof is valid for one connection, and a client
/// with a connection pool does not show which connection it uses. The client of hyper needs a runtime. `ureq` would add
/// five crates to the agent, to send one request without TLS to a server that always sends `Content-Length`.
fn get<S: Read + Write>(
    stream: &mut BufReader<S>,
    target: &str,
    field: Option<(&str, &str)>,
) -> io::Result<HttpResponse> {
    stream.get_mut().write_all(head::request(target, "agent", field).as_bytes())?;
    let mut octets = Vec::new();
    let mut limited = stream.by_ref().take(LARGEST_HEAD as u64);
    let head = loop {
        if limited.read_until(b'\n', &mut octets)? == 0 {
            return Err(no_http(NotHttp));
        }
        if let Some((head, _)) = Head::parse(&octets).map_err(no_http)? {
            break head;
        }
    };
    if head.length > LARGEST_BODY {
        return Err(no_http(NotHttp));
    }
    let mut body = vec![0; head.length];
    stream.read_exact(&mut body)?;
    Ok(HttpResponse { status: head.status, body, proof: head.proof })
}

const LARGEST_BODY: usize = 16 << 20;

fn no_http(error: NotHttp) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::new(text.as_bytes()).unwrap()
    }

    /// Both sides after a challenge.
    fn connection(node: &str) -> (Session, Handshake) {
        let client = Client::new(Some("n1")).unwrap();
        let challenge =
            Challenge { node: node.to_owned(), instance: "i1".to_owned(), nonce: hex::encode([2; 32]) };
        let handshake = Handshake {
            client: client.nonce,
            agent: [2; 32],
            node: challenge.node.clone(),
            instance: challenge.instance.clone(),
        };
        (client.accept(&serde_json::to_vec(&challenge).unwrap()).unwrap(), handshake)
    }

    const TARGET: &str = "/status?after=1";

    fn exchange(counter: u64) -> Exchange<'static> {
        Exchange { counter, method: "GET", target: TARGET }
    }

    #[test]
    fn both_sides_agree() {
        let (mut client, agent) = connection("n1");
        for counter in 1..=3 {
            let proof = client.request(&token("t"), TARGET);
            assert!(agent.proves_request(&token("t"), exchange(counter), proof.as_bytes()));
            let answer = agent.response(&token("t"), exchange(counter), 200, b"{}");
            assert_eq!(client.check(&token("t"), TARGET, 200, b"{}", Some(answer.as_bytes())), Ok(()));
        }
    }

    #[test]
    fn a_request_proves_itself_alone() {
        let (mut client, agent) = connection("n1");
        let proof = client.request(&token("t"), TARGET);
        let proves = |agent: &Handshake, token: &Token, exchange| {
            agent.proves_request(token, exchange, proof.as_bytes())
        };
        assert!(proves(&agent, &token("t"), exchange(1)));
        assert!(!proves(&agent, &token("u"), exchange(1)), "another token");
        assert!(!proves(&agent, &token("t"), exchange(2)), "a second time");
        let other = Exchange { target: "/status?after=2", ..exchange(1) };
        assert!(!proves(&agent, &token("t"), other), "another target");
        assert!(!proves(&agent, &token("t"), Exchange { method: "HEAD", ..exchange(1) }), "another method");
        for other in [
            Handshake { agent: [3; 32], ..agent.clone() },
            Handshake { client: [3; 32], ..agent.clone() },
            Handshake { node: "n2".to_owned(), ..agent.clone() },
            Handshake { instance: "i2".to_owned(), ..agent.clone() },
        ] {
            assert!(!proves(&other, &token("t"), exchange(1)), "another connection or agent: {other:?}");
        }
    }

    #[test]
    fn an_answer_proves_itself_alone() {
        let (mut client, agent) = connection("n1");
        let (token, reflected) = (token("t"), client.request(&token("t"), TARGET));
        let answer = agent.response(&token, exchange(1), 200, b"{}");
        let check = |target: &str, status, body: &[u8], proof: Option<&str>| {
            client.check(&token, target, status, body, proof.map(str::as_bytes)).is_ok()
        };
        assert!(check(TARGET, 200, b"{}", Some(&answer)));
        assert!(!check(TARGET, 200, b"{ }", Some(&answer)), "another body");
        assert!(!check(TARGET, 201, b"{}", Some(&answer)), "another status");
        assert!(!check("/status?after=2", 200, b"{}", Some(&answer)), "another target");
        assert!(!check(TARGET, 200, b"{}", None), "no proof");
        assert!(!check(TARGET, 200, b"{}", Some("")), "an empty proof");
        assert!(!check(TARGET, 200, b"{}", Some(&answer[..62])), "a short proof");
        assert!(!check(TARGET, 200, b"", Some(&reflected)), "our own proof");
        let other = Handshake { node: "n2".to_owned(), ..agent.clone() };
        let other = other.response(&token, exchange(1), 200, b"{}");
        assert!(!check(TARGET, 200, b"{}", Some(&other)), "the agent of another node");
        let before = agent.response(&token, exchange(0), 200, b"{}");
        assert!(!check(TARGET, 200, b"{}", Some(&before)), "an answer from before");
        let guessed = agent.response(&super::tests::token("u"), exchange(1), 200, b"{}");
        assert!(!check(TARGET, 200, b"{}", Some(&guessed)), "another token");
    }

    #[test]
    fn a_challenge_of_somebody_else() {
        let accept = |body: &str| Client::new(Some("n1")).unwrap().accept(body.as_bytes()).map(|_| ());
        for body in ["ok\n", "", "{}", r#"{"node":"n1","instance":"i","nonce":"00"}"#] {
            assert_eq!(accept(body), Err(Untrusted::NoAgent), "{body}");
        }
        let other =
            format!(r#"{{"node":"{}","instance":"i","nonce":"{}"}}"#, "x".repeat(1000), hex::encode([0; 32]));
        assert_eq!(accept(&other), Err(Untrusted::OtherNode("x".repeat(LONGEST_NAME))));
    }

    /// A server that answers every request with a fixed text.
    struct Squatter(io::Cursor<Vec<u8>>);

    impl Read for Squatter {
        fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
            self.0.read(octets)
        }
    }

    impl Write for Squatter {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            assert!(!String::from_utf8_lossy(octets).contains("sesame"), "the token is told");
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_squatter_is_not_believed() {
        let check = |said: &str, expected: &str| {
            let said = Squatter(io::Cursor::new(said.replace('\n', "\r\n").into_bytes()));
            let error = ask(said, Some(&token("sesame")), Some("n1"), TARGET).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        let challenge = format!(r#"{{"node":"n1","instance":"i","nonce":"{}"}}"#, hex::encode([2; 32]));
        let first = format!("HTTP/1.1 200 OK\nContent-Length: {}\n\n{challenge}", challenge.len());
        let second = |head: &str| format!("{first}HTTP/1.1 200 OK\nContent-Length: 2\n{head}\n{{}}");
        check("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "does not answer as an agent");
        check("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", "does not answer as an agent");
        check(&second(""), "does not prove");
        check(&second(&format!("timesync-proof: {}\n", hex::encode([7; 32]))), "does not prove");
        check(&format!("{first}HTTP/1.1 401 No\nContent-Length: 3\n\nwhy"), "it answers 401: why");
        check("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "not HTTP of an agent");
        check("HTTP/1.1 200 OK\nContent-Length: 99999999999\n\n", "not HTTP of an agent");
        check("SSH-2.0\n", "not HTTP of an agent");
        check("", "not HTTP of an agent");
        check(&"x".repeat(1 << 20), "not HTTP of an agent");
    }
}
