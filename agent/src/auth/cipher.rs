//! The cryptography behind the `ntp` crate's two traits, by RustCrypto: digests with a shared key, and AES-SIV-CMAC-256.
//! Octets in, octets out; keys come from elsewhere, and nonces too.
use aes::{Aes128, Aes256};
use aes_siv::{KeyInit, siv::Aes128Siv};
use cmac::Cmac;
use md5::{Digest, Md5};
use ntp::{key_exchange::KEY_LEN, mac::Mac, nts::Aead};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use crate::auth::key::{Key, Kind};

impl Mac for Key {
    fn digest(&self, message: &[u8]) -> Vec<u8> {
        match self.kind {
            Kind::Md5 => hash::<Md5>(&self.secret, message),
            Kind::Sha1 => hash::<Sha1>(&self.secret, message),
            Kind::Sha256 => hash::<Sha256>(&self.secret, message),
            Kind::Sha384 => hash::<Sha384>(&self.secret, message),
            Kind::Sha512 => hash::<Sha512>(&self.secret, message),
            Kind::Aes128 => cmac::<Cmac<Aes128>>(&self.secret, message),
            Kind::Aes256 => cmac::<Cmac<Aes256>>(&self.secret, message),
        }
    }
}

/// A hash over key and message (RFC 5905 §7.3).
fn hash<D: Digest>(secret: &[u8], message: &[u8]) -> Vec<u8> {
    D::new().chain_update(secret).chain_update(message).finalize().to_vec()
}

/// AES-CMAC (RFC 4493).
fn cmac<M: cmac::Mac + KeyInit>(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let made = <M as cmac::Mac>::new_from_slice(secret);
    let made = made.expect("a key of another length is refused when it is read");
    made.chain_update(message).finalize().into_bytes().to_vec()
}

/// A key for AEAD_AES_SIV_CMAC_256 (RFC 5297).
pub(crate) struct SivKey([u8; KEY_LEN]);

impl SivKey {
    /// Of both halves: what authenticates, and what encrypts.
    pub(crate) fn new(key: [u8; KEY_LEN]) -> Self {
        Self(key)
    }

    fn siv(&self) -> Aes128Siv {
        Aes128Siv::new(&self.0.into())
    }
}

impl Aead for SivKey {
    fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8> {
        self.siv()
            .encrypt([associated, nonce], plain)
            .expect("two headers are fewer than the 126 that SIV takes")
    }

    fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.siv().decrypt([associated, nonce], sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn check(kind: Kind, secret: &[u8], message: &[u8], expected: &str) {
        let key = Key { id: 1, kind, secret: secret.to_vec() };
        assert_eq!(key.digest(message), octets(expected), "{kind:?}");
    }

    #[test]
    fn digests_are_the_standards() {
        // RFC 4493 §4, examples 1 and 2.
        let key = octets("2b7e151628aed2a6abf7158809cf4f3c");
        check(Kind::Aes128, &key, b"", "bb1d6929e95937287fa37d129b756746");
        let message = octets("6bc1bee22e409f96e93d7e117393172a");
        check(Kind::Aes128, &key, &message, "070a16b46b4d4144f79bdd9dd04a287c");
        // SP 800-38B, D.3, example 2.
        let key = octets("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        check(Kind::Aes256, &key, &message, "28a7023f452e8f82bd4bf28d8c37c35c");
        // Key and message are hashed one after the other: RFC 1321 A.5, FIPS 180-4's "abc".
        check(Kind::Md5, b"a", b"bc", "900150983cd24fb0d6963f7d28e17f72");
        check(Kind::Sha1, b"ab", b"c", "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(Kind::Sha256, b"a", b"bc", sha256);
        for (kind, length) in [(Kind::Sha384, 48), (Kind::Sha512, 64)] {
            let key = Key { id: 1, kind, secret: vec![1] };
            assert_eq!(key.digest(b"x").len(), length);
        }
    }

    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not() {
        let key = SivKey::new([7; KEY_LEN]);
        let sealed = key.seal(&[1; 16], b"header", b"cookie");
        assert_eq!(sealed.len(), 16 + 6);
        assert_eq!(key.open(&[1; 16], b"header", &sealed).as_deref(), Some(&b"cookie"[..]));
        assert_eq!(key.open(&[2; 16], b"header", &sealed), None);
        assert_eq!(key.open(&[1; 16], b"Header", &sealed), None);
        assert_eq!(SivKey::new([8; KEY_LEN]).open(&[1; 16], b"header", &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(key.open(&[1; 16], b"header", &sealed[..length]), None);
        }
    }

    /// RFC 5297 A.2 has two headers beside a nonce; with the standard's own order of headers and nonce we agree if this
    /// does.
    #[test]
    fn the_nonce_is_the_last_header() {
        let key = octets("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f");
        let first =
            octets("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100");
        let second = octets("102030405060708090a0");
        let nonce = octets("09f911029d74e35bd84156c5635688c0");
        let plain = b"this is some plaintext to encrypt using SIV-AES";
        let siv = SivKey::new(key.try_into().unwrap()).siv().encrypt([&first, &second, &nonce], plain);
        let expected = "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829\
                        ea64ad544a272e9c485b62a3fd5c0d";
        assert_eq!(siv.unwrap(), octets(expected));
    }
}
