//! Evaluates the readings of the hardware clock: its state, and whether it must be written. Readings and times in;
//! findings out. The state folder keeps the time that the clock showed when the node booted.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{adjtime::RtcTimebase, drift::Drift, error::Error, reading::RtcReading};
use crate::state::{RtcAtBoot, State};

/// The findings from all readings so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RtcFindings {
    pub(super) last: Option<RtcCheck>,
    /// When the agent last wrote the clock, or tried to.
    pub(super) written: Option<Instant>,
    pub(super) write_failure: Option<Error>,
    pub(super) writes: u64,
    pub(super) write_failures: u64,
    /// How much the clock gains on true time, parts per million.
    pub(super) drift_ppm: Option<f64>,
    /// True if the clock had lost its time at the first reading of this boot.
    pub(super) lost_at_boot: bool,
}

/// One attempt to read the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct RtcCheck {
    pub(super) outcome: Result<RtcReading, Error>,
    pub(super) at: Instant,
}

impl RtcFindings {
    /// The last reading, if the last attempt was successful.
    pub(super) fn reading(&self) -> Option<RtcReading> {
        self.last.and_then(|look| look.outcome.ok())
    }

    /// Returns true if the clock is more than a second from the system clock.
    pub(super) fn is_off(&self) -> bool {
        self.reading().is_some_and(|reading| reading.offset().abs() > OFF)
    }
}

/// A clock that is further than this from a synchronised clock is unhealthy, seconds.
const OFF: f64 = 1.0;

/// Keeps the findings.
#[derive(Debug)]
pub(super) struct RtcMonitor {
    state: Arc<State>,
    found: RtcFindings,
    at_boot: Option<RtcAtBoot>,
    drift: Drift,
}

impl RtcMonitor {
    /// No readings yet, except that of this boot if `state` has it.
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state, found: RtcFindings::default(), at_boot: None, drift: Drift::default() }
    }

    /// The present findings.
    pub(super) fn found(&self) -> RtcFindings {
        self.found
    }

    /// Takes the outcome of an attempt to read the clock. `system` is the system clock minus true time, seconds; none
    /// while it is not synchronised.
    pub(super) fn saw(&mut self, outcome: Result<RtcReading, Error>, system: Option<f64>, now: Instant) {
        if let Err(error) = outcome
            && self.found.last.is_none_or(|last| last.outcome != outcome)
        {
            match error {
                Error::Absent => info!("This node has no RTC"),
                error if error.denies_access() => info!(%error, "RTC is not accessible"),
                error => warn!(%error, "RTC cannot be read"),
            }
        }
        if outcome.is_ok_and(|reading| reading.offset().abs() <= WORTH_WRITING) {
            // Another process set it right, or it is good enough after all.
            self.found.write_failure = None;
        }
        self.look_at_boot(&outcome);
        self.found.last = Some(RtcCheck { outcome, at: now });
        self.follow(outcome.ok(), system, now);
    }

    /// Takes the outcome of a write.
    pub(super) fn wrote(&mut self, outcome: Result<RtcReading, Error>, system: Option<f64>, now: Instant) {
        let before = self.found.reading().map(|reading| reading.offset());
        self.found.written = Some(now);
        self.drift.interrupt();
        match outcome {
            Ok(reading) => {
                info!(
                    offset_before_s = before,
                    offset_after_s = reading.offset(),
                    "RTC written and verified"
                );
                self.found.writes += 1;
                self.found.write_failure = None;
                self.found.last = Some(RtcCheck { outcome, at: now });
                self.follow(Some(reading), system, now);
            }
            Err(error) => {
                warn!(%error, "RTC could not be written");
                self.found.write_failures += 1;
                self.found.write_failure = Some(error);
            }
        }
    }

    /// Returns true if the clock is so wrong that a write is due, provided that the system clock is right.
    pub(super) fn wants_writing(&self, now: Instant) -> bool {
        let wrong = match self.found.last.map(|look| look.outcome) {
            Some(Ok(reading)) => reading.offset().abs() > WORTH_WRITING,
            // Some drivers return other errors for a clock that has lost its time, and a write repairs it.
            Some(Err(Error::LostTime | Error::Read(_))) => true,
            Some(Err(_)) | None => false,
        };
        let pause = if self.found.write_failure.is_some() { AFTER_FAILURE } else { BETWEEN_WRITES };
        let rested = self.found.written.is_none_or(|written| now.duration_since(written) >= pause);
        rested && wrong
    }

    fn follow(&mut self, reading: Option<RtcReading>, system: Option<f64>, now: Instant) {
        let Some(system) = system else {
            self.drift.interrupt();
            return;
        };
        if let Some(reading) = reading.filter(|reading| reading.late <= TOO_VAGUE) {
            self.drift.take(now, reading.offset() + system, reading.late);
        }
        self.found.drift_ppm = self.drift.ppm().or(self.found.drift_ppm);
    }

    /// Uses the first reading of a boot, which shows whether the clock kept its time while the node was off.
    fn look_at_boot(&mut self, outcome: &Result<RtcReading, Error>) {
        if self.at_boot.is_some() {
            return;
        }
        self.at_boot = first_look(outcome, &self.state);
        let tolerance = tolerance(outcome.map_or(RtcTimebase::Utc, |reading| reading.shows));
        self.found.lost_at_boot = self.at_boot.is_some_and(|at_boot| at_boot.lost(tolerance));
        if self.found.lost_at_boot {
            warn!("The RTC had lost its time when the node booted: its battery may be empty");
        }
    }
}

