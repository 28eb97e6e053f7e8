//! Flags on the wire: datagrams from addresses and ports of loopback to the real program, and what it counts.
use std::{net::UdpSocket, time::Duration};

use crate::{
    bench::{Agent, Folder, free_udp_port, namespace::alone, wait_for},
    files,
};

/// Time is served here, so that clients can have port 123.
const SERVED: u16 = 12_300;

/// Whom an entry is for, and its flags.
const ENTRIES: [(&str, &str); 10] = [
    ("default", "'limited', 'kod', 'noquery'"),
    ("127.0.0.0/8", ""),
    ("127.0.1.1", "'ignore'"),
    ("127.0.1.2", "'noserve'"),
    ("127.0.1.3", "'noquery'"),
    ("127.0.1.4", "'notrust'"),
    ("127.0.1.5", "'version'"),
    ("127.0.1.6/32", "'ntpport', 'noserve', 'noquery'"),
    (
        "127.0.1.7",
        "'nomodify', 'nopeer', 'noepeer', 'notrap', 'lowpriotrap', 'nomrulist', 'mssntp', 'noserve'",
    ),
    ("127.0.1.8", "'kod'"),
];

const CLIENT: u16 = 0;
const DAEMON: u16 = 123;

type Row = (&'static str, u16, u8, u8, Result<u8, &'static str>);

/// Sender's address and port, version and mode of its datagram; the mode of the reply, or why there is none.
const ROWS: [Row; 44] = [
    ("127.0.1.0", CLIENT, 4, 3, Ok(4)),
    ("127.0.1.0", DAEMON, 4, 3, Ok(4)),
    ("127.0.1.0", CLIENT, 3, 3, Ok(4)),
    ("127.0.1.0", CLIENT, 2, 3, Ok(4)),
    ("127.0.1.0", CLIENT, 1, 3, Ok(4)),
    ("127.0.1.0", CLIENT, 1, 0, Ok(4)),
    ("127.0.1.0", DAEMON, 1, 0, Err("mode")),
    ("127.0.1.0", CLIENT, 5, 3, Err("unknown_version")),
    ("127.0.1.0", CLIENT, 0, 3, Err("unknown_version")),
    ("127.0.1.0", DAEMON, 4, 1, Ok(2)),
    ("127.0.1.0", CLIENT, 4, 1, Ok(2)),
    ("127.0.1.0", DAEMON, 4, 2, Err("mode")),
    ("127.0.1.0", DAEMON, 4, 4, Err("mode")),
    ("127.0.1.0", DAEMON, 4, 5, Err("mode")),
    ("127.0.1.0", CLIENT, 2, 6, Ok(6)),
    ("127.0.1.0", CLIENT, 2, 7, Err("mode")),
    ("127.0.1.1", CLIENT, 4, 3, Err("ignore")),
    ("127.0.1.1", CLIENT, 2, 6, Err("ignore")),
    ("127.0.1.1", CLIENT, 2, 7, Err("ignore")),
    ("127.0.1.2", CLIENT, 4, 3, Err("noserve")),
    ("127.0.1.2", DAEMON, 4, 1, Err("noserve")),
    ("127.0.1.2", CLIENT, 2, 6, Ok(6)),
    ("127.0.1.3", CLIENT, 4, 3, Ok(4)),
    ("127.0.1.3", CLIENT, 2, 6, Err("noquery")),
    ("127.0.1.3", CLIENT, 2, 7, Err("mode")),
    ("127.0.1.4", CLIENT, 4, 3, Err("unauthenticated")),
    ("127.0.1.4", DAEMON, 4, 1, Err("unauthenticated")),
    ("127.0.1.4", CLIENT, 2, 6, Ok(6)),
    ("127.0.1.5", CLIENT, 4, 3, Ok(4)),
    ("127.0.1.5", CLIENT, 3, 3, Err("version")),
    ("127.0.1.5", CLIENT, 1, 0, Err("version")),
    ("127.0.1.5", DAEMON, 4, 1, Ok(2)),
    ("127.0.1.5", CLIENT, 2, 6, Ok(6)),
    ("127.0.1.6", CLIENT, 4, 3, Ok(4)),
    ("127.0.1.6", DAEMON, 4, 3, Err("noserve")),
    ("127.0.1.6", CLIENT, 2, 6, Ok(6)),
    ("127.0.1.6", DAEMON, 2, 6, Err("noquery")),
    ("127.0.1.7", CLIENT, 4, 3, Err("noserve")),
    ("127.0.1.7", CLIENT, 2, 6, Ok(6)),
    ("127.0.1.8", CLIENT, 4, 3, Ok(4)),
    ("::1", CLIENT, 4, 3, Ok(4)),
    ("::1", DAEMON, 4, 3, Ok(4)),
    ("::1", CLIENT, 3, 1, Ok(2)),
    ("::1", CLIENT, 2, 6, Err("noquery")),
];

