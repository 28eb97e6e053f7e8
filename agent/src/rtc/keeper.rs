//! The thread that watches the hardware clock, and keeps it right where it is told to.
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::Builder,
    time::{Duration, Instant},
};

use contract::{RtcHealth, RtcReport, approximately};
use tracing::{info, warn};

use super::{Error, RtcReading, read, write_now};

/// Who writes the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RtcPolicy {
    /// Not us: either nobody, or the kernel while it believes its clock synchronised.
    #[default]
    Observe,
    /// We too, whenever it is off.
    Verified,
}

/// Watches the hardware clock. Its thread ends, after a reading at most, when it is dropped.
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
    synchronized: bool,
    /// Orders changed since the last look.
    hurry: bool,
    stop: bool,
    found: Found,
}

/// What the looks at the clock brought.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    last: Option<Look>,
    written: Option<Instant>,
    write_failure: Option<Error>,
    writes: u64,
    write_failures: u64,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    outcome: Result<RtcReading, Error>,
    at: Instant,
}

impl RtcKeeper {
    /// Starts to watch `device`; writes nothing until it is told to.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(device: PathBuf) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        Builder::new().name("rtc".to_owned()).spawn(move || keep(&own, &device))?;
        Ok(Self { shared })
    }

    /// Who writes from now on.
    pub(crate) fn apply(&self, policy: RtcPolicy) {
        self.change(|state| std::mem::replace(&mut state.policy, policy) != policy);
    }

    /// Whether the system clock is synchronised: only then is it better than the hardware clock.
    pub(crate) fn set_synchronized(&self, synchronized: bool) {
        self.change(|state| std::mem::replace(&mut state.synchronized, synchronized) != synchronized);
    }

    /// What is known now.
    pub(crate) fn report(&self) -> RtcReport {
        let state = self.shared.state();
        report(&state.found, state.synchronized, Instant::now())
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
    // Whole at every moment, so a thread that panicked while it held it left nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between looks: a healthy clock drifts by a millisecond in that time, at worst.
const CALM: Duration = Duration::from_secs(60);

/// While something is wrong, or the kernel is about to write.
const WATCHFUL: Duration = Duration::from_secs(10);

fn keep(shared: &Shared, device: &Path) {
    loop {
        let mut state = shared.state();
        if state.stop {
            return;
        }
        state.hurry = false;
        let (policy, synchronized, mut found) = (state.policy, state.synchronized, state.found);
        drop(state);

        look(device, &mut found);
        // A write takes seconds; what is known is told before.
        shared.state().found = found;
        if policy == RtcPolicy::Verified && synchronized && wants_writing(&found, Instant::now()) {
            write(device, &mut found);
        }

        let mut state = shared.state();
        state.found = found;
        let pause = if is_off(&found, state.synchronized) { WATCHFUL } else { CALM };
        let quiet = |state: &mut State| !state.hurry && !state.stop;
        drop(shared.changed.wait_timeout_while(state, pause, quiet));
    }
}

fn look(device: &Path, found: &mut Found) {
    let outcome = read(device);
    if let Err(error) = outcome
        && found.last.is_none_or(|last| last.outcome != outcome)
    {
        match error {
            Error::Absent => info!("This node has no RTC"),
            error => warn!(%error, "RTC cannot be read"),
        }
    }
    if outcome.is_ok_and(|reading| reading.offset().abs() <= WORTH_WRITING) {
        // Set right by somebody else, or good enough after all.
        found.write_failure = None;
    }
    found.last = Some(Look { outcome, at: Instant::now() });
}

/// A deviation that is worth a write: several times what a good reading is off by, and what an RTC that was just
/// written drifts by in an hour at most.
const WORTH_WRITING: f64 = 0.050;

/// Writes are at least so far apart.
const BETWEEN_WRITES: Duration = Duration::from_secs(60);

/// After one that failed: some clocks cannot be set to the fraction of a second at all.
const AFTER_FAILURE: Duration = Duration::from_secs(600);

fn wants_writing(found: &Found, now: Instant) -> bool {
    let wrong = match found.last.map(|look| look.outcome) {
        Some(Ok(reading)) => reading.offset().abs() > WORTH_WRITING,
        // So answers a clock that has lost its time, and it is a write that heals it.
        Some(Err(Error::Read(_))) => true,
        Some(Err(_)) | None => false,
    };
    let pause = if found.write_failure.is_some() { AFTER_FAILURE } else { BETWEEN_WRITES };
    let rested = found.written.is_none_or(|written| now.duration_since(written) >= pause);
    rested && wrong
}

fn write(device: &Path, found: &mut Found) {
    let before = found.last.and_then(|look| look.outcome.ok()).map(|reading| reading.offset());
    let outcome = write_now(device);
    found.written = Some(Instant::now());
    match outcome {
        Ok(reading) => {
            info!(offset_before_s = before, offset_after_s = reading.offset(), "RTC written and verified");
            found.writes += 1;
            found.write_failure = None;
            found.last = Some(Look { outcome, at: Instant::now() });
        }
        Err(error) => {
            warn!(%error, "RTC could not be written");
            found.write_failures += 1;
            found.write_failure = Some(error);
        }
    }
}

/// More than this from a synchronised clock is unhealthy, seconds.
const OFF: f64 = 1.0;

fn is_off(found: &Found, synchronized: bool) -> bool {
    let offset = found.last.and_then(|look| look.outcome.ok()).map(|reading| reading.offset());
    synchronized && offset.is_some_and(|offset| offset.abs() > OFF)
}

fn report(found: &Found, synchronized: bool, now: Instant) -> RtcReport {
    let Some(look) = found.last else {
        return blank("not read yet");
    };
    let mut report = RtcReport {
        read_age: Some(now.duration_since(look.at).as_secs_f64()),
        writes: found.writes,
        write_failures: found.write_failures,
        ..blank("")
    };
    match look.outcome {
        Err(Error::Absent) => report.health = RtcHealth::Absent,
        Err(_) => {
            report.present = true;
            report.health = RtcHealth::Unreadable;
        }
        Ok(reading) => {
            report.present = true;
            report.offset = Some(reading.offset());
            report.health = match found.write_failure {
                Some(_) => RtcHealth::WriteFailed,
                None if !synchronized => RtcHealth::Unknown,
                None if is_off(found, synchronized) => RtcHealth::Off,
                None => RtcHealth::Healthy,
            };
        }
    }
    report.message = message(&look.outcome, found.write_failure, synchronized);
    report
}

fn blank(message: &str) -> RtcReport {
    RtcReport {
        present: false,
        health: RtcHealth::Unknown,
        message: message.to_owned(),
        offset: None,
        drift_ppm: None,
        read_age: None,
        writes: 0,
        write_failures: 0,
    }
}

fn message(outcome: &Result<RtcReading, Error>, write_failure: Option<Error>, synchronized: bool) -> String {
    match (outcome, write_failure) {
        (Err(error), _) => error.to_string(),
        (Ok(_), Some(failure)) => failure.to_string(),
        (Ok(reading), None) => {
            let clock =
                if synchronized { "the system clock" } else { "the system clock, which is not synchronised" };
            let offset = reading.offset();
            let side = if offset < 0.0 { "behind" } else { "ahead of" };
            format!("{} {side} {clock}", approximately(offset.abs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ntp::Wall;

    use super::*;

    fn found(offset: f64) -> Found {
        let reading = RtcReading { seconds: 1_800_000_000, at: Wall(1_800_000_000_000_000_000) + -offset };
        Found { last: Some(Look { outcome: Ok(reading), at: Instant::now() }), ..Found::default() }
    }

    fn failed(error: Error) -> Found {
        Found { last: Some(Look { outcome: Err(error), at: Instant::now() }), ..Found::default() }
    }

    #[test]
    fn health_in_one_word() {
        let check = |found: Found, synchronized: bool, health: RtcHealth, present: bool, message: &str| {
            let report = report(&found, synchronized, Instant::now());
            assert_eq!((report.health, report.present, report.message.as_str()), (health, present, message));
        };
        check(Found::default(), true, RtcHealth::Unknown, false, "not read yet");
        check(failed(Error::Absent), true, RtcHealth::Absent, false, "there is no RTC");
        check(failed(Error::NoTick), true, RtcHealth::Unreadable, true, "the RTC does not tick");
        check(found(0.003), true, RtcHealth::Healthy, true, "3.0ms ahead of the system clock");
        check(found(-9e7), true, RtcHealth::Off, true, "90000000.000s behind the system clock");
        let unsynchronised = "90000000.000s behind the system clock, which is not synchronised";
        check(found(-9e7), false, RtcHealth::Unknown, true, unsynchronised);
        let bad = Found { write_failure: Some(Error::TooLate), write_failures: 1, ..found(0.3) };
        check(bad, true, RtcHealth::WriteFailed, true, &Error::TooLate.to_string());
    }

    #[test]
    fn writing_is_for_a_deviation_and_rare() {
        let now = Instant::now();
        assert!(wants_writing(&found(-9e7), now) && wants_writing(&found(0.051), now));
        assert!(!wants_writing(&found(0.049), now) && !wants_writing(&failed(Error::NoTick), now));
        assert!(!wants_writing(&Found::default(), now));
        let written = Found { written: Some(now), ..found(5.0) };
        assert!(!wants_writing(&written, now + Duration::from_secs(59)));
        assert!(wants_writing(&written, now + Duration::from_secs(60)));
        let bad = Found { write_failure: Some(Error::TooLate), ..written };
        assert!(!wants_writing(&bad, now + Duration::from_secs(599)));
        assert!(wants_writing(&bad, now + Duration::from_secs(600)));
    }

    #[test]
    fn a_node_without_rtc_is_told_so() {
        let keeper = RtcKeeper::start(PathBuf::from("/dev/no-such-rtc")).unwrap();
        keeper.apply(RtcPolicy::Verified);
        keeper.set_synchronized(true);
        let deadline = Instant::now() + Duration::from_secs(20);
        while keeper.report().health != RtcHealth::Absent {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((keeper.report().writes, keeper.report().write_failures), (0, 0));
    }
}
