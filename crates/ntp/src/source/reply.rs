//! Decides whether a datagram is a reply to the request, and what it contains. The cookie is compared first: an
//! attacker who did not see the request can only change a counter.
use std::net::IpAddr;

use crate::{
    Leap, NtpTimestamp, OwnAddresses, Wall,
    interface::own::Forbidden,
    source::{
        filter::{PRECISION, Sample},
        interleave::Previous,
    },
    wire::packet::{self, Header, MODE_SERVER, NtpShort, reference_id_of},
};

/// A request, and the arrival of a datagram that may be its reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) cookie: NtpTimestamp,
    /// T1, in corrected time.
    pub(crate) sent: Wall,
    /// T4, in corrected time.
    pub(crate) received: Wall,
    /// The local address at which it arrived.
    pub(crate) local: Option<IpAddr>,
    /// The exchange to which the request refers, if it is interleaved.
    pub(crate) previous: Option<Previous>,
}

/// What this node's server tells its clients. Used to recognise this node in replies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) stratum: u8,
    pub(crate) reference_id: [u8; 4],
    pub(crate) root_delay: f64,
    pub(crate) reference_time: Option<Wall>,
    /// Reference ids of this node's sources that are known to follow this node.
    pub(crate) followers: Vec<[u8; 4]>,
    /// This node's addresses.
    pub(crate) own: OwnAddresses,
}

/// The server's data in a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) leap: Leap,
    pub(crate) stratum: u8,
    pub(crate) reference_id: [u8; 4],
}

/// A valid reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// A reply with the time: the sample, the server, and the exchange to which the next request may refer. In
    /// interleaved mode the sample is of the previous exchange; none if that exchange already gave a sample.
    Time(Option<Sample>, Server, Previous),
    /// RATE: the server asks for fewer requests; the interval that it proposes, log2 seconds.
    Slower(i8),
    /// The server denies service; the kiss code.
    Denied([u8; 4]),
}

/// Why a datagram is rejected, or a source is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It is not a reply to this request. Its sender is unknown.
    Stray,
    /// It is a reply to the request, but malformed.
    Malformed,
    /// The server reports that it is unsynchronised.
    Unsynchronized,
    /// Another kiss code, which asks for no action.
    Kiss([u8; 4]),
    /// The root distance of the server is too large.
    TooFar,
    /// By the server's timestamps, it left before the request arrived.
    Backwards,
    /// By the server's timestamps, the server kept the request for longer than the whole round trip.
    Impossible,
    /// It took too long on the path, or in the server.
    TooSlow,
    /// The server is this node or follows it, directly or through another source.
    Loop,
    /// This node itself serves time at its address and port, so it is not asked.
    OwnAddress,
    /// No server can have its address. A DNS filter may resolve names to such addresses.
    NoServer,
    /// The reply is from this node's own server.
    OwnAnswer,
    /// The device could not be read.
    Unreadable,
    /// The device shows a time before 2000.
    Unset,
}

impl From<Forbidden> for Rejection {
    fn from(why: Forbidden) -> Self {
        match why {
            Forbidden::OwnAddress => Self::OwnAddress,
            Forbidden::NoServer => Self::NoServer,
        }
    }
}

/// At this root distance, seconds, a server counts as unsynchronised (RFC 5905 §7.2, MAXDISP).
const LARGEST_ROOT_DISTANCE: f64 = 16.0;

/// Longest round trip, seconds. A sample is uncertain by half of it.
const LONGEST_DELAY: f64 = 3.0;

/// Longest time that a server may keep a request, seconds.
const LONGEST_PROCESSING: f64 = 4.0;

/// Smallest delay, seconds. It can be slightly negative because the two clocks run at different rates.
const SMALLEST_DELAY: f64 = -1e-3;

/// Smallest time that a server keeps a request, by its timestamps, seconds. It can be negative: servers fill the bits
/// below their precision with random ones (RFC 5905 §6), and a server that answers at once may draw smaller ones for
/// the second timestamp.
const SMALLEST_PROCESSING: f64 = -1e-4;

