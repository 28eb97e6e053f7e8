//! What operator and agent agree on, as plain serde types.
//!
//! The operator writes a profile (crate `profile`) under a [`ProfileName`], whose second half is the hash of its text.
//! The agent reads the profile, runs it, and answers with a [`Report`]. Nothing here opens a file, a socket or a clock,
//! and nothing here knows Kubernetes: the agent also runs on a machine without it.
#![forbid(unsafe_code)]

mod name;
mod mode;
mod failures;
pub mod key_files;
mod cookie_key;
mod reasons;
mod report;
mod rtc_report;
mod synchronized;
mod transition;
pub mod limits;
mod span;
mod host;
pub mod proof;

pub use cookie_key::{CookieKey, MOST_COOKIE_KEYS};
pub use failures::{ProfileFailure, ServingFailure};
pub use host::{Host, HostError, HostText, upstream as upstream_host};
pub use mode::Mode;
pub use name::{Assignment, NameError, ProfileName, text_hash};
pub use reasons::reasons;
pub use report::{
    BootPodState, BootReport, ClockReport, ConflictReport, ProfileError, Reason, Report, ServerReport,
    SourceReport, SourceState, StepReport, TimezoneReport,
};
pub use rtc_report::{RtcHealth, RtcReport};
pub use span::{Span, SpanError, approximately};
pub use synchronized::{BoundError, LargestBound, Synchronized};
pub use transition::{Transition, TransitionKind};
