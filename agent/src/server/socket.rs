//! One open port, and one step: a datagram in, what is due for it out.
//!
//! The workers call the step in a loop; with `--engine-only` the engine's own loop does, once per `poll`.
use std::os::fd::{AsFd, BorrowedFd};

use ntp::{Mono, RateTable, Request, Served, Serving, Verdict, Wall};
use sys::{
    clock, random,
    udp::{self, Received},
};

use super::{Family, ServeConfig, ServerCounters};

/// An open port of one family, and the memory of who asked there.
#[derive(Debug)]
pub(crate) struct ServerSocket {
    family: Family,
    port: u16,
    socket: udp::UdpSocket,
    clients: RateTable,
    buffer: [u8; BUFFER],
}

/// Longer than any request that gets an answer; what is beyond is cut, and the reply has 48 octets anyhow.
const BUFFER: usize = 2048;

/// Addresses whose rate is remembered, per family; 64 octets each.
const CLIENTS: usize = 4096;

impl ServerSocket {
    /// Opens `port` on all addresses of `family`.
    ///
    /// # Errors
    /// When the port is taken, when this process may not, when there is no such family.
    pub(crate) fn open(family: Family, port: u16) -> Result<Self, sys::Error> {
        Ok(Self {
            family,
            port,
            socket: udp::UdpSocket::bind(udp::any_address(family == Family::V6, port))?,
            clients: RateTable::new(CLIENTS, random::word()?),
            buffer: [0; BUFFER],
        })
    }

    /// The port that was asked for.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Takes one datagram and does what is due. `false` if there was none.
    ///
    /// # Errors
    /// When the socket is broken. That a reply could not be sent is only counted.
    pub(crate) fn serve_one(
        &mut self,
        config: &ServeConfig,
        served: &Served,
        counters: &ServerCounters,
    ) -> Result<bool, sys::Error> {
        let came = self.receive()?;
        if let Some(came) = came {
            self.answer(came, config, served, counters);
        }
        Ok(came.is_some())
    }

    /// The first half of the step: takes a datagram, if there is one.
    pub(super) fn receive(&mut self) -> Result<Option<Received>, sys::Error> {
        match self.socket.receive(&mut self.buffer) {
            Ok(came) => Ok(Some(came)),
            Err(error) if error.would_block() || error.interrupted() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The second half: does what is due for the datagram that came last.
    pub(super) fn answer(
        &mut self,
        came: Received,
        config: &ServeConfig,
        served: &Served,
        counters: &ServerCounters,
    ) {
        let request = Request {
            datagram: &self.buffer[..came.len],
            from: came.from,
            received: Wall(came.at_ns),
            now: Mono(clock::monotonic_ns()),
        };
        let serving = Serving { served, rules: &config.rules, limit: &config.limit };
        let decision = ntp::respond(&request, &serving, &mut self.clients);
        counters.count_request(decision.version);
        counters.set_rate_entries(self.family, self.clients.used());
        let (octets, count): (_, fn(&ServerCounters)) = match decision.verdict {
            Verdict::Drop(reason) => return counters.count_drop(reason),
            Verdict::Kiss(octets) => (octets, ServerCounters::count_kiss),
            // The clock is read as late as can be: right before the datagram leaves.
            Verdict::Answer(answer) => (answer.at(Wall(clock::realtime_ns())), ServerCounters::count_answer),
        };
        match self.socket.send_from(came.local, came.from, &octets) {
            Ok(()) => count(counters),
            Err(_) => counters.count_send_failure(),
        }
    }

    #[cfg(test)]
    pub(crate) fn local_port(&self) -> u16 {
        self.socket.local_address().unwrap().port()
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
