//! The state of the port on each address, and what follows from all of them for the report.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use contract::ServingFailure;

/// The port's state on each address on which it is to be open.
pub(super) type States = BTreeMap<IpAddr, ServingState>;

/// The state of the port on one address, or on all addresses of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServingState {
    /// Requests are answered.
    Open,
    /// The node does not have the address, or the family.
    Unavailable,
    /// The port could not be opened: the reason, and a text for a reader with the system's error.
    Failed(ServingFailure, String),
}

/// One word, which users can look up, and the reason.
pub(super) fn failed(failure: ServingFailure, why: &str) -> ServingState {
    ServingState::Failed(failure, format!("{failure}: {why}"))
}

/// The word for an address in logs and messages.
pub(super) fn label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "IPv4".to_owned(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => "IPv6".to_owned(),
        address => address.to_string(),
    }
}

/// Returns true if the port is open wherever the node can open it; if not, the reason, and a text for a reader.
pub(super) fn serving(states: &States) -> (bool, Option<ServingFailure>, String) {
    let (failures, messages): (Vec<ServingFailure>, Vec<&str>) = states
        .values()
        .filter_map(|state| match state {
            ServingState::Failed(failure, message) => Some((*failure, message.as_str())),
            ServingState::Open | ServingState::Unavailable => None,
        })
        .unzip();
    let open = states.values().any(|state| *state == ServingState::Open);
    let missing: Vec<_> =
        states.keys().filter(|address| !address.is_unspecified()).map(IpAddr::to_string).collect();
    if !open && failures.is_empty() && !missing.is_empty() {
        let failure = ServingFailure::NoAddress;
        let message = format!("{failure}: this node has none of serve.addresses now: {}", missing.join(", "));
        return (false, Some(failure), message);
    }
    (failures.is_empty() && open, failures.first().copied(), messages.join("; "))
}
