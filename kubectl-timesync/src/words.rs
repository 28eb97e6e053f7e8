//! Numbers and times as users read them, and back: ages as kubectl prints them, and the lengths of time in a NodeClock.
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The seconds of a length of time in a status, such as `-412us`; none if the text is no such length.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// How long ago, as kubectl prints it: `12s`, `5m30s`, `3h10m`, `4d2h`. A time in the future is `0s`, since the clocks of
/// two machines differ.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.duration_since(then))
}

/// A length of time with at most two units, as kubectl prints ages.
pub(crate) fn span(length: SignedDuration) -> String {
    let secs = length.as_secs().max(0);
    let two = |large: i64, large_unit, small: i64, small_unit| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match secs {
        0..120 => format!("{secs}s"),
        120..600 => two(secs / 60, "m", secs % 60, "s"),
        600..10_800 => format!("{}m", secs / 60),
        10_800..28_800 => two(secs / 3600, "h", secs / 60 % 60, "m"),
        28_800..172_800 => format!("{}h", secs / 3600),
        172_800..691_200 => two(secs / 86_400, "d", secs / 3600 % 24, "h"),
        _ => format!("{}d", secs / 86_400),
    }
}

/// `1 node`, `4 nodes`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// At most `most` names, and how many more there are.
pub(crate) fn some<'a>(names: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let shown = names.take(most).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// The text as a sentence: with a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', '!', '?', ':']) { text.to_owned() } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_those_of_a_status() {
        let check = |text: &str, expected: Option<f64>| {
            let found = seconds(text);
            assert!(
                found.zip(expected).is_some_and(|(a, b)| (a - b).abs() < 1e-12) || found == expected,
                "{text}: {found:?}"
            );
        };
        for size in [-412e-6, 3.1e-3, 2.004, 412e-9, 0.0] {
            check(&contract::approximately(size), Some(size));
        }
        check("unknown", None);
        check("1m", None);
        check("", None);
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        let check = |secs: i64, expected: &str| {
            assert_eq!(span(SignedDuration::from_secs(secs)), expected);
        };
        check(-5, "0s");
        check(119, "119s");
        check(120, "2m");
        check(599, "9m59s");
        check(3600, "60m");
        check(11_400, "3h10m");
        check(86_400, "24h");
        check(180_000, "2d2h");
        check(864_000, "10d");
    }

    #[test]
    fn long_lists_are_cut() {
        let names = ["a", "b", "c"];
        assert_eq!(some(names.into_iter(), 3), "a, b, c");
        assert_eq!(some(names.into_iter(), 2), "a, b and 1 more");
    }
}
