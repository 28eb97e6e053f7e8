//! One NTS key exchange (RFC 8915 §4): TLS 1.3 with whom the user named, records through it, keys out of it. It blocks,
//! so it has a thread of its own, for seconds at most. A question in; a session and whom to ask with it out, or the
//! reason why not, for the user to read.
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ntp::{SourceId, key_exchange};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, client::Resumption, crypto::ring,
    pki_types::ServerName,
};

pub(crate) use crate::auth::certificate::Validity;
use crate::{
    auth::{
        Session,
        certificate::{self, Verifier},
    },
    panics, resolve,
};

/// With whom keys are to be exchanged.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Which engine asked, for those that have been replaced in the meantime.
    pub(crate) epoch: u64,
    /// For which source.
    pub(crate) source: SourceId,
    /// Host name or address: what the certificate must be for.
    pub(crate) host: String,
    /// The one of its addresses to connect to; none for any.
    pub(crate) with: Option<IpAddr>,
    /// TCP port.
    pub(crate) port: u16,
    /// File with the certificates to trust; none for the public ones.
    pub(crate) ca: Option<PathBuf>,
    /// When the certificate must be valid.
    pub(crate) validity: Validity,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Answer {
    /// As in the question.
    pub(crate) epoch: u64,
    /// As in the question.
    pub(crate) source: SourceId,
    /// The session; or why there is none, for a reader.
    pub(crate) outcome: Result<Agreed, String>,
}

/// What was agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Keys and cookies.
    pub(crate) session: Session,
    /// The NTP server's; never empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its UDP port, if the server named one.
    pub(crate) port: Option<u16>,
}

/// Why nothing was.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the agent failed ({0}): please report it with the agent's log")]
    Fault(String),
    #[error("the name does not resolve")]
    Unresolved,
    #[error("no certificate can be for this name")]
    Name,
    #[error("{0}")]
    Roots(#[from] certificate::Error),
    #[error("{0}")]
    Network(#[from] io::Error),
    #[error("the connection was closed before the answer's end")]
    Closed,
    #[error("the server does not speak NTS (ALPN ntske/1)")]
    NotNts,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate is for another name")]
    OtherName,
    #[error("the certificate is signed by nobody whom we trust")]
    Untrusted,
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("the answer is longer than {} octets", key_exchange::LONGEST_ANSWER)]
    TooLong,
    #[error("{0}")]
    Records(#[from] key_exchange::Error),
    #[error("the NTP server {0} that it names does not resolve")]
    Server(String),
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Self::Expired,
            rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
                Self::NotYetValid
            }
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                Self::OtherName
            }
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => Self::Untrusted,
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NotNts,
            other => Self::Tls(other),
        }
    }
}

/// rustls keeps its buffers on the heap; the resolver wants half of this.
const STACK: usize = 1024 * 1024;

/// Exchanges keys in a thread of its own and gives the answer to `reply`, in every case.
pub(crate) fn start(question: Question, reply: impl Fn(Answer) + Clone + Send + 'static) {
    let (asked, answered) = (question.clone(), reply.clone());
    let thread = thread::Builder::new().name("key exchange".to_owned()).stack_size(STACK);
    if let Err(error) = thread.spawn(move || reply(answer(&question))) {
        let outcome = Err(format!("Key exchange: no thread: {error}."));
        answered(Answer { epoch: asked.epoch, source: asked.source, outcome });
    }
}

fn answer(question: &Question) -> Answer {
    let Question { epoch, source, host, port, .. } = question;
    let outcome = panics::caught(|| exchange(question)).unwrap_or_else(|said| Err(Error::Fault(said)));
    let outcome = outcome.map_err(|error| format!("Key exchange with {host} (TCP port {port}): {error}."));
    Answer { epoch: *epoch, source: *source, outcome }
}

/// For all of it but the name lookups.
const LONGEST: Duration = Duration::from_secs(8);

fn exchange(question: &Question) -> Result<Agreed, Error> {
    let host = question.host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Name)?;
    let provider = Arc::new(ring::default_provider());
    let roots = certificate::roots(question.ca.as_deref())?;
    let verifier = Verifier::new(roots, Arc::clone(&provider), question.validity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![key_exchange::ALPN.to_vec()];
    // A resumed connection would show the server that we have been there before, and saves little.
    config.resumption = Resumption::disabled();

    let addresses = question.with.map_or_else(|| resolve::look_up(host), |address| vec![address]);
    let deadline = Instant::now() + LONGEST;
    let mut stream = Timed::connect(&addresses, question.port, deadline)?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let established = converse(&mut connection, &mut stream)?;
    let mut keys = [[0; key_exchange::KEY_LEN]; 2];
    for (key, context) in keys.iter_mut().zip(key_exchange::EXPORTER_CONTEXTS) {
        *key = connection.export_keying_material(*key, key_exchange::EXPORTER_LABEL, Some(&context))?;
    }
    // The answer is whole; that we say good-bye is for the server's comfort.
    connection.send_close_notify();
    let _ = connection.write_tls(&mut stream);

    let key_exchange::Established { cookies, server, port } = established;
    let addresses = match server {
        None => vec![stream.peer],
        Some(server) => {
            let found = resolve::look_up(&server);
            if found.is_empty() {
                return Err(Error::Server(server));
            }
            found
        }
    };
    Ok(Agreed { session: Session::new(keys, cookies), addresses, port })
}

/// Sends our records and reads the server's, to their end.
fn converse(
    connection: &mut ClientConnection,
    stream: &mut Timed,
) -> Result<key_exchange::Established, Error> {
    connection.writer().write_all(&key_exchange::request())?;
    let mut answer = Vec::new();
    loop {
        while connection.wants_write() {
            connection.write_tls(stream)?;
        }
        let received = connection.read_tls(stream)?;
        let state = match connection.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The server may want to know what we did not like.
                let _ = connection.write_tls(stream);
                return Err(error.into());
            }
        };
        let start = answer.len();
        answer.resize(start + state.plaintext_bytes_to_read(), 0);
        connection.reader().read_exact(&mut answer[start..])?;
        if !connection.is_handshaking() {
            if connection.alpn_protocol() != Some(key_exchange::ALPN) {
                return Err(Error::NotNts);
            }
            if let Some(established) = key_exchange::read(&answer)? {
                return Ok(established);
            }
        }
        if answer.len() > key_exchange::LONGEST_ANSWER {
            return Err(Error::TooLong);
        }
        if received == 0 {
            return Err(Error::Closed);
        }
    }
}

/// A connection that ends at its deadline, however slowly the other side talks.
struct Timed {
    stream: TcpStream,
    peer: IpAddr,
    deadline: Instant,
}

/// One address of several does not get all the time that there is.
const LONGEST_CONNECT: Duration = Duration::from_secs(3);

impl Timed {
    /// Connects to the first of `addresses` that answers.
    fn connect(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<Self, Error> {
        let mut outcome = Err(Error::Unresolved);
        for &peer in addresses {
            let left = remaining(deadline)?.min(LONGEST_CONNECT);
            match TcpStream::connect_timeout(&SocketAddr::new(peer, port), left) {
                Ok(stream) => return Ok(Self { stream, peer, deadline }),
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A time-out of zero would mean none at all.
    if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")) } else { Ok(left) }
}

/// What a time-out is called by the system says nothing to a reader.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "timed out"),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(remaining(self.deadline)?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(remaining(self.deadline)?))?;
        self.stream.write(octets).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
