//! The ranges and defaults of a profile's fields. They are defined only here: the check, the schema of the CRD and the
//! types' `Default` use them, and tests compare the CEL rules and the tables in `docs/` with them.
use std::fmt;

use contract::Span;

/// The smallest and the largest value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    /// The smallest value.
    pub least: T,
    /// The largest value.
    pub most: T,
}

impl<T: PartialOrd> Range<T> {
    /// Returns true if `value` is within the range.
    pub fn contains(&self, value: &T) -> bool {
        (&self.least..=&self.most).contains(&value)
    }
}

impl<T: fmt::Display> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.least, self.most)
    }
}

const fn range<T: Copy>(least: T, most: T) -> Range<T> {
    Range { least, most }
}

/// Largest number of upstreams of a profile.
pub const MOST_UPSTREAMS: usize = 16;
/// Largest length of an upstream's name, characters.
pub const LONGEST_NAME: usize = 32;
/// Largest number of servers of a pool that are asked.
pub const MAX_SOURCES: Range<u8> = range(1, 16);
/// Its default.
pub const DEFAULT_MAX_SOURCES: u8 = 4;
/// Largest number of nodes of the cluster that one upstream asks. Each is an upstream of the profile.
pub const MAX_NODES: Range<u8> = range(1, 8);
/// Its default.
pub const DEFAULT_MAX_NODES: u8 = 5;
/// Largest length of the name of such an upstream, characters: each node gets the name, a hyphen and a digit.
pub const LONGEST_NAME_OF_NODES: usize = LONGEST_NAME - 2;
/// Valid UDP and TCP ports.
pub const PORT: Range<u16> = range(1, 65_535);
/// The default port of NTP (RFC 5905 §7.2).
pub const NTP_PORT: u16 = 123;
/// The default port of NTS key exchange (RFC 8915 §7).
pub const NTS_PORT: u16 = 4460;
/// Poll intervals, log2 seconds.
pub const POLL: Range<i8> = range(0, 17);
/// The default shortest and longest poll interval: 16 s and 64 s. With longer intervals the offset on a LAN with jitter
/// does not stay below 0.1 ms.
pub const DEFAULT_POLL: Range<i8> = range(4, 6);

/// Largest number of entries of the access list. The CEL cost limit of the API server determines it.
pub const MOST_RESTRICT: usize = 48;

/// The stratum at which the local clock is served.
pub const LOCAL_STRATUM: Range<u8> = range(1, 15);
/// The same with `orphan`. Sources of this stratum count as orphans, so with 1 every good server would be one. An agent
/// that follows an orphan has the next stratum, so 15 is too large.
pub const ORPHAN_STRATUM: Range<u8> = range(2, 14);
/// The longest wait for upstreams before the local clock is served. A longer wait would mean that it is never served.
pub const LONGEST_ACTIVATE_AFTER: Span = Span::from_secs(86_400);
/// The default wait: one poll of the longest default interval, so that upstreams that start together with the node can
/// answer.
pub const DEFAULT_ACTIVATE_AFTER: Span = Span::from_secs(64);
/// The default wait with `orphan`, as in ntpd and chrony: upstreams that come back, and existing orphans, have time to
/// answer.
pub const DEFAULT_ORPHAN_ACTIVATE_AFTER: Span = Span::from_secs(300);

/// Addresses on which time is served. The agent has a socket for each.
pub const MOST_SERVE_ADDRESSES: usize = 16;
/// The interval between tokens, log2 seconds.
pub const RATE_INTERVAL: Range<i8> = range(-6, 12);
/// The capacity of a token bucket.
pub const RATE_BURST: Range<u8> = range(1, 255);
/// One in 2^leak of the excess is answered.
pub const RATE_LEAK: Range<u8> = range(1, 4);
/// Number of addresses in the rate table.
pub const MAX_CLIENTS: Range<u32> = range(1 << 10, 1 << 20);
/// Its default: a quarter of a megabyte, and four times chronyd's default.
pub const DEFAULT_MAX_CLIENTS: u32 = 16_384;
/// Number of threads that answer requests.
pub const WORKERS: Range<u8> = range(1, 16);
/// Its default.
pub const DEFAULT_WORKERS: u8 = 1;
/// Largest number of keys for clients. The agent reads their files four times a second.
pub const MOST_SERVE_KEYS: usize = 16;

