//! Keys that seal cookies (RFC 8915 §6): a file's text in, keys out, and back. An error names its line. Prints no key.
//!
//! The file has one key per line, `<id> <key>`. The id has 8 hexadecimal digits; a cookie names the key that sealed it
//! by its id. The key has 64 digits (AEAD_AES_SIV_CMAC_256). **The first line is the key that seals new cookies**; the
//! others are still accepted. The file has one to eight keys, and each id and key only once. Empty lines and lines that
//! begin with `#` are comments.
//!
//! If several servers share the file, a new key must first be on the second line, and move to the first line when every
//! server has read it. Otherwise one server would give out cookies that another cannot open.
use std::{fmt, sync::Arc};

use contract::{CookieKey, MOST_COOKIE_KEYS};
use ntp::{key_exchange::KEY_LEN, nts::cookie::KeyId};

use crate::auth::SivKey;

/// At most eight keys; the first one seals. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CookieKeys(Arc<[(KeyId, SivKey)]>);

/// A key's id, and the key.
pub(crate) type RawKey = (KeyId, [u8; KEY_LEN]);

/// Why a text is not a file of keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("it holds no key")]
    Empty,
    #[error("line {line}: more than {MOST_COOKIE_KEYS} keys")]
    Many { line: usize },
    #[error("line {line}: must be 8 hexadecimal digits (the id), a space, and 64 (the key)")]
    Shape { line: usize },
    #[error("line {line}: this id was there before")]
    IdTwice { line: usize },
    #[error("line {line}: this key was there before")]
    KeyTwice { line: usize },
}

/// Reads a file's text.
pub(crate) fn parse(text: &str) -> Result<Vec<RawKey>, Error> {
    let mut keys: Vec<RawKey> = Vec::new();
    for (index, content) in text.lines().enumerate() {
        let (line, content) = (index + 1, content.trim());
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if keys.len() == MOST_COOKIE_KEYS {
            return Err(Error::Many { line });
        }
        let CookieKey { id, key } = CookieKey::from_line(content).ok_or(Error::Shape { line })?;
        let id = KeyId(id);
        if keys.iter().any(|(known, _)| *known == id) {
            return Err(Error::IdTwice { line });
        }
        if keys.iter().any(|(_, known)| *known == key) {
            return Err(Error::KeyTwice { line });
        }
        keys.push((id, key));
    }
    if keys.is_empty() { Err(Error::Empty) } else { Ok(keys) }
}

/// The text of a file with these keys.
pub(crate) fn text(keys: &[RawKey]) -> String {
    keys.iter().map(|(KeyId(id), key)| CookieKey { id: *id, key: *key }.to_line() + "\n").collect()
}

impl CookieKeys {
    /// Prepares keys for use. There is at least one: [`parse`] returns no empty list, and an agent with keys of its own
    /// makes one.
    pub(crate) fn new(keys: &[RawKey]) -> Self {
        Self(keys.iter().map(|(id, key)| (*id, SivKey::new(*key))).collect())
    }

    /// The key that seals.
    pub(crate) fn current(&self) -> (KeyId, &SivKey) {
        let (id, key) = &self.0[0];
        (*id, key)
    }

    /// The key with this id.
    pub(crate) fn find(&self, id: KeyId) -> Option<&SivKey> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, key)| key)
    }
}

impl fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(id: u8, key: u8) -> String {
        format!("{id:08x} {}\n", format!("{key:02x}").repeat(KEY_LEN))
    }

    #[test]
    fn the_first_line_seals_and_all_are_known() {
        let text = format!("# a comment\n\n{}{}", line(7, 1), line(9, 2).to_uppercase());
        let keys = CookieKeys::new(&parse(&text).unwrap());
        let id = |n| KeyId([0, 0, 0, n]);
        assert_eq!(keys.current().0, id(7));
        assert!(keys.find(id(7)).is_some() && keys.find(id(9)).is_some() && keys.find(id(8)).is_none());
        assert_eq!(format!("{keys:?}"), "[KeyId(00000007), KeyId(00000009)]");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, expected| assert_eq!(parse(text), Err(expected), "{text:?}");
        check("", Error::Empty);
        check("# none\n", Error::Empty);
        check(&(0..9).map(|n| line(n, n)).collect::<String>(), Error::Many { line: 9 });
        check(&(line(1, 1) + &line(1, 2)), Error::IdTwice { line: 2 });
        check(&(line(1, 1) + &line(2, 1)), Error::KeyTwice { line: 2 });
        for text in ["1 ff", "00000001", &line(1, 1)[1..], &line(1, 1).replace("01\n", "0x"), "0000000ü 00"]
        {
            check(text, Error::Shape { line: 1 });
        }
        check(&line(1, 1).replace('\n', "00"), Error::Shape { line: 1 });
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9a-f]{8} [0-9a-f]{64}\n){0,3}\\PC{0,80}") {
            if let Ok(keys) = parse(&text) {
                prop_assert!((1..=MOST_COOKIE_KEYS).contains(&keys.len()));
            }
        }

        #[test]
        fn what_is_written_is_read(keys in proptest::collection::vec(any::<([u8; 4], [u8; KEY_LEN])>(), 1..=MOST_COOKIE_KEYS)) {
            let keys: Vec<_> = keys.into_iter().map(|(id, key)| (KeyId(id), key)).collect();
            if let Ok(read) = parse(&text(&keys)) {
                prop_assert_eq!(read, keys);
            }
        }
    }
}
