//! Queries of real clients and of attackers.
use proptest::prelude::*;

use super::*;
use crate::{Heard, Leap, NtpTimestamp, Reason, SampleSnapshot, SourceDetail, SourceState, Wall};

const NOW: Wall = Wall(1_800_000_000_000_000_000);

fn source(id: u32, state: SourceState) -> SourceSnapshot {
    let stamp = |seconds: f64| NtpTimestamp::from_wall(NOW.plus(seconds));
    let heard = Heard {
        leap: Leap::None,
        poll: 6,
        precision: -23,
        root_delay: 0.001,
        root_dispersion: 0.0025,
        reference_time: stamp(-30.0),
        transmit: stamp(-4.5),
        local: Some([10, 0, 0, 7].into()),
    };
    let sample = SampleSnapshot { offset: -0.000_12, delay: 0.000_8, dispersion: 0.000_01 };
    SourceSnapshot {
        id: SourceId(id),
        name: format!("s{id}"),
        address: Some([192, 0, 2, id as u8].into()),
        state,
        why: String::new(),
        reach: 0o377,
        stratum: 2,
        reference_id: [198, 51, 100, 1],
        offset: Some(-0.000_123_456),
        delay: Some(0.000_8),
        jitter: Some(0.000_02),
        poll: 4,
        last_answer_age: Some(4.0),
        sent: 20,
        received: 17,
        rejected: 3,
        detail: SourceDetail {
            host: format!("ntp{id}.example"),
            port: 123,
            heard: Some(heard),
            samples: vec![sample; 3],
            dispersion: Some(0.000_01),
            next_poll: 11.5,
            reach_age: 300.0,
            stray: 1,
            unauthentic: 1,
            ..SourceDetail::default()
        },
    }
}

fn silent(id: u32) -> SourceSnapshot {
    SourceSnapshot {
        address: None,
        state: SourceState::Unresolved,
        reach: 0,
        stratum: 16,
        reference_id: [0; 4],
        offset: None,
        delay: None,
        jitter: None,
        last_answer_age: None,
        received: 0,
        detail: SourceDetail { host: "nowhere.example".to_owned(), port: 123, ..SourceDetail::default() },
        ..source(id, SourceState::Unresolved)
    }
}

fn snapshot(sources: Vec<SourceSnapshot>) -> Snapshot {
    Snapshot {
        at: NOW,
        synchronized: true,
        reason: Reason::Synchronized,
        leap: Leap::None,
        stratum: 3,
        reference: sources.first().map(|source| source.id),
        reference_id: [192, 0, 2, 1],
        reference_time: Some(NOW.plus(-4.0)),
        offset: Some(-0.000_1),
        jitter: Some(0.000_02),
        offset_error: Some(0.000_004),
        error_bound: Some(0.01),
        root_delay: 0.012_345,
        root_dispersion: 0.006_689,
        dispersion_rate: 1e-5,
        frequency_ppm: -20.5,
        skew_ppm: 0.04,
        kernel_frequency_ppm: -20.5,
        steps: 1,
        start_phase: false,
        confirmed: true,
        sources,
    }
}

/// Enough associations for six datagrams. The first is selected, and one never answered.
pub(crate) fn many() -> Snapshot {
    let all = (1..700).map(|id| source(id, SourceState::Combined));
    let selected = [source(0, SourceState::Selected)];
    snapshot(selected.into_iter().chain([silent(700)]).chain(all).collect())
}

const COUNTS: ServerCounts = ServerCounts {
    uptime_secs: 90,
    queries: 5,
    received: 100,
    current_version: 70,
    older_version: 20,
    version_1: [10, 4, 5, 1],
    malformed: 1,
    unauthenticated: 2,
    declined: 3,
    restricted: 4,
    limited: 6,
    kisses: 7,
    answered: 60,
};

