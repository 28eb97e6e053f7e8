//! The hardware clock of a host: read at its tick, or set and read back, once.
use std::{
    cell::Cell,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ntp::Wall;
use sys::{clock, rtc::Rtc};
use tracing::info;

use super::{
    adjtime::{RtcConvention, RtcTimebase},
    error::{Error, holder_name},
    holder,
    reading::RtcReading,
    tick, write,
};
use crate::host_root::HostRoot;

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

    /// Returns true if the kernel has the clock, whether or not there is a device for it here. A container sees the
    /// node's sysfs, but only a privileged one has the node's devices.
    fn is_in_sysfs(&self) -> bool {
        let Some(name) = self.device.file_name() else { return false };
        let entry = Path::new("/sys/class/rtc").join(name);
        entry.exists() || self.host.resolve(&entry).is_ok()
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
        if error.not_found() && self.is_in_sysfs() {
            Error::NoDevice
        } else if error.not_found() {
            Error::Absent
        } else if error.in_use() {
            Error::InUse(holder::of(&self.device))
        } else if error.not_permitted() {
            Error::NotPermitted(error)
        } else {
            Error::Open(error)
        }
    }

    fn log_busy(&self) {
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
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_clock_of_the_node_without_a_device_here_is_not_absent() {
        let folder = Scratch::new();
        fs::create_dir_all(folder.path().join("sys/class/rtc/no-such-rtc")).unwrap();
        let host = HostRoot::new(folder.path().to_owned());
        let clock = |device: &str| HardwareClock::new(device.into(), host.clone(), None);
        assert_eq!(clock("/dev/no-such-rtc").read(), Err(Error::NoDevice));
        assert_eq!(clock("/dev/no-such-rtc").write(), Err(Error::NoDevice));
        assert_eq!(clock("/dev/no-such-rtc2").read(), Err(Error::Absent));
    }

    #[test]
    fn a_machine_without_rtc_is_normal() {
        let clock = |device: &str| HardwareClock::new(device.into(), HostRoot::new("/".into()), None);
        assert_eq!(clock("/dev/no-such-rtc").read(), Err(Error::Absent));
        assert_eq!(clock("/dev/no-such-rtc").write(), Err(Error::Absent));
        // Not a clock.
        assert!(matches!(clock("/dev/null").read(), Err(Error::Read(_))));
    }
}
