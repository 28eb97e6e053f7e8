//! What happened, as the caller reports it to the engine.
use std::net::IpAddr;

use crate::{NtpTimestamp, OwnAddresses, Wall};

/// An upstream, for as long as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// One request; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happened at the rim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// The time that `next_wakeup` named has come (or another reason to look).
    Wakeup,
    /// An answer to [`Action::Resolve`]: the name resolves.
    Resolved {
        /// Whose name it was.
        source: SourceId,
        /// Its addresses, in the resolver's order; none if that is all that is known.
        addresses: &'a [IpAddr],
    },
    /// An answer to [`Action::Resolve`]: the name does not resolve. For a source with NTS no key exchange was tried.
    Unresolved {
        /// Whose name it was.
        source: SourceId,
        /// The reason, for a reader; no sentence of its own.
        why: &'a str,
    },
    /// The answer to [`Action::Resolve`] of a source with NTS: keys were exchanged.
    Keyed {
        /// Whose keys.
        source: SourceId,
        /// Whom to ask with them.
        addresses: &'a [IpAddr],
        /// Its UDP port, if the exchange named one.
        port: Option<u16>,
    },
    /// There is nothing to prove a source's answers with: no key, or an exchange failed, or its keys are of no use any
    /// more. For a source with NTS this leads to another exchange.
    Unproven {
        /// Whose answers.
        source: SourceId,
        /// The reason, for a reader.
        why: &'a str,
    },
    /// A datagram came to the socket of a request, and its proof fails.
    Unauthentic {
        /// The request whose socket it came to.
        request: RequestId,
        /// The reason, for a reader.
        why: &'a str,
    },
    /// An answer to [`Action::Send`]: the request is on its way.
    Sent {
        /// Which request.
        request: RequestId,
        /// The random transmit timestamp that it carries (RFC 9109 and data minimisation): 64 bits of a
        /// cryptographic generator, not zero. The reply must repeat it as its origin.
        cookie: NtpTimestamp,
        /// When it left, by the system clock, as late as could be known.
        at: Wall,
    },
    /// The kernel's own stamp of the request's departure, if there is one. It is worth something before the answer.
    Departed {
        /// Which request.
        request: RequestId,
        /// When it left, by the system clock.
        at: Wall,
    },
    /// The request could not be sent, or the network reports that no program listens.
    SendFailed {
        /// Which request.
        request: RequestId,
        /// Why, as far as this node is told.
        why: SendError,
    },
    /// A datagram came to the socket of a request, and the access list drops it (`restrict … ignore`).
    Dropped {
        /// The request whose socket it came to.
        request: RequestId,
    },
    /// A datagram came to the socket of a request, proven if the source's answers must be. Whether it is an answer is
    /// for the engine to say.
    Received {
        /// The request whose socket it came to.
        request: RequestId,
        /// The whole datagram.
        datagram: &'a [u8],
        /// When it arrived, by the system clock, as early as could be known.
        at: Wall,
        /// The local address it came to, if known: for the test that a server does not follow ourselves.
        local: Option<IpAddr>,
    },
    /// A datagram came to the socket of a request, and it is an answer that this node's own server gave: its times of
    /// arrival and departure are those that the server wrote.
    OwnAnswer {
        /// The request whose socket it came to.
        request: RequestId,
    },
    /// This node's addresses and the ports of its own server, at the start and whenever they change. A source there is
    /// not asked.
    OwnAddresses(&'a OwnAddresses),
    /// CLOCK_BOOTTIME went on while CLOCK_MONOTONIC stood still: the node was asleep, and the system clock was set on
    /// by as much. Tell it before anything else.
    Resumed {
        /// So many seconds; more than none.
        asleep: f64,
    },
    /// An answer to [`Action::Read`]; [`Event::SendFailed`] is the other one.
    Measured {
        /// Which request.
        request: RequestId,
        /// When the two were compared, by the system clock.
        at: Wall,
        /// The system clock minus the device, seconds.
        offset: f64,
        /// Largest error of that, seconds: half of the window in which the device was read.
        dispersion: f64,
    },
}

/// Why a request did not reach its server, as far as this node is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// There is nothing to prove it with; [`crate::Event::Unproven`] says why.
    Unproven,
    /// The other host says that nothing listens there (ECONNREFUSED).
    NoListener,
    /// The kernel forbids it: a firewall, as a rule (EPERM, EACCES).
    NotPermitted,
    /// There is no route (ENETUNREACH, EHOSTUNREACH).
    NoRoute,
    /// The address is an IPv6 one, and this node has none.
    NoIpv6,
    /// No free local port (EADDRINUSE, EADDRNOTAVAIL, EAGAIN).
    NoPort,
    /// No free file descriptor (EMFILE, ENFILE).
    NoDescriptor,
    /// Any other; the kernel's number for it.
    Other(i32),
}
