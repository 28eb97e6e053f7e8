//! The report of the hardware clock: its health in one word, and a sentence that says what to do. The sentences have no
//! numbers that change all the time, since they become a condition's message.
use std::time::Instant;

use contract::{RtcHealth, RtcReport};

use super::{
    adjtime::{KernelAssumption, RtcTimebase},
    error::Error,
    monitor::RtcFindings,
    policy::RtcPolicy,
    reading::RtcReading,
};

/// A clock that gains or loses more than this is broken, parts per million: 17 s a day. Crystals of RTCs are made to 20
/// ppm at room temperature, and lose up to 150 ppm at -40 °C.
const DRIFTING_PPM: f64 = 200.0;

/// The report for `found`.
pub(super) fn report(found: &RtcFindings, policy: RtcPolicy, synchronized: bool, now: Instant) -> RtcReport {
    let (health, message) = assess(found, policy, synchronized);
    RtcReport {
        present: !matches!(found.last.map(|look| look.outcome), None | Some(Err(Error::Absent))),
        health,
        message,
        offset: found.reading().map(|reading| reading.offset()),
        drift_ppm: found.drift_ppm,
        read_age: found.last.map(|look| now.duration_since(look.at).as_secs_f64()),
        writes: found.writes,
        write_failures: found.write_failures,
    }
}

/// The first reason that applies. The most serious one comes first.
fn assess(found: &RtcFindings, policy: RtcPolicy, synchronized: bool) -> (RtcHealth, String) {
    let reading = match found.last.map(|look| look.outcome) {
        None => return (RtcHealth::Unknown, "The RTC was not read yet".to_owned()),
        Some(Err(error @ Error::Absent)) => return (RtcHealth::Absent, capital(&error.to_string())),
        Some(Err(error)) if error.denies_access() => return no_access(error, policy),
        Some(Err(error)) => return (RtcHealth::Unreadable, capital(&error.to_string())),
        Some(Ok(reading)) => reading,
    };
    if let Some(failure) = found.write_failure {
        return (RtcHealth::WriteFailed, write_failed(failure));
    }
    let (health, message) = if reading.shows == RtcTimebase::Local {
        (RtcHealth::LocalTime, local_time(&reading))
    } else if found.lost_at_boot {
        let why =
            "The RTC had lost its time when the node booted: its battery is empty or missing, replace it";
        (RtcHealth::BatterySuspect, why)
    } else if found.drift_ppm.is_some_and(|ppm| ppm.abs() > DRIFTING_PPM) {
        let why = "The RTC gains or loses more than 17 s a day: after a day without power the node boots with a wrong \
                   clock; replace the RTC, or the board";
        (RtcHealth::Drifting, why)
    } else if !synchronized {
        (RtcHealth::Unknown, "The system clock is not synchronised, so the RTC cannot be judged by it")
    } else if found.is_off() {
        (RtcHealth::Off, off(&reading, policy))
    } else {
        (RtcHealth::Healthy, "The RTC is within a second of the system clock")
    };
    (health, message.to_owned())
}

/// What the lack means depends on who is to write the clock.
fn no_access(error: Error, policy: RtcPolicy) -> (RtcHealth, String) {
    let (health, rest) = match policy {
        RtcPolicy::Observe => (
            RtcHealth::NoAccess,
            "The agent cannot check it; the kernel writes it every 11 minutes where the agent steers a synchronised \
             clock. To have it checked, set agent.privileged: true in the chart's values",
        ),
        RtcPolicy::Verified => (
            RtcHealth::Unreadable,
            "The agent cannot write it, as rtc.mode Verified asks: set agent.privileged: true in the chart's values, or \
             rtc.mode: Kernel in the policy, if the node's kernel writes it",
        ),
    };
    (health, format!("{}. {rest}", capital(&error.to_string())))
}

/// The failure without the numbers, which are in the log.
fn write_failed(failure: Error) -> String {
    match failure {
        Error::NotVerified { .. } => {
            "The RTC was set twice, and read back it showed another time: the chip, or its driver, does not keep what is \
             written"
                .to_owned()
        }
        other => capital(&other.to_string()),
    }
}

fn local_time(reading: &RtcReading) -> &'static str {
    match reading.kernel {
        KernelAssumption::Agrees => {
            "The RTC shows local time, as /etc/adjtime says: a node that boots in the hour that exists twice cannot know its \
             time. Let it show UTC: `hwclock --systohc --utc` on the host, then reboot, since the kernel writes local \
             time into it until then"
        }
        KernelAssumption::Utc => {
            "The RTC shows local time, as /etc/adjtime says, and the kernel writes UTC into it while the clock is \
             synchronised. Let it show UTC: `hwclock --systohc --utc` on the host"
        }
        KernelAssumption::OtherOffset => {
            "The RTC shows local time, as /etc/adjtime says, and the kernel writes it by an offset that does not hold any \
             more, as after a change of summer time. Let it show UTC: `hwclock --systohc --utc` on the host, then reboot"
        }
    }
}

