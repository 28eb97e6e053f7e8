//! `query HOST[:PORT]`: sends four requests to one server, at the first of its addresses that answers (`target`), and
//! shows what follows from the best answer. Moves nothing.
use std::{
    net::SocketAddr,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use contract::approximately;
use ntp::{
    Leap, NtpTimestamp, Wall, objection,
    packet::{self, Header},
};
use sys::{clock, poll, udp::UdpSocket};

use crate::send_error::send_error;

mod target;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no address to ask.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// No address answered.
    #[error("{0}")]
    NoAnswer(target::NoReply),
}

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
struct Sample {
    reply: Header,
    /// This clock minus the server's.
    offset: f64,
    delay: f64,
}

const SAMPLES: usize = 4;

/// Longer than any path on Earth takes.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two requests: a server with a rate limit then takes all of them as a burst, not as a flood.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints the server's answer. Returns true if the server is synchronised. Of several addresses, the first that answers
/// is used.
pub(super) fn act(host: &str) -> Result<bool, Error> {
    let addresses = target::addresses(host)?;
    let tell = |failed, why: &str, next| eprintln!("{failed}: {why}; asking {next}");
    let (server, first) = target::first_answer(&addresses, ask, tell).map_err(Error::NoAnswer)?;
    let mut samples = vec![first];
    for _ in 1..SAMPLES {
        thread::sleep(PAUSE);
        samples.extend(ask(server));
    }
    let best = best(&samples).unwrap_or(&first);
    print!("{}", description(server, best, &samples));
    let objection = objection(&best.reply);
    if let Some(why) = &objection {
        println!("  {why}");
    }
    Ok(objection.is_none())
}

/// The best answer: of those with a time, if there are any, the one with the shortest round trip, which had the least
/// disturbance.
fn best(samples: &[Sample]) -> Option<&Sample> {
    let useless = |sample: &Sample| objection(&sample.reply).is_some();
    samples.iter().min_by(|a, b| useless(a).cmp(&useless(b)).then(a.delay.total_cmp(&b.delay)))
}

fn ask(server: SocketAddr) -> Result<Sample, String> {
    let said = |error: sys::Error| send_error(error, server).words(server.port());
    let socket = UdpSocket::connect(server).map_err(said)?;
    let cookie = NtpTimestamp(sys::random::word().map_err(said)?);
    let datagram = packet::client_request(cookie);
    let sent = Wall(clock::realtime_ns());
    socket.send(&datagram).map_err(said)?;
    let deadline = Instant::now() + TIMEOUT;
    let mut buffer = [0; 1024];
    let mut stray = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ntp::silence(server.port(), stray));
        }
        if !poll::readable(&[socket.as_fd()], Some(left)).map_err(said)?[0] {
            continue;
        }
        let came = match socket.receive(&mut buffer) {
            Ok(came) => came,
            Err(error) if error.would_block() => continue,
            Err(error) => return Err(said(error)),
        };
        if let Ok(reply) = packet::decode(&buffer[..came.len])
            && reply.mode == packet::MODE_SERVER
            && reply.origin == cookie
        {
            return Ok(sample(reply, sent, Wall(came.at_ns)));
        }
        stray = true;
    }
}

/// RFC 5905 §8, with the opposite sign: this clock minus the server's.
fn sample(reply: Header, sent: Wall, received: Wall) -> Sample {
    let (t2, t3) = (reply.receive.to_wall(), reply.transmit.to_wall());
    let offset = -((t2 - sent) + (t3 - received)) / 2.0;
    let delay = ((received - sent) - (t3 - t2)).max(0.0);
    Sample { reply, offset, delay }
}

fn description(server: SocketAddr, best: &Sample, samples: &[Sample]) -> String {
    let reply = &best.reply;
    let leap = match reply.leap {
        Leap::None => "none",
        Leap::Insert => "insert a second",
        Leap::Delete => "delete a second",
        Leap::Unknown => "unsynchronised",
    };
    let head = format!(
        "{server}: version {}, stratum {}, refid {}, leap {leap}, {} of {SAMPLES} answered\n",
        reply.version,
        reply.stratum,
        reference(reply),
        samples.len(),
    );
    if reply.stratum == 0 {
        // A kiss, or a server without time: its timestamps mean nothing.
        return head;
    }
    let bound = best.delay / 2.0 + reply.root_delay.seconds() / 2.0 + reply.root_dispersion.seconds();
    format!(
        "{head}  offset {} +- {} (positive: this clock is ahead), delay {}\n",
        approximately(best.offset),
        approximately(bound),
        approximately(best.delay),
    )
}

/// The reference id: a code for a primary server or a kiss, otherwise an address (RFC 5905 §7.3).
fn reference(reply: &Header) -> String {
    let id = reply.reference_id;
    if reply.stratum > 1 {
        return std::net::Ipv4Addr::from(id).to_string();
    }
    let code: String = id.iter().filter(|o| o.is_ascii_graphic()).map(|&o| char::from(o)).collect();
    if code.is_empty() { "none".to_owned() } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_has_a_positive_offset() {
        // This clock is 1 s ahead; the path takes 10 ms each way, the server 2 ms.
        let base = 1_800_000_000_000_000_000;
        let server = |millis: i64| NtpTimestamp::from_wall(Wall(base + millis * 1_000_000));
        let reply = Header { receive: server(10), transmit: server(12), ..Header::default() };
        let sample = sample(reply, Wall(base + 1_000_000_000), Wall(base + 1_022_000_000));
        assert!((sample.offset - 1.0).abs() < 1e-6, "{sample:?}");
        assert!((sample.delay - 0.02).abs() < 1e-6, "{sample:?}");
    }

    #[test]
    fn a_server_that_limits_us_is_judged_by_what_it_says_between() {
        let with = |stratum: u8, delay: f64| {
            let stamp = NtpTimestamp::from_wall(Wall(1_800_000_000_000_000_000));
            let reply = Header { stratum, receive: stamp, transmit: stamp, ..Header::default() };
            let reply = Header { leap: Leap::None, version: 4, reference_id: *b"RATE", ..reply };
            Sample { reply, offset: 0.0, delay }
        };
        let strata = |samples: &[Sample]| best(samples).map(|sample| sample.reply.stratum);
        assert_eq!(strata(&[with(0, 0.0), with(2, 0.2), with(3, 0.1)]), Some(3));
        assert_eq!(strata(&[with(0, 0.0)]), Some(0));
        let server = "192.0.2.1:123".parse().unwrap();
        let kiss = description(server, &with(0, 0.0), &[with(0, 0.0)]);
        assert!(kiss.contains("stratum 0, refid RATE") && !kiss.contains("offset"), "{kiss}");
    }

    #[test]
    fn reference_ids() {
        let check = |stratum: u8, reference_id: [u8; 4], expected: &str| {
            assert_eq!(reference(&Header { stratum, reference_id, ..Header::default() }), expected);
        };
        check(1, *b"GPS\0", "GPS");
        check(0, *b"RATE", "RATE");
        check(2, [192, 0, 2, 1], "192.0.2.1");
        check(0, [0; 4], "none");
    }
}
