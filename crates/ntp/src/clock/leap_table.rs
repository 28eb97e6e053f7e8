//! The history of TAI minus UTC: the text of `leap-seconds.list` goes in; the difference at a given time comes out. It
//! is used only for the kernel's TAI offset. The upstreams announce leap seconds.
use std::fmt;

use crate::{NtpTimestamp, Wall};

/// A table, and the time at which it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeapTable {
    expires: Wall,
    /// Start times, and TAI minus UTC in seconds from then on; ascending.
    entries: Vec<(Wall, i32)>,
}

/// Why a text is not a valid table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeapTableError {
    /// There is no line `#@` with the time of expiry.
    NoExpiry,
    /// There is no entry.
    Empty,
    /// A line is neither a comment nor an entry, or it is not in order; its number.
    Line(usize),
}

impl fmt::Display for LeapTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoExpiry => write!(f, "no expiry (a line that begins with #@)"),
            Self::Empty => write!(f, "no entries"),
            Self::Line(number) => write!(f, "line {number} is no entry, or not in order"),
        }
    }
}

impl std::error::Error for LeapTableError {}

impl LeapTable {
    /// Parses the format of IERS and NIST: each line has seconds since 1900 and TAI minus UTC. A comment follows `#`,
    /// the time of expiry follows `#@`.
    ///
    /// # Errors
    /// If the text has another format.
    pub fn parse(text: &str) -> Result<Self, LeapTableError> {
        let (mut expires, mut entries) = (None, Vec::<(Wall, i32)>::new());
        for (index, line) in text.lines().enumerate() {
            let wrong = LeapTableError::Line(index + 1);
            if let Some(expiry) = line.strip_prefix("#@") {
                expires = Some(since_1900(expiry.trim()).ok_or(wrong)?);
                continue;
            }
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(begins) = words.next() else { continue };
            let tai = words.next().and_then(|word| word.parse().ok()).filter(|tai| (0..1000).contains(tai));
            let (Some(begins), Some(tai)) = (since_1900(begins), tai) else { return Err(wrong) };
            if entries.last().is_some_and(|(last, _)| *last >= begins) {
                return Err(wrong);
            }
            entries.push((begins, tai));
        }
        let expires = expires.ok_or(LeapTableError::NoExpiry)?;
        if entries.is_empty() { Err(LeapTableError::Empty) } else { Ok(Self { expires, entries }) }
    }

    /// TAI minus UTC at `now`, seconds. None if the table has expired, or begins later.
    pub fn tai_minus_utc(&self, now: Wall) -> Option<i32> {
        let entry = self.entries.iter().rev().find(|(begins, _)| *begins <= now)?;
        (now < self.expires).then_some(entry.1)
    }
}

/// Parses seconds since 1900. Unlike in packets they continue after 2^32.
fn since_1900(word: &str) -> Option<Wall> {
    let seconds: i64 = word.parse().ok().filter(|seconds| *seconds >= 0)?;
    let epoch = NtpTimestamp::from_wall(Wall(0)).0 >> 32;
    // Times after the year 2262, which `Wall` cannot represent, are invalid.
    seconds.checked_sub(i64::try_from(epoch).ok()?)?.checked_mul(1_000_000_000).map(Wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\n#$\t3960835200\n#@\t3991593600\n2272060800\t10\t# 1 Jan 1972\n\n\
                        3644697600      36      # 1 Jul 2015\n3692217600      37      # 1 Jan 2017\n#h 1 2 3\n";

    #[test]
    fn the_published_form_is_read() {
        let table = LeapTable::parse(TEXT).expect("it is a table");
        let check =
            |unix: i64, expected| assert_eq!(table.tai_minus_utc(Wall(unix * 1_000_000_000)), expected);
        check(0, None);
        check(63_072_000, Some(10));
        check(1_483_228_799, Some(36));
        check(1_483_228_800, Some(37));
        check(3_991_593_599 - 2_208_988_800, Some(37));
        check(3_991_593_600 - 2_208_988_800, None);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let check = |text: &str, error| assert_eq!(LeapTable::parse(text), Err(error));
        check("#@ 15991593600\n3692217600 37", LeapTableError::Line(1));
        check("#@ 9223372036854775807\n3692217600 37", LeapTableError::Line(1));
        check("", LeapTableError::NoExpiry);
        check("#@ 3991593600", LeapTableError::Empty);
        check("#@ soon", LeapTableError::Line(1));
        check("#@ 3991593600\n3692217600", LeapTableError::Line(2));
        check("#@ 3991593600\n3692217600 -1", LeapTableError::Line(2));
        check("#@ 3991593600\n3692217600 37\n3644697600 36", LeapTableError::Line(3));
        check("99999999999999999999 37", LeapTableError::Line(1));
    }
}
