//! The Kubernetes API of timesync: group `timesync.dev`, version `v1alpha1`.
//!
//! A user writes [`TimeSyncPolicy`]: the time sources of a set of nodes, the access list of their NTP servers, and how
//! their clocks are corrected. The operator writes [`NodeClock`]: the state of the clock of one node. Both are plain
//! types. The golden test of this crate makes the CRDs from them (`crds`, a link to the chart's). Every rule that the
//! API server checks is in [`rules`] or at its field. Nothing here connects to a server.
//!
//! Offsets are this clock minus true time: positive means that the clock is ahead.
#![forbid(unsafe_code)]

#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
#[allow(clippy::duplicated_attributes, reason = "each column has a type of its own")]
mod policy;
#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
mod selector;
#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
mod node_taint;
#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
mod upstream;
#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
mod serve;

#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
mod rollout;
mod rollout_request;
#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
mod policy_status;

#[allow(unreachable_pub, reason = "KubeSchema copies each struct into a function body")]
#[allow(clippy::duplicated_attributes, reason = "each column has a type of its own")]
mod node_clock;

pub mod rules;

mod schema;

mod crds;

pub use crds::crds;
pub use node_clock::{
    AgentStatus, ConflictStatus, LastStep, NodeClock, NodeClockFields, NodeClockStatus, ProfileStatus,
    RtcStatus, ServerStatus, SourceStatus, TimezoneStatus,
};
pub use node_taint::{NodeTaint, TaintEffect};
pub use policy::{
    Clock, Leap, LeapMode, Mode, OnExternalStep, Rtc, RtcMode, Smear, Step, Stratum, Thresholds,
    TimeSyncPolicy, TimeSyncPolicySpec,
};
pub use policy_status::{NodeCounts, TierMember, TierStatus, TimeSyncPolicyStatus, WorstNode};
pub use rollout::{PauseReason, Rollout, RolloutState, RolloutStatus};
pub use rollout_request::{ROLLOUT_ANNOTATION, RolloutRequest, RolloutVerb};
pub use schema::LARGEST_PORTION;
pub use selector::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};
pub use serve::{Flag, RateLimit, Restrict, Serve, ServeNts};
pub use upstream::{Nts, SecretKey, Upstream, UpstreamNodes, nts_port};
