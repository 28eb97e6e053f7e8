//! An NTP request as a whole Ethernet frame, so that it can come from any address; and what is right in an answer.
//! Written apart from the agent's own packet code, on purpose. In: who asks whom, a number. Out: octets.
use std::net::Ipv4Addr;

/// Octets of a frame: Ethernet 14, IPv4 20, UDP 8, NTP 48.
pub(crate) const LENGTH: usize = NTP + 48;
const IP: usize = 14;
const UDP: usize = IP + 20;
const NTP: usize = UDP + 8;

/// Where frames go, and the port that answers come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Ethernet addresses.
    pub(crate) from_mac: [u8; 6],
    pub(crate) to_mac: [u8; 6],
    /// The server.
    pub(crate) to: Ipv4Addr,
    pub(crate) to_port: u16,
    /// The port of all clients.
    pub(crate) from_port: u16,
}

/// A frame that lacks its source address and its number.
pub(crate) fn template(way: &Way) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    frame[..6].copy_from_slice(&way.to_mac);
    frame[6..12].copy_from_slice(&way.from_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]); // IPv4
    frame[IP] = 0x45; // version 4, five words
    frame[IP + 2..IP + 4].copy_from_slice(&octets(LENGTH - IP));
    frame[IP + 6] = 0x40; // do not fragment
    frame[IP + 8] = 64;
    frame[IP + 9] = 17; // UDP
    frame[IP + 16..IP + 20].copy_from_slice(&way.to.octets());
    frame[UDP..UDP + 2].copy_from_slice(&way.from_port.to_be_bytes());
    frame[UDP + 2..UDP + 4].copy_from_slice(&way.to_port.to_be_bytes());
    // The UDP checksum stays 0, which says that there is none (RFC 768): what it costs is no matter of the server's.
    frame[UDP + 4..UDP + 6].copy_from_slice(&octets(LENGTH - UDP));
    frame[NTP] = 4 << 3 | 3; // version 4, client (RFC 5905 §7.3)
    frame[NTP + 2] = 6;
    frame
}

fn octets(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("a frame is short").to_be_bytes()
}

/// Fills in who asks, and the number that the answer is to bring back.
pub(crate) fn fill(frame: &mut [u8; LENGTH], from: Ipv4Addr, number: u64) {
    frame[IP + 12..IP + 16].copy_from_slice(&from.octets());
    frame[IP + 10..IP + 12].fill(0);
    let sum: u32 =
        frame[IP..UDP].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    frame[NTP + 40..NTP + 48].copy_from_slice(&number.to_be_bytes());
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The time, for the request of this number.
    Answer(u64),
    /// A kiss (stratum 0, RFC 5905 §7.4).
    Kiss,
    /// Neither.
    Wrong,
}

/// Reads a datagram that came to a client.
pub(crate) fn read(datagram: &[u8]) -> Came {
    if datagram.len() != 48 || datagram[0] & 0x3f != (4 << 3 | 4) {
        return Came::Wrong;
    }
    match datagram[1] {
        0 => Came::Kiss,
        1..=15 if datagram[0] >> 6 != 3 && datagram[40..48] != [0; 8] => {
            Came::Answer(u64::from_be_bytes(datagram[24..32].try_into().expect("eight octets")))
        }
        _ => Came::Wrong,
    }
}

/// The transmit time, Unix nanoseconds, in a frame that holds an answer from `port`.
pub(crate) fn transmitted(frame: &[u8], port: u16) -> Option<i64> {
    let is_reply = frame.len() >= LENGTH
        && frame[12..14] == [0x08, 0x00]
        && frame[IP] == 0x45
        && frame[IP + 9] == 17
        && frame[UDP..UDP + 2] == port.to_be_bytes()
        && frame[NTP] & 7 == 4
        && frame[NTP + 1] != 0;
    let [seconds, fraction] = [40, 44].map(|place| {
        let octets = frame.get(NTP + place..NTP + place + 4)?;
        Some(i64::from(u32::from_be_bytes(octets.try_into().ok()?)))
    });
    // Seconds since 1900, of the era that ends in 2036 or the one that follows (RFC 5905 §6).
    let since_1970 = (seconds? - 2_208_988_800).rem_euclid(1 << 32);
    is_reply.then_some(since_1970 * 1_000_000_000 + ((fraction? * 1_000_000_000) >> 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transmit_times_are_read_over_the_era() {
        let way =
            Way { from_mac: [2; 6], to_mac: [4; 6], to: Ipv4Addr::LOCALHOST, to_port: 9, from_port: 123 };
        let mut reply = template(&way);
        reply[NTP] = 0x24;
        reply[NTP + 1] = 1;
        for (seconds, expected) in [
            (2_208_988_800, 500_000_000),
            (0, 2_085_978_496_500_000_000),
            (u32::MAX, 2_085_978_495_500_000_000),
        ] {
            reply[NTP + 40..NTP + 44].copy_from_slice(&u32::to_be_bytes(seconds));
            reply[NTP + 44] = 0x80;
            assert_eq!(transmitted(&reply, 123), Some(expected));
        }
        assert_eq!(transmitted(&reply, 124), None);
        assert_eq!(transmitted(&reply[..LENGTH - 1], 123), None);
        reply[NTP] = 0x23;
        assert_eq!(transmitted(&reply, 123), None);
    }

    #[test]
    fn the_header_adds_up() {
        let way = Way {
            from_mac: [2; 6],
            to_mac: [4; 6],
            to: Ipv4Addr::new(10, 63, 0, 1),
            to_port: 123,
            from_port: 40_000,
        };
        let mut frame = template(&way);
        for number in 0..300_u32 {
            fill(&mut frame, Ipv4Addr::from_bits(0x0a40_ff00 + number), u64::from(number));
            // With its checksum, the header's sum is all ones (RFC 791).
            let sum: u32 = frame[IP..UDP].chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
        assert_eq!((frame[IP + 3], frame[UDP + 5], LENGTH), (76, 56, 90));
    }

    #[test]
    fn only_the_time_is_an_answer() {
        let mut datagram = [0_u8; 48];
        datagram[..2].copy_from_slice(&[0x24, 1]);
        datagram[24..32].copy_from_slice(&7_u64.to_be_bytes());
        datagram[40] = 1;
        assert_eq!(read(&datagram), Came::Answer(7));
        for (place, octet, expected) in
            [(1, 0, Came::Kiss), (0, 0xe4, Came::Wrong), (0, 0x23, Came::Wrong), (1, 16, Came::Wrong)]
        {
            let mut other = datagram;
            other[place] = octet;
            assert_eq!(read(&other), expected);
        }
        assert_eq!((read(&[]), read(&datagram[..47])), (Came::Wrong, Came::Wrong));
    }
}
