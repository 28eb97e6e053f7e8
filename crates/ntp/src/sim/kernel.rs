//! The kernel's word on its clock, as kernel/time/ntp.c keeps it: what it is told, what it adds each second, and what it
//! forgets when somebody sets the clock.
use crate::{Leap, Wall};

/// What adjtimex answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timex {
    /// STA_UNSYNC is clear.
    pub synchronized: bool,
    /// STA_INS, STA_DEL or none of them.
    pub leap: Leap,
    /// Largest error, seconds.
    pub max_error: f64,
    /// Estimated error, seconds.
    pub estimated_error: f64,
}

/// The most that either error can be, seconds (NTP_PHASE_LIMIT).
const PHASE_LIMIT: f64 = 16.0;

/// What is added to the largest error each second, seconds (MAXFREQ, 500 ppm).
const GROWTH: f64 = 500e-6;

/// So long takes the loop for two thirds of an offset, seconds: SHIFT_PLL is 2, and its time constant as much.
const LOOP_TIME: f64 = 16.0;

/// What it holds, and since which second by its clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    timex: Timex,
    second: i64,
    /// Its own loop is on (STA_PLL).
    pub(super) steered: bool,
    /// What that still has to slew, seconds.
    pub(super) slew: f64,
}

impl Kernel {
    /// After a boot.
    pub(super) fn new() -> Self {
        let timex = Timex {
            synchronized: false,
            leap: Leap::None,
            max_error: PHASE_LIMIT,
            estimated_error: PHASE_LIMIT,
        };
        Self { timex, second: 0, steered: false, slew: 0.0 }
    }

    /// It is told (`sys::clock::set_status`), and its own loop is off.
    pub(super) fn tell(&mut self, told: Timex, now: Wall) {
        let limited = |error: f64| if error.is_nan() { PHASE_LIMIT } else { error.clamp(0.0, PHASE_LIMIT) };
        let leap = if told.synchronized && told.leap != Leap::Unknown { told.leap } else { Leap::None };
        let (max_error, estimated_error) = (limited(told.max_error), limited(told.estimated_error));
        self.timex = Timex { synchronized: told.synchronized, leap, max_error, estimated_error };
        (self.second, self.steered) = (second(now), false);
    }

    /// Somebody sets the clock (ntp_clear); a leap second that is armed stays so.
    pub(super) fn clear(&mut self) {
        self.timex.synchronized = false;
        (self.timex.max_error, self.timex.estimated_error) = (PHASE_LIMIT, PHASE_LIMIT);
    }

    /// Somebody takes over (`sys::clock::take_over`).
    pub(super) fn take_over(&mut self) {
        self.timex.leap = Leap::None;
        (self.steered, self.slew) = (false, 0.0);
    }

    /// What its own loop slews in so many seconds (ntp_offset_chunk).
    pub(super) fn slews(&mut self, seconds: f64) -> f64 {
        let before = self.slew;
        self.slew *= (-seconds / LOOP_TIME).exp();
        if self.slew.abs() < 1e-9 {
            self.slew = 0.0;
        }
        before - self.slew
    }

    /// What it answers (second_overflow).
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
