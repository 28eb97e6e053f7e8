//! The system clock, on which the engine's actions are carried out. A failed call is logged when its failure begins,
//! not each time. The engine notices the failure by its measurements.
use ntp::{Clocks, KernelTimex, Leap, Mono, Now, Wall, Written};
use sys::clock::{self, LeapSecond};
use tracing::{error, info};

/// The system clock of this node.
#[derive(Debug, Default)]
pub(crate) struct SystemClock {
    failure: Option<sys::Error>,
    written: Written,
}

/// The state of the kernel's clock; none if it cannot be read.
pub(crate) fn kernel() -> Option<KernelTimex> {
    let timex = clock::read_timex().ok()?;
    Some(KernelTimex {
        frequency_ppm: timex.frequency_ppm,
        slew: timex.pll_offset + timex.adjtime,
        synchronized: timex.synchronized(),
        leap: timex.leap(),
        steered: timex.steered(),
        max_error: timex.max_error,
    })
}

/// Returns true if this process may set the clock. Without CAP_SYS_TIME the agent only observes.
pub(crate) fn may_set() -> bool {
    clock::may_set_clock()
}

impl SystemClock {
    /// The system clock and the monotonic clock at one moment.
    pub(crate) fn now(&self) -> Now {
        now()
    }

    /// The values that the agent wrote last, in the kernel's units.
    pub(crate) fn written(&self) -> &Written {
        &self.written
    }

    /// Records that the kernel's values are not this agent's from now on.
    pub(crate) fn release(&mut self) {
        self.written = Written::default();
    }

    /// Ends what another program left in the kernel, so that only this agent steers.
    pub(crate) fn take_over(&mut self) {
        self.note(clock::take_over());
    }

    /// Makes the clock run `ppm` parts per million faster than its oscillator.
    pub(crate) fn set_frequency(&mut self, ppm: f64) {
        let set = clock::set_frequency(ppm);
        self.written.frequency_ppm = set.ok().or(self.written.frequency_ppm);
        self.note(set.map(drop));
    }

    /// Steps the clock by this many seconds.
    pub(crate) fn step(&mut self, by: f64) {
        self.note(clock::step(by));
    }

    /// Sets TAI minus UTC in the kernel.
    pub(crate) fn set_tai(&mut self, seconds: i32) {
        self.note(clock::set_tai(seconds));
    }

    /// Sets the kernel's status and error estimates.
    pub(crate) fn set_status(
        &mut self,
        synchronized: bool,
        leap: Leap,
        max_error: f64,
        estimated_error: f64,
    ) {
        let leap = match leap {
            Leap::Insert => LeapSecond::Insert,
            Leap::Delete => LeapSecond::Delete,
            Leap::None | Leap::Unknown => LeapSecond::None,
        };
        let set = clock::set_status(synchronized, leap, max_error, estimated_error);
        if set.is_ok() {
            // The kernel counts to 16 s (NTP_PHASE_LIMIT).
            let armed = synchronized && leap != LeapSecond::None;
            self.written.status = Some((synchronized, armed, max_error.min(16.0)));
        }
        self.note(set);
    }

    fn note(&mut self, outcome: Result<(), sys::Error>) {
        match outcome {
            Err(error) if self.failure != Some(error) => {
                error!(%error, "Clock refused an adjustment");
                self.failure = Some(error);
            }
            Ok(()) if self.failure.is_some() => {
                info!("Clock takes adjustments again");
                self.failure = None;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// The system clock and the monotonic clock at one moment. An interruption between the two readings would look like a
/// jump of the clock. So they are read again if the readings took long.
pub(crate) fn now() -> Now {
    let read = |_| {
        let (before, mono, after) = (clock::realtime_ns(), clock::monotonic_ns(), clock::realtime_ns());
        let window = after.saturating_sub(before);
        (window.unsigned_abs(), Now { wall: Wall(before.saturating_add(window / 2)), mono: Mono(mono) })
    };
    quickest(read).1
}

/// CLOCK_BOOTTIME minus CLOCK_MONOTONIC, nanoseconds: how long the node was suspended since its boot. None if
/// interruptions prevented a reading.
pub(crate) fn boottime_ahead() -> Option<i64> {
    let read = |_| {
        let (before, boot, after) = (clock::monotonic_ns(), clock::boottime_ns(), clock::monotonic_ns());
        let window = after.saturating_sub(before);
        (window.unsigned_abs(), boot.saturating_sub(before.saturating_add(window / 2)))
    };
    let (window, ahead) = quickest(read);
    (window <= NARROW).then_some(ahead)
}

/// Calls `read` until it was quick, a few times at most. Returns the quickest result, and how many nanoseconds it took.
fn quickest<T>(read: impl Fn(u32) -> (u64, T)) -> (u64, T) {
    let mut best = read(0);
    for attempt in 1..TRIES {
        if best.0 <= NARROW {
            break;
        }
        let next = read(attempt);
        if next.0 < best.0 {
            best = next;
        }
    }
    best
}

/// Nanoseconds: far more than three readings of a clock take, and far less than a jump that matters.
const NARROW: u64 = 200_000;

/// All clocks at one moment, from the quickest of a few tries: later comparisons of them are exact to microseconds.
pub(crate) fn clocks() -> Clocks {
    let read = |_| {
        let (before, raw, after) = (clock::realtime_ns(), clock::monotonic_raw_ns(), now());
        let window = after.wall.0.saturating_sub(before);
        let now = Now { wall: Wall(after.wall.0 - window / 2), mono: Mono(after.mono.0 - window / 2) };
        (window.unsigned_abs(), Clocks { now, raw })
    };
    let first = read(0);
    (1..TRIES).map(read).fold(first, |best, next| if next.0 < best.0 { next } else { best }).1
}

/// An interruption of one try is likely; of all of them it is not.
const TRIES: u32 = 5;

/// `wall` in seconds since the Unix epoch.
pub(crate) fn unix_seconds(wall: Wall) -> f64 {
    wall.0 as f64 / 1e9
}