/// Checks a datagram. The order of the tests matters.
pub(crate) fn judge(datagram: &[u8], exchange: &Exchange, us: &Identity) -> Result<Reply, Rejection> {
    let Ok(header) = packet::decode(datagram) else { return Err(Rejection::Stray) };
    if exchange.cookie.is_zero() || header.mode != MODE_SERVER {
        return Err(Rejection::Stray);
    }
    // An interleaved reply repeats the other one of the two fields with the cookie (RFC 9769 §2).
    let interleaved = exchange.previous.filter(|_| header.origin == exchange.cookie.complement());
    if interleaved.is_none() && header.origin != exchange.cookie {
        return Err(Rejection::Stray);
    }
    if (1..=4).contains(&header.version) && header.stratum == 0 {
        // A kiss (RFC 5905 §7.4).
        match &header.reference_id {
            b"RATE" => return Ok(Reply::Slower(header.poll)),
            b"DENY" | b"RSTR" => return Ok(Reply::Denied(header.reference_id)),
            _ => {}
        }
    }
    if let Some(rejection) = complaint(&header) {
        return Err(rejection);
    }
    let over = Previous {
        sent: exchange.sent,
        arrived: header.receive,
        received: exchange.received,
        measured: interleaved.is_none(),
    };
    let sample = measure(&header, &interleaved.unwrap_or(over))?;
    if follows_us(&header, exchange.local, us) {
        return Err(Rejection::Loop);
    }
    let server = Server { leap: header.leap, stratum: header.stratum, reference_id: header.reference_id };
    let fresh = interleaved.is_none_or(|previous| !previous.measured);
    Ok(Reply::Time(fresh.then_some(sample), server, over))
}

/// Why the header of a reply cannot be used, regardless of the request. None if it can.
pub(crate) fn complaint(header: &Header) -> Option<Rejection> {
    if !(1..=4).contains(&header.version) {
        return Some(Rejection::Malformed);
    }
    if header.stratum == 0 {
        // Other codes are of servers that have no time yet: INIT, STEP and names of reference clocks.
        let refuses = [*b"AUTH", *b"CRYP", *b"NKEY", *b"NTSN", *b"DROP", *b"RMOT"];
        let code = Some(header.reference_id).filter(|code| refuses.contains(code));
        return Some(code.map_or(Rejection::Unsynchronized, Rejection::Kiss));
    }
    if header.receive.is_zero() || header.transmit.is_zero() {
        return Some(Rejection::Malformed);
    }
    if header.leap == Leap::Unknown || header.stratum > 15 {
        return Some(Rejection::Unsynchronized);
    }
    if header.root_delay.seconds() / 2.0 + header.root_dispersion.seconds() >= LARGEST_ROOT_DISTANCE {
        return Some(Rejection::TooFar);
    }
    None
}

/// Returns true if, by the server's timestamps, the reply left before the request arrived.
pub(crate) fn runs_backwards(received: Wall, sent_back: Wall) -> bool {
    sent_back - received < SMALLEST_PROCESSING
}

/// Computes offset and delay (RFC 5905 §8). The offset has the opposite sign: this clock minus the server's.
fn measure(header: &Header, exchange: &Previous) -> Result<Sample, Rejection> {
    let (received, sent_back) = (exchange.arrived.to_wall(), header.transmit.to_wall());
    let round_trip = exchange.received - exchange.sent;
    let processing = sent_back - received;
    let delay = round_trip - processing;
    if runs_backwards(received, sent_back) {
        return Err(Rejection::Backwards);
    }
    if delay < SMALLEST_DELAY {
        return Err(Rejection::Impossible);
    }
    if processing > LONGEST_PROCESSING || delay > LONGEST_DELAY {
        return Err(Rejection::TooSlow);
    }
    // Integer nanoseconds, since a clock may be off by decades, and microseconds still matter.
    let nanos = |to: Wall, from: Wall| i128::from(to.0) - i128::from(from.0);
    let twice = nanos(exchange.sent, received) + nanos(exchange.received, sent_back);
    let precision = 2.0_f64.powi(i32::from(header.precision).clamp(-30, 4));
    Ok(Sample {
        at: exchange.sent.plus(round_trip / 2.0),
        offset: twice as f64 / 2e9,
        delay: delay.max(PRECISION),
        dispersion: precision.max(PRECISION) + round_trip.max(0.0) * CLOCK_ERROR,
        root_delay: header.root_delay.seconds(),
        root_dispersion: header.root_dispersion.seconds(),
    })
}

