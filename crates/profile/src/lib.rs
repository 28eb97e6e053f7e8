//! The profile: the configuration of one node, which the operator writes and the agent reads.
//!
//! The operator makes a [`Profile`] of a policy. An agent without Kubernetes has one in its [`AgentFile`]. [`check`]
//! turns a profile into a [`Checked`] one. Both programs call it: the operator writes only checked profiles, and the
//! agent runs only checked profiles. This crate opens no file or socket, reads no clock, and does not depend on
//! Kubernetes.
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
    Access, AccessSource, CheckError, Checked, LocalClock, Place, Source, check, drops_request, ignores,
    unfit_to_listen,
};
pub use network::{Network, NetworkError};
pub use profile::{
    Clock, Leap, LeapMode, Nts, OnExternalStep, Profile, Rtc, RtcMode, Smear, Step, Stratum, Thresholds,
    Upstream,
};
pub use serve::{Flag, RateLimit, Restrict, Serve, ServeNts};
pub use spelling::in_present_spelling;
