//! Files with one shared key, in the form of chrony's key file: a line `id type key`. Text in, a key out; an error
//! names its place. A file is read again for each request, so that a changed key is used at once.
use std::{fmt, io, path::Path};

use tracing::warn;

use crate::text;

/// A key, ready for use.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The key's number, by which both sides identify it.
    pub(crate) id: u32,
    /// How it is used.
    pub(super) kind: DigestKind,
    /// The key itself.
    pub(super) secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key {{ id: {}, kind: {:?} }}", self.id, self.kind)
    }
}

/// How a digest is made with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestKind {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    Aes128,
    Aes256,
}

/// The names of the kinds in chrony.
const KINDS: [(&str, DigestKind); 7] = [
    ("MD5", DigestKind::Md5),
    ("SHA1", DigestKind::Sha1),
    ("SHA256", DigestKind::Sha256),
    ("SHA384", DigestKind::Sha384),
    ("SHA512", DigestKind::Sha512),
    ("AES128", DigestKind::Aes128),
    ("AES256", DigestKind::Aes256),
];

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("it holds no key")]
    Empty,
    #[error("line {line}: a second key; a file holds one")]
    Several { line: usize },
    #[error("line {line}: must be `id type key`, such as `1 AES128 HEX:...`")]
    Shape { line: usize },
    #[error("line {line}: the id must be a number from 1 to 4294967295")]
    Id { line: usize },
    #[error("line {line}: unknown type; known are MD5, SHA1, SHA256, SHA384, SHA512, AES128, AES256")]
    DigestKind { line: usize },
    #[error("line {line}: after HEX: there must be pairs of hexadecimal digits")]
    Hex { line: usize },
    #[error("line {line}: an {kind} key has {expected} octets, and this one {found}")]
    Length { line: usize, kind: &'static str, expected: usize, found: usize },
}

/// A file as it was last read.
#[derive(Debug, Default)]
pub(crate) struct KeyFile {
    last: Option<Key>,
}

impl KeyFile {
    /// The present key in the file at `path`. A weakness of the key is logged once.
    pub(crate) fn key(&mut self, path: &Path) -> Result<Key, Error> {
        // The engine's thread must not wait for the other end of a pipe.
        let key = parse(&text::read_plain(path, LARGEST_FILE)?)?;
        if self.last.as_ref() != Some(&key) {
            for weakness in key.weaknesses() {
                warn!(file = %path.display(), key = key.id, weakness, "Key is weak");
            }
            self.last = Some(key.clone());
        }
        Ok(key)
    }
}

/// A key of a thousand bits is one line of 300 octets. The rest is for comments.
const LARGEST_FILE: u64 = 64 * 1024;

/// A key with fewer bits than this can be guessed from one recorded packet.
const FEWEST_BITS: usize = 80;

impl Key {
    fn weaknesses(&self) -> impl Iterator<Item = &'static str> {
        let short = (8 * self.secret.len() < FEWEST_BITS).then_some("it has fewer than 80 bits");
        let kind = match self.kind {
            DigestKind::Md5 => Some("MD5 is broken: better use AES128 (RFC 8573)"),
            DigestKind::Sha1 => Some("SHA1 is broken: better use AES128 (RFC 8573)"),
            _ => None,
        };
        short.into_iter().chain(kind)
    }
}

/// Parses a file's text. Empty lines, and lines that begin with `#`, `!`, `;` or `%`, are comments, as in chrony's
/// file.
fn parse(text: &str) -> Result<Key, Error> {
    let mut key = None;
    for (index, content) in text.lines().enumerate() {
        let content = content.trim();
        if content.is_empty() || content.starts_with(['#', '!', ';', '%']) {
            continue;
        }
        let line = index + 1;
        if key.is_some() {
            return Err(Error::Several { line });
        }
        key = Some(parse_line(content, line)?);
    }
    key.ok_or(Error::Empty)
}

