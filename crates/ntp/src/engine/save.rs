//! Samples that outlive a restart: when the engine saves them, and how sources get them back.
use crate::{Action, Mode, Now, Samples, SavedSample, SourceSamples, engine::Engine, source::filter::Sample};

/// Longest time between two savings, seconds: what an agent that is killed loses.
const SAVE_INTERVAL: f64 = 300.0;

/// The first is sooner, and each later one comes after twice the time: an agent that is killed in its first minutes, in
/// the middle of a slew, leaves the clock with the slew's frequency, and the next one must know which one is right.
pub(crate) const FIRST_SAVE: f64 = 10.0;

impl Engine {
    /// Gives sources their samples from before the restart, as soon as they have their address.
    pub(super) fn restore_samples(&mut self) {
        if self.recalled.is_empty() {
            return;
        }
        for association in &mut self.associations {
            association.recall(&mut self.recalled);
        }
    }

    /// Saves the samples, if that is due.
    pub(super) fn save_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.next_save > now.mono {
            return;
        }
        let save = self.save_samples(now);
        if save.is_some() {
            self.next_save = now.mono.plus(self.save_pause);
            self.save_pause = (2.0 * self.save_pause).min(SAVE_INTERVAL);
        }
        actions.extend(save);
    }

    /// Returns the action that saves the samples; `None` in Observe, and until the clock's rate is known.
    pub(super) fn save_samples(&self, now: Now) -> Option<Action> {
        let drift = self.discipline.drift(self.clock.base_ppm())?;
        let jumped = self.recovery.clocks().unnoticed(now);
        if self.config.mode == Mode::Observe || self.discipline.reference.is_none() || jumped {
            return None;
        }
        // Corrected time is ahead of the system clock by this; for the next engine the two are the same.
        let pending = self.clock.pending(now.wall);
        let saved = |sample: &Sample| SavedSample {
            at: sample.at.plus(-pending),
            offset: sample.offset - pending,
            delay: sample.delay,
            dispersion: sample.dispersion,
            root_delay: sample.root_delay,
            root_dispersion: sample.root_dispersion,
        };
        let sources = self.associations.iter().filter_map(|association| {
            let (asked, server) = (association.asked()?, association.server?);
            Some(SourceSamples {
                name: association.source.name.clone(),
                asked,
                leap: server.leap,
                stratum: server.stratum,
                reference_id: server.reference_id,
                samples: association.history.samples().map(saved).collect(),
            })
        });
        let sources = sources.filter(|source| !source.samples.is_empty()).collect();
        Some(Action::SaveSamples { samples: Samples { drift, sources }, at: now })
    }
}
