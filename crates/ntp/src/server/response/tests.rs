//! Tests of requests and replies, without clock and socket.
use proptest::prelude::*;

use super::*;
use crate::{
    Reason, RestrictEntry, RestrictFlags, Snapshot, server::rate_limit::RateTable,
    wire::packet::client_request,
};

const NOW: Wall = Wall(1_800_000_000_000_000_000);
const LIMIT: RateLimit = RateLimit { interval: 3, burst: 8, leak: 2 };
const COOKIE: NtpTimestamp = NtpTimestamp(0x0123_4567_89ab_cdef);

pub(super) fn good() -> Served {
    Served {
        leap: Leap::None,
        stratum: 3,
        reference_id: [192, 0, 2, 10],
        reference_time: Some(NOW + -10.0),
        root_delay: 0.010,
        root_dispersion: 0.002,
        since: NOW + -100.0,
        dispersion_rate: 20e-6,
        precision: -24,
    }
}

fn rules(flags: RestrictFlags) -> RestrictTable {
    let entry =
        |network: &str, flags| RestrictEntry { network: network.parse().unwrap(), ntpport: false, flags };
    RestrictTable::new(&[entry("0.0.0.0/0", flags), entry("::/0", flags)])
}

fn ask(datagram: &[u8], from: &str, served: &Served, flags: RestrictFlags) -> Verdict {
    let request =
        Request { datagram, from: from.parse().unwrap(), to_group: false, received: NOW, now: Mono(0) };
    let serving = Serving { served, rules: &rules(flags), limit: &LIMIT };
    respond(&request, &serving, &mut RateTable::new(64, 1)).verdict
}

const CLIENT: &str = "192.0.2.99:40000";

/// A request of a version and mode, with the octets `more` after the header.
fn asked(version: u8, mode: u8, more: &[u8]) -> Vec<u8> {
    let header = Header { version, mode, poll: 4, transmit: COOKIE, ..Header::default() };
    [&header.encode()[..], more].concat()
}

fn reply(verdict: Verdict) -> Header {
    match verdict {
        Verdict::Answer(answer) => packet::decode(&answer.at(NOW + 0.000_050)).unwrap(),
        other => panic!("no answer: {other:?}"),
    }
}

/// Each server that received it would answer, and the sender may be forged.
#[test]
fn what_came_to_a_broadcast_address_is_not_answered() {
    let datagram = client_request(COOKIE);
    let mut asked = Request {
        datagram: &datagram,
        from: CLIENT.parse().unwrap(),
        to_group: false,
        received: NOW,
        now: Mono(0),
    };
    let (served, rules) = (good(), rules(RestrictFlags::default()));
    let serving = Serving { served: &served, rules: &rules, limit: &LIMIT };
    let verdict = |asked: Request<'_>| respond(&asked, &serving, &mut RateTable::new(64, 1)).verdict;
    assert!(matches!(verdict(asked), Verdict::Answer(_)));
    asked.to_group = true;
    assert_eq!(verdict(asked), Verdict::Drop(DropReason::Destination));
    asked.from.set_port(0);
    assert_eq!(verdict(asked), Verdict::Drop(DropReason::Destination), "nothing else is looked at");
}

#[test]
fn a_synchronised_clock_answers() {
    let header = reply(ask(&client_request(COOKIE), CLIENT, &good(), RestrictFlags::default()));
    assert_eq!((header.leap, header.version, header.mode, header.stratum), (Leap::None, 4, 4, 3));
    assert_eq!((header.origin, header.receive.to_wall()), (COOKIE, NOW));
    assert_eq!(header.transmit.to_wall(), NOW + 0.000_050);
    assert_eq!((header.reference_id, header.reference_time.to_wall()), ([192, 0, 2, 10], NOW + -10.0));
    // 2 ms plus 20 ppm of the 100 s since then, computed for this reply.
    assert!((header.root_dispersion.seconds() - 0.004).abs() < 2e-5, "{:?}", header.root_dispersion);
    assert!((header.root_delay.seconds() - 0.010).abs() < 2e-5);
    assert_eq!((header.precision, header.poll), (-24, 0));
}

