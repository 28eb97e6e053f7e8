//! The 48 octets of an NTP header (RFC 5905 §7.3), decoded and encoded. Octets after the header (extension fields, a
//! MAC) are ignored. The values are not checked here.
use std::fmt;

use std::net::IpAddr;

use crate::{NtpTimestamp, wire::md5};

/// Length of the header, octets.
pub const HEADER_LEN: usize = 48;

/// Mode of a client's request (RFC 5905 §3).
pub const MODE_CLIENT: u8 = 3;

/// Mode of a server's reply.
pub const MODE_SERVER: u8 = 4;

/// The NTP version of this implementation.
pub const VERSION: u8 = 4;

/// A header, field by field, in the packet's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Leap indicator.
    pub leap: Leap,
    /// Version, 0 to 7.
    pub version: u8,
    /// Mode, 0 to 7.
    pub mode: u8,
    /// Stratum. 0 means "unsynchronised" or marks a kiss.
    pub stratum: u8,
    /// Poll interval, log2 seconds.
    pub poll: i8,
    /// Precision of the clock, log2 seconds.
    pub precision: i8,
    /// Round trip to the primary reference.
    pub root_delay: NtpShort,
    /// Dispersion to the primary reference.
    pub root_dispersion: NtpShort,
    /// Reference id, or the code of a kiss.
    pub reference_id: [u8; 4],
    /// When the clock was last corrected.
    pub reference_time: NtpTimestamp,
    /// In a reply: the request's transmit timestamp.
    pub origin: NtpTimestamp,
    /// In a reply: when the request came (T2).
    pub receive: NtpTimestamp,
    /// When the packet left (T3).
    pub transmit: NtpTimestamp,
}

impl Header {
    /// This request with `cookie`, 64 random bits that the reply must repeat. They replace the transmit timestamp. If
    /// the request refers to a previous exchange (RFC 9769), their complement replaces the receive timestamp. A server
    /// only copies one of the two fields, so neither has to hold a real time.
    #[must_use]
    pub fn with_cookie(self, cookie: NtpTimestamp) -> Self {
        let receive = if self.origin.is_zero() { NtpTimestamp::default() } else { cookie.complement() };
        Self { receive, transmit: cookie, ..self }
    }

    /// The octets of the header. Version and mode are truncated to three bits each.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut octets = [0; HEADER_LEN];
        octets[0] = (self.leap as u8) << 6 | (self.version & 7) << 3 | (self.mode & 7);
        octets[1] = self.stratum;
        octets[2] = self.poll.to_be_bytes()[0];
        octets[3] = self.precision.to_be_bytes()[0];
        octets[4..8].copy_from_slice(&self.root_delay.0.to_be_bytes());
        octets[8..12].copy_from_slice(&self.root_dispersion.0.to_be_bytes());
        octets[12..16].copy_from_slice(&self.reference_id);
        let times = [self.reference_time, self.origin, self.receive, self.transmit];
        for (slot, time) in octets[16..].chunks_exact_mut(8).zip(times) {
            slot.copy_from_slice(&time.0.to_be_bytes());
        }
        octets
    }
}

/// Decodes the header at the start of a datagram.
///
/// # Errors
/// [`Error::TooShort`] if there are fewer than 48 octets. Any other content is accepted.
pub fn decode(datagram: &[u8]) -> Result<Header, Error> {
    let Some((octets, _)) = datagram.split_first_chunk::<HEADER_LEN>() else {
        return Err(Error::TooShort { len: datagram.len() });
    };
    Ok(Header {
        leap: match octets[0] >> 6 {
            0 => Leap::None,
            1 => Leap::Insert,
            2 => Leap::Delete,
            _ => Leap::Unknown,
        },
        version: octets[0] >> 3 & 7,
        mode: octets[0] & 7,
        stratum: octets[1],
        poll: i8::from_be_bytes([octets[2]]),
        precision: i8::from_be_bytes([octets[3]]),
        root_delay: NtpShort(word(octets, 4)),
        root_dispersion: NtpShort(word(octets, 8)),
        reference_id: [octets[12], octets[13], octets[14], octets[15]],
        reference_time: timestamp(octets, 16),
        origin: timestamp(octets, 24),
        receive: timestamp(octets, 32),
        transmit: timestamp(octets, 40),
    })
}

fn word(octets: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

fn timestamp(octets: &[u8; HEADER_LEN], at: usize) -> NtpTimestamp {
    NtpTimestamp(u64::from(word(octets, at)) << 32 | u64::from(word(octets, at + 4)))
}

/// A client's request that reveals nothing about the client (draft-ietf-ntp-data-minimization): version 4, mode 3, a
/// precision of 32, and `cookie`, 64 random bits, in place of the transmit timestamp.
pub fn client_request(cookie: NtpTimestamp) -> [u8; HEADER_LEN] {
    client_header().with_cookie(cookie).encode()
}

/// The header of [`client_request`] without a cookie.
pub fn client_header() -> Header {
    Header { leap: Leap::None, version: VERSION, mode: MODE_CLIENT, precision: 32, ..Header::default() }
}

/// A duration in the NTP short format: 16 bits of seconds, 16 bits of fraction (RFC 5905 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpShort(pub u32);

impl NtpShort {
    /// The duration in seconds, 0 to just under 65536.
    pub fn seconds(self) -> f64 {
        f64::from(self.0) / 65536.0
    }

    /// `seconds` rounded up, since delay and dispersion are bounds. Values out of range are clamped to the range of the
    /// format. NaN gives the largest value.
    pub fn from_seconds(seconds: f64) -> Self {
        if seconds.is_nan() { Self(u32::MAX) } else { Self((seconds * 65536.0).ceil() as u32) }
    }
}

/// Why octets cannot be decoded as a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Fewer than 48 octets.
    TooShort {
        /// How many there were.
        len: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { len } => write!(f, "an NTP header has 48 octets, and there are {len}"),
        }
    }
}

impl std::error::Error for Error {}

/// The leap indicator (RFC 5905 §7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Leap {
    /// No leap second is announced.
    None = 0,
    /// The last minute of the day has 61 seconds.
    Insert = 1,
    /// The last minute of the day has 59 seconds.
    Delete = 2,
    /// Unsynchronised.
    #[default]
    Unknown = 3,
}

/// The reference id by which clients of the server at `address` name it (RFC 5905 §7.3).
pub(crate) fn reference_id_of(address: IpAddr) -> [u8; 4] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = md5::digest(&address.octets());
            [a, b, c, d]
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_says_nothing_but_its_cookie() {
        let request = client_request(NtpTimestamp(0x0102_0304_0506_0708));
        let mut expected = [0; HEADER_LEN];
        expected[0] = 0x23;
        expected[3] = 32;
        expected[40..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(request, expected);
    }

    #[test]
    fn short_durations_round_up_and_saturate() {
        assert_eq!(NtpShort::from_seconds(1.0 / 65536.0), NtpShort(1));
        assert_eq!(NtpShort::from_seconds(1e-9), NtpShort(1));
        assert_eq!(NtpShort::from_seconds(-1.0), NtpShort(0));
        assert_eq!(NtpShort::from_seconds(1e9), NtpShort(u32::MAX));
        assert_eq!(NtpShort::from_seconds(f64::NAN), NtpShort(u32::MAX));
        assert_eq!(NtpShort(0x0001_8000).seconds(), 1.5);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..120)) {
            match decode(&octets) {
                Ok(header) => prop_assert_eq!(&header.encode()[..], &octets[..HEADER_LEN]),
                Err(Error::TooShort { len }) => prop_assert!(len == octets.len() && len < HEADER_LEN),
            }
        }
    }
}
