//! What a key exchange is asked for, and what comes of it, as data.
use std::{net::IpAddr, path::PathBuf};

use ntp::SourceId;

use crate::auth::{Session, certificate::Validity};

/// A request for a key exchange.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeRequest {
    /// The engine that asked. It may have been replaced in the meantime.
    pub(crate) epoch: u64,
    /// The source that needs keys.
    pub(crate) source: SourceId,
    /// Host name or address, which the certificate must have.
    pub(crate) host: String,
    /// The address to connect to; none for any address of the host.
    pub(crate) with: Option<IpAddr>,
    /// TCP port.
    pub(crate) port: u16,
    /// File with the trusted certificates; none for the public ones.
    pub(crate) ca: Option<PathBuf>,
    /// The time at which the certificate must be valid.
    pub(crate) validity: Validity,
}

/// The result of a key exchange.
#[derive(Debug)]
pub(crate) struct ExchangeResult {
    /// As in the request.
    pub(crate) epoch: u64,
    /// As in the request.
    pub(crate) source: SourceId,
    /// The session, or why there is none.
    pub(crate) outcome: Result<NewSession, Failure>,
}

/// Why there is no session, for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server's name does not resolve. No server was contacted, so there is no need to wait before the next try.
    Unresolved(String),
    /// The exchange itself failed.
    Refused(String),
}

/// The result of a successful exchange.
#[derive(Debug)]
pub(crate) struct NewSession {
    /// Keys and cookies.
    pub(crate) session: Session,
    /// The NTP server's addresses; never empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// The NTP server's UDP port, if the server named one.
    pub(crate) port: Option<u16>,
}