fn parse_line(content: &str, line: usize) -> Result<Key, Error> {
    let words: Vec<_> = content.split_whitespace().collect();
    let [id, kind, secret] = words[..] else { return Err(Error::Shape { line }) };
    let id = id.parse().ok().filter(|id| *id > 0).ok_or(Error::Id { line })?;
    let known = KINDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    let &(name, kind) = known.ok_or(Error::DigestKind { line })?;
    let secret = match secret.split_once(':') {
        Some(("HEX", digits)) => hex::decode(digits).map_err(|_| Error::Hex { line })?,
        Some(("ASCII", text)) => text.as_bytes().to_vec(),
        _ => secret.as_bytes().to_vec(),
    };
    let found = secret.len();
    let expected = match kind {
        DigestKind::Aes128 => Some(16),
        DigestKind::Aes256 => Some(32),
        _ => None,
    };
    match expected.filter(|expected| *expected != found) {
        Some(expected) => Err(Error::Length { line, kind: name, expected, found }),
        None if found == 0 => Err(Error::Shape { line }),
        None => Ok(Key { id, kind, secret }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scratch::Scratch;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9]{1,3} (MD5|SHA1|AES128) (HEX:|ASCII:)?)?\\PC{0,40}\n?\\PC{0,9}") {
            if let Ok(key) = parse(&text) {
                prop_assert!(key.id > 0 && !key.secret.is_empty());
            }
        }
    }

    fn check(text: &str, expected: Result<(u32, DigestKind, &[u8]), &str>) {
        let got = parse(text).map_err(|error| error.to_string());
        let got = got.as_ref().map(|key| (key.id, key.kind, &key.secret[..])).map_err(|e| &e[..]);
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn lines() {
        check("1 MD5 ASCII:secret\n", Ok((1, DigestKind::Md5, b"secret")));
        check("# a comment\n\n  20 sha1 secret  \n", Ok((20, DigestKind::Sha1, b"secret")));
        check("4294967295 SHA512 HEX:00ff", Ok((u32::MAX, DigestKind::Sha512, &[0, 255])));
        check("3 AES128 HEX:000102030405060708090A0b0c0d0e0f", Ok((3, DigestKind::Aes128, &HEX)));
        check("3 AES128 ASCII:0123456789abcdef", Ok((3, DigestKind::Aes128, b"0123456789abcdef")));
    }

    const HEX: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    #[test]
    fn what_is_wrong_is_said() {
        check("", Err("it holds no key"));
        check("# 1 MD5 x\n", Err("it holds no key"));
        check("1 MD5 a\n2 MD5 b\n", Err("line 2: a second key; a file holds one"));
        for text in ["1 secret", "1 MD5 a b", "1 MD5 HEX:", "1 MD5 ASCII:"] {
            check(text, Err("line 1: must be `id type key`, such as `1 AES128 HEX:...`"));
        }
        for text in ["0 MD5 a", "x MD5 a", "4294967296 MD5 a", "-1 MD5 a"] {
            check(text, Err("line 1: the id must be a number from 1 to 4294967295"));
        }
        let unknown = "line 1: unknown type; known are MD5, SHA1, SHA256, SHA384, SHA512, AES128, AES256";
        check("1 DES a", Err(unknown));
        for text in ["1 MD5 HEX:0", "1 MD5 HEX:0g", "1 MD5 HEX:+1", "1 MD5 HEX:üü"] {
            check(text, Err("line 1: after HEX: there must be pairs of hexadecimal digits"));
        }
        check("1 AES128 short", Err("line 1: an AES128 key has 16 octets, and this one 5"));
        check("1 AES256 HEX:00", Err("line 1: an AES256 key has 32 octets, and this one 1"));
    }

    #[test]
    fn weak_keys_are_known() {
        let check =
            |text: &str, expected| assert_eq!(parse(text).unwrap().weaknesses().count(), expected, "{text}");
        check("1 MD5 ASCII:short", 2);
        check("1 SHA1 ASCII:0123456789", 1);
        check("1 SHA256 ASCII:012345678", 1);
        check("1 SHA256 ASCII:0123456789", 0);
        check("1 AES128 HEX:000102030405060708090A0b0c0d0e0f", 0);
    }

    #[test]
    fn a_file_as_editors_of_windows_write_it() {
        let folder = Scratch::new();
        let path = folder.path().join("key");
        let check = |octets: &[u8], expected: Result<&[u8], &str>| {
            std::fs::write(&path, octets).unwrap();
            let found =
                KeyFile::default().key(&path).map(|key| key.secret).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{octets:?}");
        };
        check(b"\xef\xbb\xbf1 SHA256 ASCII:secret \t\r\n", Ok(b"secret"));
        check(b"\xef\xbb\xbf# the site's\r\n1 SHA256 ASCII:secret\r\n\r\n", Ok(b"secret"));
        let utf_16 = Err("it is UTF-16, as some editors of Windows write: save it as UTF-8");
        check(b"\xff\xfe1\0 \0", utf_16);
        check(b"1\0 \0", utf_16);
        check(b"1 SHA256 \xfc\n", Err("line 1 is not UTF-8: save the file as UTF-8"));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", parse("1 MD5 secret").unwrap()), "Key { id: 1, kind: Md5 }");
    }
}