/// Asks with a complete view.
pub(crate) fn ask_of(snapshot: Option<&Snapshot>, datagram: &[u8], afar: bool) -> Vec<Vec<u8>> {
    let served = snapshot.map_or(Served::UNSYNCHRONIZED, Served::from_snapshot);
    let kernel = KernelClock { status: 0x2040, max_error: 16.0, tai_offset: 37, ..KernelClock::default() };
    let view = ControlView {
        now: NOW.plus(10.0),
        snapshot,
        served: &served,
        ids: AssociationIds { start: 999 },
        counts: &COUNTS,
        kernel: Some(&kernel),
        version: "timesync-agent 1.2.3",
        system: "Linux/6.1",
        processor: "x86_64",
    };
    answer(datagram, afar, &view)
}

pub(crate) fn query(opcode: u8, association: u16, data: &str) -> Vec<u8> {
    let mut datagram = vec![0xd6, opcode, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    datagram[6..8].copy_from_slice(&association.to_be_bytes());
    datagram[10..12].copy_from_slice(&(data.len() as u16).to_be_bytes());
    datagram.extend(data.as_bytes());
    datagram
}

/// Reassembles and checks the parts as a client does: status word and data. The parts arrive in reverse order.
pub(crate) fn together(parts: &[Vec<u8>]) -> (u16, Vec<u8>) {
    let word = |part: &[u8], at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
    let mut data = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        assert_eq!(part[1] & 0xc0, RESPONSE, "an error, or no response");
        assert_eq!(part[1] & MORE != 0, place + 1 < parts.len());
        assert_eq!(usize::from(word(part, 8)), data.len());
        let count = usize::from(word(part, 10));
        assert!(count <= LARGEST_DATA && part.len() == (HEADER_LEN + count).next_multiple_of(4));
        assert!(count > 0 || parts.len() == 1, "clients drop empty fragments");
        assert!(part[HEADER_LEN + count..].iter().all(|octet| *octet == 0));
        data.extend(&part[HEADER_LEN..HEADER_LEN + count]);
    }
    (word(&parts[0], 4), data)
}

fn asked(opcode: u8, association: u16, data: &str) -> (u16, String) {
    let parts = ask_of(Some(&many()), &query(opcode, association, data), false);
    let (status, data) = together(&parts);
    (status, String::from_utf8(data).unwrap())
}

#[test]
fn variables_of_the_system_are_in_order() {
    let (status, text) = asked(2, 0, "");
    assert_eq!(status, 0x0615);
    let expected = "leap=0, stratum=3, precision=-24, rootdelay=12.345, rootdisp=6.889,\r\n\
        refid=192.0.2.1, reftime=0xeef4507c.00000000, tc=4, peer=1000,\r\n\
        offset=0.100000, frequency=-20.500, sys_jitter=0.020000,\r\n\
        clk_jitter=0.004000, clock=0xeef4508a.00000000, processor=\"x86_64\",\r\n\
        system=\"Linux/6.1\", version=\"timesync-agent 1.2.3\", clk_wander=0.040,\r\n\
        tai=37, mintc=0, rootdist=13.062\r\n";
    assert_eq!(text, expected);
    let first_eleven = &system::DEFAULT[..11];
    assert_eq!(first_eleven.last(), Some(&"frequency"));
    let first = ask_of(Some(&many()), &query(2, 0, ""), false).swap_remove(0);
    let first = String::from_utf8(first[HEADER_LEN..].to_vec()).unwrap();
    assert!(first_eleven.iter().all(|name| first.contains(&format!("{name}="))), "{first}");
}

