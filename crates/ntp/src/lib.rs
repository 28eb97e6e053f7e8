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

mod actions;
mod config;
mod time;

pub mod key_exchange;

pub mod extension;
pub mod mac;
mod md5;
pub mod nts;
mod own;
pub mod packet;
mod reflection;
mod reply;
mod cause;

mod association;
mod interleave;
mod poll;
mod duplicate;
mod pool;
mod request;

mod filter;
mod regression;

mod select;

mod floor;

mod combine;
mod discipline;
mod leap;
mod leap_table;

mod slew;

mod engine;
mod jump;
mod resume;
mod aftermath;
mod kernel;
mod rival;
mod local;
mod orphan;
mod samples;
mod snapshot;
mod standing;
mod steer;

mod restrict;

mod rate_limit;
mod response;

mod control;

#[cfg(test)]
mod fuzz;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use actions::{
    Action, BootState, Drift, Event, Pause, Refusal, RequestId, SourceId, StepReason, Transition,
};
pub use association::alternate_families;
pub use cause::{SendError, objection, silence};
pub use config::{Auth, Config, LeapMode, LocalClock, Mode, OnExternalStep, Source, Upstream};
pub use control::{
    AssociationIds, ControlView, KernelClock, KernelPps, QueryLimit, ServerCounts, answer as answer_query,
};
pub use engine::{Engine, Start};
pub use floor::Floor;
pub use leap_table::{LeapTable, LeapTableError};
pub use own::{OwnAddresses, OwnPorts};
pub use rate_limit::{Judgement, RateLimit, RateSet, RateVerdict};
pub use reflection::Reflections;
pub use response::{Answer, Decision, DropReason, Memory, Request, Served, Serving, Verdict, respond};
pub use restrict::{Cidr, CidrError, RestrictEntry, RestrictFlags, RestrictTable};
pub use rival::{Foreign, KernelTimex, Rival, Stance, Written};
pub use samples::{Clocks, Samples, SavedSample, SourceSamples, Stale};
pub use snapshot::{
    Heard, Leap, Reason, SampleSnapshot, Snapshot, SourceDetail, SourceSnapshot, SourceState,
};
pub use time::{Mono, Now, NtpTimestamp, Wall};
