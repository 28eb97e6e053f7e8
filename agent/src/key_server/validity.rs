//! When a certificate is valid: its DER in, two times out. It reads only that field (RFC 5280 §4.1.2.5), since rustls does
//! not say it. No octets can make it panic; what is malformed has no validity.

/// The times between which a certificate is valid, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CertificateValidity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// `[0]`, explicit: the version of X.509, which version 1 leaves out.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl CertificateValidity {
    /// Reads it from a certificate.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (signed, _) = expect(SEQUENCE, certificate)?;
        let rest = expect(VERSION, signed).map_or(signed, |(_, rest)| rest);
        let (_serial_number, rest) = expect(INTEGER, rest)?;
        let (_signature_algorithm, rest) = expect(SEQUENCE, rest)?;
        let (_issuer, rest) = expect(SEQUENCE, rest)?;
        let (validity, _) = expect(SEQUENCE, rest)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self { not_before, not_after })
    }
}

/// The contents of the first element, which must have this tag, and what follows it.
fn expect(tag: u8, octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(octets)?;
    (found == tag).then_some((content, rest))
}

/// The first element: tag, contents, and what follows it.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = octets.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Certificates have at most 1 MiB here, so three octets are enough.
        0x81..=0x83 => {
            let (long, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (long.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time, seconds since 1970, and what follows it.
fn time(octets: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, text, rest) = element(octets)?;
    let (century, text) = match tag {
        // RFC 5280 §4.1.2.5.1: from 50 on it is the 20th century.
        UTC_TIME => (if *text.first()? >= b'5' { 19 } else { 20 }, text),
        GENERALIZED_TIME => {
            let (century, text) = text.split_first_chunk::<2>()?;
            (two_digits(*century)?, text)
        }
        _ => return None,
    };
    let (fields, [b'Z']) = text.split_first_chunk::<12>()? else { return None };
    let (pairs, _) = fields.as_chunks::<2>();
    let mut numbers = pairs.iter().map(|pair| two_digits(*pair));
    let mut next = || numbers.next().flatten();
    let (year, month, day) = (century * 100 + next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second, rest))
}

fn two_digits(pair: [u8; 2]) -> Option<i64> {
    let [tens, ones] = pair.map(|digit| digit.is_ascii_digit().then(|| i64::from(digit - b'0')));
    Some(tens? * 10 + ones?)
}

/// Days since 1970 of a date of the Gregorian calendar. A year here begins in March, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let leap_days = year / 4 - year / 100 + year / 400;
    let before_month = ((month + 9) % 12 * 153 + 2) / 5;
    // From 1 March of year 0 to 1970 there are 719468 days.
    year * 365 + leap_days + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut parameters = CertificateParams::new(vec!["ntp.example".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(from.0, from.1, from.2);
        parameters.not_after = date_time_ymd(until.0, until.1, until.2);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_times() {
        let check = |from, until, not_before, not_after| {
            let found = CertificateValidity::of(&certificate(from, until));
            assert_eq!(found, Some(CertificateValidity { not_before, not_after }));
        };
        check((1970, 1, 1), (2038, 1, 19), 0, 2_147_472_000);
        // From 2050 on the year has four digits.
        check((2024, 2, 29), (2099, 12, 31), 1_709_164_800, 4_102_358_400);
        check((2000, 3, 1), (2100, 3, 1), 951_868_800, 4_107_542_400);
    }

    #[test]
    fn what_is_malformed_has_no_validity() {
        let good = certificate((2024, 1, 1), (2025, 1, 1));
        for length in 0..good.len() {
            assert_eq!(CertificateValidity::of(&good[..length]), None, "{length} octets");
        }
        for position in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[position] ^= flip;
                // Must not panic.
                let _ = CertificateValidity::of(&bad);
            }
        }
        let time = |text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            time(&[&[UTC_TIME, length], text.as_bytes()].concat()).map(|(seconds, _)| seconds)
        };
        assert_eq!(time("700101000001Z"), Some(1));
        for wrong in
            ["", "7001010000Z", "700101000001", "701301000001Z", "7x0101000001Z", "700101000001+0000"]
        {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
