//! Values of a source that only queries (mode 6) show.
use std::net::IpAddr;

use crate::{
    Auth, Heard, Now, SampleSnapshot, SourceDetail,
    clock::slew::Clock,
    source::{association::Association, reply::Rejection},
    wire::packet::{self, Header},
};

/// The number of samples that are shown: the size of ntpd's clock filter.
const SHOWN: usize = 8;

impl Association {
    /// Keeps the header fields of a valid reply.
    pub(super) fn hear(&mut self, datagram: &[u8], local: Option<IpAddr>) {
        self.heard = packet::decode(datagram).ok().map(|header| {
            let Header {
                leap, poll, precision, root_delay, root_dispersion, reference_time, transmit, ..
            } = header;
            let (root_delay, root_dispersion) = (root_delay.seconds(), root_dispersion.seconds());
            Heard { leap, poll, precision, root_delay, root_dispersion, reference_time, transmit, local }
        });
    }

    /// The values at `now`.
    pub(crate) fn detail(&self, clock: &Clock, now: Now) -> SourceDetail {
        let (at, pending) = (clock.corrected(now.wall), clock.pending(now.wall));
        let skew = self.history.estimate().map_or(0.0, |estimate| estimate.bounded_skew());
        let samples = self.history.newest_first().take(SHOWN).map(|sample| SampleSnapshot {
            offset: sample.offset - pending,
            delay: sample.delay,
            dispersion: sample.dispersion + (at - sample.at).max(0.0) * skew,
        });
        let best = self.history.estimate().map(|estimate| &estimate.best).or(self.history.newest());
        SourceDetail {
            host: self.host.clone(),
            port: self.port,
            device: self.device,
            authenticated: self.source.auth != Auth::None,
            cookies: None,
            heard: self.heard,
            samples: samples.collect(),
            dispersion: best.map(|best| best.dispersion + (at - best.at).max(0.0) * skew),
            unanswered: self.unanswered,
            flash: self.flash(),
            next_poll: (self.schedule.next() - now.mono).max(0.0),
            reach_age: now.mono - self.reach_changed,
            stray: self.stray,
            unauthentic: self.unauthentic,
        }
    }

    /// The tests that its last reply failed, as ntpd's bits.
    fn flash(&self) -> u16 {
        let rejection = match self.rejection {
            None | Some(Rejection::Stray) => 0,
            Some(Rejection::Malformed | Rejection::Unset | Rejection::Backwards | Rejection::Impossible) => {
                0x0040
            }
            Some(Rejection::Unsynchronized | Rejection::Kiss(_)) => 0x0020,
            Some(Rejection::TooFar | Rejection::TooSlow) => 0x0400,
            Some(Rejection::Loop | Rejection::OwnAddress | Rejection::OwnAnswer | Rejection::NoServer) => {
                0x0800
            }
            Some(Rejection::Unreadable) => UNREACHABLE,
        };
        let bit = |bit, holds| if holds { bit } else { 0 };
        rejection
            | bit(0x0008, self.denied)
            | bit(0x0010, self.proof.why.is_some())
            | bit(UNREACHABLE, self.reach == 0)
    }
}

/// TEST13 of ntpd.
const UNREACHABLE: u16 = 0x1000;
