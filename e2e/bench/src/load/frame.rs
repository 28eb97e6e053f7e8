//! Makes an NTP request as a whole Ethernet frame, so that it can come from any address, and checks answers. It does
//! not use the agent's packet code, on purpose: a fault there must not hide itself.
use std::net::Ipv4Addr;

// Offsets of the headers in a frame.
const IP: usize = 14;
const UDP: usize = IP + 20;
const NTP: usize = UDP + 8;

/// The addresses and ports of frames.
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

/// A request of version 4 without its number (RFC 5905 §7.3).
pub(crate) fn plain() -> Vec<u8> {
    let mut request = vec![0; 48];
    request[0] = 4 << 3 | 3;
    request[2] = 6;
    request
}

/// A frame with this request, without its source address.
pub(crate) fn template(way: &Way, request: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; NTP];
    frame[..6].copy_from_slice(&way.to_mac);
    frame[6..12].copy_from_slice(&way.from_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]); // IPv4
    frame[IP] = 0x45; // version 4, five words
    frame[IP + 2..IP + 4].copy_from_slice(&octets(NTP - IP + request.len()));
    frame[IP + 6] = 0x40; // do not fragment
    frame[IP + 8] = 64;
    frame[IP + 9] = 17; // UDP
    frame[IP + 16..IP + 20].copy_from_slice(&way.to.octets());
    frame[UDP..UDP + 2].copy_from_slice(&way.from_port.to_be_bytes());
    frame[UDP + 2..UDP + 4].copy_from_slice(&way.to_port.to_be_bytes());
    // The UDP checksum stays 0, which means that there is none (RFC 768): its cost is no work of the server's program.
    frame[UDP + 4..UDP + 6].copy_from_slice(&octets(NTP - UDP + request.len()));
    frame.extend_from_slice(request);
    frame
}

fn octets(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("a frame is short").to_be_bytes()
}

/// Sets the source address.
pub(crate) fn fill_source(frame: &mut [u8], from: Ipv4Addr) {
    frame[IP + 12..IP + 16].copy_from_slice(&from.octets());
    frame[IP + 10..IP + 12].fill(0);
    let sum: u32 =
        frame[IP..UDP].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// Sets the transmit time to a number. The answer returns it.
pub(crate) fn fill_number(frame: &mut [u8], number: u64) {
    frame[NTP + 40..NTP + 48].copy_from_slice(&number.to_be_bytes());
}

/// The number of a request: its transmit time.
pub(crate) fn number(request: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(request.get(40..48)?.try_into().ok()?))
}

/// The kind of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The time, for the request of this number.
    Answer(u64),
    /// A kiss (stratum 0, RFC 5905 §7.4).
    Kiss,
    /// Neither.
    Wrong,
}

/// Classifies a datagram to a client. `sealed`: an answer must be longer than a header.
pub(crate) fn read(datagram: &[u8], sealed: bool) -> Came {
    let fits = if sealed { datagram.len() > 48 } else { datagram.len() == 48 };
    if !fits || datagram[0] & 0x3f != (4 << 3 | 4) {
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

/// The request in a frame from a client to `port`; none in other frames.
pub(crate) fn request(frame: &[u8], port: u16) -> Option<&[u8]> {
    let request = datagram(frame)?;
    (frame[UDP + 2..UDP + 4] == port.to_be_bytes() && request[0] & 7 == 3).then_some(request)
}

/// An NTP datagram in a frame of IPv4.
fn datagram(frame: &[u8]) -> Option<&[u8]> {
    let fits =
        frame.len() >= NTP + 48 && frame[12..14] == [0x08, 0x00] && frame[IP] == 0x45 && frame[IP + 9] == 17;
    fits.then(|| &frame[NTP..])
}

/// The transmit time of an answer from `port`, Unix nanoseconds; none in other frames.
pub(crate) fn transmitted(frame: &[u8], port: u16) -> Option<i64> {
    let reply = datagram(frame)?;
    let is_answer = frame[UDP..UDP + 2] == port.to_be_bytes() && reply[0] & 7 == 4 && reply[1] != 0;
    let [seconds, fraction] = [40, 44].map(|place| {
        let octets = reply.get(place..place + 4)?;
        Some(i64::from(u32::from_be_bytes(octets.try_into().ok()?)))
    });
    // Seconds since 1900, of the era that ends in 2036 or the one that follows (RFC 5905 §6).
    let since_1970 = (seconds? - 2_208_988_800).rem_euclid(1 << 32);
    is_answer.then_some(since_1970 * 1_000_000_000 + ((fraction? * 1_000_000_000) >> 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transmit_times_are_read_over_the_era() {
        let way =
            Way { from_mac: [2; 6], to_mac: [4; 6], to: Ipv4Addr::LOCALHOST, to_port: 9, from_port: 123 };
        let mut reply = template(&way, &plain());
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
        assert_eq!(transmitted(&reply[..NTP + 47], 123), None);
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
        let mut frame = template(&way, &plain());
        for number in 0..300_u32 {
            fill_source(&mut frame, Ipv4Addr::from_bits(0x0a40_ff00 + number));
            // With its checksum, the header's sum is all ones (RFC 791).
            let sum: u32 = frame[IP..UDP].chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
        assert_eq!((frame[IP + 3], frame[UDP + 5], frame.len()), (76, 56, 90));
    }

    #[test]
    fn a_request_is_found_again() {
        let way =
            Way { from_mac: [2; 6], to_mac: [4; 6], to: Ipv4Addr::LOCALHOST, to_port: 9, from_port: 123 };
        let mut sealed = plain();
        sealed.extend([7; 100]);
        let mut frame = template(&way, &sealed);
        assert_eq!((request(&frame, 9), request(&frame, 123)), (Some(&sealed[..]), None));
        fill_number(&mut frame, 77);
        assert_eq!(number(request(&frame, 9).unwrap()), Some(77));
        assert_eq!(request(&frame[..NTP + 47], 9), None);
    }

    #[test]
    fn only_the_time_is_an_answer() {
        let mut datagram = [0_u8; 48];
        datagram[..2].copy_from_slice(&[0x24, 1]);
        datagram[24..32].copy_from_slice(&7_u64.to_be_bytes());
        datagram[40] = 1;
        assert_eq!(read(&datagram, false), Came::Answer(7));
        assert_eq!(read(&datagram, true), Came::Wrong);
        assert_eq!(read(&[&datagram[..], &[0; 4]].concat(), true), Came::Answer(7));
        for (place, octet, expected) in
            [(1, 0, Came::Kiss), (0, 0xe4, Came::Wrong), (0, 0x23, Came::Wrong), (1, 16, Came::Wrong)]
        {
            let mut other = datagram;
            other[place] = octet;
            assert_eq!(read(&other, false), expected);
        }
        assert_eq!((read(&[], true), read(&datagram[..47], false)), (Came::Wrong, Came::Wrong));
    }
}