#[test]
fn variables_of_an_association_are_in_order() {
    let (status, text) = asked(2, 1000, "");
    assert_eq!(status, 0x961a);
    let expected = "srcadr=192.0.2.0, srcport=123, dstadr=10.0.0.7, dstport=0, leap=0,\r\n\
        hmode=3, stratum=2, ppoll=6, hpoll=4, precision=-23, rootdelay=1.000,\r\n\
        rootdisp=2.500, refid=198.51.100.1, reftime=0xeef45062.00000000,\r\n\
        rec=0xeef4507c.00000000, xmt=0xeef4507b.80000000, reach=0xff, unreach=0,\r\n\
        delay=0.800000, offset=0.123456, jitter=0.020000, dispersion=0.010000,\r\n\
        keyid=0, filtdelay=0.80 0.80 0.80 0.00 0.00 0.00 0.00 0.00,\r\n\
        filtoffset=0.12 0.12 0.12 0.00 0.00 0.00 0.00 0.00, pmode=4,\r\n\
        filtdisp=0.01 0.01 0.01 16000.00 16000.00 16000.00 16000.00 16000.00,\r\n\
        flash=0x0, headway=0, srchost=\"ntp0.example\", ntscookies=-1\r\n";
    assert_eq!(text, expected);
    // The other opcode gives the same.
    assert_eq!(asked(1, 1000, "").1, expected);
    assert_eq!(asked(0, 1000, ""), (0x961a, String::new()));

    let (status, text) =
        asked(2, 1700, "srcadr,srchost,refid,reach,rec,stratum,dispersion,dstadr,hpoll,ppoll");
    assert_eq!(status, 0x8013);
    let expected = "srcadr=0.0.0.0, srchost=\"nowhere.example\", refid=INIT, reach=0x0,\r\n\
        rec=0x00000000.00000000, stratum=16, dispersion=16000.000000,\r\n\
        dstadr=0.0.0.0, hpoll=4, ppoll=4\r\n";
    assert_eq!(text, expected);
}

#[test]
fn status_words_say_what_selection_made_of_a_source() {
    let check = |change: &dyn Fn(&mut SourceSnapshot), expected: u16| {
        let mut source = source(1, SourceState::Combined);
        change(&mut source);
        assert_eq!(status::of_peer(&source), expected, "{source:?}");
    };
    check(&|_| {}, 0x9414);
    check(&|s| s.state = SourceState::Selected, 0x961a);
    check(&|s| (s.state, s.detail.device) = (SourceState::Selected, true), 0x971a);
    check(&|s| s.state = SourceState::Agreeing, 0x9314);
    check(&|s| (s.state, s.reach) = (SourceState::Agreeing, 0), 0x8213);
    check(&|s| s.state = SourceState::Falseticker, 0x9114);
    check(&|s| s.state = SourceState::NoMajority, 0x9114);
    check(&|s| s.state = SourceState::Noselect, 0x9014);
    check(&|s| (s.state, s.reach) = (SourceState::Unreachable, 0), 0x8013);
    check(&|s| s.detail.authenticated = true, 0xf414);
    check(&|s| (s.detail.authenticated, s.received) = (true, 0), 0xd414);
}

#[test]
fn the_systems_word_and_peer_follow_its_state() {
    let check = |change: &dyn Fn(&mut Snapshot), expected: u16, variables: &str| {
        let mut snapshot = snapshot(vec![source(1, SourceState::Selected)]);
        change(&mut snapshot);
        let names = "leap,stratum,refid,peer,peeradr,peermode";
        let (status, text) = together(&ask_of(Some(&snapshot), &query(2, 0, names), false));
        assert_eq!(format!("{status:04x}"), format!("{expected:04x}"));
        assert_eq!(String::from_utf8(text).unwrap().replace("\r\n", ""), variables);
    };
    check(
        &|_| {},
        0x0615,
        "leap=0, stratum=3, refid=192.0.2.1, peer=1001, peeradr=\"192.0.2.1:123\",peermode=3",
    );
    let lost = |reason| {
        move |s: &mut Snapshot| {
            (s.synchronized, s.reason, s.leap, s.stratum, s.reference) =
                (false, reason, Leap::Unknown, 16, None);
        }
    };
    let nothing = "leap=3, stratum=16, refid=INIT, peer=0, peeradr=\"0.0.0.0:0\", peermode=0";
    check(&lost(Reason::Starting), 0xc016, nothing);
    check(&lost(Reason::NoMajority), 0xc018, nothing);
    check(&lost(Reason::MaxChange), 0xc017, nothing);
    let local = |s: &mut Snapshot| {
        (s.reason, s.stratum, s.reference_id, s.reference) = (Reason::LocalClock, 10, [127, 127, 1, 1], None);
    };
    check(&local, 0x0518, "leap=0, stratum=10, refid=127.127.1.1, peer=0, peeradr=\"0.0.0.0:0\",peermode=0");
    check(
        &|s| (s.leap, s.stratum, s.reference_id) = (Leap::Insert, 1, *b"PHC0"),
        0x4619,
        "leap=1, stratum=1, refid=PHC0, peer=1001, peeradr=\"192.0.2.1:123\",peermode=3",
    );
    assert_eq!(together(&ask_of(None, &query(1, 0, ""), false)), (0xc016, Vec::new()));
}

