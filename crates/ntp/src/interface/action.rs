//! What the caller is to do, as data.
use std::net::SocketAddr;

use crate::{BootState, Drift, Leap, Now, RequestId, Samples, SourceId, Transition, wire::packet::Header};

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
