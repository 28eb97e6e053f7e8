//! The edge of the hardware clock's tick, which is when its whole seconds tell the time exactly.
use std::{
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use ntp::Wall;
use sys::{clock, poll, rtc::Rtc};

use super::{Error, RtcReading};

/// Waits for an edge and reads the clock there: by its update interrupt, or, where there is none, by looking often.
///
/// # Errors
/// [`Error::Read`], [`Error::NoTick`].
pub(super) fn next(rtc: &Rtc) -> Result<RtcReading, Error> {
    // Fails at once for what is no clock.
    rtc.seconds().map_err(Error::Read)?;
    if rtc.update_interrupt(true).is_ok() {
        let reading = by_interrupt(rtc);
        // Left on, it would only cost a wake-up per second until the device is closed.
        let _ = rtc.update_interrupt(false);
        if let Some(reading) = reading {
            return reading;
        }
    }
    by_looking(rtc)
}

/// None if the interrupts do not come.
fn by_interrupt(rtc: &Rtc) -> Option<Result<RtcReading, Error>> {
    // The first one may have been pending, or belong to an alarm that was already past when it was set.
    wait_for_interrupt(rtc)?;
    let at = wait_for_interrupt(rtc)?;
    Some(rtc.seconds().map(|seconds| RtcReading { seconds, at }).map_err(Error::Read))
}

fn wait_for_interrupt(rtc: &Rtc) -> Option<Wall> {
    // A tick and a half: a clock that is slower than that is not one.
    const PATIENCE: Duration = Duration::from_millis(1_500);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.checked_duration_since(Instant::now())?;
        match poll::readable(&[rtc.as_fd()], Some(left)) {
            // The stamp is taken after the read, in case that a driver makes it wait for the edge.
            Ok(ready) if ready[0] && rtc.take_interrupts().is_ok() => {
                return Some(Wall(clock::realtime_ns()));
            }
            Ok(_) => {}
            Err(error) if error.interrupted() => {}
            Err(_) => return None,
        }
    }
}

/// The edge is between the last look at the old second and the first at the new one.
fn by_looking(rtc: &Rtc) -> Result<RtcReading, Error> {
    const PATIENCE: Duration = Duration::from_millis(2_500);
    const PAUSE: Duration = Duration::from_micros(500);
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
