//! Network Time Security in NTP datagrams (RFC 8915 §5): a request with a cookie and an authenticator, and a reply with
//! an authenticator that contains new cookies. The caller provides keys, the AEAD ([`Aead`]), and random octets.
use std::fmt;

pub mod cookie;

use crate::wire::{
    extension::{self, Field},
    packet::{self, HEADER_LEN},
};

/// Authenticated encryption with one key (RFC 5116); here always AEAD_AES_SIV_CMAC_256 (RFC 5297).
pub trait Aead {
    /// Encrypts `plain`, and authenticates it together with `associated`.
    fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8>;
    /// Decrypts `sealed`. None if it, `associated` or the nonce was changed.
    fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}

/// The unique identifier of a request: random, used once.
pub type UniqueId = [u8; 32];

/// A nonce: random, used once. Its length is the one that AES-SIV recommends, so no padding is needed (RFC 8915 §5.6).
pub type Nonce = [u8; 16];

/// Length of one key for AEAD_AES_SIV_CMAC_256, octets.
pub const KEY_LEN: usize = 32;

pub(crate) const UNIQUE_ID: u16 = 0x0104;
pub(crate) const COOKIE: u16 = 0x0204;
pub(crate) const PLACEHOLDER: u16 = 0x0304;
pub(crate) const AUTHENTICATOR: u16 = 0x0404;

/// The number of cookies that a client keeps (RFC 8915 §5.7).
pub const COOKIES: usize = 8;

/// The longest cookie that fits into a request ([`LONGEST_REQUEST`]).
pub const LONGEST_COOKIE: usize = 1024;

/// The longest datagram that passes every IPv6 network without fragmentation: 1280 octets minus the headers of IPv6 and
/// UDP.
const LONGEST_REQUEST: usize = 1232;

/// A request: `header`, one cookie, placeholders for the missing cookies, and the authenticator. It is as long as the
/// longest possible reply, since a server may not send more octets than it received.
///
/// `missing` is the number of cookies that are wanted in addition to the one that replaces this one. Fewer are
/// requested if the datagram would become longer than [`LONGEST_REQUEST`].
///
/// # Errors
/// [`extension::Error::TooLong`] for a cookie longer than any that [`key_exchange`](crate::wire::key_exchange) accepts.
pub fn request(
    header: &[u8; HEADER_LEN],
    (id, nonce): (&UniqueId, &Nonce),
    cookie: &[u8],
    missing: usize,
    client_to_server: &dyn Aead,
) -> Result<Vec<u8>, extension::Error> {
    let mut datagram = header.to_vec();
    extension::append(&mut datagram, UNIQUE_ID, id)?;
    let before = datagram.len();
    extension::append(&mut datagram, COOKIE, cookie)?;
    let room = LONGEST_REQUEST.saturating_sub(datagram.len() + SEAL);
    for _ in 0..missing.min(room / (datagram.len() - before)) {
        extension::append(&mut datagram, PLACEHOLDER, &vec![0; cookie.len()])?;
    }
    put_seal(&mut datagram, nonce, &[], client_to_server)?;
    Ok(datagram)
}

/// Appends the authenticator field, which authenticates all of `datagram` and contains `plain` encrypted (RFC 8915
/// §5.6).
pub(crate) fn put_seal(
    datagram: &mut Vec<u8>,
    nonce: &Nonce,
    plain: &[u8],
    key: &dyn Aead,
) -> Result<(), extension::Error> {
    let sealed = key.seal(nonce, datagram, plain);
    let mut body = Vec::with_capacity(4 + nonce.len() + sealed.len());
    for part in [&nonce[..], &sealed] {
        let length = u16::try_from(part.len()).map_err(|_| extension::Error::TooLong)?;
        body.extend_from_slice(&length.to_be_bytes());
    }
    // The lengths of nonce, tag and fields are multiples of four octets, so no padding is needed.
    body.extend_from_slice(nonce);
    body.extend_from_slice(&sealed);
    extension::append(datagram, AUTHENTICATOR, &body)
}

/// Length of the authenticator field of a request: head, two lengths, nonce, tag.
const SEAL: usize = 4 + 4 + 16 + 16;

