//! A hardware clock of this machine as a source (`Upstream::Device`). Readings by the caller go in; samples like those
//! of servers come out.
//!
//! A device counts as stratum 0 with correct UTC, so a node that follows it has stratum 1. A PTP clock does not show
//! whether it runs on TAI. One that does is off by 37 s, and loses any vote against servers.
use crate::{
    Leap, Mono, NtpTimestamp, Wall,
    source::{
        association::Association,
        filter::{PRECISION, Sample},
        reply::{Rejection, Server},
    },
    wire::packet::reference_id_of,
};

/// The reference id in this node's replies while it follows a device, as for a reference clock (RFC 5905 §7.3).
const REFERENCE_ID: [u8; 4] = *b"PHC0";

/// The server data of a device.
const SERVER: Server = Server { leap: Leap::None, stratum: 0, reference_id: REFERENCE_ID };

/// One comparison: at `at` corrected time was ahead of the device by `offset` ± `dispersion`, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Wall,
    pub(crate) offset: f64,
    pub(crate) dispersion: f64,
}

impl Association {
    /// Returns true if the source can be asked: it is a device, or it has an address that may be a server, and the keys
    /// that it needs.
    pub(crate) fn placed(&self) -> bool {
        self.device || self.address.is_some() && !self.is_forbidden() && self.proof.ready()
    }

    /// The reference id in this node's replies while it follows this source.
    pub(crate) fn reference_id(&self) -> Option<[u8; 4]> {
        if self.device { Some(REFERENCE_ID) } else { self.address.map(reference_id_of) }
    }

    /// Takes a reading of the device; `None` if the reading cannot be trusted. Returns true if it gave a sample.
    pub(crate) fn measured(&mut self, reading: Option<Reading>, now: Mono) -> bool {
        self.request = None;
        let Some(reading) = reading else { return false };
        match judge(reading) {
            Ok(sample) => {
                self.accept(SERVER, now);
                self.add(sample, now);
                true
            }
            Err(rejection) => {
                self.rejected += 1;
                (self.rejection, self.silent) = (Some(rejection), 0);
                false
            }
        }
    }
}

/// Makes a sample of the reading. Its delay is the window in which the device was read, like a round trip over a
/// network.
fn judge(reading: Reading) -> Result<Sample, Rejection> {
    let Reading { at, offset, dispersion } = reading;
    if !(offset.is_finite() && (0.0..=LARGEST_DISPERSION).contains(&dispersion)) {
        return Err(Rejection::Malformed);
    }
    if at.plus(-offset) < NtpTimestamp::EARLIEST {
        return Err(Rejection::Unset);
    }
    Ok(Sample {
        at,
        offset,
        delay: (2.0 * dispersion).max(PRECISION),
        dispersion: PRECISION,
        root_delay: 0.0,
        root_dispersion: 0.0,
    })
}

/// Largest dispersion of a usable reading, seconds.
const LARGEST_DISPERSION: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000_000_000);

    fn check(offset: f64, dispersion: f64, expected: Option<Rejection>) {
        let judged = judge(Reading { at: NOW, offset, dispersion });
        assert_eq!(judged.err(), expected, "{offset} {dispersion}");
    }

    #[test]
    fn a_device_that_was_never_set_is_not_selected() {
        check(0.0, 1e-6, None);
        check(-37.0, 0.0, None);
        check(1.8e9, 1e-6, Some(Rejection::Unset));
        check(0.9e9, 1e-6, Some(Rejection::Unset));
        check(0.8e9, 1e-6, None);
        check(f64::NAN, 1e-6, Some(Rejection::Malformed));
        check(f64::INFINITY, 1e-6, Some(Rejection::Malformed));
        check(0.0, -1e-6, Some(Rejection::Malformed));
        check(0.0, f64::NAN, Some(Rejection::Malformed));
        check(0.0, 1.0, Some(Rejection::Malformed));
    }

    #[test]
    fn the_window_is_the_delay() {
        let sample = judge(Reading { at: NOW, offset: 1e-3, dispersion: 4e-6 }).expect("a good reading");
        assert_eq!((sample.offset, sample.delay, sample.root_delay), (1e-3, 8e-6, 0.0));
        assert!((sample.root_distance() - 4e-6 - PRECISION).abs() < 1e-12);
    }
}
