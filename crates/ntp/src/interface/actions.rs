//! What goes into the engine and what comes out: events and actions, as data.
use std::net::{IpAddr, SocketAddr};

use crate::{
    Foreign, Leap, Now, NtpTimestamp, OnExternalStep, OwnAddresses, Samples, SendError, Wall,
    wire::packet::Header,
};

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
    /// The request could not be sent, or the network says that nobody listens.
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

/// What the caller is to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look the name up and answer with [`Event::Resolved`] or [`Event::Unresolved`]. If the source has NTS: exchange
    /// keys with who has that name, and answer with [`Event::Keyed`], [`Event::Unproven`] or [`Event::Unresolved`].
    Resolve {
        /// Whose name it is.
        source: SourceId,
        /// The name.
        host: String,
    },
    /// Send this request from a fresh port, with a cookie ([`Header::with_cookie`]); answer with [`Event::Sent`], and
    /// keep the socket until [`Action::Close`].
    Send {
        /// Names the request in events.
        request: RequestId,
        /// Whom it asks.
        source: SourceId,
        /// Where to.
        to: SocketAddr,
        /// All of it but the cookie.
        header: Header,
    },
    /// Compare the device with the system clock at once, and answer with [`Event::Measured`].
    Read {
        /// Names the request in events.
        request: RequestId,
        /// Whose device it is.
        source: SourceId,
        /// Such as /dev/ptp0.
        path: String,
    },
    /// The request is over: close its socket.
    Close {
        /// Which request.
        request: RequestId,
    },
    /// Let the system clock run at `ppm` parts per million beyond its own rate; slew included. The engine assumes
    /// that this happens at `now`.
    SetFrequency {
        /// The rate; positive is faster.
        ppm: f64,
    },
    /// Step the system clock at once by so many seconds; positive is forward.
    Step {
        /// The seconds.
        by: f64,
    },
    /// Tell the kernel how far TAI is ahead of UTC, seconds.
    SetTai {
        /// The seconds.
        seconds: i32,
    },
    /// Tell the kernel how good its clock is (STA_UNSYNC, STA_INS/DEL, maxerror, esterror).
    SetStatus {
        /// Whether the clock is synchronised.
        synchronized: bool,
        /// Leap second for the kernel to do at the end of this day.
        leap: Leap,
        /// Largest possible error, seconds.
        max_error: f64,
        /// Estimated error, seconds.
        estimated_error: f64,
    },
    /// Keep this on disk over restarts and boots.
    SaveDrift(Drift),
    /// Keep this on disk for this boot ([`Samples::carry`]).
    SaveSamples {
        /// What was measured.
        samples: Samples,
        /// The two clocks to which the samples are relative: the verb's `now`, moved by the steps of the same answer. Keep it
        /// with CLOCK_MONOTONIC_RAW as that read together with `now`: a later reading belongs to another moment of a slew.
        at: Now,
    },
    /// Keep this on disk for this boot.
    SaveBoot(BootState),
    /// Tell the user.
    Announce(Transition),
}

/// The clock's own frequency error, as learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The correction that keeps the clock right, parts per million; positive speeds it up.
    pub frequency_ppm: f64,
    /// How uncertain that is, parts per million.
    pub skew_ppm: f64,
}

/// What must outlive the agent, but not the boot: whether steps are still allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootState {
    /// Steps done in the start phase.
    pub steps: u32,
    /// Whether the clock was synchronised since the node's boot: the start phase is over.
    pub synchronized: bool,
}

/// Something worth telling, once.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// Synchronised for the first time since the engine's start.
    Synchronized,
    /// The clock has the time of a local clock from now on, our own or another machine's.
    LocalReference,
    /// Not any more.
    SynchronizationLost,
    /// Again.
    SynchronizationRegained,
    /// No source is reached.
    UpstreamsUnreachable,
    /// One is reached again.
    UpstreamsReachable,
    /// The clock was stepped by us.
    Stepped {
        /// Seconds; positive is forward.
        by: f64,
        /// Why that was allowed.
        why: StepReason,
    },
    /// A leap second was done, or its slew began.
    LeapSecond {
        /// Seconds; negative if one was inserted.
        by: f64,
    },
    /// A correction was refused.
    CorrectionRefused {
        /// This clock minus true time, seconds.
        offset: f64,
        /// What is wrong with it.
        why: Refusal,
    },
    /// The system clock jumped: somebody else moved it.
    ExternalStep {
        /// Seconds; positive is forward.
        by: f64,
        /// What will be done about it; none by an observer.
        then: Option<OnExternalStep>,
    },
    /// The node was asleep or held, and its clock is measured anew.
    Resumed(Pause),
    /// Somebody else steers the clock, and we do not any more. Said by the caller, who compares ([`crate::Rival`]).
    Conflict(Foreign),
    /// We are alone again, or have no business with the clock any more.
    ConflictEnded,
}

/// Why the clock was stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepReason {
    /// This boot's first synchronisation was still to come.
    Start,
    /// Somebody else had stepped it.
    ExternalStep,
    /// The node had stood still.
    Resume,
    /// It was behind a time that is known to have passed. Done before an engine begins, and not by it.
    Floor,
}

/// Why a correction was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is beyond `max_change`.
    MaxChange,
    /// It would be the second after a pause within ten minutes, which may be an attack.
    TooSoon,
}

/// How a node stood still.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pause {
    /// The platform tells.
    Asleep {
        /// So long.
        seconds: f64,
    },
    /// The platform does not tell, and the sources that agreed with this clock all say that it is off.
    Unseen {
        /// This clock minus true time, seconds.
        offset: f64,
    },
}
