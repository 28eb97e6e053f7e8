//! Cookies (RFC 8915 §6): the keys of a session, encrypted so that only the server can read them. The client keeps the
//! cookie, so the server keeps no state. Nobody except the server can tell whether two cookies belong to one client.
use std::fmt;

use crate::wire::nts::{Aead, KEY_LEN, Nonce};

/// The id of the server's key with which a cookie was encrypted. It reveals nothing about the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({:08x})", u32::from_be_bytes(self.0))
    }
}

/// The two keys of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKeys {
    /// Authenticates requests.
    pub client_to_server: [u8; KEY_LEN],
    /// Authenticates and encrypts replies.
    pub server_to_client: [u8; KEY_LEN],
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys")
    }
}

/// Length of every cookie: id, nonce, tag, two keys.
pub const COOKIE_LEN: usize = 4 + 16 + 16 + 2 * KEY_LEN;

/// Makes a cookie of `keys`, encrypted with `key`. `nonce` is random and used once.
pub fn seal(keys: &SessionKeys, (id, key): (KeyId, &dyn Aead), nonce: &Nonce) -> Vec<u8> {
    let mut plain = [0; 2 * KEY_LEN];
    plain[..KEY_LEN].copy_from_slice(&keys.client_to_server);
    plain[KEY_LEN..].copy_from_slice(&keys.server_to_client);
    let mut cookie = Vec::with_capacity(COOKIE_LEN);
    cookie.extend_from_slice(&id.0);
    cookie.extend_from_slice(nonce);
    cookie.extend_from_slice(&key.seal(nonce, &id.0, &plain));
    cookie
}

/// The keys in a cookie. None if this server did not make the cookie, or `find` no longer knows its key.
pub fn open<'a, K: Aead + 'a>(
    cookie: &[u8],
    find: impl FnOnce(KeyId) -> Option<&'a K>,
) -> Option<SessionKeys> {
    if cookie.len() != COOKIE_LEN {
        return None;
    }
    let (id, rest) = cookie.split_first_chunk::<4>()?;
    let (nonce, sealed) = rest.split_first_chunk::<16>()?;
    let plain = find(KeyId(*id))?.open(nonce, id, sealed)?;
    let (client_to_server, server_to_client) = plain.split_first_chunk::<KEY_LEN>()?;
    Some(SessionKeys {
        client_to_server: *client_to_server,
        server_to_client: server_to_client.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::nts::tests::TestCipher;

    const KEYS: SessionKeys = SessionKeys { client_to_server: [1; KEY_LEN], server_to_client: [2; KEY_LEN] };
    const ID: KeyId = KeyId([0, 0, 0, 9]);

    #[test]
    fn what_is_sealed_opens_by_the_same_key() {
        let cookie = seal(&KEYS, (ID, &TestCipher), &[3; 16]);
        assert_eq!(cookie.len(), COOKIE_LEN);
        assert_eq!(open(&cookie, |id| (id == ID).then_some(&TestCipher)), Some(KEYS));
        assert_eq!(open::<TestCipher>(&cookie, |_| None), None);
        for octet in 0..cookie.len() {
            let mut bad = cookie.clone();
            bad[octet] ^= 0x10;
            assert_eq!(open(&bad, |_| Some(&TestCipher)), None, "octet {octet}");
            assert_eq!(open(&cookie[..octet], |_| Some(&TestCipher)), None, "{octet} octets");
        }
        assert_eq!(format!("{KEYS:?} {ID:?}"), "SessionKeys KeyId(00000009)");
    }
}
