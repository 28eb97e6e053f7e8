//! Why a wait goes on: the reason in one word, and in detail.
use contract::limits::limit_message;

/// Why the clock is not right now, as far as that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub(crate) struct NotRight {
    /// One word. If it changes, that is printed.
    pub(super) reason: String,
    /// The same for a reader.
    pub(super) message: String,
}

impl NotRight {
    /// Any process may have written the texts, and they are shown on a terminal.
    pub(super) fn new(reason: &str, message: impl Into<String>) -> Self {
        let (mut reason, mut message) = (reason.to_owned(), message.into());
        [&mut reason, &mut message].into_iter().for_each(limit_message);
        Self { reason, message }
    }
}