/// The time that the clock showed at the first reading of this boot: this one, unless `state` has an earlier one. None
/// if the attempt failed for another reason than lost time.
pub(super) fn first_look(outcome: &Result<RtcReading, Error>, state: &State) -> Option<RtcAtBoot> {
    match outcome {
        Ok(reading) => Some(state.rtc_at_boot(Some(reading.wall()))),
        Err(Error::LostTime) => Some(state.rtc_at_boot(None)),
        Err(_) => None,
    }
}

/// A clock with a good battery may be this far behind the last time known to be right: the kernel sets it every 11
/// minutes, or it was not set for weeks. A clock in local time can be read one hour too early, in the hour that occurs
/// twice.
fn tolerance(shows: RtcTimebase) -> f64 {
    match shows {
        RtcTimebase::Utc => 60.0,
        RtcTimebase::Local => 3_660.0,
    }
}

/// A deviation that justifies a write: several times the error of a good reading, and more than an RTC drifts within an
/// hour after a write.
const WORTH_WRITING: f64 = 0.050;

/// Shortest time between writes.
const BETWEEN_WRITES: Duration = Duration::from_secs(60);

/// The same after a failed write: some clocks cannot be set to a fraction of a second at all.
const AFTER_FAILURE: Duration = Duration::from_secs(600);

/// A reading that may be late by more than this is not used for the drift.
const TOO_VAGUE: Duration = Duration::from_millis(5);

#[cfg(test)]
pub(super) mod tests {
    use ntp::Wall;

    use super::*;
    use crate::{rtc::KernelAssumption, scratch::Scratch};

    const NOW: i64 = 1_800_000_000;

    pub(in crate::rtc) fn reading(offset: f64) -> RtcReading {
        RtcReading {
            seconds: NOW,
            at: Wall(NOW * 1_000_000_000).plus(-offset),
            late: Duration::from_millis(1),
            shows: RtcTimebase::Utc,
            kernel: KernelAssumption::Agrees,
        }
    }

    fn watch(folder: &Scratch) -> RtcMonitor {
        RtcMonitor::new(Arc::new(State::open(folder.path(), "boot-1")))
    }

    #[test]
    fn writing_is_for_a_deviation_and_rare() {
        let (folder, now) = (Scratch::new(), Instant::now());
        let check = |outcome: Result<RtcReading, Error>, expected: bool| {
            let mut watch = watch(&folder);
            watch.saw(outcome, Some(0.0), now);
            assert_eq!(watch.wants_writing(now), expected, "{outcome:?}");
        };
        check(Ok(reading(-9e7)), true);
        check(Ok(reading(0.051)), true);
        check(Ok(reading(0.049)), false);
        check(Err(Error::LostTime), true);
        check(Err(Error::NoTick), false);
        check(Err(Error::Absent), false);
        check(Err(Error::NoDevice), false);
        assert!(!watch(&folder).wants_writing(now));
    }

