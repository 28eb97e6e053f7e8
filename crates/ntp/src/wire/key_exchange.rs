//! The records of NTS key exchange (RFC 8915 §4), which client and server exchange over TLS. The server's records go
//! in; cookies and the name of the NTP server come out. The caller handles the connection, the certificate and the
//! keys. This file has the client's side, and what both sides share.
use std::fmt;

pub mod server;

pub use crate::wire::nts::KEY_LEN;
use crate::wire::nts::{COOKIES, LONGEST_COOKIE};

/// The protocol name for ALPN (RFC 8915 §4).
pub const ALPN: &[u8] = b"ntske/1";

/// Label for the TLS exporter, from which the keys are derived (RFC 8915 §4.3).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-network-time-security";

/// Exporter contexts of the client-to-server key and of the server-to-client key: NTPv4, the AEAD, and the direction
/// (RFC 8915 §5.1).
pub const EXPORTER_CONTEXTS: [[u8; 5]; 2] = [[0, 0, 0, 15, 0], [0, 0, 0, 15, 1]];

/// Longest response, octets. No correct server sends more.
pub const LONGEST_ANSWER: usize = 16 * 1024;

const CRITICAL: u16 = 0x8000;
const END: u16 = 0;
const NEXT_PROTOCOL: u16 = 1;
const ERROR: u16 = 2;
const WARNING: u16 = 3;
const AEAD: u16 = 4;
const COOKIE: u16 = 5;
const SERVER: u16 = 6;
const PORT: u16 = 7;

/// The protocol's number for NTPv4.
const NTP_V4: u16 = 0;
/// AEAD_AES_SIV_CMAC_256, which every server must support. The only one that this client offers.
const AES_SIV_CMAC_256: u16 = 15;

/// The client's request: NTPv4, AES-SIV-CMAC-256, end.
pub fn request() -> Vec<u8> {
    let records: [(u16, &[u16]); 3] = [(NEXT_PROTOCOL, &[NTP_V4]), (AEAD, &[AES_SIV_CMAC_256]), (END, &[])];
    let mut octets = Vec::new();
    for (kind, words) in records {
        let length = 2 * words.len() as u16;
        for word in [&[CRITICAL | kind, length], words].concat() {
            octets.extend_from_slice(&word.to_be_bytes());
        }
    }
    octets
}

/// The result of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Established {
    /// One to eight cookies, each for one request.
    pub cookies: Vec<Vec<u8>>,
    /// Host name or address of the NTP server. If absent, the server of the key exchange.
    pub server: Option<String>,
    /// UDP port of the NTP server. If absent, the default port.
    pub port: Option<u16>,
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server's records violate RFC 8915 §4.
    Malformed,
    /// The server reports an error; its number.
    Refused(u16),
    /// The server sent a warning; its number. No warning is defined.
    Warned(u16),
    /// The server sent a critical record of an unknown type; its type.
    UnknownRecord(u16),
    /// The server does not offer NTPv4.
    NoNtp,
    /// The server does not offer AES-SIV-CMAC-256.
    NoAead,
    /// The server sent no usable cookie.
    NoCookies,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the answer is malformed"),
            Self::Refused(0) => f.write_str("the server does not know a record of the request"),
            Self::Refused(1) => f.write_str("the server reports that the request is malformed"),
            Self::Refused(2) => f.write_str("the server has an internal error"),
            Self::Refused(number) => write!(f, "the server reports error {number}"),
            Self::Warned(number) => write!(f, "the server reports warning {number}"),
            Self::UnknownRecord(kind) => write!(f, "the answer needs record {kind}, which is not known"),
            Self::NoNtp => f.write_str("the server does not offer NTPv4"),
            Self::NoAead => f.write_str("the server does not offer AES-SIV-CMAC-256"),
            Self::NoCookies => f.write_str("the server gave no cookies"),
        }
    }
}

impl std::error::Error for Error {}

/// Decodes the octets that were received so far. Returns `None` if the response is not complete yet.
///
/// # Errors
/// If the octets are not the beginning of a valid response.
pub fn read(octets: &[u8]) -> Result<Option<Established>, Error> {
    let mut established = Established::default();
    let (mut protocol, mut aead) = (None, None);
    let mut rest = octets;
    loop {
        let Some((&[k0, k1, l0, l1], after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some((body, next)) = after.split_at_checked(length) else { return Ok(None) };
        rest = next;
        let kind = u16::from_be_bytes([k0, k1]);
        match kind & !CRITICAL {
            END if body.is_empty() => break,
            NEXT_PROTOCOL if protocol.is_none() => protocol = Some(words(body)?),
            AEAD if aead.is_none() => aead = Some(words(body)?),
            ERROR => return Err(Error::Refused(word(body)?)),
            WARNING => return Err(Error::Warned(word(body)?)),
            COOKIE => {
                let usable = (1..=LONGEST_COOKIE).contains(&length) && established.cookies.len() < COOKIES;
                established.cookies.extend(usable.then(|| body.to_vec()));
            }
            SERVER if established.server.is_none() => established.server = Some(host(body)?),
            PORT if established.port.is_none() => established.port = Some(word(body)?),
            END | NEXT_PROTOCOL | AEAD | SERVER | PORT => return Err(Error::Malformed),
            unknown if kind & CRITICAL != 0 => return Err(Error::UnknownRecord(unknown)),
            _ => {}
        }
    }
    match (protocol.as_deref(), aead.as_deref()) {
        (Some([NTP_V4]), Some([AES_SIV_CMAC_256])) => {}
        (Some([]) | None, _) => return Err(Error::NoNtp),
        (Some([NTP_V4]), Some([]) | None) => return Err(Error::NoAead),
        _ => return Err(Error::Malformed),
    }
    if established.port == Some(0) {
        return Err(Error::Malformed);
    }
    if established.cookies.is_empty() {
        return Err(Error::NoCookies);
    }
    Ok(Some(established))
}

fn words(body: &[u8]) -> Result<Vec<u16>, Error> {
    let (pairs, rest) = body.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().copied().map(u16::from_be_bytes).collect())
    } else {
        Err(Error::Malformed)
    }
}