/// Why a reply is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NtsError {
    /// The datagram is not a header followed by extension fields.
    Malformed,
    /// It is the reply to another request.
    OtherRequest,
    /// The server can no longer decrypt the cookie (kiss NTSN, RFC 8915 §5.7). The kiss itself is not authenticated.
    CookieUnknown,
    /// There is no authenticator field.
    Missing,
    /// The authenticator does not match.
    Wrong,
}

impl fmt::Display for NtsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "their extension fields are malformed",
            Self::OtherRequest => "they answer another request",
            Self::CookieUnknown => "it can no longer decrypt this node's cookies (NTSN)",
            Self::Missing => {
                "they have no authentication; the server does not support NTS, or a device on the path removes it"
            }
            Self::Wrong => "the authenticator is wrong",
        })
    }
}

impl std::error::Error for NtsError {}

/// Authenticates the reply to request `id`, and returns the cookies in it.
///
/// # Errors
/// Why the reply is not authenticated. Nothing may follow the authenticator field, and it covers all octets before it,
/// so no bit of the datagram can be changed.
pub fn open(datagram: &[u8], id: &UniqueId, server_to_client: &dyn Aead) -> Result<Vec<Vec<u8>>, NtsError> {
    let header = packet::decode(datagram).map_err(|_| NtsError::Malformed)?;
    let mut ours = false;
    let mut seal = None;
    for field in extension::fields(datagram, HEADER_LEN) {
        let field = field.map_err(|_| NtsError::Malformed)?;
        match field.kind {
            _ if seal.is_some() => return Err(NtsError::Malformed),
            UNIQUE_ID if field.body != id => return Err(NtsError::OtherRequest),
            UNIQUE_ID => ours = true,
            AUTHENTICATOR => seal = Some(field),
            // Unknown fields must be ignored. These are authenticated.
            _ => {}
        }
    }
    match seal {
        // A plain reply, from a server or a device on the path that does not support NTS.
        None if !ours => Err(NtsError::Missing),
        Some(_) if !ours => Err(NtsError::OtherRequest),
        Some(seal) => cookies_in(&break_seal(datagram, &seal, server_to_client)?),
        None if header.stratum == 0 && &header.reference_id == b"NTSN" => Err(NtsError::CookieUnknown),
        None => Err(NtsError::Missing),
    }
}

/// Verifies the authenticator field `seal` of `datagram`, and returns its decrypted content (RFC 8915 §5.6).
pub(crate) fn break_seal(datagram: &[u8], seal: &Field<'_>, key: &dyn Aead) -> Result<Vec<u8>, NtsError> {
    let Some((&[n0, n1, c0, c1], rest)) = seal.body.split_first_chunk::<4>() else {
        return Err(NtsError::Malformed);
    };
    let length = |octets| usize::from(u16::from_be_bytes(octets));
    let (nonce, rest) = part(rest, length([n0, n1]))?;
    let (sealed, rest) = part(rest, length([c0, c1]))?;
    if !rest.is_empty() {
        return Err(NtsError::Malformed);
    }
    key.open(nonce, &datagram[..seal.start], sealed).ok_or(NtsError::Wrong)
}

/// Splits off the first `length` octets and their padding up to a multiple of four. Returns the octets, and the rest.
fn part(octets: &[u8], length: usize) -> Result<(&[u8], &[u8]), NtsError> {
    let (padded, rest) = octets.split_at_checked(length.next_multiple_of(4)).ok_or(NtsError::Malformed)?;
    let (part, padding) = padded.split_at(length);
    if padding.iter().any(|octet| *octet != 0) {
        return Err(NtsError::Malformed);
    }
    Ok((part, rest))
}

