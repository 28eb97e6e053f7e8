//! Tests of UDP sockets, on loopback only.
use std::{
    net::SocketAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{Inbox, Outbox, Received, UdpSocket, any_address};
use crate::{clock, poll};

fn wait(socket: &UdpSocket) {
    assert_eq!(poll::readable(&[socket.as_fd()], Some(Duration::from_secs(10))).unwrap(), [true]);
}

/// A server on every address of the family, which is asked at `host` and answers.
fn ask_and_answer(ipv6: bool, host: &str) {
    let server = UdpSocket::bind(any_address(ipv6, 0)).unwrap();
    let port = server.local_address().unwrap().port();
    let client = UdpSocket::connect(SocketAddr::new(host.parse().unwrap(), port)).unwrap();
    let mut buffer = [0; 64];
    assert!(server.receive(&mut buffer).unwrap_err().would_block());

    // The kernel begins to stamp some time after the first socket has asked for it, since net_enable_timestamp in
    // net/core/dev.c leaves it to a worker. Until then the timestamp is the time of reading.
    let begun = Instant::now();
    let question = loop {
        let before = clock::realtime_ns();
        client.send(b"question").unwrap();
        wait(&server);
        // The datagram is read late: the kernel's timestamp must say when it came, not when it was read.
        let arrived = clock::realtime_ns();
        std::thread::sleep(Duration::from_millis(1));
        let question = server.receive(&mut buffer).unwrap();
        if (before..=arrived).contains(&question.at_ns) {
            break question;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{before} {} {arrived}", question.at_ns);
    };
    assert_eq!(&buffer[..question.len], b"question");
    assert_eq!(question.from, client.local_address().unwrap());
    assert_eq!(question.local, Some(host.parse().unwrap()));

    server.send_from(question.local, question.from, b"answer").unwrap();
    wait(&client);
    let answer = client.receive(&mut buffer).unwrap();
    assert_eq!((&buffer[..answer.len], answer.from.port()), (&b"answer"[..], port));
    assert_eq!(answer.local, Some(client.local_address().unwrap().ip()));
}

#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    // Not 127.0.0.1, so that a reply from the default address would not reach the connected client.
    ask_and_answer(false, "127.0.0.77");
}

#[test]
fn ipv6_too() {
    if has_ipv6() {
        ask_and_answer(true, "::1");
    }
}

#[test]
fn a_closed_port_is_told() {
    let gone = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_address().unwrap();
    let client = UdpSocket::connect(gone).unwrap();
    client.send(b"x").unwrap();
    wait(&client);
    let error = client.receive(&mut [0; 8]).unwrap_err();
    assert!(error.refused(), "{error}");
}

#[test]
fn a_port_is_for_one() {
    let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = UdpSocket::bind(first.local_address().unwrap()).unwrap_err();
    assert!(error.in_use() && error.call() == "bind", "{error}");
}

#[test]
fn a_departure_is_told_by_the_error_queue() {
    let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = UdpSocket::connect(server.local_address().unwrap()).unwrap();
    client.stamp_departures().unwrap();
    let before = clock::realtime_ns();
    client.send(b"a question").unwrap();
    let after = clock::realtime_ns();
    let found = poll::ready(&[client.as_fd()], Some(Duration::from_secs(10))).unwrap();
    assert!(found[0].queue, "{found:?}");
    let mut frame = [0; 256];
    let left = client.departure(&mut frame).unwrap().expect("a stamp");
    assert!(frame[..left.len].ends_with(b"a question"), "{:?}", &frame[..left.len]);
    assert!((before..=after).contains(&left.at_ns), "{before} {} {after}", left.at_ns);
    assert!(client.departure(&mut frame).unwrap_err().would_block());
    assert!(client.receive(&mut frame).unwrap_err().would_block());

    // An answer and a timestamp that come at once are reported separately, and read one by one.
    wait(&server);
    let question = server.receive(&mut frame).unwrap();
    client.send(b"another one").unwrap();
    server.send_from(question.local, question.from, b"answer").unwrap();
    wait(&client);
    let found = poll::ready(&[client.as_fd()], Some(Duration::from_secs(10))).unwrap();
    assert_eq!(found, [poll::Ready { read: true, queue: true }]);
    let answer = client.receive(&mut frame).unwrap();
    assert_eq!(&frame[..answer.len], b"answer");
    assert!(client.departure(&mut frame).unwrap().is_some());
    let none = poll::ready(&[client.as_fd()], Some(Duration::ZERO)).unwrap();
    assert_eq!(none, [poll::Ready::default()]);
}

#[test]
fn a_closed_port_is_told_beside_a_departure() {
    let gone = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_address().unwrap();
    let client = UdpSocket::connect(gone).unwrap();
    client.stamp_departures().unwrap();
    client.send(b"x").unwrap();
    let mut frame = [0; 256];
    let limit = Some(Duration::from_secs(10));
    let (mut departed, mut refused) = (false, false);
    // The kernel decides which of the two is reported first.
    while !(departed && refused) {
        let [found] = poll::ready(&[client.as_fd()], limit).unwrap()[..] else { panic!("one descriptor") };
        assert_ne!(found, poll::Ready::default(), "nothing within ten seconds");
        if found.queue {
            departed |= client.departure(&mut frame).is_ok_and(|left| left.is_some());
        }
        if found.read {
            refused |= client.receive(&mut frame).unwrap_err().refused();
        }
    }
}

/// Returns true if this machine has IPv6. Only the error for a missing family counts as no.
fn has_ipv6() -> bool {
    match UdpSocket::bind("[::1]:0".parse().unwrap()) {
        Ok(_) => true,
        Err(error) if error.no_such_family() => false,
        Err(error) => panic!("{error}"),
    }
}

/// Receives in batches until `wanted` datagrams came. Returns their octets, and what is known of each.
fn collect(inbox: &mut Inbox<16>, socket: &UdpSocket, wanted: usize) -> Vec<(Vec<u8>, Received)> {
    let mut all = Vec::new();
    while all.len() < wanted {
        wait(socket);
        let came = inbox.receive(socket).unwrap();
        all.extend(
            (0..came).filter_map(|place| inbox.datagram(place)).map(|(came, octets)| (octets.to_vec(), came)),
        );
        assert!(inbox.datagram(came).is_none(), "only what came last is in it");
    }
    all
}

/// Many clients each ask at another local address, and the batch answers each from that address.
fn ask_and_answer_many(hosts: &[&str]) {
    let server = UdpSocket::bind(any_address(hosts[0].contains(':'), 0)).unwrap();
    assert!(server.expect_many(1 << 20).unwrap() > 0);
    let port = server.local_address().unwrap().port();
    let address = |host: &&str| SocketAddr::new(host.parse().unwrap(), port);
    let clients: Vec<_> = hosts.iter().map(|host| UdpSocket::connect(address(host)).unwrap()).collect();
    let (mut inbox, mut outbox) = (Inbox::<16>::new(4), Outbox::<8>::new(4));
    assert!(inbox.receive(&server).unwrap_err().would_block());

    // The second round uses buffers that were used before, with shorter datagrams.
    for question in [&b"a very long question"[..], b"short"] {
        let before = clock::realtime_ns();
        clients.iter().for_each(|client| client.send(question).unwrap());
        for (octets, came) in collect(&mut inbox, &server, clients.len()) {
            assert_eq!(octets, question[..question.len().min(16)], "the rest is cut off");
            assert!(came.at_ns > before && came.at_ns <= clock::realtime_ns());
            let place =
                clients.iter().position(|client| client.local_address().unwrap() == came.from).unwrap();
            assert_eq!(came.local, Some(hosts[place].parse().unwrap()));
            if outbox.is_full() {
                outbox.send(&server, |place| panic!("{place} failed"));
            }
            outbox.push(came.local, came.from, &[b'0' + place as u8; 8]);
        }
        outbox.send(&server, |place| panic!("{place} failed"));
        assert!(outbox.is_empty());
        for (place, client) in clients.iter().enumerate() {
            wait(client);
            // The socket is connected, so it receives only from the address that it asked.
            let mut buffer = [0; 16];
            assert_eq!(client.receive(&mut buffer).unwrap().len, 8);
            assert_eq!(buffer[..8], [b'0' + place as u8; 8]);
        }
    }
}

#[test]
fn many_are_answered_at_once() {
    ask_and_answer_many(&["127.0.0.1", "127.0.0.2", "127.0.0.77", "127.0.0.1", "127.3.4.5", "127.0.0.6"]);
}

#[test]
fn many_are_answered_at_once_over_ipv6() {
    if has_ipv6() {
        ask_and_answer_many(&["::1", "::1", "::1", "::1", "::1"]);
    }
}

#[test]
fn datagrams_of_several_lengths_leave_together() {
    let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = UdpSocket::connect(server.local_address().unwrap()).unwrap();
    let to = client.local_address().unwrap();
    let mut outbox = Outbox::<4>::new(4);
    for _ in 0..2 {
        assert!(!outbox.push_short(None, to, b"long!"));
        assert!(outbox.push_short(None, to, b"ab") && outbox.push_short(None, to, b"abcd"));
        outbox.push(None, to, b"wxyz");
        assert!(outbox.push_short(None, to, b"") && !outbox.push_short(None, to, b"x"));
        outbox.send(&server, |place| panic!("{place} failed"));
        for expected in [&b"ab"[..], b"abcd", b"wxyz", b""] {
            wait(&client);
            let mut buffer = [0; 16];
            let len = client.receive(&mut buffer).unwrap().len;
            assert_eq!(&buffer[..len], expected);
        }
    }
}

#[test]
fn what_cannot_be_sent_keeps_nobody_waiting() {
    let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = UdpSocket::connect(server.local_address().unwrap()).unwrap();
    let good = client.local_address().unwrap();
    // Not an address of this machine.
    let stranger = Some("192.0.2.1".parse().unwrap());
    let mut outbox = Outbox::<1>::new(8);
    for (octet, local) in [(0, stranger), (1, None), (2, stranger), (3, stranger), (4, None)] {
        outbox.push(local, good, &[octet]);
    }
    assert_eq!(outbox.len(), 5);
    let mut failed = Vec::new();
    outbox.send(&server, |place| failed.push(place));
    assert_eq!(failed, [0, 2, 3]);
    let mut came = Vec::new();
    while came.len() < 2 {
        wait(&client);
        let mut buffer = [0; 4];
        client.receive(&mut buffer).unwrap();
        came.push(buffer[0]);
    }
    assert_eq!(came, [1, 4]);
}

/// A timestamp is the kernel's, in either form, however late the datagram is read.
#[test]
fn stamps_of_a_batch_say_when_it_came() {
    let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    server.expect_many(1 << 16).unwrap();
    let client = UdpSocket::connect(server.local_address().unwrap()).unwrap();
    let mut inbox = Inbox::<16>::new(4);
    let begun = Instant::now();
    // As in `ask_and_answer`: the kernel begins to stamp a little later.
    loop {
        let before = clock::realtime_ns();
        client.send(b"question").unwrap();
        wait(&server);
        let arrived = clock::realtime_ns();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(inbox.receive(&server).unwrap(), 1);
        if (before..=arrived).contains(&inbox.datagram(0).unwrap().0.at_ns) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "never stamped");
    }
}

