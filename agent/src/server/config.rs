//! What is to be served, and on which families of addresses, as data.
use ntp::{RateLimit, RestrictTable};

/// What is to be served, and to which clients; not the time itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// True if the port is to be open.
    pub(crate) enabled: bool,
    /// UDP port.
    pub(crate) port: u16,
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

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// 0.0.0.0.
    V4,
    /// `[::]`, for IPv6 only.
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}
