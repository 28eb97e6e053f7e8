//! NTP without I/O.
//!
//! The client's way: The engine holds one association per upstream; a datagram is judged (reply), a good answer
//! becomes a sample, samples become an estimate (filter, by regression), estimates are voted on (select) and merged
//! (combine), the discipline decides, and the model of the clock (slew) turns that into [`Action`]s for the caller to
//! carry out. The server's way: restrict, rate limit, respond, or control.
//!
//! Nothing here reads a clock, opens a socket, spawns, locks or draws a random number: time is an argument called
//! `now`, wall time and monotonic time are different types, nonces come from the caller.
#![forbid(unsafe_code)]

mod time;

mod wire;

mod interface;

mod clock;

mod source;

mod measure;

mod disturbance;

mod engine;

mod server;

#[cfg(test)]
mod fuzz;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use clock::leap_table::{LeapTable, LeapTableError};
pub use disturbance::rival::{Foreign, KernelTimex, Rival, Stance, Written};
pub use engine::{Engine, Start};
pub use interface::{
    actions::{Action, BootState, Drift, Event, Pause, Refusal, RequestId, SourceId, StepReason, Transition},
    config::{Auth, Config, LeapMode, LocalClock, Mode, OnExternalStep, Source, Upstream},
    own::{OwnAddresses, OwnPorts},
    snapshot::{Heard, Leap, Reason, SampleSnapshot, Snapshot, SourceDetail, SourceSnapshot, SourceState},
};
pub use measure::floor::Floor;
pub use server::{
    control::{
        AssociationIds, ControlView, KernelClock, KernelPps, QueryLimit, ServerCounts, answer as answer_query,
    },
    rate_limit::{Judgement, RateLimit, RateSet, RateVerdict},
    reflection::Reflections,
    response::{Answer, Decision, DropReason, Memory, Request, Served, Serving, Verdict, respond},
    restrict::{Cidr, CidrError, RestrictEntry, RestrictFlags, RestrictTable},
};
pub use source::{
    association::alternate_families,
    cause::{SendError, objection, silence},
    samples::{Clocks, Samples, SavedSample, SourceSamples, Stale},
};
pub use time::{Mono, Now, NtpTimestamp, Wall};
pub use wire::{extension, key_exchange, mac, nts, packet};
