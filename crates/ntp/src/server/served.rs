//! The values that all replies have in common: a snapshot of the engine goes in; the fields of replies come out.
use crate::{Leap, Reason, Snapshot, Wall};

/// The quality of this clock at one moment, for replies. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// `Unknown` for a clock that is not synchronised.
    pub leap: Leap,
    /// 1 to 15; 16 for a clock that is not synchronised.
    pub stratum: u8,
    /// The reference id in packets.
    pub reference_id: [u8; 4],
    /// When the clock was last corrected.
    pub reference_time: Option<Wall>,
    /// Round trip to the primary reference.
    pub root_delay: f64,
    /// Dispersion to the primary reference, at `since`.
    pub root_dispersion: f64,
    /// The moment for which the values hold.
    pub since: Wall,
    /// How fast the dispersion grows, seconds per second.
    pub dispersion_rate: f64,
    /// Precision of the clock, log2 seconds.
    pub precision: i8,
}

/// log2 of the precision of a reading of the clock: about 60 ns, the duration of a reading on usual machines.
const PRECISION: i8 = -24;

impl Served {
    /// An unsynchronised clock: LI 3, stratum 0 in packets, `INIT` (RFC 5905 §7.4).
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

    /// The values to serve for `snapshot`. A local clock is served as its own reference, without delay and dispersion,
    /// so that its clients agree with it while there is no upstream.
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
                // The known offset, which is still to be slewed, is part of a client's possible error.
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

    /// The leap indicator in replies.
    pub(crate) fn indicator(&self) -> Leap {
        if self.stratum < 16 { self.leap } else { Leap::Unknown }
    }

    /// The dispersion at `now`. If the clock was set back, it does not grow.
    pub(crate) fn dispersion_at(&self, now: Wall) -> f64 {
        self.root_dispersion + self.dispersion_rate * (now - self.since).max(0.0)
    }
}
