//! The server on loopback, on a port of its own.
use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU16, AtomicU64},
    time::{Duration, Instant},
};

use contract::ServingFailure;
use ntp::{Cidr, Leap, NtpTimestamp, RateLimit, RestrictEntry, RestrictTable, Wall, packet};

use super::{serving_state::ServingState, *};

const COOKIE: NtpTimestamp = NtpTimestamp(0x1234_5678_9abc_def0);

const ALL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

fn config(port: u16, flags: RestrictFlags) -> ServeConfig {
    let everywhere = [Cidr::ALL_V4, Cidr::ALL_V6];
    ServeConfig {
        enabled: true,
        port,
        addresses: ALL.to_vec(),
        workers: 1,
        limit: RateLimit { interval: 3, burst: 8, leak: 2 },
        max_clients: 1024,
        rules: RestrictTable::new(&everywhere.map(|network| RestrictEntry {
            network,
            ntpport: false,
            flags,
        })),
    }
}

/// A free port below those that the system gives to clients. No other test of this run gets the same one.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 97;
        let port = 10_000 + u16::try_from(number % 20_000).unwrap();
        if holder(port).is_ok() {
            return port;
        }
    }
}

/// Another daemon on the port.
fn holder(port: u16) -> Result<UdpSocket, io::Error> {
    UdpSocket::bind(("0.0.0.0", port))
}

fn start(config: ServeConfig) -> Server {
    Server::start(config, Arc::new(Panics::new().unwrap())).unwrap()
}

fn started(port: u16) -> Server {
    let server = start(config(port, RestrictFlags::default()));
    wait(|| server.report().serving);
    server
}

fn wait(condition: impl Fn() -> bool) {
    wait_mut(condition);
}

