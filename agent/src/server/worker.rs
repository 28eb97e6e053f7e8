//! A server thread: takes datagrams of both families as they come, many at once, and answers them. It ends when its crew
//! is told to, or a socket breaks.
//!
//! The way of a plain request takes no memory and no lock but its client's set in the rate table. Replies of 48 octets
//! leave many at once; what is longer or needs more work leaves alone, by `send_alone`.
use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
};

use ntp::{Answer, DropReason, Mono, Request, Serving, Verdict, Wall, packet::HEADER_LEN};
use sys::{
    clock,
    poll::{self, Waker},
    udp::{Inbox, Outbox, Received, UdpSocket},
};

use super::{
    Family, Orders, Shared, WorkerCounters,
    memory::{Chance, ServerMemory},
    nts::{self, Nonces, Ring},
    socket::BUFFER,
};

/// Ends all workers of a crew.
#[derive(Debug)]
pub(super) struct Whistle {
    blown: AtomicBool,
    /// Never cleared: each worker is to see it.
    waker: Waker,
}

impl Whistle {
    pub(super) fn new() -> Result<Self, sys::Error> {
        Ok(Self { blown: AtomicBool::new(false), waker: Waker::new()? })
    }

    pub(super) fn blow(&self) {
        self.blown.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn is_blown(&self) -> bool {
        self.blown.load(Ordering::Acquire)
    }
}

/// So many datagrams are taken by one call.
const TAKEN: usize = 64;

/// So many replies leave by one call. They are stamped together, right before it, so the last of them leaves later than
/// it says by the time that the others take: more of them would cost no less, since a call is a small part of what a
/// datagram costs, and be less true.
const SENT: usize = 16;

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    counters: &'a WorkerCounters,
    view: View,
    chance: Chance,
    nonces: Nonces,
    inbox: Inbox<BUFFER>,
    replies: Replies,
}

impl<'a> Worker<'a> {
    /// The one of this number.
    ///
    /// # Errors
    /// When the kernel has no random number.
    pub(super) fn new(shared: &'a Shared, number: usize) -> Result<Self, sys::Error> {
        Ok(Self {
            shared,
            counters: shared.counters.of_worker(number),
            view: View::new(shared),
            chance: Chance::new()?,
            nonces: Nonces::new()?,
            inbox: Inbox::new(TAKEN),
            replies: Replies::new(),
        })
    }

    /// Serves a socket of each family that there is, until the whistle.
    ///
    /// # Errors
    /// When a socket is broken, and whose.
    pub(super) fn run(
        mut self,
        sockets: [Option<&UdpSocket>; Family::ALL.len()],
        whistle: &Whistle,
    ) -> Result<(), (Family, sys::Error)> {
        while !whistle.is_blown() {
            let [v4, v6] = sockets.map(|socket| socket.map(UdpSocket::as_fd));
            // An interrupted wait says nothing about the sockets; neither does any other failure of it.
            let Ok([_, v4, v6]) = poll::readable_of([Some(whistle.waker.as_fd()), v4, v6], None) else {
                continue;
            };
            let mut ready = [v4, v6];
            // In turn, as long as there is more than was taken: neither family waits for the other's flood.
            while ready.contains(&true) && !whistle.is_blown() {
                for family in Family::ALL {
                    if let (true, Some(socket)) = (ready[family as usize], sockets[family as usize]) {
                        let taken = self.serve(socket).map_err(|error| (family, error))?;
                        ready[family as usize] = taken == TAKEN;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what is there, up to a limit, and does what is due; returns how many datagrams that were.
    fn serve(&mut self, socket: &UdpSocket) -> Result<usize, sys::Error> {
        let taken = match self.inbox.receive(socket) {
            Ok(taken) => taken,
            Err(error) if error.would_block() || error.interrupted() => return Ok(0),
            Err(error) => return Err(error),
        };
        // What was published before they came is what they are answered with.
        self.view.refresh(self.shared);
        let Orders { config, served, clients, cookie_keys } = &self.view.orders;
        let serving = Serving { served, rules: &config.rules, limit: &config.limit };
        let mut memory = ServerMemory { clients, chance: &mut self.chance };
        let now = Mono(clock::monotonic_ns());
        for (came, datagram) in (0..taken).filter_map(|place| self.inbox.datagram(place)) {
            let request = Request { datagram, from: came.from, received: Wall(came.at_ns), now };
            let decision = ntp::respond(&request, &serving, &mut memory);
            self.counters.count_request(decision.version);
            match decision.verdict {
                Verdict::Drop(reason) => self.counters.count_drop(reason),
                Verdict::Kiss(octets) => self.replies.put(came, Reply::Kiss(octets)),
                Verdict::Answer(answer) => self.replies.put(came, Reply::Answer(answer)),
                Verdict::Seal(answer) => match cookie_keys {
                    None => self.counters.count_drop(DropReason::Unauthenticated),
                    Some(keys) => {
                        let mut ring = Ring { keys, nonces: &mut self.nonces };
                        nts::answer(socket, (&came, datagram), answer, &mut ring, self.counters);
                    }
                },
            }
            if self.replies.waiting.len() == SENT {
                self.replies.send(socket, self.counters);
            }
        }
        self.replies.send(socket, self.counters);
        Ok(taken)
    }
}

/// Replies of one header that are about to leave together.
struct Replies {
    /// Never more than [`SENT`], for which there is room.
    waiting: Vec<(Received, Reply)>,
    outbox: Outbox<HEADER_LEN>,
}

#[derive(Clone, Copy)]
enum Reply {
    /// Lacks its transmit time.
    Answer(Answer),
    Kiss([u8; HEADER_LEN]),
}

impl Replies {
    fn new() -> Self {
        Self { waiting: Vec::with_capacity(SENT), outbox: Outbox::new(SENT) }
    }

    fn put(&mut self, came: Received, reply: Reply) {
        self.waiting.push((came, reply));
    }

    fn send(&mut self, socket: &UdpSocket, counters: &WorkerCounters) {
        if self.waiting.is_empty() {
            return;
        }
        let transmit = Wall(clock::realtime_ns());
        for (came, reply) in &self.waiting {
            let octets = match reply {
                Reply::Answer(answer) => answer.at(transmit),
                Reply::Kiss(octets) => *octets,
            };
            self.outbox.push(came.local, came.from, &octets);
        }
        let mut failed = [false; SENT];
        self.outbox.send(socket, |place| failed[place] = true);
        for ((_, reply), failed) in self.waiting.drain(..).zip(failed) {
            match reply {
                _ if failed => counters.count_send_failure(),
                Reply::Answer(_) => counters.count_answer(),
                Reply::Kiss(_) => counters.count_kiss(),
            }
        }
    }
}

/// A worker's copy of the orders.
struct View {
    orders: Orders,
    generation: u64,
}

impl View {
    fn new(shared: &Shared) -> Self {
        let generation = shared.generation.load(Ordering::Acquire);
        Self { orders: shared.orders().clone(), generation }
    }

    fn refresh(&mut self, shared: &Shared) {
        // The number first: orders that change in between are then taken again, never missed.
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.orders = shared.orders().clone();
            self.generation = generation;
        }
    }
}
