//! A report to begin tests with: a synchronised node, all well. Tests only.
use contract::{
    Assignment, ClockReport, Mode, ProfileName, Reason, Report, RtcHealth, RtcReport, ServerReport,
};
use contract::{SourceReport, SourceState};

/// The node runs `default` made of an empty text, follows source a and is 0.4 ms behind.
pub(crate) fn report() -> Report {
    let profile = ProfileName::of("default", "");
    Report {
        version: "0.1.0".to_owned(),
        boot_id: "boot".to_owned(),
        instance: "i1".to_owned(),
        sequence: 7,
        assignment: Assignment::Profile(profile.clone()),
        profile: Some(profile),
        profile_error: None,
        mode: Some(Mode::Discipline),
        clock: ClockReport {
            synchronized: true,
            reason: Reason::Synchronized,
            message: "2 of 2 sources agree.".to_owned(),
            leap: 0,
            stratum: 3,
            reference: Some("a".to_owned()),
            offset: Some(-412e-6),
            jitter: Some(30e-6),
            error_bound: Some(3.1e-3),
            root_delay: 1e-3,
            root_dispersion: 2e-3,
            frequency_ppm: -12.345,
            kernel_frequency_ppm: -12.0,
            last_update_age: Some(3.0),
            steps: 0,
            last_step: None,
            restored: 0,
            resumed: 0,
            external_steps: 0,
            last_external_step: None,
            start_phase: false,
        },
        sources: vec![SourceReport {
            name: "a".to_owned(),
            address: Some("192.0.2.10".to_owned()),
            state: SourceState::Selected,
            message: String::new(),
            reach: 0o377,
            stratum: 2,
            offset: Some(-412e-6),
            delay: Some(200e-6),
            jitter: Some(30e-6),
            poll: 4,
            last_answer_age: Some(3.0),
            sent: 10,
            received: 10,
            rejected: 0,
        }],
        conflict: None,
        timezone: None,
        rtc: RtcReport {
            present: true,
            health: RtcHealth::Healthy,
            message: "Within a second of the system clock.".to_owned(),
            offset: Some(0.1),
            drift_ppm: None,
            read_age: Some(10.0),
            writes: 1,
            write_failures: 0,
        },
        server: ServerReport { enabled: true, serving: true, ..ServerReport::default() },
        transitions: vec![],
    }
}
