//! NTP without I/O.
//!
//! The client: the engine holds one association per upstream (`source`). An association checks each datagram and makes
//! a sample of each valid reply. Samples become an estimate. `measure` selects among the estimates, combines them, and
//! decides on a correction. `disturbance` decides after jumps and pauses. The model of the clock (`clock`) turns the
//! decision into [`Action`]s for the caller to carry out. The server (`server`): access list, rate limit, response, and
//! queries of mode 6.
//!
//! Each module below uses only the modules before it.
//!
//! Nothing here reads a clock, opens a socket, spawns a thread, takes a lock or draws a random number. Time is an
//! argument called `now`. Wall time and monotonic time are different types. Nonces come from the caller.
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
pub use disturbance::rival::{KernelTimex, Rival, Stance, Written};
pub use engine::{Engine, Start};
pub use interface::{
    action::Action,
    config::{Auth, Config, LeapMode, LocalClock, Mode, OnExternalStep, Source, Upstream},
    event::{Event, RequestId, SendError, SourceId},
    own::{OwnAddresses, OwnPorts},
    samples::{Clocks, Samples, SavedSample, SourceSamples, Stale},
    snapshot::{Heard, Reason, SampleSnapshot, Snapshot, SourceDetail, SourceSnapshot, SourceState},
    state::{BootState, Drift},
    transition::{CorrectionRefusal, Foreign, Pause, StepReason, Transition},
};
pub use measure::floor::Floor;
pub use server::{
    control::{
        AssociationIds, ControlView, KernelClock, KernelPps, QueryLimit, ServerCounts, answer as answer_query,
    },
    drop_reason::DropReason,
    rate_limit::{Judgement, RateLimit, RateSet, RateVerdict},
    reflection::Reflections,
    response::{Decision, Memory, Request, Serving, UnstampedReply, Verdict, respond},
    restrict::{Cidr, CidrError, RestrictEntry, RestrictFlags, RestrictTable},
    served::Served,
};
pub use source::{
    association::alternate_families,
    cause::{objection, silence},
};
pub use time::{Mono, Now, NtpTimestamp, Wall};
pub use wire::{
    extension, key_exchange, mac,
    packet::{self, Leap},
};

/// Network Time Security for NTP (RFC 8915 §5).
pub mod nts {
    pub use crate::{
        server::nts as server,
        wire::nts::{Aead, COOKIES, LONGEST_COOKIE, Nonce, NtsError, UniqueId, cookie, open, request},
    };
}
