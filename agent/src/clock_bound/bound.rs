//! The values in the segment, in the protocol's units, and how they follow from the engine's snapshot.
use ntp::{Reason, Snapshot};

/// The first word spells AMZN.
pub(super) const MAGIC: [u32; 2] = [0x414d_5a4e, 0x4342_0200];
/// The version of the protocol.
pub(super) const VERSION: u16 = 2;

/// The values for readers, in the protocol's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// When the bound was valid, by CLOCK_MONOTONIC_COARSE, nanoseconds.
    pub(super) as_of_ns: i64,
    /// Largest error of the clock, nanoseconds.
    pub(super) bound_ns: i64,
    /// How fast it grows, parts per billion.
    pub(super) max_drift_ppb: u32,
    /// Whether it can be trusted.
    pub(super) status: Status,
}

/// Whether the bound can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The clock is not synchronised, or only with a local clock.
    Unknown = 0,
    /// It is synchronised.
    Synchronized = 1,
    /// No upstream is reached, and the bound grows.
    FreeRunning = 2,
}

impl Bound {
    /// The values of a snapshot that was taken at `as_of_ns`.
    pub(super) fn of(snapshot: &Snapshot, as_of_ns: i64) -> Self {
        let status = match (snapshot.synchronized, snapshot.reason) {
            (true, Reason::Holdover) => Status::FreeRunning,
            // The bound is that of a local clock's time, whose distance from UTC is unknown.
            (true, Reason::LocalReference | Reason::LocalClock) | (false, _) => Status::Unknown,
            (true, _) => Status::Synchronized,
        };
        let drift = snapshot.bound_growth() * 1e9;
        let max_drift_ppb = drift.ceil().clamp(1.0, LARGEST_DRIFT) as u32;
        // Readers measure the age by a clock that may lag.
        let bound = snapshot.error_bound.map(|bound| bound * 1e9 + f64::from(max_drift_ppb) * COARSE);
        let bound_ns = bound.map_or(LARGEST_BOUND, |bound| bound.ceil().clamp(0.0, LARGEST_BOUND)) as i64;
        Self { as_of_ns, bound_ns, max_drift_ppb, status }
    }
}

/// One tick of the slowest kernel (HZ 100), seconds.
const COARSE: f64 = 0.01;

/// Readers refuse 10^9 and more.
const LARGEST_DRIFT: f64 = 999_999_999.0;

/// About 30 years, nanoseconds: too large to mean anything, and small enough for a reader to add it to the time.
const LARGEST_BOUND: f64 = 1e18;
