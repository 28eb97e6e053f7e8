//! Reads users' files as text. A byte order mark, which some editors put first, is removed. UTF-16 gets an error
//! message of its own. Octets in, text out; the caller interprets the text.
use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// Why octets are not a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// UTF-16: two octets for each character.
    #[error("it is UTF-16, as some editors of Windows write: save it as UTF-8")]
    Utf16,
    /// The file has another character set, or is not a text.
    #[error("line {0} is not UTF-8: save the file as UTF-8")]
    NotUtf8(usize),
}

/// The text of a regular file of at most `most` octets. A pipe is refused, since a read could wait for its other end.
///
/// # Errors
/// If it cannot be read, is larger, or is not a text ([`Error`]).
pub(crate) fn read_plain(path: &Path, most: u64) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    read(path, most)
}

/// The same for any file.
///
/// # Errors
/// As [`read_plain`].
pub(crate) fn read(path: &Path, most: u64) -> io::Result<String> {
    let mut octets = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > most {
        return Err(io::Error::other(format!("larger than {} KiB", most / 1024)));
    }
    text(&octets).map(str::to_owned).map_err(io::Error::other)
}

/// The octets as a text, without a byte order mark.
///
/// # Errors
/// [`Error`].
pub(crate) fn text(octets: &[u8]) -> Result<&str, Error> {
    let octets = unmarked(octets)?;
    std::str::from_utf8(octets).map_err(|error| {
        let before = &octets[..error.valid_up_to()];
        Error::NotUtf8(before.iter().filter(|&&octet| octet == b'\n').count() + 1)
    })
}

/// The same, for texts in which single characters of another character set do no harm, as in comments.
///
/// # Errors
/// [`Error::Utf16`].
pub(crate) fn lossy_text(octets: &[u8]) -> Result<Cow<'_, str>, Error> {
    unmarked(octets).map(String::from_utf8_lossy)
}

/// The octets without the mark of UTF-8, for files that are only partly text, such as PEM with remarks.
///
/// # Errors
/// [`Error::Utf16`].
pub(crate) fn unmarked(octets: &[u8]) -> Result<&[u8], Error> {
    // UTF-16 without a mark has zeros in its first characters, which are ASCII in each of the agent's files.
    let first = octets.first_chunk::<2>();
    match first {
        Some([0xff, 0xfe] | [0xfe, 0xff] | [0, 1..=255] | [1..=255, 0]) => Err(Error::Utf16),
        _ => Ok(octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn marks_are_no_text_and_utf_16_is_named() {
        let check = |octets: &[u8], expected: Result<&str, &str>| {
            let found = text(octets).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        };
        check(b"", Ok(""));
        check(b"a\r\n", Ok("a\r\n"));
        check(b"\xef\xbb\xbfa", Ok("a"));
        check("ü".as_bytes(), Ok("ü"));
        let utf_16 = Err("it is UTF-16, as some editors of Windows write: save it as UTF-8");
        check(b"\xff\xfea\0", utf_16);
        check(b"\xfe\xff\0a", utf_16);
        check(b"a\0b\0", utf_16);
        check(b"\0a\0b", utf_16);
        check(b"a\n\xfc\n", Err("line 2 is not UTF-8: save the file as UTF-8"));
        assert_eq!(lossy_text(b"\xef\xbb\xbfa\xfc").unwrap(), "a\u{fffd}");
        assert_eq!(lossy_text(b"a\0"), Err(Error::Utf16));
    }

    #[test]
    fn sizes_and_pipes_have_limits() {
        let folder = Scratch::new();
        let path = folder.path().join("file");
        fs::write(&path, "x".repeat(1025)).unwrap();
        assert!(read(&path, 1024).unwrap_err().to_string().contains("larger than 1 KiB"));
        assert_eq!(read(&path, 1025).unwrap().len(), 1025);
        assert!(read_plain(folder.path(), 1024).is_err());
    }
}
