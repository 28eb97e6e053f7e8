//! Objections against a header alone, and how sizes are written. `sim::stories::causes` tests causes in simulated
//! networks.
use super::*;
use crate::{Leap, NtpTimestamp, Wall};

#[test]
fn objections_against_a_header() {
    let at = |seconds| NtpTimestamp::from_wall(Wall(1_800_000_000_000_000_000).plus(seconds));
    let good = Header {
        leap: Leap::None,
        version: 4,
        stratum: 2,
        receive: at(0.0),
        transmit: at(0.001),
        ..Header::default()
    };
    let check = |change: fn(&mut Header), expected: Option<&str>| {
        let mut header = good;
        change(&mut header);
        let said = objection(&header);
        match expected {
            Some(word) => assert!(said.as_ref().is_some_and(|said| said.contains(word)), "{word}: {said:?}"),
            None => assert_eq!(said, None),
        }
    };
    let kiss = |code: [u8; 4]| objection(&Header { stratum: 0, reference_id: code, ..good });
    check(|_| {}, None);
    check(|h| h.leap = Leap::Unknown, Some("not synchronised"));
    check(|h| h.stratum = 15, Some("stratum is 15"));
    check(|h| h.transmit = NtpTimestamp(h.receive.0 - (1 << 32)), Some("backwards"));
    for (code, word) in [(*b"RATE", "RATE"), (*b"DENY", "DENY"), (*b"RSTR", "RSTR"), (*b"CRYP", "CRYP")] {
        assert!(kiss(code).is_some_and(|said| said.contains(word)), "{word}");
    }
    assert!(kiss(*b"INIT").is_some_and(|said| said.contains("not synchronised")));
}

#[test]
fn sizes_are_rounded_up_to_two_digits() {
    let check = |seconds: f64, expected: &str| assert_eq!(Rounded(seconds).to_string(), expected);
    check(1.5, "1500ms");
    check(1.0, "1s");
    check(16.0, "16s");
    check(10.001, "11s");
    check(10.999, "11s");
    check(1.501, "1600ms");
    check(0.25, "250ms");
    check(0.001, "1ms");
}