/// Largest frequency error of a disciplined clock during one exchange (PHI of RFC 5905 §4).
const CLOCK_ERROR: f64 = 15e-6;

/// Loop test. Returns true if the server's reference is this node's address, or a source that follows this node, or if
/// the server sends exactly what this node's server sends.
fn follows_us(header: &Header, local: Option<IpAddr>, us: &Identity) -> bool {
    let names_us = local.is_some_and(|local| reference_id_of(local) == header.reference_id);
    // Other nodes with the same reference differ in the time of their last correction. A server may report that time up
    // to a second too early.
    let is_us = us.reference_time.is_some_and(|time| {
        header.stratum == us.stratum
            && header.reference_id == us.reference_id
            && header.root_delay == NtpShort::from_seconds(us.root_delay)
            && (0.0..1.0).contains(&(time - header.reference_time.to_wall()))
    });
    // Otherwise loops of more than two nodes would persist, with growing strata, while all nodes count as synchronised.
    let names_follower = us.followers.contains(&header.reference_id);
    header.stratum > 1 && (names_us || is_us || names_follower)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000_000_000);
    const COOKIE: NtpTimestamp = NtpTimestamp(0xdead_beef_0123_4567);

    fn exchange() -> Exchange {
        let local = Some(IpAddr::from([10, 0, 0, 7]));
        Exchange { cookie: COOKIE, sent: NOW, received: NOW + 0.004, local, previous: None }
    }

    /// A reply of a server that is 1 s ahead. Each direction takes 1 ms, the server 2 ms.
    fn reply() -> Header {
        Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: 2,
            precision: -24,
            reference_id: [192, 0, 2, 1],
            reference_time: NtpTimestamp::from_wall(NOW),
            origin: COOKIE,
            receive: NtpTimestamp::from_wall(NOW + 1.001),
            transmit: NtpTimestamp::from_wall(NOW + 1.003),
            ..Header::default()
        }
    }

    fn check(change: impl Fn(&mut Header), expected: Option<Rejection>) {
        let mut header = reply();
        change(&mut header);
        let got = judge(&header.encode(), &exchange(), &Identity::default());
        assert_eq!(got.as_ref().err().copied(), expected, "{header:?} gave {got:?}");
    }

    #[test]
    fn a_good_answer_is_measured() {
        let Ok(Reply::Time(Some(sample), ..)) = judge(&reply().encode(), &exchange(), &Identity::default())
        else {
            panic!("a good answer was refused");
        };
        assert!((sample.offset + 1.0).abs() < 2e-9, "{sample:?}");
        assert!((sample.delay - 0.002).abs() < 2e-9, "{sample:?}");
    }

    #[test]
    fn bad_answers_are_refused() {
        check(|_| {}, None);
        check(|h| h.origin = NtpTimestamp(0), Some(Rejection::Stray));
        check(|h| h.origin = NtpTimestamp(COOKIE.0 + 1), Some(Rejection::Stray));
        for mode in [0, 1, 2, 3, 5, 6, 7] {
            check(|h| h.mode = mode, Some(Rejection::Stray));
        }
        check(|h| h.version = 0, Some(Rejection::Malformed));
        check(|h| h.version = 5, Some(Rejection::Malformed));
        check(|h| h.receive = NtpTimestamp(0), Some(Rejection::Malformed));
        check(|h| h.transmit = NtpTimestamp(0), Some(Rejection::Malformed));
        check(|h| h.leap = Leap::Unknown, Some(Rejection::Unsynchronized));
        check(|h| h.stratum = 16, Some(Rejection::Unsynchronized));
        check(|h| (h.stratum, h.reference_id) = (0, *b"INIT"), Some(Rejection::Unsynchronized));
        check(|h| h.root_dispersion = NtpShort::from_seconds(16.0), Some(Rejection::TooFar));
        check(|h| h.root_delay = NtpShort::from_seconds(32.0), Some(Rejection::TooFar));
        check(|h| (h.stratum, h.reference_id) = (0, *b"NKEY"), Some(Rejection::Kiss(*b"NKEY")));
        check(|h| (h.stratum, h.reference_id) = (0, [0xff, 0, b'A', 7]), Some(Rejection::Unsynchronized));
        check(|h| h.transmit = NtpTimestamp::from_wall(NOW + 1.0), Some(Rejection::Backwards));
        check(|h| h.transmit = NtpTimestamp::from_wall(NOW + 1.9), Some(Rejection::Impossible));
        check(|h| h.receive = NtpTimestamp::from_wall(NOW + -3.5), Some(Rejection::Impossible));
        check(|h| h.reference_id = [10, 0, 0, 7], Some(Rejection::Loop));
        check(|h| (h.stratum, h.reference_id) = (1, [10, 0, 0, 7]), None);
    }

    #[test]
    fn short_and_silent_requests_are_not_answered() {
        let octets = reply().encode();
        for length in 0..octets.len() {
            let got = judge(&octets[..length], &exchange(), &Identity::default());
            assert_eq!(got.err(), Some(Rejection::Stray));
        }
        let zero = Exchange { cookie: NtpTimestamp(0), ..exchange() };
        let header = Header { origin: NtpTimestamp(0), ..reply() };
        assert_eq!(judge(&header.encode(), &zero, &Identity::default()).err(), Some(Rejection::Stray));
    }

    #[test]
    fn we_do_not_follow_ourselves() {
        let us = Identity {
            stratum: 2,
            reference_id: [192, 0, 2, 1],
            root_delay: 0.0,
            reference_time: Some(NOW + 0.5),
            ..Identity::default()
        };
        assert_eq!(judge(&reply().encode(), &exchange(), &us).err(), Some(Rejection::Loop));
        let sibling = Identity { reference_time: Some(NOW + 3.0), ..us };
        assert!(judge(&reply().encode(), &exchange(), &sibling).is_ok());
        let followed = Identity { followers: vec![[192, 0, 2, 9], [192, 0, 2, 1]], ..sibling };
        assert_eq!(judge(&reply().encode(), &exchange(), &followed).err(), Some(Rejection::Loop));
    }

    /// The exchange before `exchange`, one poll earlier. The server, 1 s ahead, received the request 1 ms after it
    /// left.
    fn previous(measured: bool) -> Previous {
        let sent = NOW + -16.0;
        let arrived = NtpTimestamp::from_wall(sent + 1.001);
        Previous { sent, arrived, received: sent + 0.004, measured }
    }

    fn interleaved(measured: bool) -> (Exchange, Header) {
        let exchange = Exchange { previous: Some(previous(measured)), ..exchange() };
        let transmit = NtpTimestamp::from_wall(NOW + -16.0 + 1.003);
        (exchange, Header { origin: COOKIE.complement(), transmit, ..reply() })
    }

    #[test]
    fn an_interleaved_answer_measures_the_exchange_before() {
        let (exchange, header) = interleaved(false);
        let got = judge(&header.encode(), &exchange, &Identity::default());
        let Ok(Reply::Time(Some(sample), _, over)) = got else { panic!("{got:?}") };
        assert!((sample.offset + 1.0).abs() < 2e-9 && (sample.delay - 0.002).abs() < 2e-9, "{sample:?}");
        assert_eq!(sample.at, NOW + -16.0 + 0.002);
        assert_eq!((over.arrived, over.sent, over.measured), (header.receive, NOW, false));
        // An exchange that already gave a sample gives no second one.
        let (exchange, header) = interleaved(true);
        let got = judge(&header.encode(), &exchange, &Identity::default());
        assert!(matches!(got, Ok(Reply::Time(None, ..))), "{got:?}");
        // The server may answer in basic mode.
        let basic = judge(&reply().encode(), &exchange, &Identity::default());
        let Ok(Reply::Time(Some(sample), _, over)) = basic else { panic!("{basic:?}") };
        assert_eq!((sample.at, over.measured), (NOW + 0.002, true));
    }

    #[test]
    fn interleaved_answers_are_tested_as_others_are() {
        let refused = |change: &dyn Fn(&mut Exchange, &mut Header)| {
            let (mut exchange, mut header) = interleaved(false);
            change(&mut exchange, &mut header);
            judge(&header.encode(), &exchange, &Identity::default()).err()
        };
        // The request was not interleaved.
        assert_eq!(refused(&|e, _| e.previous = None), Some(Rejection::Stray));
        assert_eq!(refused(&|_, h| h.origin.0 ^= 1), Some(Rejection::Stray));
        assert_eq!(refused(&|_, h| h.mode = 3), Some(Rejection::Stray));
        // The transmit time of this reply instead of the previous one; and a transmit time before the request arrived.
        assert_eq!(refused(&|_, h| h.transmit = reply().transmit), Some(Rejection::Impossible));
        let early = NtpTimestamp::from_wall(NOW + -17.0);
        assert_eq!(refused(&|_, h| h.transmit = early), Some(Rejection::Backwards));
        assert_eq!(refused(&|_, h| h.leap = Leap::Unknown), Some(Rejection::Unsynchronized));
    }

    #[test]
    fn answers_are_measured_across_the_end_of_an_era() {
        // 2036-02-07T06:28:16Z is second 0 of era 1 (RFC 5905 §6).
        let rollover = Wall(2_085_978_496_000_000_000);
        for (since, ahead) in
            [(-0.0005, 0.0), (-0.002, 0.0), (0.0, 0.0), (-0.1, 1.0), (1.0, -3.0), (-9e4, 1e5)]
        {
            let sent = rollover.plus(since);
            let exchange = Exchange { sent, received: sent + 0.004, ..exchange() };
            let stamp = |after: f64| NtpTimestamp::from_wall(sent.plus(after + ahead));
            let header = Header { receive: stamp(0.001), transmit: stamp(0.003), ..reply() };
            if header.receive.is_zero() || header.transmit.is_zero() {
                continue;
            }
            let got = judge(&header.encode(), &exchange, &Identity::default());
            let Ok(Reply::Time(Some(sample), ..)) = got else { panic!("{since} {ahead}: {got:?}") };
            assert!((sample.offset + ahead).abs() < 2e-9, "{since} {ahead}: {sample:?}");
            assert!((sample.delay - 0.002).abs() < 2e-9, "{since} {ahead}: {sample:?}");
        }
    }

    proptest! {
        /// Any octets give a sample or are rejected. A sample is finite, and its reply repeats the cookie.
        #[test]
        fn no_octets_upset_the_judge(
            mut octets in proptest::collection::vec(any::<u8>(), 0..200),
            known in 0_u8..4,
            refers in any::<bool>(),
        ) {
            let exchange = Exchange { previous: refers.then(|| previous(false)), ..exchange() };
            if known > 0 && octets.len() >= 48 {
                octets[0] = 0x24;
                octets[1] %= 20;
                let origin = if known == 3 { COOKIE.complement() } else { COOKIE };
                octets[24..32].copy_from_slice(&origin.0.to_be_bytes());
            }
            if known == 1 && octets.len() >= 48 {
                octets[32..48].copy_from_slice(&reply().encode()[32..48]);
                octets[4..12].fill(0);
            }
            match judge(&octets, &exchange, &Identity::default()) {
                Ok(answer) => {
                    prop_assert!(known > 0 && octets.len() >= 48 && (known < 3 || refers));
                    if let Reply::Time(sample, ..) = answer {
                        let Sample { at: _, offset, delay, dispersion, root_delay, root_dispersion } =
                            sample.expect("its own answer did not measure the exchange");
                        let all = [offset, delay, dispersion, root_delay, root_dispersion];
                        prop_assert!(all.iter().all(|value| value.is_finite()), "{:?}", sample);
                        prop_assert!(delay > 0.0 && dispersion > 0.0, "{:?}", sample);
                    }
                }
                Err(Rejection::Stray) => {}
                Err(_) => prop_assert!(known > 0 && octets.len() >= 48),
            }
        }
    }

    #[test]
    fn ipv6_addresses_are_hashed() {
        // The first octets of `md5sum` of the 16 octets of 2001:db8::1.
        let id = reference_id_of(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
        assert_eq!(id, IPV6_ID);
        assert_eq!(reference_id_of("::ffff:192.0.2.7".parse().expect("an address")), [192, 0, 2, 7]);
    }

    const IPV6_ID: [u8; 4] = [0x39, 0xab, 0x9b, 0x37];
}
