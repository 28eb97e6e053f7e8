//! A flood from 100,000 addresses, and ten clients that poll as they may while it lasts.
//!
//! All addresses are of 127.0.0.0/8, so that no right is needed to ask from them. The flood goes only as fast as the
//! agent takes it: what is tested is whom the table of rates lets through, not how fast this machine is, and no request
//! ever finds the queue full.
use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::bench::{Agent, Folder, free_udp_port, wait_for};

const FORGED: u32 = 100_000;
const CLIENTS: u8 = 10;
/// What a client asks at its start, as many clients do: a bucketful, half a second apart.
const POLLS: usize = 8;
const SPACING: Duration = Duration::from_millis(500);
/// So many forged requests are on their way at most.
const BATCH: u32 = 64;

#[test]
fn honest_clients_are_served_through_a_flood() {
    let folder = Folder::new();
    let served = free_udp_port();
    // The flood's pace maker is 127.0.0.1, which has no limit. The table is much smaller than the flood.
    let agent = Agent::start(
        &folder,
        &format!(
            "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n[profile]\nmode = \"Observe\"\n\
             stratum = {{ local = 10, activateAfter = \"0s\" }}\n\
             [[profile.restrict]]\nsource = \"default\"\nflags = [\"limited\", \"kod\"]\n\
             [[profile.restrict]]\nsource = \"127.0.0.1\"\n\
             [profile.serve]\nport = {served}\nrateLimit = {{ interval = 3, burst = 8, leak = 2, maxClients = 4096 }}\n"
        ),
    );
    let server = SocketAddr::from(([127, 0, 0, 1], served));
    let pace = Pace::new(server);
    wait_for("an answer", || pace.answered());
    let (flooded, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let answered: usize = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(server, &pace, &flooded, &over));
        // Also if a client fails, else the flood would go on for ever.
        let _end = AtEnd(&over);
        // When all of them have asked once, the table is full of them.
        wait_for("the flood", || flood.is_finished() || flooded.load(Ordering::Relaxed) > FORGED);
        let clients: Vec<_> = (1..=CLIENTS).map(|n| scope.spawn(move || poll(server, n))).collect();
        let answered = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(!flood.is_finished(), "the flood broke off");
        answered
    });
    let asked = usize::from(CLIENTS) * POLLS;
    assert!(answered * 100 >= asked * 95, "{answered} of {asked} answered");
    assert!(entries(&agent) > 4000.0, "the flood did not fill the table: {}", entries(&agent));
}

/// Ends the flood.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks from all forged addresses in turn until it is over.
fn flood(server: SocketAddr, pace: &Pace, flooded: &AtomicU32, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let number = flooded.load(Ordering::Relaxed);
        let batch: Vec<_> = (number..number + BATCH)
            .map(|n| {
                let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 64, 0, 1).to_bits() + n % FORGED);
                let socket = UdpSocket::bind((from, 0)).unwrap();
                socket.send_to(&request(n.into()), server).unwrap();
                socket
            })
            .collect();
        // An answer says that the agent has taken all before it.
        pace.answered();
        drop(batch);
        flooded.store(number + BATCH, Ordering::Relaxed);
    }
}

/// How many answers the client got.
fn poll(server: SocketAddr, number: u8) -> usize {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 96, 0, number), 0)).unwrap();
    let mut answers = HashSet::new();
    for poll in 1..=POLLS {
        socket.send_to(&request(poll as u64), server).unwrap();
        // At the end longer, for what comes late.
        let patience = if poll == POLLS { SPACING * 6 } else { SPACING };
        let begun = Instant::now();
        while let Some(left) = patience.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            if poll == POLLS && answers.len() == POLLS {
                break;
            }
            socket.set_read_timeout(Some(left)).unwrap();
            answers.extend(answer(&socket));
        }
    }
    answers.len()
}

/// Asks from an address without limits, and waits for the answer.
struct Pace(UdpSocket);

impl Pace {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self(socket)
    }

    fn answered(&self) -> bool {
        // Nobody may be listening yet.
        self.0.send(&request(1)).is_ok() && answer(&self.0).is_some()
    }
}

/// A request of version 4, mode 3 (RFC 5905 §7.3), that brings `number` back.
fn request(number: u64) -> [u8; 48] {
    let mut request = [0; 48];
    request[0] = 4 << 3 | 3;
    request[40..].copy_from_slice(&number.to_be_bytes());
    request
}

/// The number of the next answer; none if there is none in time, or if it is a kiss (stratum 0).
fn answer(socket: &UdpSocket) -> Option<u64> {
    let mut reply = [0; 128];
    let length = socket.recv(&mut reply).ok()?;
    assert!(length == 48 && reply[0] & 7 == 4, "{:?}", &reply[..length]);
    (reply[1] != 0).then(|| u64::from_be_bytes(reply[24..32].try_into().unwrap()))
}

/// Addresses in the table of rates.
fn entries(agent: &Agent) -> f64 {
    let (_, metrics) = agent.get("/metrics", None);
    let line = metrics.lines().find_map(|line| line.strip_prefix("timesync_server_rate_table_entries "));
    line.unwrap().parse().unwrap()
}
