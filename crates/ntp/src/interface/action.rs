//! The actions that the engine asks of its caller, as data.
use std::net::SocketAddr;

use crate::{BootState, Drift, Leap, Now, RequestId, Samples, SourceId, Transition, wire::packet::Header};

/// An action that the caller must carry out. Actions are carried out in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look up the name, and report [`Event::Resolved`] or [`Event::Unresolved`]. If the source uses NTS: exchange keys
    /// with the host of that name, and report [`Event::Keyed`], [`Event::Unproven`] or [`Event::Unresolved`].
    Resolve {
        /// The source that has this name.
        source: SourceId,
        /// The name.
        host: String,
    },
    /// Send this request from a new port, with a cookie ([`Header::with_cookie`]). Report [`Event::Sent`], and keep the
    /// socket open until [`Action::Close`].
    Send {
        /// The id of the request in events.
        request: RequestId,
        /// The source that is asked.
        source: SourceId,
        /// The destination.
        to: SocketAddr,
        /// The request without the cookie.
        header: Header,
    },
    /// Compare the device with the system clock at once, and report [`Event::Measured`].
    Read {
        /// The id of the request in events.
        request: RequestId,
        /// The source that is this device.
        source: SourceId,
        /// The path of the device, such as /dev/ptp0.
        path: String,
    },
    /// The request is over: close its socket.
    Close {
        /// The request.
        request: RequestId,
    },
    /// Speed up the system clock by `ppm` parts per million, slew included. The engine assumes that this happens at
    /// `now`.
    SetFrequency {
        /// The change of rate. Positive speeds the clock up.
        ppm: f64,
    },
    /// Step the system clock at once.
    Step {
        /// The seconds.
        by: f64,
    },
    /// Set the kernel's TAI offset: TAI minus UTC.
    SetTai {
        /// The seconds.
        seconds: i32,
    },
    /// Set the kernel's status of its clock (STA_UNSYNC, STA_INS/DEL, maxerror, esterror).
    SetStatus {
        /// True if the clock is synchronised.
        synchronized: bool,
        /// The leap second that the kernel is to apply at the end of this day.
        leap: Leap,
        /// Largest possible error, seconds.
        max_error: f64,
        /// Estimated error, seconds.
        estimated_error: f64,
    },
    /// Save this on disk. It outlives restarts and boots.
    SaveDrift(Drift),
    /// Save this on disk for this boot ([`Samples::carry`]).
    SaveSamples {
        /// The samples.
        samples: Samples,
        /// The two clocks to which the samples are relative: the `now` of the call, moved by the steps among the
        /// actions of the same call. Save it with the CLOCK_MONOTONIC_RAW that was read together with `now`: a later
        /// reading belongs to another moment of a slew.
        at: Now,
    },
    /// Save this on disk for this boot.
    SaveBoot(BootState),
    /// Report this to the user.
    Announce(Transition),
}
