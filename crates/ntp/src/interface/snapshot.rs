//! What the engine knows at a moment, for metrics, report and server. Pure values; taken by the engine.
use std::net::IpAddr;

use crate::{Leap, NtpTimestamp, SourceId, Wall};

/// All of it. Signs: an offset is this clock minus true time, so a positive one means that this clock is ahead.
/// Times are in seconds, frequencies in parts per million.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Wall,
    /// A majority was found, and the error bound is within the threshold.
    pub synchronized: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Announced leap second; `Unknown` while unsynchronised.
    pub leap: Leap,
    /// 1 to 15; 16 while unsynchronised.
    pub stratum: u8,
    /// The source that is followed.
    pub reference: Option<SourceId>,
    /// As it stands in packets (RFC 5905 §7.3): IPv4 address of the source, or 4 octets of a hash of its IPv6 one.
    pub reference_id: [u8; 4],
    /// When the clock was last corrected.
    pub reference_time: Option<Wall>,
    /// This clock minus true time, what is still being slewed away included; none before the first estimate.
    pub offset: Option<f64>,
    /// Standard deviation of the followed source's samples.
    pub jitter: Option<f64>,
    /// Standard deviation of `offset`, as its samples have it.
    pub offset_error: Option<f64>,
    /// Largest possible error: |offset| + root delay / 2 + root dispersion.
    pub error_bound: Option<f64>,
    /// Round trip to the primary reference.
    pub root_delay: f64,
    /// Dispersion to the primary reference, at `at`.
    pub root_dispersion: f64,
    /// How fast the dispersion grows, seconds per second.
    pub dispersion_rate: f64,
    /// The correction that keeps the clock right; positive speeds the clock up.
    pub frequency_ppm: f64,
    /// How uncertain that is.
    pub skew_ppm: f64,
    /// The rate that was last set, slew included.
    pub kernel_frequency_ppm: f64,
    /// Steps since the node's boot.
    pub steps: u32,
    /// Whether this boot's first synchronisation is still to come.
    pub start_phase: bool,
    /// The sources, in the configuration's order.
    pub sources: Vec<SourceSnapshot>,
}

impl Snapshot {
    /// The addresses of the sources that have one.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().filter_map(|source| source.address)
    }
}

/// Why the clock is, or is not, synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A majority agrees and is reached.
    Synchronized,
    /// No source is reached; still within the bound.
    Holdover,
    /// There are no sources.
    NoUpstreams,
    /// The first answers are awaited.
    Starting,
    /// No source answers.
    Unreachable,
    /// No source can be used, though some answer.
    NoUsableUpstream,
    /// The sources contradict each other.
    NoMajority,
    /// Fewer sources agree than `min_sources`.
    TooFewSources,
    /// No required source can be followed.
    RequiredMissing,
    /// The error bound is beyond the threshold.
    ErrorBound,
    /// A correction beyond `max_change` would be needed.
    MaxChange,
    /// No source tells the time, and our own clock is served: others may follow it.
    LocalClock,
    /// The source that is followed serves a local clock, or follows one. We agree with its other followers; whether it
    /// is right, nobody knows.
    LocalReference,
    /// The clock was moved by somebody else, or the node stood still, and no new estimate is there yet.
    UnexplainedJump,
    /// The clock was moved by somebody else, or the node stood still, and the orders are to leave it where it is.
    ExternalStep,
    /// The sources want a second step within ten minutes because the node would have stood still again.
    ResumeRefused,
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSnapshot {
    /// Which.
    pub id: SourceId,
    /// Its name.
    pub name: String,
    /// The address that is asked.
    pub address: Option<IpAddr>,
    /// What selection made of it.
    pub state: SourceState,
    /// Why it is not used, for a reader; empty if it is.
    pub why: String,
    /// The last eight polls, the newest in the lowest bit.
    pub reach: u8,
    /// Its stratum; 16 if unknown.
    pub stratum: u8,
    /// Its reference id.
    pub reference_id: [u8; 4],
    /// This clock minus its time, estimated for now.
    pub offset: Option<f64>,
    /// Round trip of the newest sample.
    pub delay: Option<f64>,
    /// Standard deviation of its samples.
    pub jitter: Option<f64>,
    /// Current poll interval, log2 seconds.
    pub poll: i8,
    /// Seconds since its last good answer.
    pub last_answer_age: Option<f64>,
    /// Requests sent.
    pub sent: u64,
    /// Answers used.
    pub received: u64,
    /// Answers refused.
    pub rejected: u64,
    /// What else is known, for who asks.
    pub detail: SourceDetail,
}

/// What is known of a source that only queries (mode 6) tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceDetail {
    /// What the user wrote: a name, an address, a device's path.
    pub host: String,
    /// The UDP port that is asked.
    pub port: u16,
    /// It is a device of this machine.
    pub device: bool,
    /// Its answers must be proven.
    pub authenticated: bool,
    /// Cookies of Network Time Security that are left; the engine does not know, who keeps them fills this in.
    pub cookies: Option<usize>,
    /// What its last good answer said.
    pub heard: Option<Heard>,
    /// The newest samples, the newest first, eight at most.
    pub samples: Vec<SampleSnapshot>,
    /// Largest error of the best sample beside half of its delay: what reading the clocks and its age leave uncertain.
    pub dispersion: Option<f64>,
    /// Polls since its last good answer.
    pub unanswered: u32,
    /// The tests that its last answer did not pass, by ntpd's bits (TEST1 is 1).
    pub flash: u16,
    /// Seconds until the next poll.
    pub next_poll: f64,
    /// Seconds since it was reached anew or lost.
    pub reach_age: f64,
    /// Refused answers that were none to the request on its way.
    pub stray: u64,
    /// Refused answers whose proof failed.
    pub unauthentic: u64,
}

/// What an answer said beside the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// Leap second that it announced.
    pub leap: Leap,
    /// Poll interval that it knows of, log2 seconds.
    pub poll: i8,
    /// Precision of the server's clock, log2 seconds.
    pub precision: i8,
    /// Its round trip to the primary reference.
    pub root_delay: f64,
    /// Its dispersion to the primary reference.
    pub root_dispersion: f64,
    /// When it was last corrected, by its clock.
    pub reference_time: NtpTimestamp,
    /// When it sent the answer (T3), by its clock.
    pub transmit: NtpTimestamp,
    /// Our address that it came to.
    pub local: Option<IpAddr>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleSnapshot {
    /// This clock minus the source's.
    pub offset: f64,
    /// Round trip.
    pub delay: f64,
    /// What else is uncertain by now.
    pub dispersion: f64,
}

/// What selection made of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// The name does not resolve.
    Unresolved,
    /// No answer in the last eight polls.
    Unreachable,
    /// Too few samples yet.
    Measuring,
    /// Answers, but cannot be used.
    Unusable,
    /// Contradicts the majority.
    Falseticker,
    /// There is no majority that it could belong to.
    NoMajority,
    /// Does not lie within what the trusted sources say.
    Untrusted,
    /// Measured only, as the configuration asks.
    Noselect,
    /// Agrees, and is not needed.
    Agreeing,
    /// Agrees, and is combined with the selected one.
    Combined,
    /// The one that is followed.
    Selected,
}