#[test]
fn named_variables_and_errors() {
    assert_eq!(asked(2, 0, "offset, leap").1, "offset=0.100000, leap=0\r\n");
    assert_eq!(asked(2, 0, " tc \0").1, "tc=4\r\n");
    assert_eq!(asked(2, 0, "ss_received,ss_received_r,kstflags").1.lines().count(), 1);
    assert_eq!(asked(2, 0, "kstflags").1, "kstflags=\"unsync nano\"\r\n");
    // Octets after the data are ignored: ntpstat sends 576 octets.
    let mut long = query(2, 0, "tc");
    long.resize(576, 0xff);
    assert_eq!(together(&ask_of(Some(&many()), &long, false)).1, b"tc=4\r\n");

    let refused = |datagram: &[u8], code: u8| {
        let parts = ask_of(Some(&many()), datagram, false);
        let mut expected = datagram[..HEADER_LEN].to_vec();
        (expected[0], expected[1]) = (datagram[0] & 0x3f, datagram[1] | RESPONSE | ERROR);
        (expected[4], expected[5]) = (code, 0);
        expected[8..].fill(0);
        assert_eq!(parts, [expected], "{datagram:02x?}");
    };
    for (opcode, code) in
        [(3, 1), (4, 3), (5, 3), (6, 3), (7, 3), (8, 1), (9, 1), (10, 3), (11, 1), (12, 3), (13, 3), (31, 3)]
    {
        refused(&query(opcode, 0, ""), code);
    }
    for association in [1, 999, 1701, u16::MAX] {
        refused(&query(2, association, ""), 4);
    }
    for data in ["nonsense", "tc,nonsense", "tc=5", "ss_received_r_r", "\u{fffd}"] {
        refused(&query(2, 0, data), 5);
    }
    for never in ["org", "t1", "srcadr,org", "cookie"] {
        refused(&query(2, 1000, never), 5);
    }
    for count in [3_u16, 469, u16::MAX] {
        let mut datagram = query(2, 0, "tc");
        datagram[10..12].copy_from_slice(&count.to_be_bytes());
        refused(&datagram, 2);
    }
    let mut datagram = query(2, 0, &"tc,".repeat(156));
    datagram.resize(1000, b'x');
    datagram[10..12].copy_from_slice(&469_u16.to_be_bytes());
    refused(&datagram, 2);
}

#[test]
fn what_is_no_query_is_met_with_silence() {
    let silent = |change: &dyn Fn(&mut Vec<u8>), reason| {
        let mut datagram = query(2, 0, "");
        change(&mut datagram);
        assert_eq!(examine(&datagram), Err(reason));
        assert!(ask_of(Some(&many()), &datagram, false).is_empty());
    };
    for bit in [RESPONSE, ERROR, MORE] {
        silent(&|d| d[1] |= bit, DropReason::Mode);
    }
    silent(&|d| d[9] = 1, DropReason::Malformed);
    silent(&|d| d.truncate(11), DropReason::Malformed);
    silent(&|d| d[0] = 0x06, DropReason::UnknownVersion);
    silent(&|d| d[0] = 0x2e, DropReason::UnknownVersion);
}

