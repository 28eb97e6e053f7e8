//! The format of the file with the keys that seal NTS cookies (RFC 8915 §6): one key per line, `<id> <key>`, the id as 8
//! hexadecimal digits and the key as 64. The operator writes such a file, and agents read it. What comments and the order of
//! the lines mean is described at each of them.
use std::fmt;

/// The largest number of keys in the file: the current one and seven old ones. With a new key each day a cookie is valid for
/// a week.
pub const MOST_COOKIE_KEYS: usize = 8;

/// A key, and the id by which a cookie names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieKey {
    /// The id.
    pub id: [u8; 4],
    /// A key for AEAD_AES_SIV_CMAC_256.
    pub key: [u8; 32],
}

impl CookieKey {
    /// Reads a line; none if it has another form. Spaces around it, and more than one between id and key, are accepted.
    pub fn from_line(line: &str) -> Option<Self> {
        let (id, key) = line.trim().split_once(char::is_whitespace)?;
        Some(Self { id: octets(id)?, key: octets(key.trim_start())? })
    }

    /// The line of this key, without a line end. It holds the secret key.
    pub fn to_line(&self) -> String {
        format!("{} {}", hex::encode(self.id), hex::encode(self.key))
    }
}

/// Exactly `N` octets, from hexadecimal digits.
fn octets<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut octets = [0; N];
    hex::decode_to_slice(digits, &mut octets).ok().map(|()| octets)
}

impl fmt::Debug for CookieKey {
    /// The id alone, so that no log has the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CookieKey").field(&hex::encode(self.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let key = CookieKey { id: [0, 1, 0xab, 0xff], key: [0x5c; 32] };
        let line = key.to_line();
        assert_eq!(line, format!("0001abff {}", "5c".repeat(32)));
        for text in [line.clone(), format!("  {} ", line.to_uppercase()), line.replace(' ', "\t  ")] {
            assert_eq!(CookieKey::from_line(&text), Some(key), "{text:?}");
        }
        assert_eq!(format!("{key:?}"), "CookieKey(\"0001abff\")");
    }

    #[test]
    fn other_lines_are_no_keys() {
        let line = CookieKey { id: [7; 4], key: [7; 32] }.to_line();
        for text in [
            "",
            "#",
            "07070707",
            "1 ff",
            &line[1..],
            &line[..71],
            &format!("{line}0"),
            &line.replace("07 ", "0ü "),
        ] {
            assert_eq!(CookieKey::from_line(text), None, "{text:?}");
        }
    }
}
