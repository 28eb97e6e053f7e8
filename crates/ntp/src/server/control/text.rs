//! The text of variables: `name=value`, separated by commas, in lines. Also the format of numbers, times and strings.
use std::time::Duration;

use crate::{NtpTimestamp, Wall};

/// A list of variables, limited by the available space.
pub(super) struct Text {
    text: String,
    /// The index at which the last line begins.
    line: usize,
    room: usize,
    full: bool,
}

/// A new line begins if a variable would cross this column.
const COLUMNS: usize = 72;

const END: &str = "\r\n";

impl Text {
    pub(super) fn new(room: usize) -> Self {
        Self { text: String::new(), line: 0, room, full: false }
    }

    /// Adds a variable. After the first one that does not fit, no more are added.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        let length = name.len() + 1 + value.len();
        let between = match self.text.len() - self.line {
            0 => "",
            column if column + 2 + length > COLUMNS => ",\r\n",
            _ => ", ",
        };
        self.full |= self.text.len() + between.len() + length + END.len() > self.room;
        if self.full {
            return;
        }
        self.text.push_str(between);
        if between.ends_with(END) {
            self.line = self.text.len();
        }
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(value);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.text.push_str(END);
        self.text.into_bytes()
    }
}

/// Seconds as milliseconds with six decimals.
pub(super) fn ms(seconds: f64) -> String {
    number(1e3 * seconds, 6)
}

/// Seconds as milliseconds with three decimals.
pub(super) fn coarse_ms(seconds: f64) -> String {
    number(1e3 * seconds, 3)
}

/// Parts per million with three decimals.
pub(super) fn ppm(ppm: f64) -> String {
    number(ppm, 3)
}

fn number(value: f64, decimals: usize) -> String {
    // Never "NaN", which clients cannot parse, nor "-0.000", which users do not expect.
    let text = format!("{:.decimals$}", if value.is_finite() { value } else { 0.0 });
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|octet| matches!(octet, b'0' | b'.')) => digits.to_owned(),
        _ => text,
    }
}

/// A time as an NTP timestamp.
pub(super) fn time(time: Option<Wall>) -> String {
    stamp(time.map_or(NtpTimestamp(0), NtpTimestamp::from_wall))
}

pub(super) fn stamp(NtpTimestamp(bits): NtpTimestamp) -> String {
    format!("0x{:08x}.{:08x}", bits >> 32, bits & 0xffff_ffff)
}

/// A quoted string. Quotes and control characters are replaced.
pub(super) fn quoted(text: &str) -> String {
    let harmless = |c: char| if c == '"' || c.is_control() { '?' } else { c };
    format!("\"{}\"", text.chars().map(harmless).collect::<String>())
}

/// A reference id as text, which depends on `stratum`: the name of a clock or a kiss code, or an address. It is never
/// empty, and has no characters that could be mistaken for another variable.
pub(super) fn reference_id(id: [u8; 4], stratum: u8) -> String {
    let [a, b, c, d] = id;
    let length = id.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    let named = id[..length].iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_+".contains(octet));
    if length > 0 && named && matches!(stratum, 0 | 1 | 16) {
        return String::from_utf8_lossy(&id[..length]).into_owned();
    }
    format!("{a}.{b}.{c}.{d}")
}

/// Whole seconds.
pub(super) fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_clients_can_read() {
        assert_eq!(ms(-0.000_012_345_6), "-0.012346");
        assert_eq!((ms(-1e-12).as_str(), ms(f64::NAN).as_str()), ("0.000000", "0.000000"));
        assert_eq!((coarse_ms(16.0), ppm(-20.5)), ("16000.000".to_owned(), "-20.500".to_owned()));
        assert_eq!(stamp(NtpTimestamp(0xe94f_1234_0000_000a)), "0xe94f1234.0000000a");
        assert_eq!(quoted("a\"b\r\nc, d"), "\"a?b??c, d\"");
        assert_eq!(
            (seconds(3.9).as_str(), seconds(-1.0).as_str(), seconds(f64::NAN).as_str()),
            ("3", "0", "0")
        );
    }

    #[test]
    fn reference_ids_are_names_where_they_can_be() {
        let check = |id: &[u8; 4], stratum, expected| assert_eq!(reference_id(*id, stratum), expected);
        check(b"GPS\0", 1, "GPS");
        check(b"INIT", 16, "INIT");
        check(b"PHC0", 0, "PHC0");
        check(b"PHC0", 2, "80.72.67.48");
        check(&[192, 0, 2, 1], 3, "192.0.2.1");
        check(&[0; 4], 16, "0.0.0.0");
        check(b"a,b\0", 1, "97.44.98.0");
        check(b"a\0b\0", 1, "97.0.98.0");
    }

    #[test]
    fn lines_break_before_column_72_and_room_ends_between_variables() {
        let mut text = Text::new(100);
        for _ in 0..20 {
            text.add("name", "value");
        }
        let text = String::from_utf8(text.finish()).expect("text");
        let line = ["name=value"; 6].join(", ");
        assert_eq!(text, format!("{line},\r\nname=value, name=value\r\n"));
        assert!(text.len() <= 100);
    }
}
