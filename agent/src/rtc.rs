//! The hardware clock: read on the edge of its tick, set so that its tick falls on the system clock's, read back.
//!
//! [`HardwareClock`] does it once, for the command line; [`RtcKeeper`] does it for as long as the agent runs. Whether the
//! clock shows UTC or local time is what the host's /etc/adjtime says, which is only read. Nothing here touches the
//! system clock.
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

mod watch;

mod health;

mod keeper;

#[cfg(test)]
pub(crate) use adjtime::tests::tzif;
pub(crate) use adjtime::{Keeping, Kernel, Shows};
pub(crate) use holder::Holder;
pub(crate) use keeper::{RtcKeeper, RtcPolicy};

/// What the hardware clock showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RtcReading {
    /// The second that began, since the Unix epoch, whichever time the clock shows.
    pub(crate) seconds: i64,
    /// When it was seen to have begun, by the system clock.
    pub(crate) at: Wall,
    /// It may have begun so much earlier.
    pub(crate) late: Duration,
    /// Whether the clock shows UTC or local time.
    pub(crate) shows: Shows,
    /// What the kernel takes it to show.
    pub(crate) kernel: Kernel,
}

impl RtcReading {
    /// RTC minus system clock, seconds. Late wake-ups make it too small by as much as they are late.
    pub(crate) fn offset(&self) -> f64 {
        self.wall() - self.at
    }

    /// The time that it showed at that moment.
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

/// A hardware clock, and the host that says what it shows.
#[derive(Clone, Debug)]
pub(crate) struct HardwareClock {
    device: PathBuf,
    host: HostRoot,
    shows: Option<Shows>,
    /// When its seconds begin, if it was read before.
    rhythm: Cell<Option<tick::Rhythm>>,
}

impl HardwareClock {
    /// The clock behind `device`, as `host` keeps it, or as `shows` says.
    pub(crate) fn new(device: PathBuf, host: HostRoot, shows: Option<Shows>) -> Self {
        Self { device, host, shows, rhythm: Cell::new(None) }
    }

    /// How the host keeps it.
    ///
    /// # Errors
    /// [`Error::NoZone`].
    pub(crate) fn keeping(&self) -> Result<Keeping, Error> {
        Keeping::of(&self.host, self.shows)
    }

    /// Reads the clock at one of its next ticks, so within about three seconds if no other program has it. It is open for
    /// some milliseconds around the tick.
    ///
    /// # Errors
    /// All but those of writing.
    pub(crate) fn read(&self) -> Result<RtcReading, Error> {
        let keeping = self.keeping()?;
        let mut rhythm = self.rhythm.take();
        let edge = tick::next(self, &mut rhythm)?;
        self.rhythm.set(rhythm);
        Ok(self.reading(edge, &keeping))
    }

    /// Sets the clock to the system clock's time and reads it back, a second time if need be. Takes up to about fifteen
    /// seconds. The answer is what was read back.
    ///
    /// # Errors
    /// Any [`Error`].
    pub(crate) fn write(&self) -> Result<RtcReading, Error> {
        let keeping = self.keeping()?;
        self.rhythm.set(None);
        let manner = write::Manner::of(sys::rtc::driver_name(&self.device).as_deref());
        let edge = write::verified(self, &manner, &keeping)?;
        Ok(self.reading(edge, &keeping))
    }

    fn reading(&self, edge: tick::Edge, keeping: &Keeping) -> RtcReading {
        RtcReading {
            seconds: keeping.unix(edge.shown, edge.at),
            at: edge.at,
            late: edge.late,
            shows: keeping.shows(),
            kernel: keeping.kernel(clock::kernel_minutes_west(), edge.at),
        }
    }
}

/// Where hwclock looks as well when there is no /dev/rtc0.
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
