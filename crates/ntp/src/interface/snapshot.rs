//! The state of the engine at one moment, for metrics, report and server. Values only; the engine makes them.
use std::net::IpAddr;

use crate::{Leap, NtpTimestamp, SourceId, Wall};

/// The state of the engine. An offset is this clock minus true time: positive means that this clock is ahead. Times are
/// in seconds, frequencies in parts per million.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The time of the snapshot.
    pub at: Wall,
    /// A majority was found, and the error bound is within the threshold.
    pub synchronized: bool,
    /// Why the clock is synchronised or not.
    pub reason: Reason,
    /// The announced leap second; `Unknown` while unsynchronised.
    pub leap: Leap,
    /// 1 to 15; 16 while unsynchronised.
    pub stratum: u8,
    /// The selected source.
    pub reference: Option<SourceId>,
    /// The reference id in packets (RFC 5905 §7.3): the IPv4 address of the source, or 4 octets of a hash of its IPv6
    /// address.
    pub reference_id: [u8; 4],
    /// When the clock was last corrected.
    pub reference_time: Option<Wall>,
    /// This clock minus true time, including the part that is still being slewed away. None before the first estimate.
    pub offset: Option<f64>,
    /// Standard deviation of the selected source's samples.
    pub jitter: Option<f64>,
    /// Standard deviation of `offset`, estimated from the samples.
    pub offset_error: Option<f64>,
    /// Largest possible error: |offset| + root delay / 2 + root dispersion.
    pub error_bound: Option<f64>,
    /// Round trip to the primary reference.
    pub root_delay: f64,
    /// Dispersion to the primary reference, at `at`.
    pub root_dispersion: f64,
    /// How fast the dispersion grows, seconds per second.
    pub dispersion_rate: f64,
    /// The frequency correction that keeps the clock's rate right. Positive speeds the clock up.
    pub frequency_ppm: f64,
    /// The uncertainty of `frequency_ppm`.
    pub skew_ppm: f64,
    /// The frequency that was last set in the kernel, slew included.
    pub kernel_frequency_ppm: f64,
    /// Steps since the node's boot.
    pub steps: u32,
    /// True if the clock was not yet synchronised in this boot.
    pub start_phase: bool,
    /// True if the clock was compared with an answer of the selected source that came under the present configuration,
    /// or serves a local clock as this configuration says. False after each change of the configuration.
    pub confirmed: bool,
    /// The sources, in the configuration's order.
    pub sources: Vec<SourceSnapshot>,
}

impl Snapshot {
    /// The addresses of the sources that have one.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().filter_map(|source| source.address)
    }

    /// How fast the error bound grows from `at` on, seconds per second. This also holds if the agent ends: then a slew
    /// in progress does not end, so its rate is a part of the growth.
    pub fn bound_growth(&self) -> f64 {
        let slew = (self.kernel_frequency_ppm - self.frequency_ppm).abs() * 1e-6;
        self.dispersion_rate + slew
    }
}

