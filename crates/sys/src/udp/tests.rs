//! Loopback only.
use std::{
    net::SocketAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{UdpSocket, any_address};
use crate::{clock, poll};

fn wait(socket: &UdpSocket) {
    assert_eq!(poll::readable(&[socket.as_fd()], Some(Duration::from_secs(10))).unwrap(), [true]);
}

/// A server on every address of the family, asked at `host`.
fn ask_and_answer(ipv6: bool, host: &str) {
    let server = UdpSocket::bind(any_address(ipv6, 0)).unwrap();
    let port = server.local_address().unwrap().port();
    let client = UdpSocket::connect(SocketAddr::new(host.parse().unwrap(), port)).unwrap();
    let mut buffer = [0; 64];
    assert!(server.receive(&mut buffer).unwrap_err().would_block());

    // The kernel begins to stamp some time after the first socket has asked for it (net_enable_timestamp in
    // net/core/dev.c leaves it to a worker), and until then the stamp is the time of reading.
    let begun = Instant::now();
    let question = loop {
        let before = clock::realtime_ns();
        client.send(b"question").unwrap();
        wait(&server);
        // Read late: the kernel's stamp must say when it came, not when it was read.
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
    match UdpSocket::bind("[::1]:0".parse().unwrap()) {
        Ok(_) => ask_and_answer(true, "::1"),
        Err(error) => assert!(error.no_such_family(), "{error}"),
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

    // An answer and a stamp at once are told apart, and read one by one.
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
    // Which of the two is told first is the kernel's affair.
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
