//! What is to be served, and on which addresses, as data.
use std::net::IpAddr;

use ntp::{RateLimit, RestrictTable};

/// What is to be served, and to which clients; not the time itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// True if the port is to be open.
    pub(crate) enabled: bool,
    /// UDP port.
    pub(crate) port: u16,
    /// Addresses on which it is opened. An unspecified one stands for all addresses of its family.
    pub(crate) addresses: Vec<IpAddr>,
    /// Number of threads that answer, 1 to [`MOST_WORKERS`].
    pub(crate) workers: usize,
    /// The rate limit for addresses whose entry has `limited`.
    pub(crate) limit: RateLimit,
    /// The number of addresses that are remembered for the rate limit.
    pub(crate) max_clients: usize,
    /// Which clients may ask.
    pub(crate) rules: RestrictTable,
}

/// A node's clients cannot keep more processors busy than this.
pub(crate) const MOST_WORKERS: usize = profile::ranges::WORKERS.most as usize;
