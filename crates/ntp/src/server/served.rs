//! What replies say of our clock: a snapshot of the engine in, the fields that all replies have in common out.
use crate::{Leap, Reason, Snapshot, Wall};

/// What is served: our clock's quality at a moment. Seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// `Unknown` for a clock that is not synchronised.
    pub leap: Leap,
    /// 1 to 15; 16 for a clock that is not synchronised.
    pub stratum: u8,
    /// As it stands in packets.
    pub reference_id: [u8; 4],
    /// When the clock was last corrected.
    pub reference_time: Option<Wall>,
    /// Round trip to the primary reference.
    pub root_delay: f64,
    /// Dispersion to the primary reference, at `since`.
    pub root_dispersion: f64,
    /// When this was so.
    pub since: Wall,
    /// How fast the dispersion grows, seconds per second.
    pub dispersion_rate: f64,
    /// Precision of the clock, log2 seconds.
    pub precision: i8,
}

/// log2 of what a reading of the clock is good for: about 60 ns, a reading's cost on the machines that we know.
const PRECISION: i8 = -24;

impl Served {
    /// A clock of which nothing is known: LI 3, stratum 0 on the wire, `INIT` (RFC 5905 §7.4).
    pub const UNSYNCHRONIZED: Self = Self {
        leap: Leap::Unknown,
        stratum: 16,
        reference_id: *b"INIT",
        reference_time: None,
        root_delay: 0.0,
        root_dispersion: 0.0,
        since: Wall(0),
        dispersion_rate: 0.0,
        precision: PRECISION,
    };

    /// What to serve in the state of `snapshot`. A local clock is served as its own reference, without delay and
    /// dispersion: whoever follows it agrees with it for as long as no upstream is there.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        if snapshot.reason == Reason::LocalClock {
            return Self {
                leap: Leap::None,
                stratum: snapshot.stratum,
                reference_id: snapshot.reference_id,
                reference_time: Some(snapshot.at),
                since: snapshot.at,
                ..Self::UNSYNCHRONIZED
            };
        }
        if snapshot.synchronized && snapshot.stratum < 16 && snapshot.leap != Leap::Unknown {
            return Self {
                leap: snapshot.leap,
                stratum: snapshot.stratum,
                reference_id: snapshot.reference_id,
                reference_time: snapshot.reference_time,
                root_delay: snapshot.root_delay,
                // What this clock is known to be off, and is still to be slewed, is part of what a client may err.
                root_dispersion: snapshot.root_dispersion + snapshot.offset.unwrap_or(0.0).abs(),
                since: snapshot.at,
                dispersion_rate: snapshot.dispersion_rate,
                precision: PRECISION,
            };
        }
        Self {
            root_delay: snapshot.root_delay,
            root_dispersion: snapshot.root_dispersion,
            since: snapshot.at,
            dispersion_rate: snapshot.dispersion_rate,
            ..Self::UNSYNCHRONIZED
        }
    }

    /// The leap indicator that clients are told.
    pub(crate) fn indicator(&self) -> Leap {
        if self.stratum < 16 { self.leap } else { Leap::Unknown }
    }

    /// The dispersion at `now`; a clock that went back since adds nothing.
    pub(crate) fn dispersion_at(&self, now: Wall) -> f64 {
        self.root_dispersion + self.dispersion_rate * (now - self.since).max(0.0)
    }
}
