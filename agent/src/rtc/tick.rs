//! The edge of the hardware clock's tick, which is when its whole seconds tell the time exactly.
//!
//! One program at a time can have the clock open, so it is open around the edge that is due and no longer: for some
//! milliseconds a minute. When an edge is due is known from the one before; if not, short looks find it.
//!
//! It looks, and does not ask for the update interrupt (RTC_UIE_ON). The kernel keeps that as a timer of one second; if the
//! clock is set meanwhile from 2020 to now, the timer may have to expire once for each second in between, with the
//! processor held (rtc_timer_do_work in drivers/rtc/interface.c). Two virtual machines once stood still so, for minutes,
//! just after the kernel's first write.
use std::time::Duration;

use ntp::Wall;
use sys::rtc::Rtc;

use super::Error;

/// What can be asked of a clock's chip while it is open: whole seconds, as if it showed UTC.
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

/// The way to a chip, and the time beside it.
pub(super) trait Access {
    /// The open chip; it is closed when it is dropped.
    type Chip: Chip;
    /// Opens it, without waiting for whoever has it.
    fn open(&self) -> Result<Self::Chip, sys::Error>;
    /// What to say of a chip that could not be opened.
    fn closed(&self, error: sys::Error) -> Error;
    /// Says that another program has it, and is waited for.
    fn tell_busy(&self);
    /// CLOCK_MONOTONIC.
    fn now(&self) -> Duration;
    /// The system clock.
    fn wall(&self) -> Wall;
    /// Waits.
    fn sleep(&self, pause: Duration);
}

/// A second that began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// The second, as the clock shows it.
    pub(super) shown: i64,
    /// When it was first seen, by the system clock.
    pub(super) at: Wall,
    /// So long before, the second before it was still seen.
    pub(super) late: Duration,
    /// When it was first seen, by CLOCK_MONOTONIC.
    mono: Duration,
}

/// When edges come, as the one before tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    edge: Edge,
    /// From one edge to the next by CLOCK_MONOTONIC, if two edges told.
    period: Option<f64>,
}

/// A stretch of CLOCK_MONOTONIC in which an edge is expected.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Duration,
    until: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

/// Between two looks around an edge: what a reading is late by.
const PAUSE: Duration = Duration::from_micros(500);

/// Wake-ups that are late by as much still find the edge.
const SLACK: Duration = Duration::from_millis(1);

/// By so much, as a ratio, edges may come earlier or later than expected: RTCs drift by up to 100 ppm, and a slew of
/// CLOCK_MONOTONIC adds 500; once the period is known, what is left is its change.
const UNKNOWN: f64 = 200e-6;
const KNOWN: f64 = 20e-6;

/// If an edge cannot be foretold better, it is sought anew.
const WIDEST: Duration = Duration::from_millis(20);

/// Edges are sought so often before the looks that found one must do.
const ROUNDS: u32 = 3;

/// Waits for an edge and reads the clock there, good to a millisecond: the edge is between the last look at the old second
/// and the first at the new one. `rhythm` tells when it is due, and learns from it.
///
/// # Errors
/// [`Error::LostTime`], [`Error::Read`], [`Error::NoTick`], [`Error::InUse`] and others of opening.
pub(super) fn next(access: &impl Access, rhythm: &mut Option<Rhythm>) -> Result<Edge, Error> {
    let due = rhythm.and_then(|known| known.window(access.now()));
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
    *rhythm = Some(Rhythm { edge, period: rhythm.and_then(|before| before.period(&edge)) });
    Ok(edge)
}

impl Rhythm {
    /// Where the next edge is that can still be waited for; none if that is not known well enough.
    fn window(&self, now: Duration) -> Option<Window> {
        let period = self.period.unwrap_or(1.0);
        let passed = now.saturating_sub(self.edge.mono).as_secs_f64();
        let spread = if self.period.is_some() { KNOWN } else { UNKNOWN };
        let margin = Duration::from_secs_f64((passed + 1.0) * spread) + SLACK;
        if margin > WIDEST {
            return None;
        }
        // The true edge was before it was seen, by half of what it may be late by.
        let ahead = (passed + margin.as_secs_f64() + PAUSE.as_secs_f64()) / period;
        let due = self.edge.mono + Duration::from_secs_f64(ahead.ceil() * period);
        Some(Window { from: due.saturating_sub(margin + self.edge.late), until: due + margin })
    }

    /// What an edge says of the period; none if the clock was set in between.
    fn period(&self, edge: &Edge) -> Option<f64> {
        // Shorter, and the two edges' own errors are most of it.
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

/// Has the chip open from the begin of `window` until its edge, or to the window's end.
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
    let before = look(&chip)?;
    loop {
        let now = access.now();
        let shown = look(&chip)?;
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

/// Finds the edge to some hundredths of a second by looks, for each of which the chip is opened.
fn seek(access: &impl Access) -> Result<Edge, Error> {
    const STEP: Duration = Duration::from_millis(10);
    // Two ticks and a half: a clock that is slower than that is not one.
    const PATIENCE: Duration = Duration::from_millis(2_500);
    // Who has it needs seconds.
    const BUSY: Duration = Duration::from_secs(10);
    // Looks further apart say too little.
    const APART: Duration = Duration::from_millis(50);
    let begin = access.now();
    let (mut open_since, mut free, mut told) = (begin, begin, false);
    let mut before: Option<(Duration, i64)> = None;
    loop {
        let now = access.now();
        match access.open() {
            Ok(chip) => {
                let shown = look(&chip)?;
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
                if now.saturating_sub(open_since) > PATIENCE {
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
                    access.tell_busy();
                    told = true;
                }
            }
        }
        access.sleep(STEP);
    }
}

fn look(chip: &impl Chip) -> Result<i64, Error> {
    chip.seconds().map_err(|error| if error.invalid() { Error::LostTime } else { Error::Read(error) })
}

#[cfg(test)]
pub(super) mod tests;