fn cookies_in(plain: &[u8]) -> Result<Vec<Vec<u8>>, NtsError> {
    let mut cookies = Vec::new();
    for field in extension::fields(plain, 0) {
        let field = field.map_err(|_| NtsError::Malformed)?;
        if field.kind == COOKIE && (1..=LONGEST_COOKIE).contains(&field.body.len()) {
            cookies.push(field.body.to_vec());
        }
    }
    Ok(cookies)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        NtpTimestamp,
        wire::{
            md5,
            packet::{Header, MODE_SERVER},
        },
    };

    /// A cipher for tests: it authenticates with MD5 and does not encrypt.
    #[derive(Clone, Debug)]
    pub(crate) struct TestCipher;

    impl Aead for TestCipher {
        fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8> {
            let lengths = [nonce.len(), associated.len()].map(usize::to_be_bytes).concat();
            [&md5::chained(&[&lengths, nonce, associated, plain].concat()), plain].concat()
        }

        fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
            let (_, plain) = sealed.split_at_checked(16)?;
            (self.seal(nonce, associated, plain) == sealed).then(|| plain.to_vec())
        }
    }

    const ID: UniqueId = [0x55; 32];
    const NONCE: Nonce = [0x66; 16];

    fn reply(cookies: usize) -> Vec<u8> {
        let header = Header { version: 4, mode: MODE_SERVER, stratum: 2, ..Header::default() };
        let mut datagram = header.encode().to_vec();
        extension::append(&mut datagram, UNIQUE_ID, &ID).unwrap();
        let mut plain = Vec::new();
        for n in 0..cookies {
            extension::append(&mut plain, COOKIE, &[n as u8; 100]).unwrap();
        }
        let sealed = TestCipher.seal(&NONCE, &datagram, &plain);
        let lengths = [16, sealed.len() as u16].map(u16::to_be_bytes).concat();
        extension::append(&mut datagram, AUTHENTICATOR, &[&lengths[..], &NONCE, &sealed].concat()).unwrap();
        datagram
    }

    #[test]
    fn a_request_is_as_long_as_its_reply() {
        let header = packet::client_request(NtpTimestamp(1));
        for missing in 0..COOKIES {
            let datagram = request(&header, (&ID, &NONCE), &[7; 100], missing, &TestCipher).unwrap();
            assert_eq!(datagram.len(), reply(1 + missing).len());
        }
    }

    #[test]
    fn a_request_holds_what_it_must_in_order() {
        let header = packet::client_request(NtpTimestamp(1));
        let datagram = request(&header, (&ID, &NONCE), &[7; 100], 2, &TestCipher).unwrap();
        let kinds: Vec<_> = extension::fields(&datagram, 48).map(|field| field.unwrap().kind).collect();
        assert_eq!(kinds, [UNIQUE_ID, COOKIE, PLACEHOLDER, PLACEHOLDER, AUTHENTICATOR]);
        let long = request(&header, (&ID, &NONCE), &[7; LONGEST_COOKIE], 7, &TestCipher).unwrap();
        assert!(long.len() <= LONGEST_REQUEST);
        let large = request(&header, (&ID, &NONCE), &[7; 400], 7, &TestCipher).unwrap();
        assert!(large.len() <= LONGEST_REQUEST && large.len() + 404 > LONGEST_REQUEST);
    }

    #[test]
    fn replies() {
        let check = |datagram: &[u8], expected: Result<usize, NtsError>| {
            assert_eq!(open(datagram, &ID, &TestCipher).map(|cookies| cookies.len()), expected);
        };
        check(&reply(0), Ok(0));
        check(&reply(3), Ok(3));
        check(&reply(1)[..84], Err(NtsError::Missing));
        check(&reply(1)[..48], Err(NtsError::Missing));
        check(&reply(1)[..47], Err(NtsError::Malformed));
        let mut kiss = reply(1)[..84].to_vec();
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"NTSN");
        check(&kiss, Err(NtsError::CookieUnknown));
        let mut other = kiss;
        other[60] ^= 1;
        check(&other, Err(NtsError::OtherRequest));
        let mut longer = reply(1);
        extension::append(&mut longer, 0x2104, &[]).unwrap();
        check(&longer, Err(NtsError::Malformed));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_refused(bit in 0_usize..(48 + 36 + 24 + 16 + 2 * 104) * 8) {
            let mut datagram = reply(2);
            prop_assert_eq!(datagram.len(), 48 + 36 + 24 + 16 + 2 * 104);
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&datagram, &ID, &TestCipher).is_err());
        }

        #[test]
        fn any_octets_are_refused(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&octets, &ID, &TestCipher).is_err());
        }

        #[test]
        fn any_plain_text_is_read_or_refused(plain in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = cookies_in(&plain);
        }
    }
}
