//! Detects another program that steers the clock: compares the kernel's state with the values that the agent wrote
//! last. Two programs must not steer one clock. When another one is detected, the caller only observes. It steers again
//! when no other program has written for some time. This file decides, and moves nothing.
//!
//! Changes that the kernel makes by itself (kernel/time/ntp.c) are no sign of another program: maxerror grows, and at
//! 16 s the kernel sets STA_UNSYNC; each step and each change of the clocksource sets both; a leap second is applied
//! and stays armed; a slew by adjtime ends.
use crate::{Action, Config, Foreign, Mode, Mono};

/// The kernel's state of its clock (adjtimex).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTimex {
    /// By how much the clock is sped up, tick and frequency together, parts per million.
    pub frequency_ppm: f64,
    /// The rest of a slew by adjtime or by the PLL, seconds.
    pub slew: f64,
    /// True if STA_UNSYNC is not set.
    pub synchronized: bool,
    /// True if STA_INS or STA_DEL is set.
    pub leap: bool,
    /// True if STA_PLL, STA_FLL or a flag for a pulse per second is set.
    pub steered: bool,
    /// maxerror, seconds.
    pub max_error: f64,
}

/// The values that the agent wrote last, in the kernel's resolution. None before the first write.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Written {
    /// Frequency, tick and frequency together, parts per million.
    pub frequency_ppm: Option<f64>,
    /// Synchronised or not, whether a leap second is armed, and maxerror in seconds.
    pub status: Option<(bool, bool, f64)>,
}

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Another program steers: write nothing any more.
    Observe(Foreign),
    /// No other program steers any more: steer again.
    Steer,
}

/// The detection of other programs.
#[derive(Clone, Debug, Default)]
pub struct Rival {
    /// When the first sign was seen. A single sign may be chance.
    suspicion: Option<Mono>,
    /// Recent steps by other programs, and their sizes.
    steps: Vec<(Mono, f64)>,
    conflict: Option<Conflict>,
    /// When the last conflict ended, and the quiet time that it required.
    former: Option<(Mono, f64)>,
}

#[derive(Clone, Copy, Debug)]
struct Conflict {
    /// The sign, until the caller has stopped steering.
    leaving: Option<Foreign>,
    /// When another program wrote last.
    last: Mono,
    /// The time without foreign writes after which the conflict ends, seconds.
    quiet: f64,
    /// The kernel's state when it was last checked.
    seen: Option<(KernelTimex, Mono)>,
}

/// A second sign within this time, seconds, is not chance.
const CHANCE: f64 = 60.0;

/// The second sign must come at least this time, seconds, after the first, since two checks can follow each other
/// immediately.
const APART: f64 = 0.5;

/// A second step within this time, seconds, is a conflict (ten minutes).
const STEPS: f64 = 600.0;

/// After this time without foreign writes, seconds, the other program has ended. It is longer than a minute, since cron
/// runs every minute.
const QUIET: f64 = 75.0;

/// The same while a program that may be the other one still runs: chronyd writes every 1024 s at its longest poll.
const LONG_QUIET: f64 = 1200.0;

/// If a conflict begins within this time, seconds, after another one, its quiet time doubles. This is also the longest
/// quiet time.
const SOON: f64 = 3600.0;

/// Smaller differences of frequency are ignored, parts per million. The kernel's resolution is 1.5e-5 ppm, and no
/// program steers in smaller steps than this.
const SAME_PPM: f64 = 1e-3;

/// Smaller differences of maxerror are ignored, seconds. The kernel's resolution is a microsecond.
const SAME_ERROR: f64 = 2e-6;

/// The kernel adds this to maxerror every second (MAXFREQ), seconds.
const GROWTH: f64 = 500e-6;

/// Largest maxerror, seconds (NTP_PHASE_LIMIT). There the kernel sets STA_UNSYNC itself.
const LIMIT: f64 = 16.0;

/// A smaller rest of a slew counts as zero, seconds.
const NOTHING: f64 = 1e-9;

/// Two steps undo each other if their sum is at most this, seconds.
const UNDONE: f64 = 2.0;

