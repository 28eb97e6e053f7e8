//! Extension fields (RFC 7822), which follow the 48 octets of the header: type, length, body, and zeros up to a
//! multiple of four octets. This file decodes and encodes fields and does not interpret them.
use std::fmt;

/// A field of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its type.
    pub kind: u16,
    /// Its content, including the padding: only the format of the field tells where the padding begins.
    pub body: &'a [u8],
    /// The index of its first octet in the decoded octets.
    pub start: usize,
}

/// Why octets cannot be decoded as fields, or a field cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The length is less than four, not a multiple of four, or beyond the end of the datagram.
    Length,
    /// The body is longer than the length field can express.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "an extension field's length is wrong",
            Self::TooLong => "an extension field would be too long",
        })
    }
}

impl std::error::Error for Error {}

/// Type and length.
const HEAD: usize = 4;

/// The shortest field (RFC 7822 §7.5).
const SHORTEST: usize = 16;

/// Decodes the fields of `octets` from index `start` to the end.
pub fn fields(octets: &[u8], start: usize) -> Fields<'_> {
    Fields { octets, at: start }
}

/// An iterator over fields. It ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.octets.get(start..).filter(|rest| !rest.is_empty())?;
        // If an error follows, the iterator ends with it.
        self.at = self.octets.len();
        let Some((&[k0, k1, l0, l1], _)) = rest.split_first_chunk::<HEAD>() else {
            return Some(Err(Error::Length));
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length % 4 != 0 {
            return Some(Err(Error::Length));
        }
        let Some(body) = rest.get(HEAD..length) else { return Some(Err(Error::Length)) };
        self.at = start + length;
        Some(Ok(Field { kind: u16::from_be_bytes([k0, k1]), body, start }))
    }
}

/// Appends a field, padded with zeros.
///
/// # Errors
/// [`Error::TooLong`] for a body of 64 KiB. Then nothing is appended.
pub fn append(datagram: &mut Vec<u8>, kind: u16, body: &[u8]) -> Result<(), Error> {
    let length = (HEAD + body.len()).next_multiple_of(4).max(SHORTEST);
    let length_field = u16::try_from(length).map_err(|_| Error::TooLong)?;
    let end = datagram.len() + length;
    datagram.extend_from_slice(&kind.to_be_bytes());
    datagram.extend_from_slice(&length_field.to_be_bytes());
    datagram.extend_from_slice(body);
    datagram.resize(end, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_appended_is_read() {
        let mut octets = vec![9; 3];
        append(&mut octets, 0x0104, &[1; 14]).unwrap();
        append(&mut octets, 0x0204, &[2]).unwrap();
        let read: Vec<_> = fields(&octets, 3).collect::<Result<_, _>>().unwrap();
        assert_eq!((read[0].kind, read[0].start, read[0].body.len()), (0x0104, 3, 16));
        assert_eq!((read[1].kind, read[1].start, read[1].body.len()), (0x0204, 23, 12));
        assert_eq!(append(&mut octets, 1, &[0; 65_533]), Err(Error::TooLong));
        assert_eq!(octets.len(), 39);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let check = |octets: &[u8]| {
            let read: Vec<_> = fields(octets, 0).collect();
            assert_eq!(read, [Err(Error::Length)], "{octets:?}");
        };
        check(&[1]);
        check(&[1, 4, 0, 0]);
        check(&[1, 4, 0, 3]);
        check(&[1, 4, 0, 6, 0, 0]);
        check(&[1, 4, 0, 8, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            for field in fields(&octets, 0).flatten() {
                prop_assert_eq!(field.start, end);
                end += HEAD + field.body.len();
            }
            prop_assert!(end <= octets.len());
        }
    }
}
