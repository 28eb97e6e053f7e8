//! The events that the caller reports to the engine.
use std::net::IpAddr;

use crate::{NtpTimestamp, OwnAddresses, Wall};

/// The id of an upstream. It stays the same as long as the upstream is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// The id of a request. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An event outside of the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// The time that `next_wakeup` returned has come. May also be reported at any other time.
    Wakeup,
    /// A result of [`Action::Resolve`]: the name resolves.
    Resolved {
        /// The source that has this name.
        source: SourceId,
        /// Its addresses, in the resolver's order. Empty if the name resolves but the addresses are not known here.
        addresses: &'a [IpAddr],
    },
    /// A result of [`Action::Resolve`]: the name does not resolve. For a source with NTS no key exchange was tried.
    Unresolved {
        /// The source that has this name.
        source: SourceId,
        /// The reason as text for a user; part of a sentence.
        why: &'a str,
    },
    /// A result of [`Action::Resolve`] for a source with NTS: keys were exchanged.
    Keyed {
        /// The source that has these keys.
        source: SourceId,
        /// The addresses of the NTP server that accepts these keys.
        addresses: &'a [IpAddr],
        /// The UDP port of that server, if the exchange named one.
        port: Option<u16>,
    },
    /// A source cannot be authenticated: there is no key, or a key exchange failed, or the exchanged keys are no longer
    /// valid. For a source with NTS this leads to another exchange.
    Unproven {
        /// The source.
        source: SourceId,
        /// The reason as text for a user.
        why: &'a str,
    },
    /// A datagram arrived at the socket of a request, and its authentication fails.
    Unauthentic {
        /// The request whose socket received it.
        request: RequestId,
        /// The reason as text for a user.
        why: &'a str,
    },
    /// A result of [`Action::Send`]: the request was sent.
    Sent {
        /// Which request.
        request: RequestId,
        /// The random transmit timestamp of the request (draft-ietf-ntp-data-minimization): 64 bits of a cryptographic
        /// generator, not zero. The reply must repeat it as its origin timestamp.
        cookie: NtpTimestamp,
        /// The system clock's time of departure, read as late as possible.
        at: Wall,
    },
    /// The kernel's timestamp of the request's departure, if there is one. It is used only if it is reported before the
    /// reply.
    Departed {
        /// Which request.
        request: RequestId,
        /// The system clock's time of departure.
        at: Wall,
    },
    /// The request could not be sent, or the network reports that no program listens at the destination.
    SendFailed {
        /// Which request.
        request: RequestId,
        /// The reason, as far as it is known on this node.
        why: SendError,
    },
    /// A datagram arrived at the socket of a request, and the access list drops it (`restrict … ignore`).
    Dropped {
        /// The request whose socket received it.
        request: RequestId,
    },
    /// A datagram arrived at the socket of a request. If the source uses authentication, the datagram is verified. The
    /// engine decides whether it is a reply to the request.
    Received {
        /// The request whose socket received it.
        request: RequestId,
        /// The whole datagram.
        datagram: &'a [u8],
        /// The system clock's time of arrival, read as early as possible.
        at: Wall,
        /// The local address at which it arrived, if known. Used to detect that a server follows this node.
        local: Option<IpAddr>,
    },
    /// A datagram arrived at the socket of a request, and it is a reply of this node's own server: its receive and
    /// transmit timestamps are those that the server wrote.
    OwnAnswer {
        /// The request whose socket received it.
        request: RequestId,
    },
    /// This node's addresses and the ports of its own server. Reported at the start and whenever they change. A source
    /// at such an address and port is not asked.
    OwnAddresses(&'a OwnAddresses),
    /// The node was suspended: CLOCK_BOOTTIME advanced while CLOCK_MONOTONIC did not, and the kernel moved the system
    /// clock forward by the same time. Report this event before any other.
    Resumed {
        /// Seconds of suspension; more than zero.
        asleep: f64,
    },
    /// A result of [`Action::Read`]: the device was read. If that fails, report [`Event::SendFailed`].
    Measured {
        /// Which request.
        request: RequestId,
        /// The system clock's time of the comparison.
        at: Wall,
        /// The system clock minus the device, seconds.
        offset: f64,
        /// Largest error of the offset, seconds: half of the window in which the device was read.
        dispersion: f64,
    },
}

/// Why a request did not reach its server, as far as it is known on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The request cannot be authenticated. [`crate::Event::Unproven`] gives the reason.
    Unproven,
    /// The other host reports that no program listens at the port (ECONNREFUSED).
    NoListener,
    /// The kernel forbids sending, usually because of a firewall (EPERM, EACCES).
    NotPermitted,
    /// There is no route (ENETUNREACH, EHOSTUNREACH).
    NoRoute,
    /// The destination is an IPv6 address, and this node has no IPv6 address.
    NoIpv6,
    /// No free local port (EADDRINUSE, EADDRNOTAVAIL, EAGAIN).
    NoPort,
    /// No free file descriptor (EMFILE, ENFILE).
    NoDescriptor,
    /// Any other error; its errno.
    Other(i32),
}