fn wait_mut(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks `host` and returns the reply's header; none if there is no reply within the time.
fn ask(host: &str, port: u16, patience: Duration) -> Option<packet::Header> {
    let local = if host.contains(':') { "[::1]:0" } else { "127.0.0.1:0" };
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect((host, port)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(&packet::client_request(COOKIE)).unwrap();
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer).ok()?;
    assert_eq!(len, packet::HEADER_LEN);
    Some(packet::decode(&buffer[..len]).unwrap())
}

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn time_is_served_and_what_is_published_counts() {
    let port = free_port();
    let server = started(port);
    let reply = ask("127.0.0.1", port, LONG).unwrap();
    assert_eq!((reply.leap, reply.stratum, reply.mode), (Leap::Unknown, 0, 4));

    let now = Wall(sys::clock::realtime_ns());
    server.publish(Served {
        leap: Leap::None,
        stratum: 2,
        reference_id: [192, 0, 2, 1],
        reference_time: Some(now),
        since: now,
        ..Served::UNSYNCHRONIZED
    });
    // Another address of this machine, so that the source of the reply matters.
    let reply = ask("127.0.0.9", port, LONG).unwrap();
    assert_eq!((reply.leap, reply.stratum, reply.origin), (Leap::None, 2, COOKIE));
    let (receive, transmit) = (reply.receive.to_wall(), reply.transmit.to_wall());
    assert!(now <= receive && receive <= transmit && transmit <= Wall(sys::clock::realtime_ns()));
    assert!(reply.reference_time.to_wall() <= transmit);
    // A reply is counted after it is sent, so it may be here before it is counted.
    wait(|| server.report().answered == 2);
    assert_eq!((server.report().dropped, server.report().message.as_str()), (0, ""));
    assert!(server.counters().requests().any(|count| count == ("4", 2)));
}

#[test]
fn ipv6_is_served_where_there_is_any() {
    let port = free_port();
    let server = started(port);
    wait(|| server.shared.states().contains_key(&ALL[1]));
    let state = server.shared.states()[&ALL[1]].clone();
    match state {
        ServingState::Open => assert_eq!(ask("::1", port, LONG).unwrap().mode, 4),
        other => assert_eq!(other, ServingState::Unavailable),
    }
}

#[test]
fn rules_are_replaced_while_it_runs() {
    let port = free_port();
    let server = started(port);
    server.apply(config(port, RestrictFlags { ignore: true, ..RestrictFlags::default() }));
    // One answer may be under way by the old rules. After the first drop there is none.
    wait(|| {
        ask("127.0.0.1", port, SHORT);
        server.counters().dropped().any(|(reason, count)| reason == "ignore" && count > 0)
    });
    assert!(ask("127.0.0.1", port, SHORT).is_none());
    server.apply(config(port, RestrictFlags::default()));
    wait(|| ask("127.0.0.1", port, SHORT).is_some());
}

#[test]
fn a_taken_port_is_told_and_another_is_taken() {
    let holder = holder(0).unwrap();
    let server = start(config(holder.local_addr().unwrap().port(), RestrictFlags::default()));
    wait(|| server.report().message.contains("PortTaken: IPv4"));
    assert!(!server.report().serving);

    let port = free_port();
    server.apply(config(port, RestrictFlags::default()));
    wait(|| server.report().serving);
    assert!(ask("127.0.0.1", port, LONG).is_some());
    assert_eq!((server.report().message.as_str(), server.report().enabled), ("", true));

    server.apply(ServeConfig { enabled: false, ..config(port, RestrictFlags::default()) });
    assert!(!server.report().enabled);
    // The two families close one after the other.
    wait(|| server.shared.states().is_empty());
    assert!(ask("127.0.0.1", port, SHORT).is_none());
}

#[test]
fn a_taken_port_is_tried_again() {
    let holder = holder(0).unwrap();
    let port = holder.local_addr().unwrap().port();
    let server = start(config(port, RestrictFlags::default()));
    wait(|| server.report().message.contains("PortTaken"));
    drop(holder);
    wait(|| server.report().serving);
    assert!(ask("127.0.0.1", port, LONG).is_some());
}

#[test]
fn a_flood_is_limited_and_counted() {
    let port = free_port();
    let server = started(port);
    let limited = RestrictFlags { limited: true, kod: true, ..RestrictFlags::default() };
    server.apply(config(port, limited));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    let done = |server: &Server| {
        let report = server.report();
        report.answered + report.dropped + report.kod
    };
    for n in 1..=300_u64 {
        socket.send(&packet::client_request(COOKIE)).unwrap();
        wait(|| done(&server) == n);
    }
    let report = server.report();
    assert!(report.answered < 150 && report.kod > 20 && report.dropped > 100, "{report:?}");
    assert_eq!(server.counters().rate_entries(), 1);
}

#[test]
fn reports_of_several_addresses() {
    let failed = |failure, text: &str| ServingState::Failed(failure, text.to_owned());
    let (taken, denied, none) =
        (ServingFailure::PortTaken, ServingFailure::NotPermitted, ServingFailure::NoAddress);
    let check = |states: &[(&str, ServingState)], expected: (bool, Option<ServingFailure>, &str)| {
        let states =
            states.iter().map(|(address, state)| (address.parse().unwrap(), state.clone())).collect();
        let (serving, failure, message) = serving(&states);
        assert_eq!((serving, failure, message.as_str()), expected);
    };
    let (open, unavailable) = (ServingState::Open, ServingState::Unavailable);
    check(&[], (false, None, ""));
    check(&[("0.0.0.0", open.clone()), ("::", unavailable.clone())], (true, None, ""));
    check(&[("0.0.0.0", open.clone()), ("::", failed(denied, "b"))], (false, Some(denied), "b"));
    check(&[("0.0.0.0", failed(taken, "a")), ("::", failed(denied, "b"))], (false, Some(taken), "a; b"));
    check(&[("192.0.2.1", open), ("2001:db8::1", unavailable.clone())], (true, None, ""));
    check(&[("192.0.2.1", unavailable.clone()), ("::", failed(taken, "a"))], (false, Some(taken), "a"));
    check(
        &[("192.0.2.1", unavailable.clone()), ("2001:db8::1", unavailable)],
        (false, Some(none), "NoAddress: this node has none of serve.addresses now: 192.0.2.1, 2001:db8::1"),
    );
}

fn on(addresses: &[&str], port: u16) -> ServeConfig {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    ServeConfig { addresses, ..config(port, RestrictFlags::default()) }
}

/// Every address of 127.0.0.0/8 is this machine's, and those of 192.0.2.0/24 (RFC 5737) are nobody's.
#[test]
fn only_the_addresses_of_the_list_are_served() {
    let port = free_port();
    let server = start(on(&["127.0.0.2", "127.0.0.3", "192.0.2.7"], port));
    wait(|| server.report().serving);
    for served in ["127.0.0.2", "127.0.0.3"] {
        assert!(ask(served, port, LONG).is_some(), "{served}");
    }
    // Another program may have the port on the other addresses.
    let other = UdpSocket::bind(("127.0.0.4", port)).unwrap();
    assert!(ask("127.0.0.4", port, SHORT).is_none());
    drop(other);

    // To all addresses and back: each time the old sockets are in the way of the new one.
    server.apply(config(port, RestrictFlags::default()));
    wait(|| ask("127.0.0.9", port, SHORT).is_some());
    wait(|| server.report().serving);
    server.apply(on(&["127.0.0.2", "127.0.0.5"], port));
    wait(|| UdpSocket::bind(("127.0.0.9", port)).is_ok());
    for served in ["127.0.0.2", "127.0.0.5"] {
        assert!(ask(served, port, LONG).is_some(), "{served}");
    }
    wait(|| server.report().serving);
    assert_eq!(server.report().message, "");

    server.apply(on(&["192.0.2.7"], port));
    wait(|| server.report().failure == Some(ServingFailure::NoAddress));
    assert!(server.report().message.contains("192.0.2.7") && !server.report().serving);
    // It does not have to be told again once an address is there.
    server.apply(on(&["192.0.2.7", "127.0.0.2"], port));
    wait(|| server.report().serving && ask("127.0.0.2", port, SHORT).is_some());
}

#[test]
fn a_port_that_is_taken_on_one_address_is_served_on_the_others() {
    let port = free_port();
    let other = UdpSocket::bind(("127.0.0.3", port)).unwrap();
    let server = start(on(&["127.0.0.2", "127.0.0.3"], port));
    wait(|| server.report().message.starts_with("PortTaken: 127.0.0.3 UDP port"));
    wait(|| ask("127.0.0.2", port, SHORT).is_some());
    drop(other);
    wait(|| server.report().serving);
    assert!(ask("127.0.0.3", port, LONG).is_some());
}

#[test]
fn two_workers_share_the_port_and_the_rate_table() {
    let port = free_port();
    let server = started(port);
    let limited = RestrictFlags { limited: true, ..RestrictFlags::default() };
    server.apply(ServeConfig { workers: 2, ..config(port, limited) });
    let counts =
        |server: &Server| [0, 1].map(|number| server.shared.counters.of_worker(number).requests_seen());
    // While one worker is busy, another one takes the datagrams.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    wait(|| {
        (0..1000).for_each(|_| drop(socket.send(&packet::client_request(COOKIE))));
        counts(&server).iter().all(|&count| count > 0)
    });
    assert_eq!(server.counters().rate_entries(), 1);
    let report = server.report();
    assert!(report.serving, "{report:?}");
    let seen: u64 = counts(&server).iter().sum();
    wait(|| server.report().answered + server.report().dropped >= seen);

    // With one worker again, the counts of the other one remain.
    server.apply(config(port, limited));
    wait(|| ask("127.0.0.1", port, SHORT).is_some());
    assert!(counts(&server).iter().sum::<u64>() > seen);
    assert!(counts(&server)[1] > 0);
}

