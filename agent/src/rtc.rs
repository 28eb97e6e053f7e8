//! The hardware clock: reads it at the edge of its tick, sets it so that its tick coincides with the system clock's,
//! and reads it back.
//!
//! [`HardwareClock`] does this once, for the command line. [`RtcKeeper`] does it while the agent runs. The host's
//! /etc/adjtime, which is only read, says whether the clock shows UTC or local time. Nothing here changes the system
//! clock.
use std::{
    cell::Cell,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ntp::Wall;
use sys::{clock, rtc::Rtc};
use tracing::info;

use crate::host_root::HostRoot;

mod holder;

mod tick;

mod adjtime;

mod write;

mod drift;

mod monitor;

mod health;

mod keeper;

#[cfg(test)]
pub(crate) use adjtime::tests::tzif;
pub(crate) use adjtime::{KernelAssumption, RtcConvention, RtcTimebase};
pub(crate) use holder::Holder;
pub(crate) use keeper::{RtcKeeper, RtcPolicy};

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

/// Why the hardware clock could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no RTC, as in many virtual machines")]
    Absent,
    #[error("not permitted ({0}): the RTC is for root, in a container for a privileged one")]
    NotPermitted(#[source] sys::Error),
    #[error("cannot open the RTC: {0}")]
    Open(#[source] sys::Error),
    #[error("the RTC is in use by {}, and was not free within 10 s", holder_name(.0.as_ref()))]
    InUse(Option<Holder>),
    #[error("the RTC has lost its time: it takes a write to bring it back")]
    LostTime,
    #[error("cannot read the RTC: {0}")]
    Read(#[source] sys::Error),
    #[error("the RTC does not tick")]
    NoTick,
    #[error("/etc/adjtime says that the RTC shows local time, and /etc/localtime is no file of a time zone")]
    NoZone,
    #[error("cannot set the RTC: {0}")]
    Write(#[source] sys::Error),
    #[error("this machine was too busy to set the RTC at the right moment")]
    TooLate,
    #[error("the RTC was set, and read back it was {offset:.3} s off")]
    NotVerified {
        /// RTC minus system clock, seconds.
        offset: f64,
    },
}

/// A hardware clock, and the host whose files say what it shows.
#[derive(Clone, Debug)]
pub(crate) struct HardwareClock {
    device: PathBuf,
    host: HostRoot,
    shows: Option<RtcTimebase>,
    /// When its seconds begin, if it was read before.
    prediction: Cell<Option<tick::EdgePrediction>>,
}

impl HardwareClock {
    /// The clock of `device`. Whether it shows UTC is known from `shows`, or else from `host`.
    pub(crate) fn new(device: PathBuf, host: HostRoot, shows: Option<RtcTimebase>) -> Self {
        Self { device, host, shows, prediction: Cell::new(None) }
    }

    /// How the host keeps the clock.
    ///
    /// # Errors
    /// [`Error::NoZone`].
    pub(crate) fn convention(&self) -> Result<RtcConvention, Error> {
        RtcConvention::of(&self.host, self.shows)
    }

    /// Reads the clock at one of its next ticks, within about three seconds if no other program has it open. It is open
    /// for some milliseconds around the tick.
    ///
    /// # Errors
    /// All variants except those for writing.
    pub(crate) fn read(&self) -> Result<RtcReading, Error> {
        let convention = self.convention()?;
        let mut prediction = self.prediction.take();
        let edge = tick::next(self, &mut prediction)?;
        self.prediction.set(prediction);
        Ok(self.reading(edge, &convention))
    }

    /// Sets the clock to the system clock's time and reads it back; if necessary twice. Takes up to about fifteen
    /// seconds. Returns what was read back.
    ///
    /// # Errors
    /// Any [`Error`].
    pub(crate) fn write(&self) -> Result<RtcReading, Error> {
        let convention = self.convention()?;
        self.prediction.set(None);
        let timing = write::WriteTiming::of(sys::rtc::driver_name(&self.device).as_deref());
        let edge = write::verified(self, &timing, &convention)?;
        Ok(self.reading(edge, &convention))
    }

    fn reading(&self, edge: tick::Edge, convention: &RtcConvention) -> RtcReading {
        RtcReading {
            seconds: convention.unix(edge.shown, edge.at),
            at: edge.at,
            late: edge.late,
            shows: convention.shows(),
            kernel: convention.kernel(clock::kernel_minutes_west(), edge.at),
        }
    }
}

/// Other names that hwclock tries if there is no /dev/rtc0.
const FORMER_NAMES: [&str; 2] = ["/dev/rtc", "/dev/misc/rtc"];

impl tick::Access for HardwareClock {
    type Chip = Rtc;

    fn open(&self) -> Result<Rtc, sys::Error> {
        open_once(&self.device)
    }

    fn closed(&self, error: sys::Error) -> Error {
        if error.not_found() {
            Error::Absent
        } else if error.in_use() {
            Error::InUse(holder::of(&self.device))
        } else if error.not_permitted() {
            Error::NotPermitted(error)
        } else {
            Error::Open(error)
        }
    }

    fn tell_busy(&self) {
        let holder = holder::of(&self.device);
        info!(holder = holder_name(holder.as_ref()), "RTC is in use; waiting for it, for 10 s at most");
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(u64::try_from(clock::monotonic_ns()).unwrap_or(0))
    }

    fn wall(&self) -> Wall {
        Wall(clock::realtime_ns())
    }

    fn sleep(&self, pause: Duration) {
        thread::sleep(pause);
    }
}

fn holder_name(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "a program that cannot be seen from here".to_owned(), ToString::to_string)
}

fn open_once(device: &Path) -> Result<Rtc, sys::Error> {
    let first = Rtc::open(device);
    match first {
        Err(error) if error.not_found() && device == Path::new("/dev/rtc0") => {
            FORMER_NAMES.iter().find_map(|name| Rtc::open(Path::new(name)).ok()).ok_or(error)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_rtc_is_normal() {
        let clock = |device: &str| HardwareClock::new(device.into(), HostRoot::new("/".into()), None);
        assert_eq!(clock("/dev/no-such-rtc").read(), Err(Error::Absent));
        assert_eq!(clock("/dev/no-such-rtc").write(), Err(Error::Absent));
        // Not a clock.
        assert!(matches!(clock("/dev/null").read(), Err(Error::Read(_))));
    }
}