impl Rival {
    /// Returns true if another program steers.
    pub fn steers(&self) -> bool {
        self.conflict.is_some()
    }

    /// The configuration in force: during a conflict the engine observes.
    pub fn in_force(&self, orders: &Config) -> Config {
        let mode = if self.steers() { Mode::Observe } else { orders.mode };
        Config { mode, ..orders.clone() }
    }

    /// Returns true if the caller may carry out the action. During a conflict nothing may touch the clock. Until the
    /// caller has stopped steering, the actions that end its own steering are permitted: the end of the slew, unless
    /// another program has set the frequency; and the kernel's status if the sign is a step, since a program that steps
    /// does not set the status.
    pub fn permits(&self, action: &Action) -> bool {
        let Some(conflict) = &self.conflict else { return true };
        match action {
            Action::SetFrequency { .. } => conflict.leaving.is_some_and(|sign| sign != Foreign::Frequency),
            Action::SetStatus { .. } => conflict.leaving == Some(Foreign::Step),
            Action::Step { .. } | Action::SetTai { .. } => false,
            _ => true,
        }
    }

    /// The caller has stopped steering.
    pub fn left(&mut self) {
        if let Some(conflict) = &mut self.conflict {
            conflict.leaving = None;
        }
    }

    /// Checks the kernel's state. Call it at least once a second, and before each write, which would hide a sign.
    /// `suspects`: a program that may be the other one still runs.
    pub fn look(
        &mut self,
        kernel: KernelTimex,
        written: &Written,
        suspects: bool,
        now: Mono,
    ) -> Option<Stance> {
        if self.conflict.is_some() {
            return self.watch(kernel, suspects, now);
        }
        let foreign = foreign(&kernel, written)?;
        let first = self.suspicion.filter(|first| now - *first <= CHANCE).unwrap_or(now);
        self.suspicion = Some(first);
        (now - first >= APART).then(|| self.begin(foreign, now))
    }

    /// Another program has stepped the clock by `by` seconds.
    pub fn stepped(&mut self, by: f64, now: Mono) -> Option<Stance> {
        if let Some(conflict) = &mut self.conflict {
            conflict.last = now;
            return None;
        }
        self.steps.retain(|(at, _)| now - *at <= STEPS);
        self.steps.push((now, by));
        let sum: f64 = self.steps.iter().map(|(_, by)| by).sum();
        // A step that undoes the one before is no conflict.
        let undone = self.steps.len() == 2 && sum.abs() <= UNDONE && by.abs() > UNDONE;
        (self.steps.len() >= 2 && !undone).then(|| self.begin(Foreign::Step, now))
    }

    /// Drops everything, since the engine does not steer.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn begin(&mut self, sign: Foreign, now: Mono) -> Stance {
        let again = self.former.filter(|(ended, _)| now - *ended <= SOON);
        let quiet = again.map_or(QUIET, |(_, before)| (2.0 * before).min(SOON));
        self.conflict = Some(Conflict { leaving: Some(sign), last: now, quiet, seen: None });
        (self.suspicion, self.steps) = (None, Vec::new());
        Stance::Observe(sign)
    }

    fn watch(&mut self, kernel: KernelTimex, suspects: bool, now: Mono) -> Option<Stance> {
        let conflict = self.conflict.as_mut()?;
        let before = conflict.seen.replace((kernel, now));
        if before.is_some_and(|(before, at)| changed(&before, &kernel, now - at)) {
            conflict.last = now;
        }
        let longer = if suspects { LONG_QUIET / QUIET } else { 1.0 };
        if now - conflict.last < (longer * conflict.quiet).min(SOON) {
            return None;
        }
        self.former = Some((now, conflict.quiet));
        self.conflict = None;
        Some(Stance::Steer)
    }
}

/// The sign of another program in the kernel's state. If maxerror fell by less than the kernel adds in a second, that
/// may remain undetected.
fn foreign(kernel: &KernelTimex, written: &Written) -> Option<Foreign> {
    if (kernel.frequency_ppm - written.frequency_ppm?).abs() > SAME_PPM {
        return Some(Foreign::Frequency);
    }
    if kernel.slew.abs() > NOTHING {
        return Some(Foreign::Slew);
    }
    let (synchronized, leap, max_error) = written.status?;
    let unsynchronized = synchronized && unsynchronized_by_another(kernel);
    if kernel.steered || kernel.leap && !leap || kernel.synchronized && !synchronized || unsynchronized {
        return Some(Foreign::Status);
    }
    (kernel.max_error < max_error - SAME_ERROR).then_some(Foreign::Error)
}

