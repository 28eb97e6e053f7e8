//! The edge of the hardware clock's tick, which is when its whole seconds tell the time exactly.
use std::{
    thread,
    time::{Duration, Instant},
};

use ntp::Wall;
use sys::{clock, rtc::Rtc};

use super::{Error, RtcReading};

/// Waits for an edge and reads the clock there, good to a millisecond or two: the edge is between the last look at the old
/// second and the first at the new one.
///
/// It looks, and does not ask for the update interrupt (RTC_UIE_ON). The kernel keeps that as a timer of one second; if the
/// clock is set meanwhile from 2020 to now, the timer may have to expire once for each second in between, with the
/// processor held (rtc_timer_do_work in drivers/rtc/interface.c). Two virtual machines once stood still so, for minutes,
/// just after the kernel's first write.
///
/// # Errors
/// [`Error::Read`], [`Error::NoTick`].
pub(super) fn next(rtc: &Rtc) -> Result<RtcReading, Error> {
    // Two ticks and a half: a clock that is slower than that is not one.
    const PATIENCE: Duration = Duration::from_millis(2_500);
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + PATIENCE;
    let before = rtc.seconds().map_err(Error::Read)?;
    while Instant::now() < deadline {
        let seconds = rtc.seconds().map_err(Error::Read)?;
        if seconds != before {
            return Ok(RtcReading { seconds, at: Wall(clock::realtime_ns()) });
        }
        thread::sleep(PAUSE);
    }
    Err(Error::NoTick)
}
