//! The clocks of this machine that the engine reads as sources. They are opened at the first reading, kept open, and
//! opened again after a failure. The engine judges the readings.
use std::{collections::BTreeMap, fmt, path::Path};

use sys::phc::{Phc, Reading};
use tracing::{info, warn};

/// A clock that can be compared with the system clock.
pub(super) trait Device: Send {
    /// Reads both clocks at one moment.
    fn read(&mut self) -> Result<Reading, sys::Error>;
}

impl Device for Phc {
    fn read(&mut self) -> Result<Reading, sys::Error> {
        Self::read(self)
    }
}

type Open = Box<dyn Fn(&Path) -> Result<Box<dyn Device>, sys::Error> + Send>;

/// The devices by their paths.
pub(super) struct Devices {
    open: Open,
    state: BTreeMap<String, State>,
}

enum State {
    Open(Box<dyn Device>),
    Failed(sys::Error),
}

impl Default for Devices {
    fn default() -> Self {
        Self::new(Box::new(|path| Ok(Box::new(Phc::open(path)?))))
    }
}

impl Devices {
    pub(super) fn new(open: Open) -> Self {
        Self { open, state: BTreeMap::new() }
    }

    /// Reads a device. Logs the beginning and the end of a failure.
    pub(super) fn read(&mut self, path: &str) -> Option<Reading> {
        let (device, failure) = match self.state.remove(path) {
            Some(State::Open(device)) => (Ok(device), None),
            Some(State::Failed(error)) => ((self.open)(Path::new(path)), Some(error)),
            None => ((self.open)(Path::new(path)), None),
        };
        let outcome = device.and_then(|mut device| device.read().map(|reading| (device, reading)));
        let (state, reading) = match outcome {
            Ok((device, reading)) => {
                if failure.is_some() {
                    info!(path, "Device can be read again");
                }
                (State::Open(device), Some(reading))
            }
            Err(error) => {
                if failure != Some(error) {
                    warn!(path, %error, "Device cannot be read");
                }
                (State::Failed(error), None)
            }
        };
        self.state.insert(path.to_owned(), state);
        reading
    }

    /// Closes all devices.
    pub(super) fn close(&mut self) {
        self.state.clear();
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.state.keys()).finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        path::PathBuf,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// A device that is behind the system clock by `offset_ns`, while `present`.
    #[derive(Clone, Default)]
    pub(in crate::engine) struct Fake {
        pub(in crate::engine) offset_ns: i64,
        pub(in crate::engine) broken: Arc<Mutex<bool>>,
        pub(in crate::engine) opened: Arc<Mutex<Vec<PathBuf>>>,
    }

    impl Device for Fake {
        fn read(&mut self) -> Result<Reading, sys::Error> {
            if *self.broken.lock().unwrap() {
                // Any error will do: this is the one for a missing device.
                return Phc::open(Path::new("/dev/no-such-ptp")).map(|_| unreachable!());
            }
            let system_ns = sys::clock::realtime_ns();
            Ok(Reading { system_ns, device_ns: system_ns - self.offset_ns, window_ns: 1000 })
        }
    }

    impl Fake {
        pub(in crate::engine) fn devices(&self) -> Devices {
            let fake = self.clone();
            Devices::new(Box::new(move |path| {
                fake.opened.lock().unwrap().push(path.to_owned());
                Ok(Box::new(fake.clone()))
            }))
        }
    }

    #[test]
    fn a_device_stays_open_and_is_opened_anew_after_a_failure() {
        let fake = Fake::default();
        let mut devices = fake.devices();
        assert!(devices.read("/dev/a").is_some() && devices.read("/dev/a").is_some());
        assert_eq!(fake.opened.lock().unwrap().len(), 1);
        *fake.broken.lock().unwrap() = true;
        assert!(devices.read("/dev/a").is_none() && devices.read("/dev/a").is_none());
        *fake.broken.lock().unwrap() = false;
        assert_eq!(devices.read("/dev/a").map(|reading| reading.window_ns), Some(1000));
        assert_eq!(fake.opened.lock().unwrap().len(), 3);
    }

    #[test]
    fn the_real_opening_says_what_is_missing() {
        let mut devices = Devices::default();
        assert!(devices.read("/dev/no-such-ptp").is_none() && devices.read("/dev/null").is_none());
        let Some(State::Failed(error)) = devices.state.get("/dev/no-such-ptp") else { panic!("it failed") };
        assert!(error.not_found(), "{error}");
        devices.close();
        assert!(devices.state.is_empty());
    }
}