/// Number of steps in the start phase.
pub const STEP_LIMIT: Range<u32> = range(0, 1000);
/// The largest slew rate, parts per million.
pub const MAX_SLEW_RATE: Range<u32> = range(1, 100_000);
/// The largest root distance of a usable source. With a smaller limit than this no server would be usable, and at the
/// upper limit a server counts as unsynchronised (RFC 5905 §7.2, MAXDISP).
pub const MAX_DISTANCE: Range<Span> = range(Span::from_millis(1), Span::from_secs(16));
/// Its default, as in ntpd's `tos maxdist`.
pub const DEFAULT_MAX_DISTANCE: Span = Span::from_millis(1500);
/// Number of sources that must agree.
pub const MIN_SOURCES: Range<u8> = range(1, 16);

/// Largest length of a time zone's name, characters.
pub const LONGEST_TIMEZONE: usize = 64;

/// How long a deviation must last before it counts. With a shorter time every brief deviation would be reported, with a
/// longer one none.
pub const HOLD: Range<Span> = range(Span::from_secs(1), Span::from_secs(86_400));
/// The longest span of any field, 114 years. The text of every span up to it has at most six digits for each unit.
pub const LONGEST_SPAN: Span = Span::from_secs(999_999 * 3600);

#[cfg(test)]
mod tests {
    use std::{fmt::Display, fs, path::Path};

    use super::*;
    use crate::{Clock, RateLimit, Step};

    /// Checks that the row of docs/agent.md that begins with this field has the default and the range.
    #[test]
    fn the_reference_has_the_same_ranges_and_defaults() {
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/agent.md");
        let reference = fs::read_to_string(reference).unwrap();
        let row = |field: &str| {
            let start = format!("| `{field}`");
            reference
                .lines()
                .find(|line| line.starts_with(&start))
                .unwrap_or_else(|| panic!("{field} has no row"))
        };
        let check = |field: &str, default: &dyn Display, range: String| {
            let (row, default) = (row(field), default.to_string());
            assert!(row.contains(&range), "{range} is not in {row}");
            assert!(default.is_empty() || row.contains(&format!("`{default}`")), "{default} is not in {row}");
        };
        fn of<T: Display>(range: Range<T>) -> String {
            range.to_string()
        }
        let RateLimit { interval, burst, leak, .. } = RateLimit::default();
        check("maxSources", &DEFAULT_MAX_SOURCES, of(MAX_SOURCES));
        check("port", &NTP_PORT, String::new());
        check("minPoll", &DEFAULT_POLL.least, of(POLL));
        check("minPoll", &DEFAULT_POLL.most, of(POLL));
        check("stratum.local", &"", of(LOCAL_STRATUM));
        check("stratum.orphan", &"", of(ORPHAN_STRATUM));
        check("stratum.activateAfter", &DEFAULT_ACTIVATE_AFTER, "at most 24h".to_owned());
        check("stratum.activateAfter", &DEFAULT_ORPHAN_ACTIVATE_AFTER, String::new());
        check("serve.rateLimit.interval", &interval, of(RATE_INTERVAL));
        check("serve.rateLimit.burst", &burst, of(RATE_BURST));
        check("serve.rateLimit.leak", &leak, of(RATE_LEAK));
        check("serve.rateLimit.maxClients", &DEFAULT_MAX_CLIENTS, of(MAX_CLIENTS));
        check("serve.workers", &DEFAULT_WORKERS, of(WORKERS));
        check("clock.step.threshold", &Step::default().threshold, String::new());
        check("clock.step.limit", &Step::default().limit, of(STEP_LIMIT));
        check("clock.maxSlewRate", &Clock::default().max_slew_rate, of(MAX_SLEW_RATE));
        check("clock.maxChange", &Clock::default().max_change, String::new());
        check("clock.maxDistance", &DEFAULT_MAX_DISTANCE, of(MAX_DISTANCE));
        check("clock.minSources", &"", of(MIN_SOURCES));
        check("name", &"", format!("1 to {LONGEST_NAME}"));
    }
}
