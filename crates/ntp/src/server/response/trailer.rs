//! What follows the header of a request: nothing, a MAC, extension fields, or something else.

/// What follows the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailer {
    /// Nothing, or extension fields that may be ignored.
    Plain,
    /// Only a MAC.
    Mac,
    /// A crypto-NAK, or a MAC after extension fields.
    Authentication,
    /// Extension fields of NTS.
    Nts,
    /// None of these.
    Unreadable,
}

/// Largest MAC of a version 4 packet: key id and 20 octets (RFC 7822 §7.5).
const LARGEST_MAC: usize = 24;

/// Shortest extension field (RFC 7822 §7.5.1).
const SHORTEST_FIELD: usize = 16;

/// NTS cookie and authenticator (RFC 8915 §7.6).
const NTS_FIELDS: [u16; 2] = [0x0204, 0x0404];

/// Classifies `rest`, the octets after the header, in a datagram of this version.
pub(super) fn trailer(version: u8, mut rest: &[u8]) -> Trailer {
    // Lengths of key id and a digest of 16 to 64 octets; 4 for a crypto-NAK; 72 for Microsoft's long form.
    let is_mac = |len: usize| matches!(len, 4 | 20 | 24 | 36 | 52 | 68 | 72);
    let whole = rest.len();
    let last = |len: usize| match len {
        _ if !is_mac(len) => Trailer::Unreadable,
        4 => Trailer::Authentication,
        _ if len == whole => Trailer::Mac,
        _ => Trailer::Authentication,
    };
    let mut nts = false;
    while !rest.is_empty() {
        if version < 4 || rest.len() <= LARGEST_MAC {
            return last(rest.len());
        }
        let kind = u16::from_be_bytes([rest[0], rest[1]]);
        let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if len < SHORTEST_FIELD || len % 4 != 0 || len > rest.len() {
            return last(rest.len());
        }
        nts |= NTS_FIELDS.contains(&kind);
        rest = &rest[len..];
    }
    if nts { Trailer::Nts } else { Trailer::Plain }
}
