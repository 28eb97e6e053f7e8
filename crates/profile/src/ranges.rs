//! The ranges and the defaults of a profile's fields. This is their one home: the check, the CRD's schema and the types'
//! `Default` are made from it, and tests hold the CEL rules and the tables in `docs/` to it.
use std::fmt;

use contract::Span;

/// The least and the most that a field may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    /// The least.
    pub least: T,
    /// The most.
    pub most: T,
}

impl<T: PartialOrd> Range<T> {
    /// Returns true if a field may say `value`.
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

/// Upstreams of a profile.
pub const MOST_UPSTREAMS: usize = 16;
/// Characters of an upstream's name.
pub const LONGEST_NAME: usize = 32;
/// Servers of a pool that are asked.
pub const MAX_SOURCES: Range<u8> = range(1, 16);
/// The same if the profile says nothing.
pub const DEFAULT_MAX_SOURCES: u8 = 4;
/// UDP and TCP ports.
pub const PORT: Range<u16> = range(1, 65_535);
/// The port of NTP (RFC 5905 §7.2).
pub const NTP_PORT: u16 = 123;
/// The port of NTS key exchange (RFC 8915 §7).
pub const NTS_PORT: u16 = 4460;
/// Poll intervals, log2 seconds.
pub const POLL: Range<i8> = range(0, 17);
/// The shortest and the longest poll interval if the profile says nothing: 16 s to 64 s. With longer polls a jittery LAN
/// does not reach 0.1 ms.
pub const DEFAULT_POLL: Range<i8> = range(4, 6);

/// Entries of the access list. The API server's CEL cost sets this limit.
pub const MOST_RESTRICT: usize = 48;

/// The stratum at which the local clock is served.
pub const LOCAL_STRATUM: Range<u8> = range(1, 15);
/// The same with `orphan`. Sources of this stratum are orphans, so 1 would make one of every server; and an agent that
/// follows an orphan has 1 more.
pub const ORPHAN_STRATUM: Range<u8> = range(2, 14);
/// How long the local clock waits for upstreams. A longer wait means not to serve.
pub const LONGEST_ACTIVATE_AFTER: Span = Span::from_secs(86_400);
/// The same if the profile says nothing: upstreams that start with the node have a poll of the longest usual interval to
/// answer.
pub const DEFAULT_ACTIVATE_AFTER: Span = Span::from_secs(64);
/// The same with `orphan`, as in ntpd and chrony: upstreams that come back, and orphans that were there before, have
/// time, too.
pub const DEFAULT_ORPHAN_ACTIVATE_AFTER: Span = Span::from_secs(300);

/// Addresses on which time is served. The agent has a socket for each.
pub const MOST_SERVE_ADDRESSES: usize = 16;
/// The token bucket's interval, log2 seconds.
pub const RATE_INTERVAL: Range<i8> = range(-6, 12);
/// The most tokens in a bucket.
pub const RATE_BURST: Range<u8> = range(1, 255);
/// One in 2^leak of the excess is answered.
pub const RATE_LEAK: Range<u8> = range(1, 4);
/// Addresses in the rate table.
pub const MAX_CLIENTS: Range<u32> = range(1 << 10, 1 << 20);
/// The same if the profile says nothing: a quarter of a megabyte, and four times what chronyd keeps by default.
pub const DEFAULT_MAX_CLIENTS: u32 = 16_384;
/// Threads that answer requests.
pub const WORKERS: Range<u8> = range(1, 16);
/// The same if the profile says nothing.
pub const DEFAULT_WORKERS: u8 = 1;
/// Keys for clients. The agent reads their files four times a second.
pub const MOST_SERVE_KEYS: usize = 16;

/// Steps in the start phase.
pub const STEP_LIMIT: Range<u32> = range(0, 1000);
/// The largest slew, parts per million.
pub const MAX_SLEW_RATE: Range<u32> = range(1, 100_000);
/// The root distance up to which a source is used. A smaller limit refuses every server, and from the larger one on a
/// server counts as unsynchronised (RFC 5905 §7.2, MAXDISP).
pub const MAX_DISTANCE: Range<Span> = range(Span::from_millis(1), Span::from_secs(16));
/// The same if the profile says nothing: as ntpd's `tos maxdist`.
pub const DEFAULT_MAX_DISTANCE: Span = Span::from_millis(1500);
/// Sources that must agree.
pub const MIN_SOURCES: Range<u8> = range(1, 16);

/// Characters of a time zone's name.
pub const LONGEST_TIMEZONE: usize = 64;

/// How long a deviation must last before it counts. Shorter, and every short deviation is reported; longer, and none is.
pub const HOLD: Range<Span> = range(Span::from_secs(1), Span::from_secs(86_400));
/// The longest span of any field, 114 years: its text, and every shorter span's, has at most six digits for each unit.
pub const LONGEST_SPAN: Span = Span::from_secs(999_999 * 3600);

#[cfg(test)]
mod tests {
    use std::{fmt::Display, fs, path::Path};

    use super::*;
    use crate::{Clock, RateLimit, Step};

    /// The row of docs/agent.md that begins with this field names the default and the range.
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
        check("stratum.activateAfter", &DEFAULT_ACTIVATE_AFTER, "24h at most".to_owned());
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
