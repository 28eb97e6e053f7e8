//! Spans of time as users write them (`10ms`, `1000s`, `1m30s`) and as status shows them (`-412us`, `3.1ms`).
use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration that is not negative, in whole nanoseconds. Its text is one or more numbers, each with a unit of `us`,
/// `ms`, `s`, `m`, `h`, in any order: what Kubernetes' CEL function `duration()` accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// A span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The span in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// The span as std's type.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

/// Why a text is not a [`Span`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanError(String);

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration: write numbers with a unit each, of us, ms, s, m or h, as in 10ms",
            self.0
        )
    }
}

impl std::error::Error for SpanError {}

/// Units, in nanoseconds. `ms` comes before `m` and `s`, so that the first match is the right one.
const UNITS: [(&str, u64); 5] =
    [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.to_owned());
        let mut rest = text;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, after) = rest.split_at(end);
            let (unit, nanos) =
                UNITS.iter().find(|(unit, _)| after.starts_with(unit)).copied().ok_or_else(wrong)?;
            total = scaled(number, nanos).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
            rest = &after[unit.len()..];
        }
        Ok(Self(Duration::from_nanos(total)))
    }
}

/// The exact product of `number` (decimal, at most nine digits on each side of the point) and `nanos`.
fn scaled(number: &str, nanos: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty()
        || whole.len() > 9
        || fraction.is_empty()
        || fraction.len() > 9
        || fraction.contains('.')
    {
        return None;
    }
    let fraction_nanos = u128::from(fraction.parse::<u64>().ok()?) * u128::from(nanos);
    let fraction_nanos = fraction_nanos / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.parse::<u64>().ok()?.checked_mul(nanos)?.checked_add(u64::try_from(fraction_nanos).ok()?)
}

/// The largest number of six digits.
const MOST_IN_ONE_UNIT: u128 = 999_999;

impl fmt::Display for Span {
    /// The shortest exact text: a whole number of the largest possible unit, up to seconds. If that number has more
    /// than six digits, which a policy does not accept, the text uses hours and every unit below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
        let whole = units.into_iter().find(|(size, _)| nanos.is_multiple_of(*size));
        match whole {
            Some((size, unit)) if nanos / size <= MOST_IN_ONE_UNIT => {
                return write!(f, "{}{unit}", nanos / size);
            }
            None if nanos / 1_000 <= MOST_IN_ONE_UNIT => {
                return write!(f, "{}.{:03}us", nanos / 1_000, nanos % 1_000);
            }
            _ => {}
        }
        let mut rest = nanos;
        for (size, unit) in [(3_600_000_000_000, "h"), (1_000_000_000, "s"), (1_000_000, "ms")] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        match (rest / 1_000, rest % 1_000) {
            (0, 0) => Ok(()),
            (micros, 0) => write!(f, "{micros}us"),
            (micros, nanos) => write!(f, "{micros}.{nanos:03}us"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// `seconds` as a text for a reader, with two or three significant figures and a suitable unit: `-412us`, `3.1ms`,
/// `2.004s`, `412ns`. Only a negative number has a sign. Status fields have this text; metrics have the number itself.
pub fn approximately(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    // A number that rounds to zero has no sign.
    let sign = if seconds <= -0.5e-9 { "-" } else { "" };
    let size = seconds.abs();
    let (value, unit) = match size {
        s if s < 999.5e-9 => return format!("{sign}{:.0}ns", s * 1e9),
        s if s < 999.5e-6 => (s * 1e6, "us"),
        s if s < 0.9995 => (s * 1e3, "ms"),
        s => return format!("{sign}{s:.3}s"),
    };
    if value < 9.95 { format!("{sign}{value:.1}{unit}") } else { format!("{sign}{value:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_parse_and_print() {
        let check = |text: &str, nanos: u128, printed: &str| {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.as_duration().as_nanos(), nanos, "{text}");
            assert_eq!(span.to_string(), printed);
            assert_eq!(printed.parse::<Span>().unwrap(), span);
        };
        check("10ms", 10_000_000, "10ms");
        check("1000s", 1_000_000_000_000, "1000s");
        check("1m30s", 90_000_000_000, "90s");
        check("1.5ms", 1_500_000, "1500us");
        check("0.0005us", 0, "0s");
        check("2h", 7_200_000_000_000, "7200s");
        check("999999s", 999_999_000_000_000, "999999s");
        check("1000001s", 1_000_001_000_000_000, "277h2801s");
        check("876000h", 3_153_600_000_000_000_000, "876000h");
        check("1s1us", 1_000_001_000, "1s1us");
        check("1000.000001s", 1_000_000_001_000, "1000s1us");
        check("0.0025us", 2, "0.002us");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "5", "s", "-5s", "1x", "1.s", ".5s", "1..5s", "5 s", "9999999999s", "1e3s", "५s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn status_shows_few_figures() {
        for (seconds, text) in [
            (-412e-6, "-412us"),
            (3.14e-3, "3.1ms"),
            (207.4e-6, "207us"),
            (2.0041, "2.004s"),
            (0.0, "0ns"),
            (-0.0, "0ns"),
            (-0.4e-9, "0ns"),
            (-0.6e-9, "-1ns"),
            (-3.0, "-3.000s"),
            (0.4e-6, "400ns"),
            (f64::NAN, "unknown"),
        ] {
            assert_eq!(approximately(seconds), text);
        }
    }
}
