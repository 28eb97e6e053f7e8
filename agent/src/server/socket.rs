//! One open port, and one step: a datagram in, what is due for it out, by plain calls for one datagram each.
//!
//! With `--engine-only` the engine's own loop takes the step, once per `poll`; a simulator of clocks can follow that. The
//! workers, which take many datagrams at once, send by it what is no plain reply.
use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use ntp::{Answer, DropReason, Mono, NtpTimestamp, OwnPorts, Request, Served, Serving, Verdict, Wall};
use sys::{
    clock,
    udp::{self, Received, UdpSocket},
};

use super::{
    ClientTable, Family, ServeConfig, ServedKeys, WorkerCounters,
    departures::Leaving,
    memory::{Chance, ServerMemory},
};
use crate::itself::Itself;

/// An open port of one family, and the memory of who asked there.
#[derive(Debug)]
pub(crate) struct ServerSocket {
    socket: UdpSocket,
    clients: ClientTable,
    keys: Arc<ServedKeys>,
    chance: Chance,
    counters: WorkerCounters,
    itself: Arc<Itself>,
    buffer: [u8; BUFFER],
}

/// Longer than any request that gets an answer; what is beyond is cut, and the reply has 48 octets anyhow.
pub(super) const BUFFER: usize = 2048;

impl ServerSocket {
    /// Opens the port of `config` on all addresses of `family`, for clients with these keys, too.
    ///
    /// # Errors
    /// When the port is taken, when this process may not, when there is no such family.
    pub(crate) fn open(
        family: Family,
        config: &ServeConfig,
        keys: Arc<ServedKeys>,
    ) -> Result<Self, sys::Error> {
        let itself = Arc::<Itself>::default();
        itself.serves_at(match family {
            Family::V4 => OwnPorts { v4: Some(config.port), v6: None },
            Family::V6 => OwnPorts { v4: None, v6: Some(config.port) },
        });
        Ok(Self {
            itself,
            socket: UdpSocket::bind(udp::any_address(family == Family::V6, config.port))?,
            clients: ClientTable::new(config.max_clients),
            keys,
            chance: Chance::new()?,
            counters: WorkerCounters::new(),
            buffer: [0; BUFFER],
        })
    }

    /// What the client beside it is to know.
    pub(crate) fn itself(&self) -> Arc<Itself> {
        Arc::clone(&self.itself)
    }

    /// Takes one datagram and does what is due. `false` if there was none.
    ///
    /// # Errors
    /// When the socket is broken. That a reply could not be sent is only counted.
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
            // The thread that steers the clock gathers nothing for strangers.
            Verdict::Query => return self.counters.count_drop(DropReason::Noquery),
            // Alone there are no keys: they come by another thread.
            Verdict::Seal(_) => return self.counters.count_drop(DropReason::Unauthenticated),
            Verdict::Sign(answer) => match signed(answer, request.datagram, &self.keys) {
                Ok(octets) => return self.send(&came, &octets, WorkerCounters::count_answer),
                Err(reason) => return self.counters.count_drop(reason),
            },
            Verdict::Kiss(octets) => (octets, WorkerCounters::count_kiss),
            // The clock is read as late as can be: right before the datagram leaves.
            Verdict::Answer(answer) => (answer.at(Wall(clock::realtime_ns())), WorkerCounters::count_answer),
        };
        self.send(&came, &octets, count);
    }

    /// Sends `octets`, if they are no answer that the client beside us could not know as ours.
    fn send(&self, came: &Received, octets: &[u8], count: fn(&WorkerCounters)) {
        if self.itself.give(&self.buffer[..came.len], octets) {
            send_alone(&self.socket, came, octets, &self.counters, count);
        } else {
            self.counters.count_drop(DropReason::RateLimited);
        }
    }
}

/// Answers `came` with `octets` at once, counts that, and asks when they left if their client may.
pub(super) fn send_traced(
    socket: &UdpSocket,
    came: &Received,
    (octets, arrival): (&[u8], Option<NtpTimestamp>),
    leaving: &Leaving,
    (counters, count): (&WorkerCounters, fn(&WorkerCounters)),
) {
    let Some(arrival) = arrival else { return send_alone(socket, came, octets, counters, count) };
    leaving.add(arrival);
    match socket.send_stamped(came.local, came.from, octets) {
        Ok(()) => count(counters),
        Err(_) => {
            leaving.forget(arrival);
            counters.count_send_failure();
        }
    }
}

/// The answer to a request, made with the key that the request is made with, if that is one of ours.
pub(super) fn signed(answer: Answer, datagram: &[u8], keys: &ServedKeys) -> Result<Vec<u8>, DropReason> {
    answer.signed_at(|| Wall(clock::realtime_ns()), datagram, |number| keys.find(number))
}

/// Answers `came` with `octets` at once, and counts that.
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