    #[test]
    fn a_write_that_failed_is_tried_again_after_a_while() {
        let (folder, now) = (Scratch::new(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut watch = watch(&folder);
        watch.saw(Ok(reading(5.0)), Some(0.0), now);
        watch.wrote(Ok(reading(0.001)), Some(0.0), now);
        assert_eq!((watch.found().writes, watch.found().reading()), (1, Some(reading(0.001))));
        watch.saw(Ok(reading(5.0)), Some(0.0), now);
        assert!(!watch.wants_writing(after(59)) && watch.wants_writing(after(60)));
        watch.wrote(Err(Error::TooLate), Some(0.0), now);
        assert_eq!((watch.found().write_failures, watch.found().write_failure), (1, Some(Error::TooLate)));
        assert!(!watch.wants_writing(after(599)) && watch.wants_writing(after(600)));
        watch.saw(Ok(reading(0.01)), Some(0.0), now);
        assert_eq!(watch.found().write_failure, None);
    }

    #[test]
    fn a_clock_that_lost_its_time_is_remembered_for_the_boot() {
        let check = |floor: Option<f64>, outcome: Result<RtcReading, Error>, expected: bool| {
            let folder = Scratch::new();
            let state = |boot: &str| Arc::new(State::open(folder.path(), boot));
            if let Some(ago) = floor {
                state("boot-0").save_time(Wall(NOW * 1_000_000_000).plus(-ago));
            }
            let now = Instant::now();
            let lost = |boot: &str, outcome| {
                let mut watch = RtcMonitor::new(state(boot));
                watch.saw(outcome, None, now);
                watch.found().lost_at_boot
            };
            assert_eq!(lost("boot-1", outcome), expected, "{floor:?} {outcome:?}");
            // The clock was written in the meantime, and the time is saved further on. Then the agent starts again.
            state("boot-1").save_time(Wall(NOW * 1_000_000_000).plus(7_200.0));
            let shows = outcome.map_or(RtcTimebase::Utc, |seen| seen.shows);
            let again = lost("boot-1", Ok(RtcReading { shows, ..reading(0.0) }));
            assert_eq!(again, expected, "{floor:?} {outcome:?}");
        };
        check(Some(30.0), Ok(reading(0.0)), false);
        check(Some(-59.0), Ok(reading(0.0)), false);
        check(Some(-61.0), Ok(reading(0.0)), true);
        check(Some(-61.0), Ok(RtcReading { shows: RtcTimebase::Local, ..reading(0.0) }), false);
        check(Some(-2e8), Ok(reading(0.0)), true);
        check(None, Ok(reading(0.0)), false);
        check(None, Err(Error::LostTime), true);
    }

    #[test]
    fn a_good_clock_acquits_its_battery_at_the_next_boot() {
        let folder = Scratch::new();
        let state = |boot: &str| Arc::new(State::open(folder.path(), boot));
        let mut watch = RtcMonitor::new(state("boot-1"));
        watch.saw(Err(Error::Absent), None, Instant::now());
        watch.saw(Err(Error::LostTime), None, Instant::now());
        assert!(watch.found().lost_at_boot);
        let mut watch = RtcMonitor::new(state("boot-2"));
        watch.saw(Ok(reading(0.0)), None, Instant::now());
        assert!(!watch.found().lost_at_boot);
    }

    #[test]
    fn drift_is_told_while_synchronised_and_between_writes() {
        let (folder, start) = (Scratch::new(), Instant::now());
        let at = |minute: u32| start + Duration::from_secs(60) * minute;
        let mut watch = watch(&folder);
        for minute in 0..30 {
            watch.saw(Ok(reading(0.006 * f64::from(minute))), None, at(minute));
        }
        assert_eq!(watch.found().drift_ppm, None);
        for minute in 30..45 {
            // The RTC keeps true time. The system clock is moved by a known slew.
            let system = 0.2 - 0.006 * f64::from(minute);
            watch.saw(Ok(reading(-system)), Some(system), at(minute));
        }
        let drift = watch.found().drift_ppm.unwrap();
        assert!(drift.abs() < 0.1, "{drift}");
        for minute in 45..100 {
            let ahead = 0.018 * f64::from(minute % 4 + 1);
            watch.saw(Ok(reading(ahead)), Some(0.0), at(minute));
            if minute % 4 == 3 {
                watch.wrote(Ok(reading(0.0)), Some(0.0), at(minute));
            }
        }
        let drift = watch.found().drift_ppm.unwrap();
        assert!((drift - 300.0).abs() < 1.0, "{drift}");
        // The drift is kept while true time is not known.
        watch.saw(Ok(reading(0.5)), None, at(101));
        assert_eq!(watch.found().drift_ppm, Some(drift));
        let vague = RtcReading { late: Duration::from_millis(6), ..reading(0.7) };
        watch.saw(Ok(vague), Some(0.0), at(102));
        assert_eq!(watch.found().drift_ppm, Some(drift));
    }

    #[test]
    fn a_clock_that_is_written_at_each_look_drifts_all_the_same() {
        let (folder, start) = (Scratch::new(), Instant::now());
        let mut watch = watch(&folder);
        for minute in 0..15 {
            let now = start + Duration::from_secs(60) * minute;
            watch.saw(Ok(reading(0.120)), Some(0.0), now);
            watch.wrote(Ok(reading(0.0)), Some(0.0), now);
        }
        let drift = watch.found().drift_ppm.unwrap();
        assert!((drift - 2_000.0).abs() < 1.0, "{drift}");
    }
}
