//! The kernel's status of its clock, as in kernel/time/ntp.c: how it is set, how it changes each second, and how it is
//! reset when a program sets the clock.
use crate::{Leap, Wall};

/// The result of adjtimex.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timex {
    /// True if STA_UNSYNC is not set.
    pub synchronized: bool,
    /// STA_INS, STA_DEL or none of them.
    pub leap: Leap,
    /// Largest error, seconds.
    pub max_error: f64,
    /// Estimated error, seconds.
    pub estimated_error: f64,
}

/// Largest value of both errors, seconds (NTP_PHASE_LIMIT).
const PHASE_LIMIT: f64 = 16.0;

/// Growth of maxerror per second, seconds (MAXFREQ, 500 ppm).
const GROWTH: f64 = 500e-6;

/// The time in which the PLL slews two thirds of an offset, seconds: SHIFT_PLL and the time constant are both 2.
const LOOP_TIME: f64 = 16.0;

/// The kernel's state, and the second of its clock for which it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    timex: Timex,
    second: i64,
    /// True if its PLL is on (STA_PLL).
    pub(super) steered: bool,
    /// The rest of the PLL's slew, seconds.
    pub(super) slew: f64,
}

impl Kernel {
    /// The state after a boot.
    pub(super) fn new() -> Self {
        let timex = Timex {
            synchronized: false,
            leap: Leap::None,
            max_error: PHASE_LIMIT,
            estimated_error: PHASE_LIMIT,
        };
        Self { timex, second: 0, steered: false, slew: 0.0 }
    }

    /// Sets the status (`sys::clock::set_status`), which turns off the PLL.
    pub(super) fn tell(&mut self, told: Timex, now: Wall) {
        let limited = |error: f64| if error.is_nan() { PHASE_LIMIT } else { error.clamp(0.0, PHASE_LIMIT) };
        let leap = if told.synchronized && told.leap != Leap::Unknown { told.leap } else { Leap::None };
        let (max_error, estimated_error) = (limited(told.max_error), limited(told.estimated_error));
        self.timex = Timex { synchronized: told.synchronized, leap, max_error, estimated_error };
        (self.second, self.steered) = (second(now), false);
    }

    /// A program sets the clock (ntp_clear). An armed leap second stays armed.
    pub(super) fn clear(&mut self) {
        self.timex.synchronized = false;
        (self.timex.max_error, self.timex.estimated_error) = (PHASE_LIMIT, PHASE_LIMIT);
    }

    /// The agent takes over (`sys::clock::take_over`).
    pub(super) fn take_over(&mut self) {
        self.timex.leap = Leap::None;
        (self.steered, self.slew) = (false, 0.0);
    }

    /// The slew of the PLL in `seconds` (ntp_offset_chunk).
    pub(super) fn slews(&mut self, seconds: f64) -> f64 {
        let before = self.slew;
        self.slew *= (-seconds / LOOP_TIME).exp();
        if self.slew.abs() < 1e-9 {
            self.slew = 0.0;
        }
        before - self.slew
    }

    /// The status at `now` (second_overflow).
    pub(super) fn timex(&self, now: Wall) -> Timex {
        let grown = self.timex.max_error + GROWTH * second(now).saturating_sub(self.second).max(0) as f64;
        Timex {
            synchronized: self.timex.synchronized && grown <= PHASE_LIMIT,
            max_error: grown.min(PHASE_LIMIT),
            ..self.timex
        }
    }
}

fn second(now: Wall) -> i64 {
    now.0.div_euclid(1_000_000_000)
}
