//! The kernel's status of the clock (adjtimex), which every program can read: synchronised or not, largest and estimated
//! error, leap second, TAI. Also the status that the kernel keeps when the engine ends.
//!
//! Programs read it differently: node_exporter's node_timex_sync_status is STA_UNSYNC, its standard alert also requires
//! a maxerror of 16 s, and timedatectl reads only maxerror. So STA_UNSYNC and maxerror are always consistent here.
use crate::{Action, Leap, LeapMode, Mono, Now, Reason, engine::Engine};

/// The status that the kernel got last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KernelStatus {
    /// Synchronised, leap second, and when.
    status: Option<(bool, Leap, Mono)>,
    /// TAI minus UTC.
    tai: Option<i32>,
}

/// The kernel adds 500 µs to maxerror each second, so it gets the status this often, seconds.
const INTERVAL: f64 = 1.0;

/// A second between two wake-ups is rarely a whole one.
const SLACK: f64 = 0.05;

/// Both errors while unsynchronised, seconds: the most that can be said (NTP_PHASE_LIMIT in the kernel's timex.h). At
/// this value the kernel sets STA_UNSYNC itself, and it goes there when any program sets the clock (ntp_clear).
const UNKNOWN_ERROR: f64 = 16.0;

impl Engine {
    /// Tells the kernel a changed status at once, and an unchanged one each second while synchronised.
    pub(super) fn tell_kernel(
        &mut self,
        synchronized: bool,
        reason: Reason,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        // A possible jump is decided in the next comparison. If it is one, the kernel has reset its status itself.
        if self.keeps_former_status(reason) || self.recovery.clocks().unnoticed(now) {
            return;
        }
        let leap = self.kernel_leap(synchronized);
        // At each step, also the engine's own, the kernel resets its status.
        let forgotten = actions.iter().any(|action| matches!(action, Action::Step { .. }));
        let due = self.announced.kernel.status.is_none_or(|(sent, sent_leap, at)| {
            sent != synchronized || sent_leap != leap || synchronized && now.mono - at >= INTERVAL - SLACK
        });
        if due || forgotten {
            self.announced.kernel.status = Some((synchronized, leap, now.mono));
            actions.push(self.status(synchronized, leap, now));
        }
        if synchronized {
            self.tell_tai(now, actions);
        }
    }

    /// Returns true if the kernel keeps the status of the agent before. After a restart maxerror grows as it should, so the
    /// node need not count as unsynchronised for the seconds that a measurement takes.
    fn keeps_former_status(&self, reason: Reason) -> bool {
        let silent = self.announced.kernel.status.is_none();
        silent && reason == Reason::Starting && self.discipline.boot.synchronized
    }

    /// Sets the kernel's frequency without a slew, and the true status. The frequency is saved afterwards: the kernel
    /// continues the slew until its frequency is set, and a disk can take a second.
    pub(super) fn hand_back(&mut self, now: Now, actions: &mut Vec<Action>) {
        actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        actions.extend(self.final_status(now));
        actions.extend(self.discipline.drift(self.clock.base_ppm()).map(Action::SaveDrift));
    }

    /// Returns the status that the kernel keeps: that of this moment. The kernel adds 500 ppm to maxerror until it sets
    /// STA_UNSYNC, after nine hours at most. No leap second: no program would be there to take it back.
    fn final_status(&mut self, now: Now) -> Option<Action> {
        let (synchronized, reason) = self.judged(now);
        if self.keeps_former_status(reason) {
            return None;
        }
        self.announced.kernel = KernelStatus::default();
        Some(self.status(synchronized && !self.recovery.clocks().unnoticed(now), Leap::None, now))
    }

    fn status(&self, synchronized: bool, leap: Leap, now: Now) -> Action {
        let unknown = (UNKNOWN_ERROR, UNKNOWN_ERROR);
        let errors = self.errors(now).filter(|_| synchronized);
        let (max_error, estimated_error) = errors.unwrap_or(unknown);
        Action::SetStatus { synchronized, leap, max_error, estimated_error }
    }

    /// Returns the largest and the estimated error, seconds. The estimated one grows while no answer comes, as the
    /// frequency is uncertain.
    fn errors(&self, now: Now) -> Option<(f64, f64)> {
        let (bound, reference) = (self.error_bound(now)?, self.discipline.reference?);
        let noise = reference.offset_error + (now.mono - reference.at).max(0.0) * reference.skew;
        Some((bound, self.offset(now)?.abs().max(noise).min(bound)))
    }

    /// The leap second that the kernel is to carry out.
    fn kernel_leap(&self, synchronized: bool) -> Leap {
        match self.config.leap {
            LeapMode::Kernel => self.indicator(synchronized),
            LeapMode::Step | LeapMode::Slew | LeapMode::Ignore => Leap::None,
        }
    }

    /// Tells the kernel how far TAI is ahead of UTC, when that is known and has changed.
    fn tell_tai(&mut self, now: Now, actions: &mut Vec<Action>) {
        let tai = self.leap_table.as_ref().and_then(|table| table.tai_minus_utc(now.wall));
        if let Some(seconds) = tai.filter(|tai| self.announced.kernel.tai != Some(*tai)) {
            self.announced.kernel.tai = Some(seconds);
            actions.push(Action::SetTai { seconds });
        }
    }
}