/// A memory with one departure. It returns every announced timestamp slightly earlier.
#[derive(Default)]
struct Remembers {
    left: Option<(NtpTimestamp, NtpTimestamp)>,
    asked: u32,
}

impl Memory for Remembers {
    fn judge(&mut self, _: IpAddr, _: Mono, _: &RateLimit) -> RateVerdict {
        RateVerdict::Pass
    }

    fn departure(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        self.asked += 1;
        self.left.take_if(|(known, _)| *known == arrival).map(|(_, departure)| departure)
    }

    fn expect(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        self.asked += 1;
        Some(NtpTimestamp(arrival.0 - 2))
    }
}

#[test]
fn interleaved_answers_say_when_the_one_before_left() {
    let (known, left) = (arrival(NOW + -64.0), NtpTimestamp::from_wall(NOW + -63.5));
    let answered = |datagram: &[u8]| {
        let mut memory = Remembers { left: Some((known, left)), asked: 0 };
        let request =
            Request { datagram, from: CLIENT.parse().unwrap(), to_group: false, received: NOW, now: Mono(0) };
        let (rules, served) = (rules(RestrictFlags::default()), good());
        let serving = Serving { served: &served, rules: &rules, limit: &LIMIT };
        let verdict = respond(&request, &serving, &mut memory).verdict;
        let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
        (packet::decode(&answer.at(NOW + 0.25)).unwrap(), answer, memory)
    };
    let asked = |version, mode, origin, receive| {
        let header = Header { version, mode, origin, receive, transmit: COOKIE, ..Header::default() };
        header.encode()
    };
    let other = NtpTimestamp(0x5555);

    let (reply, answer, memory) = answered(&asked(4, 3, known, other));
    assert_eq!((reply.origin, reply.transmit), (other, NtpTimestamp(left.0 & !1)));
    assert_eq!((reply.receive, answer.traced()), (NtpTimestamp(arrival(NOW).0 - 2), Some(reply.receive)));
    assert!(memory.left.is_none());
    // A kiss refers to the request, not to the previous one.
    assert_eq!(packet::decode(&answer.kiss(*b"NTSN")).unwrap().origin, COOKIE);

    let basic = |reply: &Header| assert_eq!((reply.origin, reply.transmit.to_wall()), (COOKIE, NOW + 0.25));
    // The request refers to a reply that is not remembered, or is in basic mode. The next one may be interleaved.
    for (origin, receive) in [(arrival(NOW + -32.0), other), (known, COOKIE)] {
        let (reply, answer, memory) = answered(&asked(4, 3, origin, receive));
        basic(&reply);
        assert_eq!((answer.traced(), memory.left), (Some(reply.receive), Some((known, left))));
    }
    // Requests with an empty origin timestamp, with ntpd's (the transmit time of the previous reply), or with random
    // ones.
    let said = reply.transmit;
    for (version, mode, origin) in [
        (4, 3, NtpTimestamp(0)),
        (4, 3, said),
        (4, 3, arrival(NOW + 1.0)),
        (4, 3, arrival(NOW + -140_000.0)),
        (3, 3, known),
        (4, 1, known),
    ] {
        let (reply, answer, memory) = answered(&asked(version, mode, origin, other));
        basic(&reply);
        assert_eq!((answer.traced(), memory.asked), (None, 0), "version {version}, mode {mode}, {origin:?}");
        assert_eq!((reply.receive.0 & 1, reply.transmit.0 & 1), (1, 0));
    }
}

#[test]
fn an_unsynchronised_one_says_so() {
    for served in
        [Served::UNSYNCHRONIZED, Served { leap: Leap::Unknown, ..good() }, Served { stratum: 16, ..good() }]
    {
        let header = reply(ask(&client_request(COOKIE), CLIENT, &served, RestrictFlags::default()));
        assert_eq!((header.leap, header.stratum, header.mode), (Leap::Unknown, 0, 4));
    }
    let header =
        reply(ask(&client_request(COOKIE), CLIENT, &Served::UNSYNCHRONIZED, RestrictFlags::default()));
    assert_eq!((header.reference_id, header.reference_time), (*b"INIT", NtpTimestamp(0)));
}

