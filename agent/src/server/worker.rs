//! A server thread: receives datagrams of all ports as they come, many at once, and answers them. It ends when its
//! pool ends, or when a socket breaks.
//!
//! A plain request needs no memory, and no lock but that of its client's set in the rate table. Replies of 48 octets
//! leave many at once. A reply that is longer, or needs more work, is sent alone by `send_alone`.
use std::{
    net::IpAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ntp::{DropReason, Mono, Request, Serving, UnstampedReply, Verdict, Wall, packet::HEADER_LEN};
use sys::{
    clock,
    poll::{WaitSet, Waker, Wakes},
    udp::{Inbox, Outbox, Received, UdpSocket},
};

use super::{
    counters::WorkerCounters,
    memory::{FastRandom, ServerMemory},
    nts::SealedReplies,
    pace::Pace,
    port::Port,
    shared::{Settings, Shared},
    socket::{BUFFER, send_alone, send_traced, signed},
};

/// Tells all workers of a pool to stop.
#[derive(Debug)]
pub(super) struct StopSignal {
    raised: AtomicBool,
    /// Never cleared, since each worker must see it.
    waker: Waker,
}

impl StopSignal {
    pub(super) fn new() -> Result<Self, sys::Error> {
        Ok(Self { raised: AtomicBool::new(false), waker: Waker::new()? })
    }

    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }
}

/// The largest number of datagrams that one call receives or sends. With 16, an answer would need 3 % more processor
/// time.
const BATCH: usize = 64;

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    counters: &'a WorkerCounters,
    cached: CachedSettings,
    chance: FastRandom,
    sealed: SealedReplies,
    inbox: Inbox<BUFFER>,
    replies: Replies,
}

impl<'a> Worker<'a> {
    /// The worker with this number.
    ///
    /// # Errors
    /// If the kernel has no random number.
    pub(super) fn new(shared: &'a Shared, number: usize) -> Result<Self, sys::Error> {
        Ok(Self {
            shared,
            counters: shared.counters.of_worker(number),
            cached: CachedSettings::new(shared),
            chance: FastRandom::new()?,
            sealed: SealedReplies::new()?,
            inbox: Inbox::new(BATCH),
            replies: Replies::new(),
        })
    }

    /// Serves the ports, beside the other workers, until the stop signal.
    ///
    /// # Errors
    /// If a socket is broken; returns its address. If there is nothing to wait with, that is the first address.
    pub(super) fn run(
        mut self,
        ports: &[Arc<Port>],
        stop_signal: &StopSignal,
    ) -> Result<(), (IpAddr, sys::Error)> {
        let members = ports.iter().map(|port| (port.socket.as_fd(), Wakes::One));
        let members: Vec<_> = members.chain([(stop_signal.waker.as_fd(), Wakes::All)]).collect();
        let set = WaitSet::new(&members).map_err(|error| (ports[0].address, error))?;
        let mut ready = vec![false; members.len()];
        while !stop_signal.is_raised() {
            // A wait that was interrupted, or failed otherwise, says nothing about the sockets.
            if set.wait(&mut ready).is_err() {
                continue;
            }
            // The ports take turns while one has more datagrams than were taken, so that none waits for a flood on another.
            while ready[..ports.len()].contains(&true) && !stop_signal.is_raised() {
                for (port, ready) in ports.iter().zip(&mut ready).filter(|(_, ready)| **ready) {
                    let taken = self.serve(port).map_err(|error| (port.address, error))?;
                    *ready = taken == BATCH;
                }
            }
        }
        Ok(())
    }