/// The worker that collects a query's content panics. The other workers, and later this one, still answer.
#[test]
fn a_worker_that_panics_is_told_and_goes_on() {
    let port = free_port();
    let server = start(ServeConfig { workers: 2, ..config(port, RestrictFlags::default()) });
    wait(|| server.report().serving);
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    server.answer_queries_from(Box::new(move || {
        assert!(count.fetch_add(1, Ordering::Relaxed) > 2, "a fault of ours");
        None
    }));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(SHORT)).unwrap();
    // ntpq's query for the system variables.
    let query = [0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut answered = false;
    wait_mut(|| {
        socket.send(&query).unwrap();
        answered |= socket.recv(&mut [0; 1024]).is_ok();
        answered
    });
    assert!(asked.load(Ordering::Relaxed) > 3 && ask("127.0.0.1", port, LONG).is_some());
    let news = server.shared.panics.take_unreported();
    assert!(news.len() == 1 && news[0].contains("server-worker failed (a fault of ours)"), "{news:?}");
    assert!(server.report().serving);
}

/// The old port is served until the new one is open. An open port stays open while the number of workers changes.
#[test]
fn no_other_program_finds_the_port_free_while_orders_change() {
    let port = free_port();
    let server = started(port);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thief = scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                if let Ok(socket) = holder(port) {
                    return Some(socket);
                }
            }
            None
        });
        for workers in [2, 1, 3, 2, 1] {
            server.apply(ServeConfig { workers, ..config(port, RestrictFlags::default()) });
            assert!(ask("127.0.0.1", port, LONG).is_some());
            std::thread::sleep(Duration::from_millis(50));
        }
        ends.store(true, Ordering::Relaxed);
        assert!(thief.join().unwrap().is_none(), "the port was free for a moment");
    });
}

#[test]
fn a_port_that_another_agent_shares_is_taken() {
    let port = free_port();
    let first = started(port);
    first.apply(ServeConfig { workers: 2, ..config(port, RestrictFlags::default()) });
    wait(|| first.report().serving && ask("127.0.0.1", port, SHORT).is_some());
    let second = start(ServeConfig { workers: 2, ..config(port, RestrictFlags::default()) });
    wait(|| second.report().message.contains("PortTaken: IPv4"));
    assert!(!second.report().serving && first.report().serving);
}

#[test]
fn a_rate_table_of_another_size_begins_empty() {
    let port = free_port();
    let limited = RestrictFlags { limited: true, ..RestrictFlags::default() };
    let server = start(config(port, limited));
    wait(|| server.report().serving);
    assert!(ask("127.0.0.1", port, LONG).is_some());
    wait(|| server.counters().rate_entries() == 1);
    server
        .apply(ServeConfig { limit: RateLimit { interval: 4, burst: 8, leak: 2 }, ..config(port, limited) });
    assert_eq!(server.counters().rate_entries(), 1, "other limits are no reason to forget");
    server.apply(ServeConfig { max_clients: 4096, ..config(port, limited) });
    assert_eq!(server.counters().rate_entries(), 0);
}
