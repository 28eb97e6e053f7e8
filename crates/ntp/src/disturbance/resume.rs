//! The machine stood still: asleep, as the platform tells, or held without noticing, which only the sources can tell.
//! Sleeps and answers go in; the clock counts as unsynchronised until it was measured anew. Moves nothing.
//!
//! That the sources can bring about a step is what CVE-2015-5300 was about, so: only a majority of those that agreed
//! with us can, all at once while we were synchronised, by more than an hour of slewing, within `max_change`, told
//! twice (the second time by fresh samples alone), and once in ten minutes.
use crate::{
    Action, Now, Pause, SourceId, SourceState, Transition, disturbance::aftermath::Halt, engine::Engine,
    measure::discipline::Reference, source::association::Association,
};

/// Some of the sources that agreed with us say that we stood still.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    since: Now,
    /// What we went by.
    reference: Reference,
    /// Those who agreed with us.
    agreed: Vec<SourceId>,
}

/// So long doubts last, seconds: a source that is not reached any more has left the vote by then.
const LONGEST_DOUBT: f64 = 600.0;

/// Others are asked early because of a doubt once in so many seconds, else one liar could have them flooded by us.
const ASK_INTERVAL: f64 = 64.0;

/// Requests that are sent early to each.
const ASK: u8 = 2;

/// What cannot be slewed away in so many seconds is stepped.
const SLEWING: f64 = 3600.0;

impl Engine {
    /// The platform tells that the node was asleep for so many seconds, by which the system clock was set on.
    pub(crate) fn slept(&mut self, asleep: f64, now: Now, actions: &mut Vec<Action>) {
        self.jumps.slept(asleep);
        self.clock.shift(asleep);
        actions.push(Action::Announce(Transition::Resumed(Pause::Asleep { seconds: asleep })));
        let starting = self.starting(now);
        // What was followed before says nothing of a clock that did not run.
        self.lose_time(now, actions);
        if !starting {
            self.jumps.open.get_or_insert_default().halt = Some(Halt::Asleep);
        }
    }

    /// Looks whether the sources say, all at once, that this clock stood still or was set on.
    pub(crate) fn doubt(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.jumps.open.is_some() {
            return;
        }
        let limit = self.unslewable();
        if self.jumps.doubt.as_ref().is_some_and(|doubt| now.mono - doubt.since.mono > LONGEST_DOUBT) {
            self.jumps.doubt = None;
        }
        if self.jumps.doubt.is_none() {
            self.jumps.doubt = self.begin_doubt(limit, now);
        }
        let Some(doubt) = &self.jumps.doubt else { return };
        let agreed = || self.associations.iter().filter(|a| doubt.agreed.contains(&a.id));
        let all = agreed().count();
        let against = agreed().filter(|a| deviates(a, &doubt.reference, limit, now)).count();
        let since = self.clock.corrected(doubt.since.wall);
        let heard = |a: &&Association| a.history.newest().is_some_and(|sample| sample.at > since);
        let with = agreed().filter(heard).filter(|a| !deviates(a, &doubt.reference, limit, now)).count();
        if 2 * against > all && against >= self.config.min_sources {
            self.lose_time(now, actions);
            self.jumps.open.get_or_insert_default().halt = Some(Halt::Unseen { told: false });
        } else if 2 * with >= all {
            self.jumps.doubt = None;
        }
    }

    /// A doubt, if we are synchronised and one of those who agreed with us now says something else.
    fn begin_doubt(&mut self, limit: f64, now: Now) -> Option<Doubt> {
        let reference = self.discipline.reference.filter(|reference| !reference.local)?;
        let agreeing = [SourceState::Selected, SourceState::Combined, SourceState::Agreeing];
        let agrees = |a: &&Association| a.reach != 0 && agreeing.contains(&a.standing.0);
        let doubts = self.associations.iter().filter(agrees).any(|a| deviates(a, &reference, limit, now));
        if !doubts || !self.judged(now).0 {
            return None;
        }
        let agreed = self.associations.iter().filter(agrees).map(|a| a.id).collect();
        if self.jumps.asked.is_none_or(|asked| now.mono - asked >= ASK_INTERVAL) {
            self.jumps.asked = Some(now.mono);
            for association in &mut self.associations {
                association.schedule.hurry(ASK, now.mono);
            }
        }
        Some(Doubt { since: now, reference, agreed })
    }

    /// What takes longer to slew away, seconds.
    pub(crate) fn unslewable(&self) -> f64 {
        (SLEWING * self.config.max_slew_rate).max(self.config.step_threshold)
    }
}

/// Whether the newest answer is farther from what we go by than a slew could correct, whatever its delay.
fn deviates(association: &Association, reference: &Reference, limit: f64, now: Now) -> bool {
    association.history.newest().is_some_and(|sample| {
        let known = reference.root_delay / 2.0 + reference.root_dispersion_at(now.mono);
        let apart = (sample.offset - reference.offset_at(now.mono)).abs();
        apart > limit + known + sample.root_distance()
    })
}
