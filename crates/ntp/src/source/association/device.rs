//! A clock of this machine as a source (`Upstream::Device`): readings in, the same samples out that servers' answers
//! become. Readings are made by the caller; here is what one says.
//!
//! A device is taken at its word: it is UTC, right, and stratum 0, so that who follows it is stratum 1. Nothing in a
//! PTP clock tells that it runs on TAI instead: such a one is off by 37 s, and loses any vote against servers.
use crate::{
    Leap, Mono, NtpTimestamp, Wall,
    source::{
        association::Association,
        filter::{PRECISION, Sample},
        reply::{Rejection, Server},
    },
    wire::packet::reference_id_of,
};

/// What a device is called in our answers, as a reference clock of stratum 1 names itself (RFC 5905 §7.3).
const REFERENCE_ID: [u8; 4] = *b"PHC0";

/// How a device shows itself.
const SERVER: Server = Server { leap: Leap::None, stratum: 0, reference_id: REFERENCE_ID };

/// One comparison: at `at` corrected time was ahead of the device by `offset`, give or take `dispersion`, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Wall,
    pub(crate) offset: f64,
    pub(crate) dispersion: f64,
}

impl Association {
    /// Whether it is known whom or what to ask, its address may be a server, and the keys to ask with are there.
    pub(crate) fn placed(&self) -> bool {
        self.device || self.address.is_some() && !self.is_forbidden() && self.proof.ready()
    }

    /// How it stands in our answers if we follow it.
    pub(crate) fn reference_id(&self) -> Option<[u8; 4]> {
        if self.device { Some(REFERENCE_ID) } else { self.address.map(reference_id_of) }
    }

    /// The device was read; none if the reading cannot be trusted. Answers whether a sample came of it.
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

/// The reading as a sample. Its delay is the window in which the device was read, as if it were asked over a network.
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

/// A reading that took longer says too little, seconds.
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
    fn a_device_that_nobody_has_set_is_not_followed() {
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