/// Returns true if another program set STA_UNSYNC. When the kernel sets it, maxerror is at the limit.
fn unsynchronized_by_another(kernel: &KernelTimex) -> bool {
    !kernel.synchronized && kernel.max_error < LIMIT - SAME_ERROR
}

/// Returns true if another program wrote between two checks that are `seconds` apart.
fn changed(before: &KernelTimex, after: &KernelTimex, seconds: f64) -> bool {
    // The kernel's seconds need not begin at the same moment as the engine's.
    let growth = GROWTH * (seconds + 1.0) + SAME_ERROR;
    let raised = after.max_error > before.max_error + growth && after.max_error < LIMIT - SAME_ERROR;
    (before.frequency_ppm - after.frequency_ppm).abs() > SAME_PPM
        || after.slew.abs() > before.slew.abs() + NOTHING
        || before.steered != after.steered
        || before.leap != after.leap
        || after.synchronized && !before.synchronized
        || before.synchronized && unsynchronized_by_another(after)
        || after.max_error < before.max_error - SAME_ERROR
        || raised
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Written = Written { frequency_ppm: Some(12.5), status: Some((true, false, 0.001)) };
    const QUIET_KERNEL: KernelTimex = KernelTimex {
        frequency_ppm: 12.5,
        slew: 0.0,
        synchronized: true,
        leap: false,
        steered: false,
        max_error: 0.001,
    };

    fn at(seconds: f64) -> Mono {
        Mono(0).plus(seconds)
    }

    /// Looks every second from `from` to `to`. Returns the results and their times.
    fn looks(
        rival: &mut Rival,
        kernel: KernelTimex,
        suspects: bool,
        from: u32,
        to: u32,
    ) -> Vec<(u32, Stance)> {
        let look = |second| {
            let stance = rival.look(kernel, &OURS, suspects, at(f64::from(second)));
            stance.map(|stance| (second, stance))
        };
        (from..to).filter_map(look).collect()
    }

    #[test]
    fn changes_by_the_kernel_itself_are_no_sign() {
        let check = |kernel: KernelTimex| {
            assert_eq!(looks(&mut Rival::default(), kernel, false, 0, 100), [], "{kernel:?}");
        };
        check(QUIET_KERNEL);
        check(KernelTimex { max_error: 15.9, ..QUIET_KERNEL });
        check(KernelTimex { max_error: 16.0, synchronized: false, ..QUIET_KERNEL });
        check(KernelTimex { frequency_ppm: 12.500_01, ..QUIET_KERNEL });
        // The leap second stays armed after it was applied, and the engine ends it.
        let armed = Written { status: Some((true, true, 0.001)), ..OURS };
        for leap in [true, false] {
            let kernel = KernelTimex { leap, ..QUIET_KERNEL };
            assert_eq!(Rival::default().look(kernel, &armed, false, at(0.0)), None);
        }
    }

    #[test]
    fn every_foreign_word_is_seen_at_the_second_look() {
        let check = |kernel: KernelTimex, expected: Foreign| {
            let seen = looks(&mut Rival::default(), kernel, false, 0, 5);
            assert_eq!(seen, [(1, Stance::Observe(expected))], "{kernel:?}");
        };
        check(KernelTimex { frequency_ppm: 12.6, ..QUIET_KERNEL }, Foreign::Frequency);
        check(KernelTimex { slew: -0.01, ..QUIET_KERNEL }, Foreign::Slew);
        check(KernelTimex { steered: true, ..QUIET_KERNEL }, Foreign::Status);
        check(KernelTimex { leap: true, ..QUIET_KERNEL }, Foreign::Status);
        check(KernelTimex { max_error: 0.0005, ..QUIET_KERNEL }, Foreign::Error);
        check(KernelTimex { synchronized: false, max_error: 0.002, ..QUIET_KERNEL }, Foreign::Status);
        let unsynchronized = Written { status: Some((false, false, 16.0)), ..OURS };
        let mut rival = Rival::default();
        assert_eq!(rival.look(QUIET_KERNEL, &unsynchronized, false, at(0.0)), None);
        let second = rival.look(QUIET_KERNEL, &unsynchronized, false, at(1.0));
        assert_eq!(second, Some(Stance::Observe(Foreign::Status)));
    }

    #[test]
    fn before_the_first_write_nothing_is_a_sign() {
        let mut rival = Rival::default();
        let kernel = KernelTimex { frequency_ppm: 99.0, steered: true, ..QUIET_KERNEL };
        for second in 0..10 {
            assert_eq!(rival.look(kernel, &Written::default(), false, at(f64::from(second))), None);
        }
    }

    #[test]
    fn once_is_chance_and_twice_within_a_minute_is_not() {
        let theirs = KernelTimex { frequency_ppm: 80.0, ..QUIET_KERNEL };
        let mut rival = Rival::default();
        assert_eq!(rival.look(theirs, &OURS, false, at(0.0)), None);
        assert_eq!(looks(&mut rival, QUIET_KERNEL, false, 1, 100), []);
        assert_eq!(rival.look(theirs, &OURS, false, at(100.0)), None);
        assert_eq!(looks(&mut rival, QUIET_KERNEL, false, 101, 150), []);
        assert_eq!(rival.look(theirs, &OURS, false, at(150.0)), Some(Stance::Observe(Foreign::Frequency)));
        assert!(rival.steers());
    }

    #[test]
    fn a_second_step_is_a_conflict_unless_it_takes_the_first_one_back() {
        let steps = |sizes: &[(f64, f64)]| {
            let mut rival = Rival::default();
            sizes.iter().filter_map(|(time, by)| rival.stepped(*by, at(*time))).last()
        };
        let conflict = Some(Stance::Observe(Foreign::Step));
        assert_eq!(steps(&[(0.0, 3600.0)]), None);
        assert_eq!(steps(&[(0.0, 3600.0), (599.0, 3600.0)]), conflict);
        assert_eq!(steps(&[(0.0, 0.1), (60.0, -0.1)]), conflict);
        assert_eq!(steps(&[(0.0, 3600.0), (700.0, 3600.0)]), None);
        assert_eq!(steps(&[(0.0, 3600.0), (30.0, -3600.4)]), None);
        assert_eq!(steps(&[(0.0, 3600.0), (30.0, -3600.0), (60.0, 3600.0)]), conflict);
    }

    #[test]
    fn a_conflict_ends_without_foreign_writes_and_lasts_longer_the_next_time() {
        let theirs = |ppm: f64| KernelTimex { frequency_ppm: ppm, ..QUIET_KERNEL };
        let mut rival = Rival::default();
        assert_eq!(looks(&mut rival, theirs(1.0), false, 0, 2).len(), 1);
        // The other program writes from time to time.
        assert_eq!(looks(&mut rival, theirs(1.0), false, 2, 50), []);
        assert_eq!(looks(&mut rival, theirs(2.0), false, 50, 100), []);
        assert_eq!(looks(&mut rival, theirs(2.0), false, 100, 126), [(125, Stance::Steer)]);
        // The second conflict requires twice the quiet time.
        assert_eq!(
            looks(&mut rival, theirs(2.0), false, 130, 135),
            [(131, Stance::Observe(Foreign::Frequency))]
        );
        assert_eq!(looks(&mut rival, theirs(2.0), false, 135, 282), [(281, Stance::Steer)]);
    }

    #[test]
    fn a_running_program_extends_each_conflict() {
        let theirs = KernelTimex { frequency_ppm: 1.0, ..QUIET_KERNEL };
        let mut rival = Rival::default();
        assert_eq!(looks(&mut rival, theirs, true, 0, 1201).len(), 1);
        assert_eq!(looks(&mut rival, theirs, true, 1201, 1202), [(1201, Stance::Steer)]);
        // systemd-timesyncd writes every 2048 s at its longest poll.
        for (begin, quiet) in [(2048, 2400), (5000, 3600), (9000, 3600)] {
            let seen = looks(&mut rival, theirs, true, begin, begin + quiet + 2);
            let expected =
                [(begin + 1, Stance::Observe(Foreign::Frequency)), (begin + 1 + quiet, Stance::Steer)];
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn looks_that_follow_each_other_at_once_are_one() {
        let theirs = KernelTimex { frequency_ppm: 80.0, ..QUIET_KERNEL };
        let mut rival = Rival::default();
        for look in 0..100 {
            assert_eq!(rival.look(theirs, &OURS, false, at(f64::from(look) * 1e-3)), None);
        }
        assert!(rival.look(theirs, &OURS, false, at(0.6)).is_some());
    }

    #[test]
    fn any_write_of_another_program_keeps_the_engine_observing() {
        let check = |after: KernelTimex, wrote: bool| {
            let mut rival = Rival::default();
            rival.begin(Foreign::Step, at(0.0));
            assert_eq!(looks(&mut rival, QUIET_KERNEL, false, 0, 40), []);
            let seen = looks(&mut rival, after, false, 40, 117);
            assert_eq!(seen.first().map(|seen| seen.0), Some(if wrote { 115 } else { 75 }), "{after:?}");
        };
        check(QUIET_KERNEL, false);
        check(KernelTimex { max_error: 0.0015, ..QUIET_KERNEL }, false);
        check(KernelTimex { max_error: LIMIT, synchronized: false, ..QUIET_KERNEL }, false);
        check(KernelTimex { max_error: 0.5, ..QUIET_KERNEL }, true);
        check(KernelTimex { max_error: 0.5, synchronized: false, ..QUIET_KERNEL }, true);
        check(KernelTimex { max_error: 0.0005, ..QUIET_KERNEL }, true);
        check(KernelTimex { frequency_ppm: 12.6, ..QUIET_KERNEL }, true);
        check(KernelTimex { slew: 0.1, ..QUIET_KERNEL }, true);
        check(KernelTimex { steered: true, ..QUIET_KERNEL }, true);
        check(KernelTimex { leap: true, ..QUIET_KERNEL }, true);
    }

    #[test]
    fn an_ending_agent_ends_its_slew_and_leaves_foreign_values() {
        let touching = [
            Action::SetFrequency { ppm: 1.0 },
            Action::SetStatus {
                synchronized: false,
                leap: crate::Leap::None,
                max_error: 16.0,
                estimated_error: 16.0,
            },
            Action::Step { by: 1.0 },
            Action::SetTai { seconds: 37 },
        ];
        let permitted = |rival: &Rival| touching.each_ref().map(|action| rival.permits(action));
        let check = |sign, expected| {
            let mut rival = Rival::default();
            assert_eq!(permitted(&rival), [true; 4]);
            rival.begin(sign, at(0.0));
            assert_eq!(permitted(&rival), expected, "{sign:?}");
            rival.left();
            assert_eq!(permitted(&rival), [false; 4], "{sign:?}");
        };
        check(Foreign::Frequency, [false; 4]);
        check(Foreign::Slew, [true, false, false, false]);
        check(Foreign::Status, [true, false, false, false]);
        check(Foreign::Error, [true, false, false, false]);
        check(Foreign::Step, [true, true, false, false]);
    }

    proptest! {
        /// If another program writes at least once a minute, in any way, the engine observes after at most a minute,
        /// and continues to.
        #[test]
        fn two_writers_never_fight(times in prop::collection::vec(1_u32..59, 5..40)) {
            let mut rival = Rival::default();
            let (mut second, mut ppm, mut begun) = (0, 0.0, None);
            for pause in times {
                ppm += 1.0;
                let kernel = KernelTimex { frequency_ppm: ppm, ..QUIET_KERNEL };
                for (when, stance) in looks(&mut rival, kernel, false, second, second + pause) {
                    prop_assert!(matches!(stance, Stance::Observe(_)) && begun.is_none(), "{stance:?} at {when}");
                    begun = Some(when);
                }
                second += pause;
            }
            prop_assert!(begun.is_some_and(|when| when <= 60), "{begun:?}");
        }
    }
}
