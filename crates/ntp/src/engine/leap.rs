//! Leap seconds: what the engine does at the moment itself.
use crate::{
    Action, LeapMode, Mode, Now, Transition, clock::leap::LeapSecond, engine::Engine,
    source::association::Association,
};

/// The kernel's leap second may be late by this time, seconds: it comes with a tick of the kernel's clock.
const KERNEL_DELAY: f64 = 2.0;

impl Engine {
    /// Returns true if a jump of `moved` nanoseconds is the kernel's leap second, and takes account of it.
    pub(super) fn kernel_leapt(&mut self, moved: i64, now: Now, actions: &mut Vec<Action>) -> bool {
        if self.config.mode == Mode::Discipline && self.config.leap != LeapMode::Kernel {
            return false;
        }
        let Some(second) = self.leap.explaining(moved, now.wall) else { return false };
        self.clock.shift(second.by);
        self.leap_over(second, actions);
        true
    }

    /// Carries out a leap second when it is due. Returns the time by the clock afterwards, and whether stamps from before
    /// are still valid.
    pub(super) fn leap(&mut self, now: Now, actions: &mut Vec<Action>) -> (Now, bool) {
        let Some(second) = self.leap.due(now.wall) else { return (now, true) };
        let awaited = self.config.mode == Mode::Observe || self.config.leap == LeapMode::Kernel;
        if awaited && now.wall - second.at < KERNEL_DELAY {
            return (now, true);
        }
        if awaited || self.config.leap == LeapMode::Ignore {
            // True time moved and this clock did not. It is off by that until it is corrected.
            if let Some(reference) = &mut self.discipline.reference {
                reference.offset -= second.by;
            }
            // Samples from before do not show it.
            for association in &mut self.associations {
                association.fresh = false;
            }
            self.leap.finish(second);
            return (now, true);
        }
        let mut now = now;
        if self.config.leap == LeapMode::Step {
            self.clock.shift(second.by);
            self.recovery.stepping(second.by);
            now.wall = now.wall.plus(second.by);
            actions.push(Action::Step { by: second.by });
        } else {
            self.clock.add_pending(now, second.by);
            actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        }
        self.leap_over(second, actions);
        (now, false)
    }

    /// Moves all samples along, and announces the leap second.
    fn leap_over(&mut self, second: LeapSecond, actions: &mut Vec<Action>) {
        for association in &mut self.associations {
            association.history.shift(second.by);
        }
        for recalled in &mut self.recalled {
            recalled.history.shift(second.by);
        }
        // Answers on their way have stamps from before and after.
        actions.extend(self.associations.iter_mut().filter_map(Association::break_off));
        if let Some(reference) = &mut self.discipline.reference {
            reference.time = reference.time.plus(second.by);
        }
        self.leap.finish(second);
        actions.push(Action::Announce(Transition::LeapSecond { by: second.by }));
    }
}
