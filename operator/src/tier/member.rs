//! A node of a tier, and its name as a source of time.
use std::net::IpAddr;

/// A node of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The number in its name as a source, from 1. It passes to the node that takes its place, so that metrics and
    /// profiles do not change more than they have to.
    pub(crate) slot: u8,
    pub(crate) node: String,
    pub(crate) address: IpAddr,
}

impl Member {
    /// The name as a source.
    pub(crate) fn name(&self, upstream: &str) -> String {
        source_name(upstream, self.slot)
    }
}

/// The name of the source with this number.
pub(crate) fn source_name(upstream: &str, slot: u8) -> String {
    format!("{upstream}-{slot}")
}
