//! The thread that watches the hardware clock, and sets it right if it is told to.
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::Builder,
    time::{Duration, Instant},
};

use contract::RtcReport;

use super::{
    error::Error,
    hardware_clock::HardwareClock,
    health,
    monitor::{RtcFindings, RtcMonitor},
    policy::RtcPolicy,
    reading::RtcReading,
};
use crate::{
    panics::{Panics, Part},
    state::State as Disk,
};

/// The operations of a clock that the thread needs.
trait Device {
    fn read(&self) -> Result<RtcReading, Error>;
    fn write(&self) -> Result<RtcReading, Error>;
}

impl Device for HardwareClock {
    fn read(&self) -> Result<RtcReading, Error> {
        Self::read(self)
    }

    fn write(&self) -> Result<RtcReading, Error> {
        Self::write(self)
    }
}

/// Watches the hardware clock. When dropped, its thread ends, at the latest after a reading.
#[derive(Debug)]
pub(crate) struct RtcKeeper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    policy: RtcPolicy,
    /// The system clock minus true time, seconds; none while it is not synchronised.
    system: Option<f64>,
    /// The orders have changed since the last look.
    hurry: bool,
    stop: bool,
    found: RtcFindings,
}

impl RtcKeeper {
    /// Starts to watch `clock`. Writes nothing until it is told to. The first reading of this boot is saved on `disk`.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(clock: HardwareClock, disk: Arc<Disk>, panics: Arc<Panics>) -> io::Result<Self> {
        Self::monitor(clock, disk, panics)
    }

    fn monitor(
        device: impl Device + Send + 'static,
        disk: Arc<Disk>,
        panics: Arc<Panics>,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        Builder::new().name("rtc".to_owned()).spawn(move || {
            let pause = |time| own.pause(time);
            panics.guard(Part::Rtc, pause, || run(&own, &device, RtcMonitor::new(Arc::clone(&disk))));
        })?;
        Ok(Self { shared })
    }

    /// Uses this policy from now on.
    pub(crate) fn apply(&self, policy: RtcPolicy) {
        self.change(|state| std::mem::replace(&mut state.policy, policy) != policy);
    }

    /// The system clock minus true time, seconds, if it is synchronised: only then is it better than the hardware
    /// clock.
    pub(crate) fn follow(&self, system: Option<f64>) {
        self.change(|state| std::mem::replace(&mut state.system, system).is_some() != system.is_some());
    }

    /// The present state.
    pub(crate) fn report(&self) -> RtcReport {
        let state = self.shared.state();
        health::report(&state.found, state.policy, state.system.is_some(), Instant::now())
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.shared.state();
        if change(&mut state) {
            state.hurry = true;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for RtcKeeper {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    // The value is valid at every moment, even after a thread panicked with the lock held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits. Returns false if the thread must end.
    fn pause(&self, time: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !state.stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }
}

/// Interval between looks. A healthy clock drifts by at most a millisecond in that time.
const INTERVAL: Duration = Duration::from_secs(60);

/// The interval while something is wrong, or the kernel is about to write.
const SHORT_INTERVAL: Duration = Duration::from_secs(10);

fn run(shared: &Shared, device: &impl Device, mut monitor: RtcMonitor) {
    loop {
        let mut state = shared.state();
        if state.stop {
            return;
        }
        state.hurry = false;
        drop(state);

        let outcome = device.read();
        // A reading takes one or two seconds. The orders at its end count.
        let mut state = shared.state();
        monitor.saw(outcome, state.system, Instant::now());
        // A write takes seconds, so the state is reported before it.
        state.found = monitor.found();
        let due = state.policy == RtcPolicy::Verified
            && state.system.is_some()
            && monitor.wants_writing(Instant::now());
        drop(state);

        let written = due.then(|| device.write());
        let mut state = shared.state();
        if let Some(outcome) = written {
            monitor.wrote(outcome, state.system, Instant::now());
            state.found = monitor.found();
        }
        let pause = if state.system.is_some() && state.found.is_off() { SHORT_INTERVAL } else { INTERVAL };
        let quiet = |state: &mut State| !state.hurry && !state.stop;
        drop(shared.changed.wait_timeout_while(state, pause, quiet));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use contract::RtcHealth;

    use super::*;
    use crate::{host_root::HostRoot, rtc::monitor::tests::reading, scratch::Scratch};

    /// A clock that shows what it is set to. A write sets it right.
    #[derive(Clone)]
    struct FakeRtc(Arc<Mutex<(f64, u32)>>);

    impl Device for FakeRtc {
        fn read(&self) -> Result<RtcReading, Error> {
            Ok(reading(self.0.lock().unwrap().0))
        }

        fn write(&self) -> Result<RtcReading, Error> {
            *self.0.lock().unwrap() = (0.001, self.writes() + 1);
            self.read()
        }
    }

    impl FakeRtc {
        fn off_by(offset: f64) -> Self {
            Self(Arc::new(Mutex::new((offset, 0))))
        }

        fn writes(&self) -> u32 {
            self.0.lock().unwrap().1
        }
    }

    fn wait_for(keeper: &RtcKeeper, health: RtcHealth) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while keeper.report().health != health {
            assert!(Instant::now() < deadline, "{:?}", keeper.report());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn disk(folder: &Scratch) -> Arc<Disk> {
        Arc::new(Disk::open(folder.path(), "boot-1"))
    }

    fn panics() -> Arc<Panics> {
        Arc::new(Panics::new().unwrap())
    }

    /// A clock whose first reading fails.
    struct Faulty(FakeRtc, std::sync::atomic::AtomicBool);

    impl Device for Faulty {
        fn read(&self) -> Result<RtcReading, Error> {
            assert!(self.1.swap(true, std::sync::atomic::Ordering::Relaxed), "the first reading fails");
            self.0.read()
        }

        fn write(&self) -> Result<RtcReading, Error> {
            self.0.write()
        }
    }

    #[test]
    fn a_thread_that_panics_goes_on() {
        let folder = Scratch::new();
        let device = Faulty(FakeRtc::off_by(0.0), false.into());
        let panics = panics();
        let keeper = RtcKeeper::monitor(device, disk(&folder), Arc::clone(&panics)).unwrap();
        keeper.follow(Some(0.0));
        wait_for(&keeper, RtcHealth::Healthy);
        let news = panics.take_unreported();
        assert!(news.len() == 1 && news[0].contains("rtc failed (the first reading fails)"), "{news:?}");
    }

    #[test]
    fn a_clock_that_is_off_is_written_at_the_first_synchronisation() {
        let (folder, clock) = (Scratch::new(), FakeRtc::off_by(-3_600.0));
        let keeper = RtcKeeper::monitor(clock.clone(), disk(&folder), panics()).unwrap();
        keeper.apply(RtcPolicy::Verified);
        thread::sleep(Duration::from_millis(50));
        assert_eq!((keeper.report().health, clock.writes()), (RtcHealth::Unknown, 0));
        keeper.follow(Some(0.0));
        wait_for(&keeper, RtcHealth::Healthy);
        assert_eq!((keeper.report().writes, clock.writes()), (1, 1));
    }

    #[test]
    fn writing_is_the_kernels_unless_it_is_asked_for() {
        let (folder, clock) = (Scratch::new(), FakeRtc::off_by(-3_600.0));
        let keeper = RtcKeeper::monitor(clock.clone(), disk(&folder), panics()).unwrap();
        keeper.follow(Some(0.0));
        wait_for(&keeper, RtcHealth::Off);
        clock.0.lock().unwrap().0 = 0.0;
        // New orders bring the next look forward.
        keeper.follow(None);
        keeper.follow(Some(0.0));
        wait_for(&keeper, RtcHealth::Healthy);
        assert_eq!((keeper.report().writes, clock.writes()), (0, 0));
    }

    #[test]
    fn a_node_without_rtc_is_told_so() {
        let folder = Scratch::new();
        let clock =
            HardwareClock::new("/dev/no-such-rtc".into(), HostRoot::new(folder.path().to_owned()), None);
        let keeper = RtcKeeper::start(clock, disk(&folder), panics()).unwrap();
        keeper.apply(RtcPolicy::Verified);
        keeper.follow(Some(0.0));
        wait_for(&keeper, RtcHealth::Absent);
        assert_eq!((keeper.report().writes, keeper.report().write_failures), (0, 0));
    }
}
