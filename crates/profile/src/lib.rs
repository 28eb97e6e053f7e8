//! The profile: all that one node is to do, as the operator writes it and the agent reads it.
//!
//! The operator makes a [`Profile`] of a policy; an agent that runs alone has one in its own [`AgentFile`]. Nothing here
//! opens a file, a socket or a clock, and nothing here knows Kubernetes.
#![forbid(unsafe_code)]

mod agent_file;
mod profile;
mod serve;
pub mod ranges;

pub use agent_file::{Agent, AgentFile, BootPod, Watch};
pub use profile::{
    Clock, Leap, LeapMode, Nts, OnExternalStep, Profile, Rtc, RtcMode, Smear, Step, Stratum, Thresholds,
    Upstream,
};
pub use serve::{Flag, RateLimit, Restrict, Serve, ServeNts};
