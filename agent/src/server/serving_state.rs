//! The state of the port of each family, and what follows from both for the report.
use contract::ServingFailure;

/// The state of one family's port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ServingState {
    /// The port was not tried yet, or is not wanted.
    #[default]
    Closed,
    /// Requests are answered.
    Open,
    /// The node does not have the family.
    NoFamily,
    /// The port could not be opened: the reason, and a text for a reader with the system's error.
    Failed(ServingFailure, String),
}

impl ServingState {
    pub(super) fn is_to_be_tried_again(&self) -> bool {
        matches!(self, Self::Failed(..) | Self::NoFamily)
    }
}

/// Whether every possible port is open, and why not.
pub(super) fn serving(states: &[ServingState]) -> (bool, Option<ServingFailure>, String) {
    let (failures, messages): (Vec<ServingFailure>, Vec<&str>) = states
        .iter()
        .filter_map(|state| match state {
            ServingState::Failed(failure, message) => Some((*failure, message.as_str())),
            ServingState::Closed | ServingState::Open | ServingState::NoFamily => None,
        })
        .unzip();
    let open = states.contains(&ServingState::Open) && !states.contains(&ServingState::Closed);
    (failures.is_empty() && open, failures.first().copied(), messages.join("; "))
}
