//! Why a request gets no answer.

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It was sent to a broadcast or multicast address. Other hosts got it as well, and each would answer.
    Destination,
    /// It is from port 0, or from an address that is no single host (unspecified, multicast, broadcast).
    Source,
    /// The entry for its address has `ignore`.
    Ignore,
    /// It is shorter than a header, or neither extension fields nor a MAC follow the header.
    Malformed,
    /// Its version is 0 or above 4.
    UnknownVersion,
    /// It is not a request: mode 2, 4, 5, 7 or 0, or an answer to a query.
    Mode,
    /// The entry has `noserve`.
    Noserve,
    /// The entry has `version`, and the version is not 4.
    Version,
    /// Its authentication is not with a key or cookie of this server; or the entry has `notrust`, and it has no
    /// authentication.
    Unauthenticated,
    /// The entry has `limited`, and the rate limit is exceeded.
    RateLimited,
    /// It is a query, and the entry has `noquery`.
    Noquery,
    /// It is a query, and the limit of queries is exceeded.
    QueryLimited,
}

impl DropReason {
    /// All reasons, for counters.
    pub const ALL: [Self; 12] = [
        Self::Destination,
        Self::Source,
        Self::Ignore,
        Self::Malformed,
        Self::UnknownVersion,
        Self::Mode,
        Self::Noserve,
        Self::Version,
        Self::Unauthenticated,
        Self::RateLimited,
        Self::Noquery,
        Self::QueryLimited,
    ];

    /// Its name, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Destination => "destination",
            Self::Source => "source",
            Self::Ignore => "ignore",
            Self::Malformed => "malformed",
            Self::UnknownVersion => "unknown_version",
            Self::Mode => "mode",
            Self::Noserve => "noserve",
            Self::Version => "version",
            Self::Unauthenticated => "unauthenticated",
            Self::RateLimited => "rate_limited",
            Self::Noquery => "noquery",
            Self::QueryLimited => "query_limited",
        }
    }
}
