//! Why the agent did not start, or why it ended, as messages for users.
use std::io;

use crate::load;

/// Why the agent did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The agent's file, or its profile, is wrong.
    #[error(transparent)]
    File(#[from] load::Error),
    /// The address on the command line is wrong.
    #[error("--http-address: {0}")]
    Address(String),
    /// `--engine-only` watches no folder.
    #[error("--engine-only needs a [profile] in the file")]
    NothingToRun,
    /// `--engine-only` has no thread for key exchanges.
    #[error("upstream {0}: nts needs a second thread, which --engine-only forbids")]
    NtsAlone(String),
    /// `--engine-only` has no thread for key exchanges.
    #[error("serve.nts needs a second thread, which --engine-only forbids")]
    NtsServedAlone,
    /// The system has no thread, descriptor, or random number left.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// A bug in the metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A bug in the engine.
    #[error("the engine ended by itself")]
    EngineEnded,
}