fn off(reading: &RtcReading, policy: RtcPolicy) -> &'static str {
    match (policy, reading.kernel) {
        (_, KernelAssumption::OtherOffset) => {
            "The RTC is more than a second from the system clock: /etc/adjtime says UTC, and the kernel, which was told \
             otherwise at boot, writes local time; reboot"
        }
        (RtcPolicy::Verified, _) => {
            "The RTC is more than a second from the system clock; the agent writes it"
        }
        (RtcPolicy::Observe, _) => {
            "The RTC is more than a second from the system clock; the kernel writes it every 11 minutes where the agent \
             steers a synchronised clock"
        }
    }
}

/// Makes the first letter of a sentence a capital.
fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtc::monitor::{RtcCheck, tests::reading};

    fn found(outcome: Result<RtcReading, Error>) -> RtcFindings {
        RtcFindings { last: Some(RtcCheck { outcome, at: Instant::now() }), ..RtcFindings::default() }
    }

    #[track_caller]
    fn check(found: &RtcFindings, synchronized: bool, health: RtcHealth, says: &str) {
        let report = report(found, RtcPolicy::Observe, synchronized, Instant::now());
        assert_eq!(report.health, health, "{report:?}");
        assert!(report.message.contains(says), "{says:?} is not in {:?}", report.message);
        assert!(report.message.starts_with(char::is_uppercase), "{:?}", report.message);
        let absent = matches!(found.last.map(|look| look.outcome), None | Some(Err(Error::Absent)));
        assert_eq!((report.present, report.offset), (!absent, found.reading().map(|seen| seen.offset())));
    }

    #[test]
    fn health_in_one_word_and_what_to_do() {
        check(&RtcFindings::default(), true, RtcHealth::Unknown, "not read yet");
        check(&found(Err(Error::Absent)), true, RtcHealth::Absent, "virtual machines");
        check(&found(Err(Error::NoTick)), true, RtcHealth::Unreadable, "does not tick");
        check(&found(Err(Error::LostTime)), true, RtcHealth::Unreadable, "takes a write");
        check(&found(Ok(reading(0.003))), true, RtcHealth::Healthy, "within a second");
        check(&found(Ok(reading(0.003))), false, RtcHealth::Unknown, "not synchronised");
        check(&found(Ok(reading(-9e7))), false, RtcHealth::Unknown, "not synchronised");
        check(&found(Ok(reading(-9e7))), true, RtcHealth::Off, "every 11 minutes");
    }

    #[test]
    fn a_clock_that_may_not_be_opened_is_a_fault_only_if_the_agent_is_to_write_it() {
        let denied = found(Err(Error::NoDevice));
        check(&denied, true, RtcHealth::NoAccess, "the kernel writes it every 11 minutes");
        check(&denied, false, RtcHealth::NoAccess, "agent.privileged: true");
        let asked = report(&denied, RtcPolicy::Verified, true, Instant::now());
        assert_eq!((asked.health, asked.present), (RtcHealth::Unreadable, true));
        for way in ["rtc.mode Verified asks", "agent.privileged: true", "rtc.mode: Kernel"] {
            assert!(asked.message.contains(way), "{asked:?}");
        }
    }

    #[test]
    fn what_hinders_most_is_said_first() {
        let mut worst = found(Ok(reading(-9e7)));
        worst.drift_ppm = Some(-201.0);
        check(&worst, true, RtcHealth::Drifting, "17 s a day");
        check(&worst, false, RtcHealth::Drifting, "17 s a day");
        worst.lost_at_boot = true;
        check(&worst, true, RtcHealth::BatterySuspect, "replace it");
        worst.last = found(Ok(RtcReading { shows: RtcTimebase::Local, ..reading(0.0) })).last;
        check(&worst, true, RtcHealth::LocalTime, "hwclock --systohc --utc");
        worst.write_failure = Some(Error::NotVerified { offset: 0.3 });
        check(&worst, true, RtcHealth::WriteFailed, "set twice");
        worst.write_failure = Some(Error::TooLate);
        check(&worst, true, RtcHealth::WriteFailed, "too busy");
        worst.last = found(Err(Error::NoTick)).last;
        check(&worst, true, RtcHealth::Unreadable, "tick");
        worst.last = found(Err(Error::Absent)).last;
        check(&worst, true, RtcHealth::Absent, "no RTC");
        let steady = RtcFindings { drift_ppm: Some(199.0), ..found(Ok(reading(0.0))) };
        check(&steady, true, RtcHealth::Healthy, "");
    }

    #[test]
    fn who_writes_what_is_said() {
        let seen = |shows, kernel| found(Ok(RtcReading { shows, kernel, ..reading(3_600.0) }));
        check(
            &seen(RtcTimebase::Local, KernelAssumption::Utc),
            true,
            RtcHealth::LocalTime,
            "writes UTC into it",
        );
        check(
            &seen(RtcTimebase::Local, KernelAssumption::OtherOffset),
            true,
            RtcHealth::LocalTime,
            "summer time",
        );
        check(
            &seen(RtcTimebase::Utc, KernelAssumption::OtherOffset),
            true,
            RtcHealth::Off,
            "writes local time; reboot",
        );
        let ours = report(&found(Ok(reading(9.0))), RtcPolicy::Verified, true, Instant::now());
        assert!(ours.message.ends_with("the agent writes it"), "{ours:?}");
    }
}
