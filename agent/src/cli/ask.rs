//! Fetches the report of the agent on this machine: over its local socket, which only root may open, or over TCP, where
//! the agent must prove that it knows the token.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use contract::Report;
use timesync_http::{HttpResponse, NoToken, RequestError, TokenFile, ask};

use super::agent_address::{self, AgentAddress};
use crate::load;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file does not say where the agent is.
    #[error(transparent)]
    File(#[from] load::Error),
    /// The file has no HTTP address, and no agent serves the local socket.
    #[error("no agent answers at {path}: {source}; and agent.httpAddress is not set", path = path.display())]
    NoHttp {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The address on the command line is wrong.
    #[error("--http-address: {0}")]
    Address(String),
    /// The token in the file cannot be read.
    #[error("agent.tokenFile: {0}")]
    Token(#[from] NoToken),
    /// No agent answers at the socket.
    #[error("no agent answers at {path}: {source}", path = path.display())]
    Local {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No agent answers at the address.
    #[error("no agent answers at {address}: {source}")]
    Connection {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Another process may have the port.
    #[error("what answers at {address} is not proven to be the agent: {source}")]
    Untrusted {
        /// The address.
        address: SocketAddr,
        /// Why the answer is not believed.
        source: RequestError,
    },
    /// The answer is not a report.
    #[error("the agent answered {status}: {message}")]
    Refused {
        /// Status code.
        status: u16,
        /// Body.
        message: String,
    },
    /// The answer is a report of another version.
    #[error("the answer is no report: {0}")]
    Report(#[from] serde_json::Error),
}

/// Fetches the report and its text.
pub(super) fn report(running: &AgentAddress) -> Result<(Report, String), Error> {
    // If an address is given, the file need not exist, as when an agent in a container is asked from outside.
    let file = load::agent_file(&running.config);
    let answer = match (&running.http_address, file) {
        (Some(address), file) => {
            remote(address, file.ok().and_then(|file| file.agent.token_file).as_deref(), None)?
        }
        (None, file) => {
            let agent = file?.agent;
            let socket = agent.socket();
            match (local(&socket, STATUS, TIMEOUT), agent.http_address) {
                (Ok(answer), _) => answer,
                // A user without root's rights may still know the token, or need none.
                (Err(_), Some(address)) => remote(
                    &address,
                    agent.token_file.as_deref(),
                    Some(&agent_address::node_name(&running.node_name)),
                )?,
                (Err(Error::Local { path, source }), None) => return Err(Error::NoHttp { path, source }),
                (Err(error), None) => return Err(error),
            }
        }
    };
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status != 200 {
        return Err(Error::Refused { status: answer.status, message: text.trim().to_owned() });
    }
    Ok((serde_json::from_str(&text)?, text))
}

const STATUS: &str = "/status";

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks over the local socket.
pub(super) fn local(path: &Path, target: &str, timeout: Duration) -> Result<HttpResponse, Error> {
    let asked = || {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        ask(stream, None, None, target).map_err(io::Error::other)
    };
    asked().map_err(|source| Error::Local { path: path.to_owned(), source })
}

/// Asks over TCP. With a token, the answer is believed only from an agent that knows it, and from `node`'s agent if a
/// node is given.
fn remote(address: &str, token_file: Option<&Path>, node: Option<&str>) -> Result<HttpResponse, Error> {
    let address = reachable(agent_address::http_address(address).map_err(Error::Address)?);
    let tokens = token_file.map(|path| TokenFile::new(path.to_owned()).tokens(Instant::now())).transpose()?;
    let token = tokens.as_ref().and_then(|tokens| tokens.first());
    let connected = || {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(stream)
    };
    let stream = connected().map_err(|source| Error::Connection { address, source })?;
    ask(stream, token, node, STATUS).map_err(|error| match error {
        RequestError::Connection(source) => Error::Connection { address, source },
        source => Error::Untrusted { address, source },
    })
}

/// If an agent listens on all addresses, it is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
