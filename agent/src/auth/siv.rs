//! AEAD_AES_SIV_CMAC_256 (RFC 5297) for the `ntp` crate's trait, with RustCrypto. A key, octets and a nonce in, octets
//! out.
use std::sync::Mutex;

use aes_siv::{KeyInit, siv::Aes128Siv};
use ntp::{key_exchange::KEY_LEN, nts::Aead};

/// A key, and values that depend on it alone, computed once.
pub(crate) struct SivKey {
    key: [u8; KEY_LEN],
    /// Each use changes it and restores it.
    ready: Mutex<Aes128Siv>,
}

impl SivKey {
    /// Makes a key of both halves: the one that authenticates, and the one that encrypts (RFC 5297 §2.2).
    pub(crate) fn new(key: [u8; KEY_LEN]) -> Self {
        Self { key, ready: Mutex::new(Aes128Siv::new(&key.into())) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Aes128Siv) -> T) -> T {
        match self.ready.try_lock() {
            Ok(mut ready) => work(&mut ready),
            // Another thread uses it: to make another one costs less than to wait.
            Err(_) => work(&mut Aes128Siv::new(&self.key.into())),
        }
    }
}

impl Clone for SivKey {
    fn clone(&self) -> Self {
        Self::new(self.key)
    }
}

impl Aead for SivKey {
    fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8> {
        self.with(|siv| siv.encrypt([associated, nonce], plain))
            .expect("two headers are fewer than the 126 that SIV takes")
    }

    fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.with(|siv| siv.decrypt([associated, nonce], sealed)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn two_threads_do_not_wait_for_each_other() {
        let key = SivKey::new([7; KEY_LEN]);
        let sealed = key.seal(&[1; 16], b"header", b"cookie");
        let busy = key.ready.lock().unwrap();
        assert_eq!(key.seal(&[1; 16], b"header", b"cookie"), sealed);
        drop(busy);
        assert_eq!(key.open(&[1; 16], b"header", &sealed).as_deref(), Some(&b"cookie"[..]));
    }

    /// RFC 5297 A.2 has two headers besides a nonce. If this test passes, the order of headers and nonce is that of the
    /// standard.
    #[test]
    fn the_nonce_is_the_last_header() {
        let octets = |digits: &str| hex::decode(digits).unwrap();
        let key = octets("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f");
        let first =
            octets("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100");
        let second = octets("102030405060708090a0");
        let nonce = octets("09f911029d74e35bd84156c5635688c0");
        let plain = b"this is some plaintext to encrypt using SIV-AES";
        let key = SivKey::new(key.try_into().unwrap());
        let siv = key.with(|siv| siv.encrypt([&first, &second, &nonce], plain));
        let expected = "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829\
                        ea64ad544a272e9c485b62a3fd5c0d";
        assert_eq!(siv.unwrap(), octets(expected));
    }
}