#[test]
fn stamps_are_in_order_even_if_the_clock_is_not() {
    let served = Served { reference_time: Some(NOW + 5.0), ..good() };
    let Verdict::Answer(answer) = ask(&client_request(COOKIE), CLIENT, &served, RestrictFlags::default())
    else {
        panic!("no answer");
    };
    let header = packet::decode(&answer.at(NOW + -3.0)).unwrap();
    assert!(
        header.transmit.0 >= header.receive.0 && header.reference_time.0 <= header.transmit.0,
        "{header:?}"
    );
    assert_eq!(header.transmit.to_wall(), NOW);
}

#[test]
fn versions_and_modes() {
    let check = |version: u8, mode: u8, from: &str, expected: Result<u8, DropReason>| {
        let verdict = ask(&asked(version, mode, &[]), from, &good(), RestrictFlags::default());
        match expected {
            Ok(mode) => assert_eq!((reply(verdict).version, reply(verdict).mode), (version, mode)),
            Err(reason) => assert_eq!(verdict, Verdict::Drop(reason), "{version} {mode} {from}"),
        }
    };
    for version in 1..=4 {
        check(version, 3, CLIENT, Ok(4));
        check(version, 3, "192.0.2.99:123", Ok(4));
        check(version, 1, "192.0.2.99:123", Ok(2));
        for mode in [2, 4, 5, 7] {
            check(version, mode, CLIENT, Err(DropReason::Mode));
        }
    }
    check(1, 0, CLIENT, Ok(4));
    check(1, 0, "192.0.2.99:123", Err(DropReason::Mode));
    check(2, 0, CLIENT, Err(DropReason::Mode));
    for version in [0, 5, 6, 7] {
        check(version, 3, CLIENT, Err(DropReason::UnknownVersion));
    }
    for from in
        ["192.0.2.99:0", "224.0.1.1:123", "255.255.255.255:123", "[ff02::101]:123", "0.0.0.0:5", "[::]:5"]
    {
        check(4, 3, from, Err(DropReason::Source));
    }
}

#[test]
fn flags_count() {
    let check = |version: u8, flags: RestrictFlags, expected: Option<DropReason>| {
        let verdict = ask(&asked(version, 3, &[]), CLIENT, &good(), flags);
        match expected {
            Some(reason) => assert_eq!(verdict, Verdict::Drop(reason), "{flags:?}"),
            None => drop(reply(verdict)),
        }
    };
    let none = RestrictFlags::default();
    check(4, RestrictFlags { ignore: true, ..none }, Some(DropReason::Ignore));
    check(4, RestrictFlags { noserve: true, ..none }, Some(DropReason::Noserve));
    check(4, RestrictFlags { notrust: true, ..none }, Some(DropReason::Unauthenticated));
    check(3, RestrictFlags { version: true, ..none }, Some(DropReason::Version));
    check(4, RestrictFlags { version: true, ..none }, None);
    check(4, RestrictFlags { kod: true, ..none }, None);
    check(4, RestrictFlags { limited: true, ..none }, None);
}

/// CVE-2010-0292, and ntpd-rs before 1.6.3: two servers that answered each other's answers forever.
#[test]
fn no_answer_is_answered() {
    let control = |second: u8| [&[0x16, second, 0, 1][..], &[0; 44]].concat();
    let kiss = Header { version: 4, mode: 4, reference_id: *b"RATE", transmit: COOKIE, ..Header::default() };
    let shorter = |len: usize| asked(4, 3, &[])[..len].to_vec();
    for (what, datagram, expected) in [
        ("a reply", asked(4, 4, &[]), DropReason::Mode),
        ("a peer's reply", asked(4, 2, &[]), DropReason::Mode),
        ("a kiss", kiss.encode().to_vec(), DropReason::Mode),
        ("a broadcast", asked(4, 5, &[]), DropReason::Mode),
        ("an answer to a query", control(0x82), DropReason::Mode),
        ("an error of a query", control(0xc2), DropReason::Mode),
        ("a part of an answer", control(0xa2), DropReason::Mode),
        ("an answer of mode 7", [&[0x97, 0, 3, 0x2a][..], &[0; 44]].concat(), DropReason::Mode),
        ("a part of a request", shorter(47), DropReason::Malformed),
        ("one octet", shorter(1), DropReason::Malformed),
        ("nothing", shorter(0), DropReason::Malformed),
        ("a part of a query", control(0)[..11].to_vec(), DropReason::Malformed),
    ] {
        for from in ["192.0.2.1:123", CLIENT] {
            let verdict = ask(&datagram, from, &good(), RestrictFlags::default());
            assert_eq!(verdict, Verdict::Drop(expected), "{what} from {from}");
        }
    }
}

