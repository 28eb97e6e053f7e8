//! The receiver of the engine's results.
use ntp::{Served, Snapshot, Transition};

/// The receiver of the engine's results.
pub(crate) trait Sink: Send {
    /// Takes the engine's present snapshot (none if no engine runs), the transitions since the last call, and what is
    /// to be served.
    fn publish(&mut self, snapshot: Option<Snapshot>, transitions: &[Transition], served: Served);
}
