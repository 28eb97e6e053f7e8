//! An action of the engine with the time at which the engine wanted it.
use ntp::{Action, Clocks};

/// An action, and the clock reading of the moment at which the engine wanted it. Earlier actions may take long, and the
/// engine may be called again in the meantime.
#[derive(Debug)]
pub(super) struct TimedAction {
    pub(super) action: Action,
    /// CLOCK_MONOTONIC_RAW.
    pub(super) raw: i64,
}

/// The actions that an engine with these `clocks` wants.
pub(super) fn timed(actions: Vec<Action>, clocks: Clocks) -> Vec<TimedAction> {
    actions.into_iter().map(|action| TimedAction { action, raw: clocks.raw }).collect()
}