#[test]
fn what_follows_the_header() {
    let check = |version: u8, more: &[u8], expected: Trailer| {
        assert_eq!(trailer(version, more), expected, "version {version}, {} octets", more.len());
    };
    let field = |kind: u16, len: u16| {
        let mut field = vec![0; usize::from(len)];
        field[..2].copy_from_slice(&kind.to_be_bytes());
        field[2..4].copy_from_slice(&len.to_be_bytes());
        field
    };
    check(4, &[], Trailer::Plain);
    check(3, &[], Trailer::Plain);
    for mac in [20, 24, 36, 52, 68, 72] {
        check(3, &vec![0; mac], Trailer::Mac);
        check(4, &vec![0; mac], Trailer::Mac);
    }
    // A crypto-NAK.
    check(3, &[0; 4], Trailer::Authentication);
    check(4, &[0; 4], Trailer::Authentication);
    check(3, &[0; 28], Trailer::Unreadable);
    check(4, &[0; 5], Trailer::Unreadable);
    check(4, &[0; 28], Trailer::Unreadable);
    check(4, &field(0xf323, 28), Trailer::Plain);
    check(4, &[field(0xf323, 28), vec![0; 20]].concat(), Trailer::Authentication);
    check(4, &[field(0x0104, 36), field(0x0204, 100), field(0x0404, 40)].concat(), Trailer::Nts);
    check(4, &[field(0x0204, 100), field(0xf323, 28)].concat(), Trailer::Nts);
    let mut long = field(0xf323, 28);
    long[3] = 32;
    check(4, &long, Trailer::Unreadable);
}

