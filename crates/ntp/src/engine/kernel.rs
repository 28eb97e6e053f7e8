//! What the kernel is told of its clock, and so every program that asks it (adjtimex): synchronised or not, largest and
//! estimated error, leap second, TAI. And what it is left with when we look after the clock no more.
//!
//! Readers differ: node_exporter's node_timex_sync_status is STA_UNSYNC, its stock alert asks for a maxerror of 16 s
//! too, and timedatectl looks at maxerror alone. So both say the same here.
use crate::{Action, Leap, LeapMode, Mono, Now, Reason, engine::Engine};

/// What the kernel was told last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Synchronised, leap second, and when.
    status: Option<(bool, Leap, Mono)>,
    /// TAI minus UTC.
    tai: Option<i32>,
}

/// The kernel adds 500 µs to maxerror each second, so it hears from us this often, seconds.
const INTERVAL: f64 = 1.0;

/// A second between two wake-ups is rarely a whole one.
const SLACK: f64 = 0.05;

/// Both errors while unsynchronised, seconds: the most that can be said (NTP_PHASE_LIMIT in the kernel's timex.h). At
/// this the kernel sets STA_UNSYNC itself, and it goes there by itself when somebody sets the clock (ntp_clear).
const UNKNOWN_ERROR: f64 = 16.0;

impl Engine {
    /// Tells what is new, at once; while synchronised all of it each second.
    pub(super) fn tell_kernel(
        &mut self,
        synchronized: bool,
        reason: Reason,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        // What looks like a jump is decided about in a moment; if it is one, the kernel knows already.
        if self.kernel_speaks_for_us(reason) || self.recovery.clocks().unnoticed(now) {
            return;
        }
        let leap = self.kernel_leap(synchronized);
        // By a step, ours too, the kernel forgets what it was told.
        let forgotten = actions.iter().any(|action| matches!(action, Action::Step { .. }));
        let due = self.announced.kernel.status.is_none_or(|(told, told_leap, at)| {
            told != synchronized || told_leap != leap || synchronized && now.mono - at >= INTERVAL - SLACK
        });
        if due || forgotten {
            self.announced.kernel.status = Some((synchronized, leap, now.mono));
            actions.push(self.status(synchronized, leap, now));
        }
        if synchronized {
            self.tell_tai(now, actions);
        }
    }

    /// After a restart of the agent the kernel still holds what the last one said, and maxerror grows honestly: the
    /// node need not count as unsynchronised for the seconds that a measurement takes.
    fn kernel_speaks_for_us(&self, reason: Reason) -> bool {
        let silent = self.announced.kernel.status.is_none();
        silent && reason == Reason::Starting && self.discipline.boot.synchronized
    }

    /// Leaves the kernel the frequency without a slew, and the truth; then keeps the frequency on disk, since the kernel
    /// slews on until it is told, and a disk can take a second.
    pub(super) fn hand_back(&mut self, now: Now, actions: &mut Vec<Action>) {
        actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        actions.extend(self.last_words(now));
        actions.extend(self.discipline.drift(self.clock.base_ppm()).map(Action::SaveDrift));
    }

    /// What the kernel is to be left with: the truth of this moment, which it makes larger by 500 ppm until it is worth
    /// nothing, after nine hours at most. No leap second: nobody would be there to see that it is the right one.
    fn last_words(&mut self, now: Now) -> Option<Action> {
        let (synchronized, reason) = self.judged(now);
        if self.kernel_speaks_for_us(reason) {
            return None;
        }
        self.announced.kernel = Told::default();
        Some(self.status(synchronized && !self.recovery.clocks().unnoticed(now), Leap::None, now))
    }

    fn status(&self, synchronized: bool, leap: Leap, now: Now) -> Action {
        let unknown = (UNKNOWN_ERROR, UNKNOWN_ERROR);
        let errors = self.errors(now).filter(|_| synchronized);
        let (max_error, estimated_error) = errors.unwrap_or(unknown);
        Action::SetStatus { synchronized, leap, max_error, estimated_error }
    }

    /// Largest error and the likely one, seconds. The likely one grows while nothing is heard, as the frequency is
    /// uncertain.
    fn errors(&self, now: Now) -> Option<(f64, f64)> {
        let (bound, reference) = (self.error_bound(now)?, self.discipline.reference?);
        let noise = reference.offset_error + (now.mono - reference.at).max(0.0) * reference.skew;
        Some((bound, self.offset(now)?.abs().max(noise).min(bound)))
    }

    /// The leap second that the kernel is to do.
    fn kernel_leap(&self, synchronized: bool) -> Leap {
        match self.config.leap {
            LeapMode::Kernel => self.indicator(synchronized),
            LeapMode::Step | LeapMode::Slew | LeapMode::Ignore => Leap::None,
        }
    }

    /// Tells how far TAI is ahead, when that is known and has changed.
    fn tell_tai(&mut self, now: Now, actions: &mut Vec<Action>) {
        let tai = self.leap_table.as_ref().and_then(|table| table.tai_minus_utc(now.wall));
        if let Some(seconds) = tai.filter(|tai| self.announced.kernel.tai != Some(*tai)) {
            self.announced.kernel.tai = Some(seconds);
            actions.push(Action::SetTai { seconds });
        }
    }
}
