//! One open port and one step: a datagram in; the answer, if there is one, out, with one system call for each datagram.
//!
//! With `--engine-only` the engine's event loop does this step, once per `poll`, so that a simulator of clocks can
//! follow. The workers, which receive many datagrams at once, use it to send what is not a plain reply.
use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use ntp::{
    DropReason, Mono, NtpTimestamp, OwnPorts, Request, Served, Serving, UnstampedReply, Verdict, Wall,
};
use sys::{
    clock,
    udp::{self, Received, UdpSocket},
};

use super::{
    clients::ClientTable,
    config::ServeConfig,
    counters::WorkerCounters,
    departures::InFlightReplies,
    keys::ServedKeys,
    memory::{FastRandom, ServerMemory},
};
use crate::loop_detector::LoopDetector;

/// An open port of one family, and the table of its clients.
#[derive(Debug)]
pub(crate) struct ServerSocket {
    socket: UdpSocket,
    clients: ClientTable,
    keys: Arc<ServedKeys>,
    chance: FastRandom,
    counters: WorkerCounters,
    loop_detector: Arc<LoopDetector>,
    buffer: [u8; BUFFER],
}

/// Longer than any request that gets an answer. The rest of a longer one is cut; its reply has 48 octets in any case.
pub(super) const BUFFER: usize = 2048;

impl ServerSocket {
    /// Opens the port of `config` on all IPv4 addresses, as a simulator wants it; with these keys for clients.
    ///
    /// # Errors
    /// If another process has the port, or this process has no right to it.
    pub(crate) fn open(config: &ServeConfig, keys: Arc<ServedKeys>) -> Result<Self, sys::Error> {
        let loop_detector = Arc::<LoopDetector>::default();
        loop_detector.set_ports(OwnPorts { v4: Some(config.port), v6: None });
        Ok(Self {
            loop_detector,
            socket: UdpSocket::bind(udp::any_address(false, config.port))?,
            clients: ClientTable::new(config.max_clients),
            keys,
            chance: FastRandom::new()?,
            counters: WorkerCounters::new(),
            buffer: [0; BUFFER],
        })
    }

    /// What the client in the same agent must know.
    pub(crate) fn loop_detector(&self) -> Arc<LoopDetector> {
        Arc::clone(&self.loop_detector)
    }

    /// Receives one datagram and answers it. Returns `false` if there was none.
    ///
    /// # Errors
    /// If the socket is broken. A reply that could not be sent is only counted.
    pub(crate) fn serve_one(&mut self, config: &ServeConfig, served: &Served) -> Result<bool, sys::Error> {
        match self.socket.receive(&mut self.buffer) {
            Ok(came) => self.answer(came, config, served),
            Err(error) if error.would_block() || error.interrupted() => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn answer(&mut self, came: Received, config: &ServeConfig, served: &Served) {
        let request = Request {
            datagram: &self.buffer[..came.len],
            from: came.from,
            to_group: came.to_group,
            received: Wall(came.at_ns),
            now: Mono(clock::monotonic_ns()),
        };
        let serving = Serving { served, rules: &config.rules, limit: &config.limit };
        let mut memory = ServerMemory { clients: &self.clients, chance: &mut self.chance, departures: None };
        let decision = ntp::respond(&request, &serving, &mut memory);
        self.counters.count_request(decision.version, request.datagram);
        let (octets, count): (_, fn(&WorkerCounters)) = match decision.verdict {
            Verdict::Drop(reason) => return self.counters.count_drop(reason),
            // The thread that steers the clock collects nothing for queries.
            Verdict::Query => return self.counters.count_drop(DropReason::Noquery),
            // If the engine runs alone, there are no keys, since they come from another thread.
            Verdict::Seal(_) => return self.counters.count_drop(DropReason::Unauthenticated),
            Verdict::Sign(answer) => match signed(answer, request.datagram, &self.keys) {
                Ok(octets) => return self.send(&came, &octets, WorkerCounters::count_answer),
                Err(reason) => return self.counters.count_drop(reason),
            },
            Verdict::Kiss(octets) => (octets, WorkerCounters::count_kiss),
            // The clock is read as late as possible: right before the datagram leaves.
            Verdict::Answer(answer) => (answer.at(Wall(clock::realtime_ns())), WorkerCounters::count_answer),
        };
        self.send(&came, &octets, count);
    }

    /// Sends `octets`, unless it is an answer that the client in the same agent could not recognise as its own
    /// server's.
    fn send(&self, came: &Received, octets: &[u8], count: fn(&WorkerCounters)) {
        if self.loop_detector.record_reply(&self.buffer[..came.len], octets) {
            send_alone(&self.socket, came, octets, &self.counters, count);
        } else {
            self.counters.count_drop(DropReason::RateLimited);
        }
    }
}

/// Answers `came` with `octets` at once and counts it. Asks for the time of its departure if the client may get it.
pub(super) fn send_traced(
    socket: &UdpSocket,
    came: &Received,
    (octets, arrival): (&[u8], Option<NtpTimestamp>),
    in_flight: &InFlightReplies,
    (counters, count): (&WorkerCounters, fn(&WorkerCounters)),
) {
    let Some(arrival) = arrival else { return send_alone(socket, came, octets, counters, count) };
    in_flight.add(arrival);
    match socket.send_stamped(came.local, came.from, octets) {
        Ok(()) => count(counters),
        Err(_) => {
            in_flight.forget(arrival);
            counters.count_send_failure();
        }
    }
}

/// The answer with a MAC by the key that the request's MAC names, if the server has that key.
pub(super) fn signed(
    answer: UnstampedReply,
    datagram: &[u8],
    keys: &ServedKeys,
) -> Result<Vec<u8>, DropReason> {
    answer.signed_at(|| Wall(clock::realtime_ns()), datagram, |number| keys.find(number))
}

/// Answers `came` with `octets` at once, and counts it.
pub(super) fn send_alone(
    socket: &UdpSocket,
    came: &Received,
    octets: &[u8],
    counters: &WorkerCounters,
    count: fn(&WorkerCounters),
) {
    match socket.send_from(came.local, came.from, octets) {
        Ok(()) => count(counters),
        Err(_) => counters.count_send_failure(),
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
