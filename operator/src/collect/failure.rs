//! Why an agent could not be asked, or is not believed.
use contract::limits::LARGEST_REPORT;
use hyper::StatusCode;
use timesync_http::Untrusted;

use crate::token::NoToken;

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The operator has no token.
    #[error("{0}")]
    Token(NoToken),
    /// The connection could not be made, or broke.
    #[error("cannot connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The process that answers has not proven to be the agent.
    #[error("{0}")]
    Unproven(Impostor),
    /// The answer has another status than 200.
    #[error("the agent answered with status {0}")]
    Status(StatusCode),
    /// The answer is larger than an agent's may be.
    #[error(
        "the report is larger than {} KiB, which no agent of this version sends; it was not read",
        LARGEST_REPORT >> 10
    )]
    TooLarge,
    /// The answer cannot be read as a report.
    #[error("the answer is no report")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Another process that answers at the agent's address, or an agent that does not know the operator's token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what answers at {address} is not proven to be the agent: {why}")]
pub(crate) struct Impostor {
    /// The address that was asked.
    pub(crate) address: String,
    /// Why the answer is not believed.
    pub(crate) why: Unproven,
}

/// Why an answer is not believed to be the agent's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproven {
    /// Its content is not what an agent sends.
    #[error("{0}")]
    Untrusted(Untrusted),
    /// The server accepts the connection and does not answer.
    #[error("it takes the connection and does not answer")]
    Silent,
    /// The server does not accept the operator's token, which may be newer or older than the agent's.
    #[error("it does not accept the token")]
    Refused,
    /// The server says that it has no token.
    #[error("it says that it has no token yet")]
    NoToken,
}

impl Failure {
    /// The reason in one word, for the metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Token(_) => "Token",
            Self::Connect(_) => "Connect",
            Self::Timeout => "Timeout",
            Self::Unproven(impostor) => match impostor.why {
                Unproven::Refused => "Unauthorized",
                Unproven::NoToken => "NoToken",
                Unproven::Untrusted(Untrusted::TooLarge(_)) => "TooLarge",
                Unproven::Untrusted(_) | Unproven::Silent => "Unproven",
            },
            Self::Status(_) => "Status",
            Self::TooLarge => "TooLarge",
            Self::Decode(_) => "Decode",
        }
    }
}