#[test]
fn flags_hold_on_the_wire() {
    alone(|| {
        let folder = Folder::new();
        let entries = ENTRIES
            .map(|(source, flags)| format!("[[profile.restrict]]\nsource = '{source}'\nflags = [{flags}]\n"));
        let agent =
            Agent::start(&folder, &format!("{}{}", files::serving_own_clock(SERVED), entries.concat()));
        agent.wait_for_own_clock();
        for row @ (address, port, version, mode, expected) in ROWS {
            let counted = |agent: &Agent| expected.err().map(|reason| dropped(agent, reason));
            let before = counted(&agent);
            let socket = UdpSocket::bind((address, port)).unwrap();
            let server = if address.contains(':') { "::1" } else { "127.0.0.1" };
            let mut datagram = [0; 48];
            // A query for the system's variables, or a cookie.
            (datagram[0], datagram[1], datagram[47]) =
                (version << 3 | mode, if mode == 6 { 2 } else { 0 }, 7);
            socket.send_to(&datagram, (server, SERVED)).unwrap();
            let mut reply = [0; 512];
            match expected {
                Ok(wanted) => {
                    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                    let (len, from) =
                        socket.recv_from(&mut reply).unwrap_or_else(|why| panic!("{row:?}: {why}"));
                    assert_eq!((reply[0] & 7, reply[0] >> 3 & 7), (wanted, version), "{row:?}");
                    assert_eq!((from.ip().to_string().as_str(), from.port()), (server, SERVED), "{row:?}");
                    assert!(wanted == 6 || len == 48, "{row:?}: {len} octets");
                }
                Err(_) => {
                    wait_for(&format!("{row:?} counted"), || counted(&agent) > before);
                    socket.set_nonblocking(true).unwrap();
                    assert!(socket.recv_from(&mut reply).is_err(), "{row:?} was answered");
                }
            }
        }
    });
}

fn dropped(agent: &Agent, reason: &str) -> u64 {
    let (_, metrics) = agent.get("/metrics", None);
    let line = format!("timesync_server_dropped_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|l| l.strip_prefix(&line)).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// What one agent answers is handed to the other, as if each were the other's client: nothing comes of it.
#[test]
fn two_agents_do_not_talk_for_ever() {
    let folders = [Folder::new(), Folder::new()];
    let ports = [free_udp_port(), free_udp_port()];
    let agents = [0, 1].map(|n| {
        let text = files::serving_own_clock(ports[n]) + "[[profile.restrict]]\nsource = 'default'\n";
        Agent::start(&folders[n], &text)
    });
    for agent in &agents {
        agent.wait_for_own_clock();
    }
    let between = UdpSocket::bind("127.0.0.1:0").unwrap();
    between.set_nonblocking(true).unwrap();
    let (mut asked, mut handed_on) = (0, 0);
    for first in 0..=255_u8 {
        for second in [0, 2] {
            between.send_to(&[&[first, second][..], &[0; 46]].concat(), ("127.0.0.1", ports[0])).unwrap();
            asked += 1;
        }
        // As many as its queue has room for the answers of.
        if first % 32 != 31 {
            continue;
        }
        wait_for("all heard", || done(&agents[0]) == asked);
        let mut answer = [0; 1024];
        while let Ok(len) = between.recv(&mut answer) {
            between.send_to(&answer[..len], ("127.0.0.1", ports[1])).unwrap();
            handed_on += 1;
        }
    }
    wait_for("all answers heard", || done(&agents[1]) == handed_on);
    // Modes 1 and 3 of four versions, mode 0 of the first, queries of four versions; each with four leap indicators.
    assert!(handed_on >= 2 * 4 * (4 + 4 + 1 + 4), "{handed_on}");
    assert_eq!(agents[1].report().server.dropped, handed_on);
}

/// How many datagrams got an answer or none.
fn done(agent: &Agent) -> u64 {
    let (_, metrics) = agent.get("/metrics", None);
    let queries = metrics.lines().find_map(|l| l.strip_prefix("timesync_server_queries_total "));
    let server = agent.report().server;
    server.answered + server.dropped + queries.map_or(0, |count| count.parse::<u64>().unwrap())
}
