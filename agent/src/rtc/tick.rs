//! The edge of the hardware clock's tick, at which its whole seconds give the exact time.
//!
//! Only one program at a time can have the clock open. So the agent has it open only around the due edge: for some
//! milliseconds per minute. The time of the next edge is known from the one before. If it is not, short looks find it.
//!
//! The clock is polled, without the update interrupt (RTC_UIE_ON). The kernel implements that interrupt by a timer of
//! one second. If the clock is set in the meantime, say from 2020 to now, the timer may have to expire once for each
//! second in between, without releasing the processor (rtc_timer_do_work in drivers/rtc/interface.c). Two virtual
//! machines once stood still for minutes because of this, just after the kernel's first write.
use std::time::Duration;

use ntp::Wall;
use sys::rtc::Rtc;

use super::error::Error;

/// The operations of an open clock chip: whole seconds, as if it showed UTC.
pub(super) trait Chip {
    /// The second that it shows.
    fn seconds(&self) -> Result<i64, sys::Error>;
    /// Sets it.
    fn set_seconds(&self, seconds: i64) -> Result<(), sys::Error>;
}

impl Chip for Rtc {
    fn seconds(&self) -> Result<i64, sys::Error> {
        Self::seconds(self)
    }

    fn set_seconds(&self, seconds: i64) -> Result<(), sys::Error> {
        Self::set_seconds(self, seconds)
    }
}

/// Access to a chip, and to the other clocks.
pub(super) trait Access {
    /// The open chip. It is closed when dropped.
    type Chip: Chip;
    /// Opens the chip, without waiting for another process that has it.
    fn open(&self) -> Result<Self::Chip, sys::Error>;
    /// The error for a chip that could not be opened.
    fn closed(&self, error: sys::Error) -> Error;
    /// Logs that another program has the chip, and that this one waits.
    fn log_busy(&self);
    /// CLOCK_MONOTONIC.
    fn now(&self) -> Duration;
    /// The system clock.
    fn wall(&self) -> Wall;
    /// Waits.
    fn sleep(&self, pause: Duration);
}

/// The beginning of a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// The second, as the clock shows it.
    pub(super) shown: i64,
    /// When it was first seen, by the system clock.
    pub(super) at: Wall,
    /// The time since the last look that still showed the second before.
    pub(super) late: Duration,
    /// When it was first seen, by CLOCK_MONOTONIC.
    mono: Duration,
}

/// When edges come, derived from the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct EdgePrediction {
    edge: Edge,
    /// The time from one edge to the next by CLOCK_MONOTONIC, once it was measured between two edges.
    period: Option<f64>,
}

/// An interval of CLOCK_MONOTONIC in which an edge is expected.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Duration,
    until: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

/// Time between two looks around an edge, by which a reading may be late.
const PAUSE: Duration = Duration::from_micros(500);

/// If a wake-up is late by up to this, the edge is still found.
const SLACK: Duration = Duration::from_millis(1);

/// The ratio by which edges may come earlier or later than expected. RTCs drift by up to 100 ppm, and a slew of
/// CLOCK_MONOTONIC adds 500. If the period is known, only its change is left.
const UNKNOWN: f64 = 200e-6;
const KNOWN: f64 = 20e-6;

/// If an edge cannot be predicted better than this, it is searched for again.
const WIDEST: Duration = Duration::from_millis(20);

/// Number of searches for an edge. After that, the looks that found one must suffice.
const ROUNDS: u32 = 3;

/// Waits for an edge and reads the clock there, exact to a millisecond: the edge is between the last look that showed
/// the old second and the first that showed the new one. `prediction` predicts the edge, and is updated by it.
///
/// # Errors
/// [`Error::LostTime`], [`Error::Read`], [`Error::NoTick`], [`Error::InUse`] and others of opening.
pub(super) fn next(access: &impl Access, prediction: &mut Option<EdgePrediction>) -> Result<Edge, Error> {
    let due = prediction.and_then(|known| known.window(access.now()));
    let mut edge = due.map(|window| watch(access, window)).transpose()?.flatten();
    for round in 1..=ROUNDS {
        if edge.is_some() {
            break;
        }
        let coarse = seek(access)?;
        let window = Window {
            from: (coarse.mono + SECOND).saturating_sub(coarse.late + SLACK),
            until: coarse.mono + SECOND + SLACK,
        };
        edge = watch(access, window)?.or((round == ROUNDS).then_some(coarse));
    }
    let edge = edge.ok_or(Error::NoTick)?;
    *prediction = Some(EdgePrediction { edge, period: prediction.and_then(|before| before.period(&edge)) });
    Ok(edge)
}