/// Why the clock is, or is not, synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A majority of sources agrees and is reached.
    Synchronized,
    /// No source is reached. The error bound is still within the threshold.
    Holdover,
    /// No sources are configured.
    NoUpstreams,
    /// No source has answered yet, but one still may.
    Starting,
    /// No source answers.
    Unreachable,
    /// Some sources answer, but none is usable.
    NoUsableUpstream,
    /// The sources contradict each other.
    NoMajority,
    /// Fewer sources agree than `min_sources`.
    TooFewSources,
    /// No required source agrees.
    RequiredMissing,
    /// The error bound is larger than the threshold.
    ErrorBound,
    /// The correction would be larger than `max_change`.
    MaxChange,
    /// No source gives time, and this node serves its own clock, which others may follow.
    LocalClock,
    /// The selected source serves a local clock, or follows one. This clock agrees with the other clients of that
    /// source. Its distance from UTC is not known.
    LocalReference,
    /// Another process moved the clock, or the node was suspended, and there is no new estimate yet.
    UnexplainedJump,
    /// Another process moved the clock, or the node was suspended, and the configuration says to leave the clock as it
    /// is.
    ExternalStep,
    /// The sources demand a second step within ten minutes, as if the node had been suspended again.
    ResumeRefused,
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSnapshot {
    /// Its id.
    pub id: SourceId,
    /// Its name.
    pub name: String,
    /// The address to which requests are sent.
    pub address: Option<IpAddr>,
    /// The result of the last selection.
    pub state: SourceState,
    /// Why it is not used, as text for a user. Empty if it is used.
    pub why: String,
    /// The last eight polls, the newest in the lowest bit.
    pub reach: u8,
    /// Its stratum; 16 if unknown.
    pub stratum: u8,
    /// Its reference id.
    pub reference_id: [u8; 4],
    /// This clock minus its time, estimated for the time of the snapshot.
    pub offset: Option<f64>,
    /// Round trip of the newest sample.
    pub delay: Option<f64>,
    /// Standard deviation of its samples.
    pub jitter: Option<f64>,
    /// Current poll interval, log2 seconds.
    pub poll: i8,
    /// Seconds since its last valid reply.
    pub last_answer_age: Option<f64>,
    /// Requests sent.
    pub sent: u64,
    /// Replies used.
    pub received: u64,
    /// Datagrams rejected.
    pub rejected: u64,
    /// Values that only queries (mode 6) show.
    pub detail: SourceDetail,
}

/// Values of a source that only queries (mode 6) show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceDetail {
    /// The host as the user wrote it: a name, an address, or the path of a device.
    pub host: String,
    /// The UDP port that is asked.
    pub port: u16,
    /// True if it is a device of this machine.
    pub device: bool,
    /// Its replies must be authenticated.
    pub authenticated: bool,
    /// The number of NTS cookies that are left. The engine does not know it; the caller, which keeps the cookies, sets
    /// it.
    pub cookies: Option<usize>,
    /// The header fields of its last valid reply.
    pub heard: Option<Heard>,
    /// The newest samples, the newest first; at most eight.
    pub samples: Vec<SampleSnapshot>,
    /// Largest error of the best sample in addition to half of its delay: the uncertainty of reading the clocks, and of
    /// its age.
    pub dispersion: Option<f64>,
    /// Polls since its last valid reply.
    pub unanswered: u32,
    /// The tests that its last reply failed, as ntpd's bits (TEST1 is 1).
    pub flash: u16,
    /// Seconds until the next poll.
    pub next_poll: f64,
    /// Seconds since it became reachable or unreachable.
    pub reach_age: f64,
    /// Rejected datagrams that were no reply to the pending request.
    pub stray: u64,
    /// Rejected replies whose authentication failed.
    pub unauthentic: u64,
}

/// The header fields of a reply other than the measured times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// The leap indicator.
    pub leap: Leap,
    /// The poll interval in the reply, log2 seconds.
    pub poll: i8,
    /// Precision of the server's clock, log2 seconds.
    pub precision: i8,
    /// The server's round trip to the primary reference.
    pub root_delay: f64,
    /// The server's dispersion to the primary reference.
    pub root_dispersion: f64,
    /// When the server's clock was last corrected, by that clock.
    pub reference_time: NtpTimestamp,
    /// When the server sent the reply (T3), by its clock.
    pub transmit: NtpTimestamp,
    /// The local address at which the reply arrived.
    pub local: Option<IpAddr>,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleSnapshot {
    /// This clock minus the source's.
    pub offset: f64,
    /// Round trip.
    pub delay: f64,
    /// The uncertainty in addition to half of the delay, grown until now.
    pub dispersion: f64,
}

/// The state of a source after selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// The name does not resolve.
    Unresolved,
    /// No answer in the last eight polls.
    Unreachable,
    /// Too few samples yet.
    Measuring,
    /// It answers, but is not usable.
    Unusable,
    /// It contradicts the majority.
    Falseticker,
    /// No majority of sources agrees.
    NoMajority,
    /// Its interval is not within the intervals of the trusted sources.
    Untrusted,
    /// Measured only, because of the option noselect.
    Noselect,
    /// It agrees with the majority, but is not combined.
    Agreeing,
    /// It agrees with the majority, and is combined with the selected source.
    Combined,
    /// It is the selected source.
    Selected,
}
