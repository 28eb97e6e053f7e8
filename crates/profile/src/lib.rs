//! The profile: all that one node is to do, as the operator writes it and the agent reads it.
//!
//! The operator makes a [`Profile`] of a policy; an agent that runs alone has one in its own [`AgentFile`]. [`check`] turns
//! it into a [`Checked`] one: both programs call it, the operator writes only checked profiles, and the agent runs no
//! other. Nothing here opens a file, a socket or a clock, and nothing here knows Kubernetes.
#![forbid(unsafe_code)]

mod agent_file;
mod profile;
mod serve;
mod network;
mod spelling;
pub mod ranges;
mod check;

pub use agent_file::{Agent, AgentFile, BootPod, Watch};
pub use check::{
    Access, AccessSource, CheckError, Checked, LocalClock, Place, Source, check, ignores, unfit_to_listen,
};
pub use network::{Network, NetworkError};
pub use profile::{
    Clock, Leap, LeapMode, Nts, OnExternalStep, Profile, Rtc, RtcMode, Smear, Step, Stratum, Thresholds,
    Upstream,
};
pub use serve::{Flag, RateLimit, Restrict, Serve, ServeNts};
pub use spelling::in_present_spelling;
