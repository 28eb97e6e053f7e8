//! Why a request is met with silence.

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// To a broadcast or multicast address: others got it as well, and each would answer.
    Destination,
    /// From port 0, or from an address that nobody can have alone (unspecified, multicast, broadcast).
    Source,
    /// The entry for its address says `ignore`.
    Ignore,
    /// Shorter than a header, or what follows the header is neither extension fields nor a MAC.
    Malformed,
    /// Version 0 or above 4.
    UnknownVersion,
    /// Not a request: mode 2, 4, 5, 7 or 0, or an answer to a query.
    Mode,
    /// The entry says `noserve`.
    Noserve,
    /// The entry says `version`, and it is not 4.
    Version,
    /// It asks for an authenticated answer, and not by a key or cookie of ours; or the entry says `notrust`, and it does
    /// not ask for one.
    Unauthenticated,
    /// The entry says `limited`, and it is too much.
    RateLimited,
    /// A query, and the entry says `noquery`.
    Noquery,
    /// A query too many.
    QueryLimited,
}

impl DropReason {
    /// Every reason, for counters.
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

    /// A word for it, for labels.
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
