//! The trailer that proves that the sender of a datagram knows a shared key: key number and digest (RFC 5905 §7.3). The
//! caller's [`Mac`] makes the digest: keyed hashes, or AES-CMAC (RFC 8573).
//!
//! Nothing may be between header and trailer. With keyed hashes, an attacker who knows the digest of a message can
//! forge the digest of a longer one (length extension).
use std::fmt;

use crate::wire::packet::HEADER_LEN;

/// Makes digests with one key.
pub trait Mac {
    /// The digest of `message`; its length is always the same, and at least 16 octets.
    fn digest(&self, message: &[u8]) -> Vec<u8>;
}

/// Longer digests are truncated to 160 bits in version 4, as in ntpd and chrony: a longer trailer could be mistaken for
/// an extension field (RFC 7822 §7.5). Earlier versions have no extension fields, and chrony sends the whole digest.
const LONGEST_DIGEST: usize = 20;

/// Why a datagram is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacError {
    /// The datagram has no trailer.
    Missing,
    /// The server reports that it could not verify the request (a crypto-NAK): four octets of zero.
    NotAccepted,
    /// The trailer is made with another key, or the digest has another length.
    OtherKey,
    /// The digest does not match the datagram.
    Wrong,
}

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "they carry no MAC",
            Self::NotAccepted => "it does not accept the MAC of this node (crypto-NAK)",
            Self::OtherKey => "they are made with another key, or another type of key",
            Self::Wrong => "the MAC is wrong",
        })
    }
}

impl std::error::Error for MacError {}

/// Appends the trailer, made with key number `key`.
pub fn sign(datagram: &mut Vec<u8>, key: u32, mac: &dyn Mac) {
    let digest = digest_of(datagram, mac);
    datagram.extend_from_slice(&key.to_be_bytes());
    datagram.extend_from_slice(&digest);
}

/// Verifies that `datagram` consists of a header and a valid trailer made with key number `key`.
///
/// # Errors
/// Why the datagram is not authenticated.
pub fn verify(datagram: &[u8], key: u32, mac: &dyn Mac) -> Result<(), MacError> {
    let Some((message, trailer)) = datagram.split_at_checked(HEADER_LEN) else {
        return Err(MacError::Missing);
    };
    let Some((number, digest)) = trailer.split_first_chunk::<4>() else { return Err(MacError::Missing) };
    if digest.is_empty() && *number == [0; 4] {
        return Err(MacError::NotAccepted);
    }
    let expected = digest_of(message, mac);
    if *number != key.to_be_bytes() || digest.len() != expected.len() {
        return Err(MacError::OtherKey);
    }
    // Constant-time comparison: its duration does not depend on where the two differ. It is written here, since this crate has no
    // dependency; elsewhere hmac and aes-siv compare, by the crate `subtle`.
    let difference = digest.iter().zip(&expected).fold(0, |all, (a, b)| all | (a ^ b));
    if difference == 0 { Ok(()) } else { Err(MacError::Wrong) }
}

/// The key number in the trailer of `datagram`. None if there is no trailer, or a crypto-NAK, which has a number and no
/// digest.
pub fn key_number(datagram: &[u8]) -> Option<u32> {
    let (number, digest) = datagram.get(HEADER_LEN..)?.split_first_chunk::<4>()?;
    (!digest.is_empty()).then(|| u32::from_be_bytes(*number))
}

/// The digest of `message`, truncated as the version in `message` requires.
fn digest_of(message: &[u8], mac: &dyn Mac) -> Vec<u8> {
    let mut digest = mac.digest(message);
    if message.first().is_none_or(|first| first >> 3 & 7 >= 4) {
        digest.truncate(LONGEST_DIGEST);
    }
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::md5;

    /// Keyed MD5, since this crate has MD5 for other reasons.
    struct Keyed(&'static [u8], usize);

    impl Mac for Keyed {
        fn digest(&self, message: &[u8]) -> Vec<u8> {
            let half = md5::chained(&[self.0, message].concat());
            half.iter().cycle().take(self.1).copied().collect()
        }
    }

    const KEY: Keyed = Keyed(b"secret", 16);

    fn signed(mac: &Keyed) -> Vec<u8> {
        let mut datagram = vec![0x24; HEADER_LEN];
        sign(&mut datagram, 7, mac);
        datagram
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let datagram = signed(&KEY);
        let check = |datagram: &[u8], expected| assert_eq!(verify(datagram, 7, &KEY), expected);
        check(&datagram, Ok(()));
        check(&datagram[..HEADER_LEN], Err(MacError::Missing));
        check(&datagram[..10], Err(MacError::Missing));
        check(&[&datagram[..HEADER_LEN], &[0; 4]].concat(), Err(MacError::NotAccepted));
        check(&datagram[..67], Err(MacError::OtherKey));
        check(&signed(&Keyed(b"secret", 20)), Err(MacError::OtherKey));
        check(&signed(&Keyed(b"Secret", 16)), Err(MacError::Wrong));
        assert_eq!(verify(&datagram, 8, &KEY), Err(MacError::OtherKey));
    }

    #[test]
    fn long_digests_are_cut() {
        let long = Keyed(b"secret", 64);
        let datagram = signed(&long);
        assert_eq!(datagram.len(), HEADER_LEN + 4 + 20);
        assert_eq!(verify(&datagram, 7, &long), Ok(()));
        let mut old = vec![0x1b; HEADER_LEN];
        sign(&mut old, 7, &long);
        assert_eq!(old.len(), HEADER_LEN + 4 + 64);
        assert_eq!(verify(&old, 7, &long), Ok(()));
        assert_eq!(verify(&old[..HEADER_LEN + 24], 7, &long), Err(MacError::OtherKey));
    }

    #[test]
    fn a_trailer_names_its_key() {
        assert_eq!(key_number(&signed(&KEY)), Some(7));
        assert_eq!(key_number(&signed(&KEY)[..HEADER_LEN + 4]), None);
        assert_eq!(key_number(&[0; HEADER_LEN]), None);
        assert_eq!(key_number(&[0; 7]), None);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_refused(bit in 0_usize..68 * 8) {
            let mut datagram = signed(&KEY);
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify(&datagram, 7, &KEY).is_err());
        }

        #[test]
        fn any_octets_are_refused(octets in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(verify(&octets, 7, &KEY).is_err());
        }
    }
}