#[test]
fn long_answers_come_in_parts_and_few_of_them_to_strangers() {
    let all = ask_of(Some(&many()), &query(1, 0, ""), false);
    assert_eq!((all.len(), together(&all).1.len()), (6, 4 * 701));
    let few = ask_of(Some(&many()), &query(1, 0, ""), true);
    assert_eq!((few.len(), together(&few).1.len()), (4, 4 * 468));
    let ids: Vec<_> = together(&all).1.chunks(4).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    assert_eq!((ids[0], ids[1], ids[2]), (1000, 1700, 1001));
    // Also if a variable is requested repeatedly.
    let greedy = query(2, 1000, &"filtdisp,".repeat(52)[..467]);
    for (afar, most) in [(false, FRAGMENTS), (true, FRAGMENTS_AFAR)] {
        let parts = ask_of(Some(&many()), &greedy, afar);
        let text = String::from_utf8(together(&parts).1).unwrap();
        assert!(parts.len() <= most && text.ends_with("16000.00\r\n"), "{}", parts.len());
    }
}

#[test]
fn association_ids_are_never_zero_and_differ() {
    for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
        let ids = AssociationIds::new(random);
        let all: Vec<_> = (0..32_768).map(|id| ids.of(SourceId(id))).collect();
        assert!(all.windows(2).all(|pair| 0 < pair[0] && pair[0] < pair[1]), "{random}");
        assert!((0..200_000).all(|id| ids.of(SourceId(id)) != 0));
        assert_ne!(ids.of(SourceId(u32::MAX)), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_octets_are_answered_within_limits(
        octets in proptest::collection::vec(any::<u8>(), 0..600),
        names in proptest::collection::vec(0_usize..60, 0..80),
        shape in 0_u8..4,
        (afar, known) in (any::<bool>(), any::<bool>()),
    ) {
        let snapshot = snapshot(vec![source(1, SourceState::Selected), silent(2)]);
        let mut datagram = octets;
        if shape > 0 && datagram.len() >= HEADER_LEN {
            (datagram[0], datagram[1]) = (0xd6, datagram[1] & 3);
            datagram[6..10].copy_from_slice(&[[0, 0, 0, 0], [3, 0xe9, 0, 0]][usize::from(shape & 1)]);
        }
        if shape > 1 {
            let (association, all) = if shape == 2 { (0, system::DEFAULT) } else { (1001, peer::DEFAULT) };
            let wanted: Vec<_> = names.iter().filter_map(|name| all.get(*name)).copied().collect();
            let wanted = wanted.join(",");
            datagram = query(2, association, &wanted[..wanted.len().min(468)]);
        }
        let parts = ask_of(known.then_some(&snapshot), &datagram, afar);
        prop_assert_eq!(parts.is_empty(), examine(&datagram).is_err());
        let most = if afar { FRAGMENTS_AFAR } else { FRAGMENTS };
        prop_assert!(parts.len() <= most);
        for part in &parts {
            prop_assert!(part.len() <= HEADER_LEN + LARGEST_DATA);
            // An answer is never a query again, so two servers cannot answer each other. It repeats the client's
            // sequence number.
            prop_assert!(part[1] & RESPONSE != 0 && examine(part).is_err());
            prop_assert_eq!(part[0] & 0x3f, datagram[0] & 0x3f);
            prop_assert_eq!((part[1] & OPCODE, &part[2..4], &part[6..8]), (datagram[1], &datagram[2..4], &datagram[6..8]));
        }
        if parts.first().is_some_and(|part| part[1] & ERROR == 0) {
            let (_, data) = together(&parts);
            prop_assert!(datagram[1] != 2 || data.ends_with(b"\r\n"));
        }
    }
}