impl EdgePrediction {
    /// The next edge that can still be awaited; none if it cannot be predicted well enough.
    fn window(&self, now: Duration) -> Option<Window> {
        let period = self.period.unwrap_or(1.0);
        let passed = now.saturating_sub(self.edge.mono).as_secs_f64();
        let spread = if self.period.is_some() { KNOWN } else { UNKNOWN };
        let margin = Duration::from_secs_f64((passed + 1.0) * spread) + SLACK;
        if margin > WIDEST {
            return None;
        }
        // The true edge was earlier than its first look, on average by half of the possible lateness.
        let ahead = (passed + margin.as_secs_f64() + PAUSE.as_secs_f64()) / period;
        let due = self.edge.mono + Duration::from_secs_f64(ahead.ceil() * period);
        Some(Window { from: due.saturating_sub(margin + self.edge.late), until: due + margin })
    }

    /// The period that follows from an edge; none if the clock was set in between.
    fn period(&self, edge: &Edge) -> Option<f64> {
        // Over a shorter time, the errors of the two edges are most of the result.
        const SHORTEST: f64 = 8.0;
        let passed = edge.mono.checked_sub(self.edge.mono)?.as_secs_f64();
        let seconds = edge.shown.checked_sub(self.edge.shown)? as f64;
        if passed < SHORTEST {
            return self.period;
        }
        let period = passed / seconds;
        ((period - 1.0).abs() < 1e-3).then_some(period)
    }
}

/// Keeps the chip open from the beginning of `window` until the edge, or the window's end.
fn watch(access: &impl Access, window: Window) -> Result<Option<Edge>, Error> {
    access.sleep(window.from.saturating_sub(access.now()));
    let chip = loop {
        match access.open() {
            Ok(chip) => break chip,
            Err(error) if !error.in_use() => return Err(access.closed(error)),
            Err(_) if access.now() >= window.until => return Ok(None),
            Err(_) => access.sleep(PAUSE),
        }
    };
    let mut looked = access.now();
    let before = read_seconds(&chip)?;
    loop {
        let now = access.now();
        let shown = read_seconds(&chip)?;
        if shown != before {
            let (at, mono) = (access.wall(), access.now());
            return Ok(Some(Edge { shown, at, late: mono.saturating_sub(looked), mono }));
        }
        if now >= window.until {
            return Ok(None);
        }
        looked = now;
        access.sleep(PAUSE);
    }
}

/// Finds the edge to some hundredths of a second. The chip is opened for each look.
fn seek(access: &impl Access) -> Result<Edge, Error> {
    const STEP: Duration = Duration::from_millis(10);
    // Two and a half ticks: a slower clock does not work.
    const TIMEOUT: Duration = Duration::from_millis(2_500);
    // The process that has it open needs seconds.
    const BUSY: Duration = Duration::from_secs(10);
    // Looks that are further apart do not show the edge well enough.
    const APART: Duration = Duration::from_millis(50);
    let begin = access.now();
    let (mut open_since, mut free, mut told) = (begin, begin, false);
    let mut before: Option<(Duration, i64)> = None;
    loop {
        let now = access.now();
        match access.open() {
            Ok(chip) => {
                let shown = read_seconds(&chip)?;
                drop(chip);
                free = now;
                let fresh = before.filter(|(at, _)| now.saturating_sub(*at) <= APART);
                if fresh.is_none() {
                    open_since = now;
                }
                if let Some((at, _)) = fresh.filter(|(_, second)| *second != shown) {
                    let (wall, mono) = (access.wall(), access.now());
                    return Ok(Edge { shown, at: wall, late: mono.saturating_sub(at), mono });
                }
                if now.saturating_sub(open_since) > TIMEOUT {
                    return Err(Error::NoTick);
                }
                before = Some((now, shown));
            }
            Err(error) if !error.in_use() => return Err(access.closed(error)),
            Err(error) if now.saturating_sub(free) > BUSY || now.saturating_sub(begin) > 3 * BUSY => {
                return Err(access.closed(error));
            }
            Err(_) => {
                if !told && now.saturating_sub(free) > SECOND {
                    access.log_busy();
                    told = true;
                }
            }
        }
        access.sleep(STEP);
    }
}

fn read_seconds(chip: &impl Chip) -> Result<i64, Error> {
    chip.seconds().map_err(|error| if error.invalid() { Error::LostTime } else { Error::Read(error) })
}

#[cfg(test)]
pub(super) mod tests;