    /// Receives datagrams up to a limit, and answers them. Returns their number.
    fn serve(&mut self, port: &Port) -> Result<usize, sys::Error> {
        let (departures, loop_detector) = (&self.shared.departures, &*self.shared.loop_detector);
        let Port { socket, in_flight, address: _ } = port;
        // Departures are collected first, so that a request finds the departure time of the answer to which it refers.
        in_flight.collect(socket, departures);
        let taken = match self.inbox.receive(socket) {
            Ok(taken) => taken,
            Err(error) if error.would_block() || error.interrupted() => {
                // There is no datagram: a record in the error queue has woken this thread, or another worker was
                // faster.
                in_flight.collect_all(socket, departures);
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        // The datagrams are answered with what was published before they came.
        self.cached.refresh(self.shared);
        let Settings { config, rules, served, clients, cookie_keys, keys, .. } = &self.cached.settings;
        let serving = Serving { served, rules, limit: &config.limit };
        let mut memory = ServerMemory { clients, chance: &mut self.chance, departures: Some(departures) };
        let now = Mono(clock::monotonic_ns());
        for (came, datagram) in (0..taken).filter_map(|place| self.inbox.datagram(place)) {
            let (from, to_group, received) = (came.from, came.to_group, Wall(came.at_ns));
            let request = Request { datagram, from, to_group, received, now };
            let decision = ntp::respond(&request, &serving, &mut memory);
            self.counters.count_request(decision.version, datagram);
            match decision.verdict {
                Verdict::Drop(reason) => self.counters.count_drop(reason),
                Verdict::Kiss(octets) if !loop_detector.record_reply(datagram, &octets) => {
                    self.counters.count_drop(DropReason::RateLimited);
                }
                Verdict::Kiss(octets) => self.replies.put(came, Reply::Kiss(octets)),
                Verdict::Answer(answer)
                    if answer.traced().is_some() || loop_detector.may_be_own_request(datagram) =>
                {
                    let octets = answer.at(Wall(clock::realtime_ns()));
                    if loop_detector.record_reply(datagram, &octets) {
                        let counted = (self.counters, WorkerCounters::count_answer as fn(&WorkerCounters));
                        send_traced(socket, &came, (&octets, answer.traced()), in_flight, counted);
                    } else {
                        self.counters.count_drop(DropReason::RateLimited);
                    }
                }
                Verdict::Answer(answer) => self.replies.put(came, Reply::Answer(answer)),
                Verdict::Sign(answer) => match signed(answer, datagram, keys) {
                    Ok(octets) if !loop_detector.record_reply(datagram, &octets) => {
                        self.counters.count_drop(DropReason::RateLimited);
                    }
                    Ok(octets) => {
                        let counted = (self.counters, WorkerCounters::count_answer as fn(&WorkerCounters));
                        send_traced(socket, &came, (&octets, answer.traced()), in_flight, counted);
                    }
                    Err(reason) => self.counters.count_drop(reason),
                },
                Verdict::Query => {
                    match self.shared.query_handler.answer(&request, served, &self.shared.counters) {
                        Ok(parts) => send_parts(socket, &came, &parts, self.counters),
                        Err(reason) => self.counters.count_drop(reason),
                    }
                }
                Verdict::Seal(answer) => match cookie_keys {
                    None => self.counters.count_drop(DropReason::Unauthenticated),
                    Some(keys) => {
                        self.sealed.put((port, loop_detector), (came, datagram), answer, keys, self.counters)
                    }
                },
            }
        }
        self.replies.send(socket, self.counters);
        if let Some(keys) = cookie_keys {
            self.sealed.send(socket, keys, self.counters);
        }
        Ok(taken)
    }
}

/// Answers a query. It counts as answered when its last part is sent.
fn send_parts(socket: &UdpSocket, came: &Received, parts: &[Vec<u8>], counters: &WorkerCounters) {
    for (place, part) in parts.iter().enumerate() {
        let last = place + 1 == parts.len();
        let count = if last { WorkerCounters::count_query } else { |_: &WorkerCounters| () };
        send_alone(socket, came, part, counters, count);
    }
}

/// Replies with one header each that are sent together.
struct Replies {
    /// Never more than [`BATCH`], for which there is room.
    waiting: Vec<(Received, Reply)>,
    outbox: Outbox<HEADER_LEN>,
    pace: Pace,
}

#[derive(Clone, Copy)]
enum Reply {
    /// Its transmit timestamp is not set yet.
    Answer(UnstampedReply),
    Kiss([u8; HEADER_LEN]),
}

impl Replies {
    fn new() -> Self {
        Self { waiting: Vec::with_capacity(BATCH), outbox: Outbox::new(BATCH), pace: Pace::default() }
    }

    fn put(&mut self, came: Received, reply: Reply) {
        self.waiting.push((came, reply));
    }

    fn send(&mut self, socket: &UdpSocket, counters: &WorkerCounters) {
        if self.waiting.is_empty() {
            return;
        }
        let begun = clock::realtime_ns();
        for (place, (came, reply)) in self.waiting.iter().enumerate() {
            let octets = match reply {
                Reply::Answer(answer) => answer.at(Wall(begun + self.pace.until(place))),
                Reply::Kiss(octets) => *octets,
            };
            self.outbox.push(came.local, came.from, &octets);
        }
        let mut failed = [false; BATCH];
        self.outbox.send(socket, |place| failed[place] = true);
        self.pace.learn(self.waiting.len(), clock::realtime_ns() - begun);
        for ((_, reply), failed) in self.waiting.drain(..).zip(failed) {
            match reply {
                _ if failed => counters.count_send_failure(),
                Reply::Answer(_) => counters.count_answer(),
                Reply::Kiss(_) => counters.count_kiss(),
            }
        }
    }
}

/// A worker's copy of the settings.
struct CachedSettings {
    settings: Settings,
    generation: u64,
}

impl CachedSettings {
    fn new(shared: &Shared) -> Self {
        let generation = shared.generation.load(Ordering::Acquire);
        Self { settings: shared.settings().clone(), generation }
    }

    fn refresh(&mut self, shared: &Shared) {
        // The number is read first. If the settings change in between, they are copied again, and no change is missed.
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.settings = shared.settings().clone();
            self.generation = generation;
        }
    }
}