/// A MAC for tests, made of a key and the message.
struct Keyed(&'static str, usize);

impl Mac for Keyed {
    fn digest(&self, message: &[u8]) -> Vec<u8> {
        let short = crate::wire::md5::chained(&[self.0.as_bytes(), message].concat());
        short.iter().cycle().take(self.1).copied().collect()
    }
}

#[test]
fn a_signed_request_gets_a_signed_reply_or_none() {
    let keys = [(1, Keyed("one", 16)), (2, Keyed("two", 20)), (0x0102_0304, Keyed("three", 64))];
    let find = |number| keys.iter().find(|(known, _)| *known == number).map(|(_, key)| key);
    let notrust = RestrictFlags { notrust: true, ..RestrictFlags::default() };
    let reply = |datagram: &[u8]| match ask(datagram, CLIENT, &good(), notrust) {
        Verdict::Sign(answer) => answer.signed_at(|| NOW + 0.25, datagram, find),
        Verdict::Drop(reason) => Err(reason),
        other => panic!("{other:?}"),
    };
    for version in 1..=4 {
        for mode in [1, 3] {
            for (number, key) in &keys {
                let mut request = asked(version, mode, &[]);
                mac::sign(&mut request, *number, key);
                let octets = reply(&request).unwrap();
                assert_eq!(octets.len(), request.len(), "version {version}, key {number}");
                assert_eq!(mac::verify(&octets, *number, key), Ok(()));
                let header = packet::decode(&octets).unwrap();
                assert_eq!((header.version, header.mode, header.origin), (version, mode + 1, COOKIE));
                assert_eq!(header.transmit.to_wall(), NOW + 0.25);
                // A reply is not a request, with or without a MAC.
                assert_eq!(reply(&octets), Err(DropReason::Mode));

                for bit in 0..8 * request.len() {
                    let mut broken = request.clone();
                    broken[bit / 8] ^= 1 << (bit % 8);
                    assert!(reply(&broken).is_err(), "version {version}, key {number}, bit {bit}");
                }
                let unauthenticated = Err(DropReason::Unauthenticated);
                for (what, broken) in [
                    ("no MAC", request[..HEADER_LEN].to_vec()),
                    ("a crypto-NAK", [&request[..HEADER_LEN], &[0; 4]].concat()),
                    ("a key's number alone", request[..HEADER_LEN + 4].to_vec()),
                    ("another key's digest", {
                        let mut other = asked(version, mode, &[]);
                        mac::sign(&mut other, *number, &Keyed("four", key.1));
                        other
                    }),
                    ("an unknown key", {
                        let mut other = asked(version, mode, &[]);
                        mac::sign(&mut other, 3, key);
                        other
                    }),
                    ("zeros, for a domain controller", [&request[..HEADER_LEN], &[0; 20]].concat()),
                ] {
                    assert_eq!(reply(&broken), unauthenticated, "version {version}, key {number}: {what}");
                }
            }
        }
    }
    // With keyed hashes, an attacker who knows a digest of the header could insert fields (length extension).
    let mut field = vec![0; 28];
    field[..4].copy_from_slice(&[0xf3, 0x23, 0, 28]);
    let mut request = asked(4, 3, &field);
    mac::sign(&mut request, 1, &keys[0].1);
    assert_eq!(reply(&request), Err(DropReason::Unauthenticated));
}

#[test]
fn the_excess_gets_kisses_and_silence() {
    let flags = RestrictFlags { limited: true, kod: true, ..RestrictFlags::default() };
    let (rules, mut clients) = (rules(flags), RateTable::new(64, 1));
    let (mut kisses, mut answers, mut dropped) = (0, 0, 0);
    for _ in 0..1_000 {
        let datagram = asked(3, 3, &[]);
        let from = CLIENT.parse().unwrap();
        let request = Request { datagram: &datagram, from, to_group: false, received: NOW, now: Mono(0) };
        match respond(&request, &Serving { served: &good(), rules: &rules, limit: &LIMIT }, &mut clients)
            .verdict
        {
            Verdict::Answer(_) => answers += 1,
            Verdict::Seal(_) => panic!("not asked for"),
            Verdict::Drop(reason) => {
                assert_eq!(reason, DropReason::RateLimited);
                dropped += 1;
            }
            Verdict::Query | Verdict::Sign(_) => panic!("a plain request was taken for another"),
            Verdict::Kiss(octets) => {
                kisses += 1;
                let header = packet::decode(&octets).unwrap();
                assert_eq!((header.leap, header.stratum, header.mode), (Leap::Unknown, 0, 4));
                assert_eq!((header.reference_id, header.version, header.poll), (*b"RATE", 3, 4));
                assert_eq!([header.origin, header.receive, header.transmit], [COOKIE; 3]);
            }
        }
    }
    assert!(answers > 200 && answers < 320 && kisses > 130 && dropped > 400, "{answers} {kisses} {dropped}");
    // A poll interval below the rate limit is answered with that of the limit.
    let verdict = ask(&client_request(COOKIE), CLIENT, &good(), flags);
    assert_eq!(reply(verdict).poll, 3);
}

fn snapshot(synchronized: bool) -> Snapshot {
    Snapshot {
        at: NOW,
        synchronized,
        reason: if synchronized { Reason::Synchronized } else { Reason::Unreachable },
        leap: if synchronized { Leap::Insert } else { Leap::Unknown },
        stratum: if synchronized { 2 } else { 16 },
        reference: None,
        reference_id: [192, 0, 2, 1],
        reference_time: Some(NOW),
        offset: None,
        jitter: None,
        offset_error: None,
        error_bound: None,
        root_delay: 0.5,
        root_dispersion: 1.5,
        dispersion_rate: 1e-5,
        frequency_ppm: 0.0,
        skew_ppm: 0.0,
        kernel_frequency_ppm: 0.0,
        steps: 0,
        start_phase: false,
        confirmed: true,
        sources: Vec::new(),
    }
}

#[test]
fn the_snapshot_decides_what_is_served() {
    let served = Served::from_snapshot(&snapshot(true));
    assert_eq!((served.leap, served.stratum, served.reference_id), (Leap::Insert, 2, [192, 0, 2, 1]));
    let served = Served::from_snapshot(&snapshot(false));
    assert_eq!((served.leap, served.stratum, served.reference_id), (Leap::Unknown, 16, *b"INIT"));
    // Regardless of the values of a reference that was lost long ago.
    let local = Snapshot {
        reason: Reason::LocalClock,
        stratum: 10,
        reference_id: [127, 127, 1, 1],
        ..snapshot(true)
    };
    let served = Served::from_snapshot(&local);
    assert_eq!((served.leap, served.stratum, served.reference_id), (Leap::None, 10, [127, 127, 1, 1]));
    assert_eq!((served.root_delay, served.root_dispersion, served.dispersion_rate), (0.0, 0.0, 0.0));
    assert!(served.reference_time.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_octets_get_at_most_as_many_back(
        datagram in proptest::collection::vec(any::<u8>(), 0..160),
        first in prop_oneof![Just(0x23_u8), Just(0x1b), Just(0x21), any::<u8>()],
        from: SocketAddr,
        received: i64,
        now: i64,
        flags: [bool; 7],
        (delay, dispersion, rate) in (any::<f64>(), any::<f64>(), any::<f64>()),
        (stratum, reference) in (any::<u8>(), any::<i64>()),
        key in proptest::option::of(16_usize..65),
        limit: (i8, u8, u8),
    ) {
        let mut datagram = datagram;
        if let Some(octet) = datagram.first_mut() {
            *octet = first;
        }
        let key = key.filter(|_| datagram.len() >= HEADER_LEN).map(|len| Keyed("key", len));
        if let Some(key) = &key {
            datagram.truncate(HEADER_LEN);
            mac::sign(&mut datagram, 1, key);
        }
        let [ignore, noserve, noquery, notrust, version, limited, kod] = flags;
        let rules = rules(RestrictFlags { ignore, noserve, noquery, notrust, version, limited, kod });
        let served = Served {
            stratum,
            root_delay: delay,
            root_dispersion: dispersion,
            dispersion_rate: rate,
            reference_time: Some(Wall(reference)),
            ..good()
        };
        let limit = RateLimit { interval: limit.0, burst: limit.1, leak: limit.2 };
        let request = Request { datagram: &datagram, from, to_group: false, received: Wall(received), now: Mono(now) };
        let mut clients = RateTable::new(8, 1);
        for _ in 0..4 {
            let octets = match respond(&request, &Serving { served: &served, rules: &rules, limit: &limit }, &mut clients).verdict {
                Verdict::Answer(answer) => answer.at(Wall(received)).to_vec(),
                Verdict::Sign(answer) => match answer.signed_at(|| Wall(received), &datagram, |_| key.as_ref()) {
                    Ok(octets) => octets,
                    Err(_) => continue,
                },
                Verdict::Kiss(octets) => octets.to_vec(),
                Verdict::Seal(_) | Verdict::Drop(_) => continue,
                Verdict::Query => {
                    prop_assert!(datagram[0] & 7 == 6 && !noquery && !ignore);
                    continue;
                }
            };
            prop_assert!(octets.len() <= datagram.len(), "{} of {}", octets.len(), datagram.len());
            // A reply is never a request again, so two servers cannot answer each other.
            let header = packet::decode(&octets).unwrap();
            prop_assert!(header.mode == 4 || header.mode == 2);
            prop_assert_eq!(header.version, datagram[0] >> 3 & 7);
            prop_assert_eq!(header.origin.0.to_be_bytes(), &datagram[40..48]);
            // Not by an entry without flags, regardless of the port.
            for port in [123, 40_000] {
                let from = SocketAddr::new([192, 0, 2, 1].into(), port);
                let request = Request { datagram: &octets, from, to_group: false, received: NOW, now: Mono(now) };
                let open = self::rules(RestrictFlags::default());
                let serving = Serving { served: &good(), rules: &open, limit: &LIMIT };
                let again = respond(&request, &serving, &mut clients).verdict;
                prop_assert!(matches!(again, Verdict::Drop(DropReason::Mode)), "{again:?}");
            }
        }
    }
}
