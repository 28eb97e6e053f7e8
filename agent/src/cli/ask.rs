//! Fetches the report of the agent that runs on this machine: one GET of `/status`, one report back.
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use contract::Report;

use super::View;
use crate::load;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file does not say where to ask.
    #[error(transparent)]
    File(#[from] load::Error),
    /// It says that there is no HTTP.
    #[error("agent.http_address is not set: the agent has no HTTP to ask")]
    NoHttp,
    /// The address on the command line.
    #[error("--http-address: {0}")]
    Address(String),
    /// Nobody answers.
    #[error("no agent answers at {address}: {source}")]
    Connection {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Something else than a report was answered.
    #[error("the agent at {address} answered: {answer}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Status line and body.
        answer: String,
    },
    /// It is a report of another version.
    #[error("the answer is no report: {0}")]
    Report(#[from] serde_json::Error),
}

/// The report, and its text.
pub(super) fn report(view: &View) -> Result<(Report, String), Error> {
    // With an address given the file need not be there, as in a container that is asked from outside.
    let file = load::agent_file(&view.config);
    let (address, token_file) = match (&view.http_address, file) {
        (Some(address), file) => (address.clone(), file.ok().and_then(|file| file.agent.token_file)),
        (None, file) => {
            let agent = file?.agent;
            (agent.http_address.ok_or(Error::NoHttp)?, agent.token_file)
        }
    };
    let address = reachable(super::http_address(&address).map_err(Error::Address)?);
    let token = token_file.map(|path| load::read(&path)).transpose()?;
    let answer = fetch(address, token.as_deref().map(str::trim))
        .map_err(|source| Error::Connection { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(Error::Refused { address, answer: format!("{status}: {}", body.trim()) });
    }
    Ok((serde_json::from_str(body)?, body.to_owned()))
}

/// An agent that listens on all addresses is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// One request by HTTP/1.0, whose answer ends with the connection: no client library is needed for that.
fn fetch(address: SocketAddr, token: Option<&str>) -> io::Result<String> {
    let patience = Some(Duration::from_secs(5));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET /status HTTP/1.0\r\nHost: {address}\r\n{authorization}\r\n")?;
    let mut answer = String::new();
    stream.take(16 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}