/// Returns true if another program's socket with SO_REUSEADDR and SO_REUSEPORT, which are for joining a port, can bind
/// the address.
fn joins(address: SocketAddr) -> bool {
    let other = UdpSocket::open(&address).unwrap();
    other.switch_on(libc::SOL_SOCKET, libc::SO_REUSEADDR).unwrap();
    other.switch_on(libc::SOL_SOCKET, libc::SO_REUSEPORT).unwrap();
    let (storage, len) = super::address::encode(&address);
    // SAFETY: the pointer and the length are those of a live socket address.
    unsafe { libc::bind(other.raw(), (&raw const storage).cast(), len) == 0 }
}

/// One socket has the port, several threads share it, and no other program can join it.
fn shared_by_threads(ipv6: bool, host: &str) {
    let server = UdpSocket::bind(any_address(ipv6, 0)).unwrap();
    let address = SocketAddr::new(host.parse().unwrap(), server.local_address().unwrap().port());
    assert!(!joins(any_address(ipv6, address.port())) && !joins(address));

    let (asked, taken) = (300, std::sync::atomic::AtomicU32::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while taken.load(std::sync::atomic::Ordering::Relaxed) < asked {
                    assert!(begun.elapsed() < Duration::from_secs(30));
                    if let Ok(came) = server.receive(&mut [0; 8]) {
                        server.send_from(came.local, came.from, b"y").unwrap();
                        taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..asked {
            let client = UdpSocket::connect(address).unwrap();
            client.send(b"x").unwrap();
            wait(&client);
            assert_eq!(client.receive(&mut [0; 8]).unwrap().len, 1, "each is answered, and from that port");
        }
    });
}

#[test]
fn threads_share_a_socket_that_no_other_program_can_join() {
    shared_by_threads(false, "127.0.0.1");
    if has_ipv6() {
        shared_by_threads(true, "::1");
    }
}
