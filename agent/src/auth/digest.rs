//! The cryptography for the `ntp` crate's `Mac`, with RustCrypto: digests with a shared key. Octets in, octets out; the
//! caller provides the keys.
use aes::{Aes128, Aes256, cipher::KeyInit};
use cmac::Cmac;
use md5::{Digest, Md5};
use ntp::mac::Mac;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use crate::auth::key::{DigestKind, Key};

impl Mac for Key {
    fn digest(&self, message: &[u8]) -> Vec<u8> {
        match self.kind {
            DigestKind::Md5 => hash::<Md5>(&self.secret, message),
            DigestKind::Sha1 => hash::<Sha1>(&self.secret, message),
            DigestKind::Sha256 => hash::<Sha256>(&self.secret, message),
            DigestKind::Sha384 => hash::<Sha384>(&self.secret, message),
            DigestKind::Sha512 => hash::<Sha512>(&self.secret, message),
            DigestKind::Aes128 => cmac::<Cmac<Aes128>>(&self.secret, message),
            DigestKind::Aes256 => cmac::<Cmac<Aes256>>(&self.secret, message),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(digits: &str) -> Vec<u8> {
        hex::decode(digits).unwrap()
    }

    fn check(kind: DigestKind, secret: &[u8], message: &[u8], expected: &str) {
        let key = Key { id: 1, kind, secret: secret.to_vec() };
        assert_eq!(key.digest(message), octets(expected), "{kind:?}");
    }

    #[test]
    fn digests_are_the_standards() {
        // RFC 4493 §4, examples 1 and 2.
        let key = octets("2b7e151628aed2a6abf7158809cf4f3c");
        check(DigestKind::Aes128, &key, b"", "bb1d6929e95937287fa37d129b756746");
        let message = octets("6bc1bee22e409f96e93d7e117393172a");
        check(DigestKind::Aes128, &key, &message, "070a16b46b4d4144f79bdd9dd04a287c");
        // SP 800-38B, D.3, example 2.
        let key = octets("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        check(DigestKind::Aes256, &key, &message, "28a7023f452e8f82bd4bf28d8c37c35c");
        // The key is hashed before the message: RFC 1321 A.5, FIPS 180-4's "abc".
        check(DigestKind::Md5, b"a", b"bc", "900150983cd24fb0d6963f7d28e17f72");
        check(DigestKind::Sha1, b"ab", b"c", "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(DigestKind::Sha256, b"a", b"bc", sha256);
        for (kind, length) in [(DigestKind::Sha384, 48), (DigestKind::Sha512, 64)] {
            let key = Key { id: 1, kind, secret: vec![1] };
            assert_eq!(key.digest(b"x").len(), length);
        }
    }
}
