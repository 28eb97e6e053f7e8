//! NTP without I/O.
//!
//! The client's way: The engine holds one association per upstream; an answer becomes a sample, samples become an
//! estimate (filter), estimates are voted on (select) and merged (combine), and the discipline turns the result into
//! [`Action`]s for the caller to carry out. The server's way: restrict, rate limit, respond.
//!
//! Nothing here reads a clock, opens a socket, spawns, locks or draws a random number: time is an argument called
//! `now`, wall time and monotonic time are different types, nonces come from the caller.
#![forbid(unsafe_code)]

mod actions;
mod config;
mod snapshot;
mod time;

pub use actions::{Action, BootState, Drift, Event, RequestId, SourceId, Transition};
pub use config::{Config, Mode, Source};
pub use snapshot::{Leap, Reason, Snapshot, SourceSnapshot, SourceState};
pub use time::{Mono, Now, NtpTimestamp, Wall};
