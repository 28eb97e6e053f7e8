//! A reading of the hardware clock, as data.
use std::time::Duration;

use ntp::Wall;

use super::adjtime::{KernelAssumption, RtcTimebase};

/// One reading of the hardware clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RtcReading {
    /// The second that began, as seconds since the Unix epoch, in UTC or local time as the clock shows it.
    pub(crate) seconds: i64,
    /// When the beginning of the second was seen, by the system clock.
    pub(crate) at: Wall,
    /// The second may have begun earlier by this time.
    pub(crate) late: Duration,
    /// Whether the clock shows UTC or local time.
    pub(crate) shows: RtcTimebase,
    /// The kernel's assumption about what the clock shows.
    pub(crate) kernel: KernelAssumption,
}

impl RtcReading {
    /// RTC minus system clock, seconds. If this process woke up late, the value is too small by the same time.
    pub(crate) fn offset(&self) -> f64 {
        self.wall() - self.at
    }

    /// The time that the hardware clock showed at that moment.
    pub(crate) fn wall(&self) -> Wall {
        Wall(self.seconds.saturating_mul(1_000_000_000))
    }
}
