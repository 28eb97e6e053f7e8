//! `status`: the clock in the report, in the form of `chronyc tracking`.
use contract::{Mode, Report, RtcHealth, TimezoneReport, approximately};

use super::{agent_address::AgentAddress, ask};

/// Prints the clock. Returns true if it is synchronised.
pub(super) fn act(running: &AgentAddress) -> Result<bool, ask::Error> {
    let (report, text) = ask::report(running)?;
    if running.json {
        println!("{text}");
    } else {
        print!("{}", table(&report));
    }
    Ok(report.clock.synchronized)
}

fn table(report: &Report) -> String {
    let clock = &report.clock;
    let seconds = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), approximately);
    let profile = report.profile.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let mode = report.mode.map_or_else(String::new, |mode| format!(" ({mode:?})"));
    let leap = ["none", "insert a second", "delete a second", "unsynchronised"];
    let mut lines = vec![
        ("Profile", format!("{profile}{mode}")),
        ("Synchronized", format!("{} ({})", if clock.synchronized { "yes" } else { "no" }, clock.message)),
        ("Reference", clock.reference.clone().unwrap_or_else(|| "none".to_owned())),
        ("Stratum", clock.stratum.to_string()),
        ("Leap", (*leap.get(usize::from(clock.leap)).unwrap_or(&"unknown")).to_owned()),
        ("Offset", format!("{} (positive: this clock is ahead)", seconds(clock.offset))),
        ("Error bound", seconds(clock.error_bound)),
        ("Jitter", seconds(clock.jitter)),
        ("Root delay", approximately(clock.root_delay)),
        ("Root dispersion", approximately(clock.root_dispersion)),
        ("Frequency", format!("{:+.3} ppm", clock.frequency_ppm)),
        ("Slewing at", slew(report)),
        (
            "Last update",
            clock.last_update_age.map_or_else(|| "never".to_owned(), |age| format!("{age:.1}s ago")),
        ),
        ("Steps this boot", clock.steps.to_string()),
        ("RTC", rtc(report)),
        ("Server", server(report)),
    ];
    if let Some(timezone) = &report.timezone {
        lines.push(("Time zone", zone(timezone)));
    }
    if let Some(conflict) = &report.conflict {
        lines.push(("Conflict", conflict.message.clone()));
    }
    if let Some(boot) = &report.boot {
        let between = if boot.message.is_empty() { "" } else { ": " };
        lines.push(("Boot pod", format!("{}{between}{}", boot.state.as_str(), boot.message)));
    }
    if let Some(error) = &report.state_error {
        lines.push(("State", format!("not saved: {error}")));
    }
    if !report.http_message.is_empty() {
        lines.push(("HTTP", report.http_message.clone()));
    }
    if let Some(error) = &report.profile_error {
        lines.push(("Profile error", format!("{}: {}", error.reason, error.message)));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<16}: {value}\n")).collect()
}

/// The slew that is added to the frequency to remove an offset; empty if the agent does not steer the clock.
fn slew(report: &Report) -> String {
    match report.mode {
        Some(Mode::Discipline) => {
            format!("{:+.3} ppm", report.clock.kernel_frequency_ppm - report.clock.frequency_ppm)
        }
        Some(Mode::Observe) | None => "not steered".to_owned(),
    }
}

/// Health, offset and drift, and a sentence if something is wrong.
fn rtc(report: &Report) -> String {
    let rtc = &report.rtc;
    let mut words = vec![rtc.health.as_str().to_owned()];
    words.extend(rtc.offset.map(approximately));
    words.extend(rtc.drift_ppm.map(|ppm| format!("drift {ppm:+.1} ppm")));
    let is_well = matches!(rtc.health, RtcHealth::Healthy | RtcHealth::Absent | RtcHealth::Unknown);
    let why = if is_well { String::new() } else { format!(": {}", rtc.message) };
    format!("{}{why}", words.join(", "))
}

fn zone(timezone: &TimezoneReport) -> String {
    let name = timezone.name.as_deref().unwrap_or("unknown");
    let between = if timezone.message.is_empty() { "" } else { ": " };
    format!("{name}{between}{}", timezone.message)
}

fn server(report: &Report) -> String {
    let server = &report.server;
    let state = match (server.serving, server.message.as_str()) {
        (true, _) => "serving",
        (false, "") => "not serving",
        (false, message) => message,
    };
    format!("{state}, {} answered, {} dropped, {} kisses", server.answered, server.dropped, server.kod)
}

#[cfg(test)]
mod tests {
    use contract::RtcReport;

    use super::*;
    use crate::{
        report::{Reporter, tests::snapshot},
        timezone::TimezoneOutcome,
    };

    #[test]
    fn a_line_per_fact() {
        let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
        reporter.engine(ntp::Wall(0), Some(snapshot()), &[]);
        let message = "the host has no time zone \"Mars\"".to_owned();
        let report = Some(TimezoneReport { name: Some("UTC".to_owned()), message });
        reporter.timezone(ntp::Wall(0), TimezoneOutcome { report, done: None });
        let table = table(&reporter.report());
        for line in [
            "Synchronized    : yes (Follows a)\n",
            "Offset          : -12us (positive: this clock is ahead)\n",
            "Frequency       : +20.000 ppm\n",
            "Slewing at      : not steered\n",
            "Last update     : 10.0s ago\n",
            "Server          : not serving, 0 answered, 0 dropped, 0 kisses\n",
            "Time zone       : UTC: the host has no time zone \"Mars\"\n",
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
    }

    #[test]
    fn the_rtc_in_one_line_and_why_it_is_not_well() {
        let mut report = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned()).report();
        let mut check = |health, message: &str, offset, drift_ppm, expected: &str| {
            let message = message.to_owned();
            report.rtc = RtcReport { health, message, offset, drift_ppm, ..RtcReport::default() };
            assert_eq!(rtc(&report), expected);
        };
        check(RtcHealth::Absent, "There is none", None, None, "Absent");
        check(RtcHealth::Healthy, "Fine", Some(-0.0012), Some(3.1), "Healthy, -1.2ms, drift +3.1 ppm");
        check(RtcHealth::BatterySuspect, "Replace it", Some(2.0), None, "BatterySuspect, 2.000s: Replace it");
    }
}