fn word(body: &[u8]) -> Result<u16, Error> {
    match words(body)?[..] {
        [word] => Ok(word),
        _ => Err(Error::Malformed),
    }
}

/// A host name or an address: the allowed characters only (RFC 8915 §4.1.7).
fn host(body: &[u8]) -> Result<String, Error> {
    let sound = |octet: &u8| octet.is_ascii_alphanumeric() || b".-_:".contains(octet);
    if !(1..=253).contains(&body.len()) || !body.iter().all(sound) {
        return Err(Error::Malformed);
    }
    Ok(String::from_utf8_lossy(body).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u16;
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
    }

    fn agreed() -> Vec<u8> {
        [record(0x8001, &[0, 0]), record(0x8004, &[0, 15])].concat()
    }

    /// The result for a response with these records between the mandatory records and the end.
    fn answer(records: &[Vec<u8>]) -> Result<Option<Established>, Error> {
        read(&[agreed(), records.concat(), record(0x8000, &[])].concat())
    }

    #[test]
    fn the_request_is_the_rfcs() {
        assert_eq!(request(), [0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0]);
    }

    #[test]
    fn a_full_answer() {
        let records = [
            record(6, b"ntp.example"),
            record(0x8007, &[0x10, 0xe1]),
            record(5, &[1; 100]),
            record(5, &[2; 100]),
        ];
        let expected = Established {
            cookies: vec![vec![1; 100], vec![2; 100]],
            server: Some("ntp.example".to_owned()),
            port: Some(4321),
        };
        assert_eq!(answer(&records), Ok(Some(expected)));
    }

    #[test]
    fn surplus_cookies_and_unknown_records_are_left() {
        let records =
            [vec![record(99, b"?")], vec![record(5, &[1; 100]); 11], vec![record(5, &[1; 2000])]].concat();
        assert_eq!(answer(&records).unwrap().unwrap().cookies.len(), COOKIES);
    }

    #[test]
    fn failures_have_their_reason() {
        let cookie = || record(5, &[1; 100]);
        let check = |records: &[Vec<u8>], expected| assert_eq!(answer(records), Err(expected));
        check(&[], Error::NoCookies);
        check(&[record(5, &[])], Error::NoCookies);
        check(&[record(0x8002, &[0, 1])], Error::Refused(1));
        check(&[record(0x8003, &[0, 9])], Error::Warned(9));
        check(&[cookie(), record(0x8063, &[])], Error::UnknownRecord(99));
        check(&[cookie(), record(0x8001, &[0, 0])], Error::Malformed);
        check(&[cookie(), record(7, &[0, 0])], Error::Malformed);
        check(&[cookie(), record(7, &[0])], Error::Malformed);
        check(&[cookie(), record(6, b"a b")], Error::Malformed);
        let end = || record(0x8000, &[]);
        assert_eq!(read(&[record(0x8001, &[]), end()].concat()), Err(Error::NoNtp));
        assert_eq!(read(&[record(0x8001, &[0, 0]), cookie(), end()].concat()), Err(Error::NoAead));
        assert_eq!(read(&end()), Err(Error::NoNtp));
        let other = [record(0x8001, &[0, 0]), record(0x8004, &[0, 30]), cookie(), end()].concat();
        assert_eq!(read(&other), Err(Error::Malformed));
    }

    #[test]
    fn half_an_answer_is_waited_for() {
        let whole = [agreed(), record(5, &[1; 100]), record(0x8000, &[])].concat();
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Ok(None));
        }
        assert!(read(&whole).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets);
        }

        #[test]
        fn any_records_are_read_or_refused(
            records in proptest::collection::vec((0_u16..9, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..5)), 0..8),
        ) {
            let records: Vec<_> = records
                .iter()
                .map(|(kind, critical, body)| record(kind | if *critical { CRITICAL } else { 0 }, body))
                .collect();
            if let Ok(Some(established)) = answer(&records) {
                prop_assert!((1..=COOKIES).contains(&established.cookies.len()));
            }
        }
    }
}
