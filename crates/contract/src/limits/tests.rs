//! Reports that are too large, or have other faults.
use super::*;
use crate::{SourceState, TransitionKind};

fn report() -> Report {
    serde_json::from_str(
        r#"{"version":"0.1.0","boot_id":"b","instance":"i","sequence":7,"assignment":"None","profile":null,
        "profile_error":{"reason":"ProfileInvalid","message":"m"},"mode":"Discipline",
        "clock":{"synchronized":true,"reason":"Synchronized","message":"Follows s0","leap":0,"stratum":3,"reference":"s0",
            "offset":-0.000412,"jitter":null,"error_bound":0.0031,"root_delay":0.001,"root_dispersion":0.002,
            "frequency_ppm":-12.345,"kernel_frequency_ppm":-12.0,"last_update_age":3.0,"steps":1,
            "last_step":{"at":1.0,"by":-3.0},"start_phase":false},
        "sources":[{"name":"s0","address":"192.0.2.10","state":"Selected","message":"","reach":255,"stratum":2,
            "offset":null,"delay":null,"jitter":null,"poll":4,"last_answer_age":null,"sent":1,"received":1,"rejected":0}],
        "conflict":{"since":1.0,"message":"m","suspects":["chronyd (pid 312)"]},
        "rtc":{"present":true,"health":"Healthy","message":"","offset":0.1,"read_age":1.0,"writes":1,"write_failures":0},
        "timezone":{"name":"UTC","message":""},"boot":{"state":"Absent","message":""},"state_error":"disk full",
        "server":{"serving":true,"message":"","answered":1,"dropped":0,"kod":0},
        "transitions":[{"number":1,"at":1.0,"kind":"Stepped","message":"By -3 s"}]}"#,
    )
    .unwrap()
}

fn json(report: &Report) -> usize {
    serde_json::to_vec(report).unwrap().len()
}

/// Sources as an agent with upstreams all over the world has them: addresses of 39 characters, numbers with all their
/// digits.
fn sources(count: usize, state: SourceState, message: &str) -> Vec<SourceReport> {
    let source = |number| SourceReport {
        name: format!("pool{}.example.com#{}", number / 16, number % 16),
        address: Some("2001:db8:1234:5678:9abc:def0:1234:5678".to_owned()),
        state,
        message: message.to_owned(),
        offset: Some(-0.000_412_123_456_789_01),
        delay: Some(0.012_345_678_901_234_5),
        jitter: Some(0.000_001_234_567_890_1),
        last_answer_age: Some(512.123_456_789),
        sent: 1_234_567,
        received: 1_234_567,
        ..report().sources[0].clone()
    };
    (0..count).map(source).collect()
}

fn transitions(numbers: impl IntoIterator<Item = u64>, message: &str) -> Vec<Transition> {
    let transition =
        |number| Transition { number, at: 1.8e9, kind: TransitionKind::Stepped, message: message.to_owned() };
    numbers.into_iter().map(transition).collect()
}

/// Every text of the report, and the limit of each.
fn texts(report: &mut Report) -> Vec<(&mut String, usize)> {
    let ProfileError { reason: _, message } = report.profile_error.as_mut().unwrap();
    let ConflictReport { message: conflict, suspects, .. } = report.conflict.as_mut().unwrap();
    let TimezoneReport { name: zone, message: zone_message } = report.timezone.as_mut().unwrap();
    let names = [&mut report.version, &mut report.boot_id, &mut report.instance];
    let names = names.into_iter().chain(suspects).chain(zone).chain(report.clock.reference.as_mut());
    let mut all: Vec<_> = names.map(|name| (name, LONGEST_NAME)).collect();
    let boot = &mut report.boot.as_mut().unwrap().message;
    let messages = [
        message,
        conflict,
        zone_message,
        boot,
        report.state_error.as_mut().unwrap(),
        &mut report.clock.message,
        &mut report.rtc.message,
        &mut report.server.message,
        &mut report.http_message,
    ];
    all.extend(messages.map(|message| (message, LONGEST_MESSAGE)));
    for SourceReport { name, address, message, .. } in &mut report.sources {
        all.extend([(name, LONGEST_NAME), (address.as_mut().unwrap(), LONGEST_NAME)]);
        all.push((message, LONGEST_MESSAGE));
    }
    all.extend(report.transitions.iter_mut().map(|transition| (&mut transition.message, LONGEST_MESSAGE)));
    all
}

#[test]
fn a_report_within_the_limits_stays_as_it_is() {
    let (mut clamped, report) = (report(), report());
    clamped.clamp();
    clamped.fit(json);
    assert_eq!(clamped, report);
}

#[test]
fn every_text_is_cut() {
    let mut report = report();
    // The texts begin differently, so that the limit is not always at the end of a three-octet character.
    let count = texts(&mut report).len();
    assert!(count > 15, "{count}");
    for (index, (text, _)) in texts(&mut report).into_iter().enumerate() {
        *text = "x".repeat(index % 3) + &"€".repeat(300_000);
    }
    report.clamp();
    for (text, longest) in texts(&mut report) {
        assert!(text.len() <= longest && text.len() > longest - 6, "{} of {longest}", text.len());
        assert!(text.ends_with("€…"), "{text}");
        assert!(text.capacity() < 2 * longest, "900 kB of memory are held for {longest} octets");
    }
}

#[test]
fn a_terminal_is_given_no_orders() {
    let check = |text: &str, expected: &str| {
        let mut report = report();
        report.clock.message = text.to_owned();
        report.clamp();
        assert_eq!(report.clock.message, expected);
    };
    check("\u{1b}[2J\u{1b}]0;x\u{7}done", " [2J ]0;x done");
    check("a\r\nb\tc\0d\u{7f}e\u{9b}f", "a  b c d e f");
    check("off by \u{202e}3\u{202c} \u{2066}s\u{2069}\u{2028}", "off by  3   s  ");
    check("Zürich, 東京", "Zürich, 東京");
}

#[test]
fn the_newest_transitions_stay() {
    let mut report = report();
    report.transitions = transitions(1..=14_000, &"x".repeat(60));
    report.clamp();
    let numbers: Vec<_> = report.transitions.iter().map(|transition| transition.number).collect();
    assert_eq!(numbers, (13_937..=14_000).collect::<Vec<_>>());
    assert!(report.transitions.capacity() < 2 * MOST_TRANSITIONS);
}

#[test]
fn numbers_of_transitions_increase() {
    let check = |numbers: &[u64], expected: &[u64]| {
        let mut report = report();
        report.transitions = transitions(numbers.iter().copied(), "");
        report.clamp();
        let numbers: Vec<_> = report.transitions.iter().map(|transition| transition.number).collect();
        assert_eq!(numbers, expected);
    };
    check(&[], &[]);
    check(&[3, 4, 7], &[3, 4, 7]);
    check(&[5, 5, 5, 6], &[5, 6]);
    check(&[9, 1, 2, 3], &[1, 2, 3]);
    check(&[u64::MAX, 1, 2, u64::MAX - 1, 3, u64::MAX], &[1, 2, 3]);
    check(&[0, 1], &[1]);
    check(&[4, 3, 2, 1], &[1]);
    check(&[1, LAST_TRANSITION], &[1, LAST_TRANSITION]);
    check(&[1, LAST_TRANSITION + 1], &[1]);
}

#[test]
fn lists_are_cut() {
    let mut report = report();
    report.sources = sources(300, SourceState::Agreeing, "");
    report.conflict.as_mut().unwrap().suspects = vec!["chronyd".to_owned(); 1000];
    report.clamp();
    assert_eq!((report.sources.len(), report.conflict.unwrap().suspects.len()), (256, 16));
}

#[test]
fn figures_are_some_that_a_status_can_show() {
    let mut report = report();
    report.clock.offset = Some(f64::NAN);
    report.clock.jitter = Some(f64::INFINITY);
    report.clock.error_bound = Some(1e300);
    report.clock.frequency_ppm = f64::MIN;
    report.clock.root_delay = f64::NAN;
    report.clock.last_step = Some(StepReport { at: -1e300, by: -1e300 });
    report.conflict.as_mut().unwrap().since = 1e300;
    report.rtc.drift_ppm = Some(1e300);
    report.transitions[0].at = f64::NAN;
    (report.clock.stratum, report.clock.leap) = (255, 255);
    report.clamp();
    let clock = &report.clock;
    assert_eq!((clock.offset, clock.jitter, clock.error_bound), (None, None, Some(1e10)));
    assert_eq!((clock.frequency_ppm, clock.root_delay), (-1e6, 0.0));
    assert_eq!(clock.last_step, Some(StepReport { at: 0.0, by: -1e10 }));
    assert_eq!((clock.stratum, clock.leap), (16, 3));
    assert_eq!((report.conflict.unwrap().since, report.rtc.drift_ppm), (LAST_TIME, Some(1e6)));
    assert_eq!(report.transitions[0].at, 0.0);
}

/// A text that is not a report is refused, and does not make its reader fail in another way.
#[test]
fn strange_json_is_no_report() {
    let good = serde_json::to_string(&report()).unwrap();
    let nested = |open: &str, close: &str| {
        let depth = LARGEST_REPORT / 2;
        good.replacen('{', &format!("{{\"x\":{}0{},", open.repeat(depth), close.repeat(depth)), 1)
    };
    // A field that only newer agents know may be nested deeply.
    for text in [nested("[", "]"), nested("{\"x\":", "}")] {
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }
    for text in [
        good.replace("\"message\":\"Follows s0\"", &format!("\"message\":{}", "[".repeat(LARGEST_REPORT))),
        "[".repeat(LARGEST_REPORT),
        good.replace("\"sequence\":7", "\"sequence\":7,\"sequence\":8"),
        good.replace("\"offset\":-0.000412", "\"offset\":NaN"),
        good.replace("\"offset\":-0.000412", "\"offset\":1e999"),
        good.replace("\"sequence\":7", "\"sequence\":18446744073709551616"),
        good.replace("\"reach\":255", "\"reach\":256"),
        good.replace("Follows", "\u{1b}"),
        good.replace("Follows", "\\ud800"),
        good.replace("[{\"number\"", "[null,{\"number\""),
        good[..good.len() - 1].to_owned(),
    ] {
        assert!(serde_json::from_str::<Report>(&text).is_err(), "{}", &text[..text.len().min(400)]);
    }
    let mut whole: Report =
        serde_json::from_str(&good.replace("\"sequence\":7", "\"sequence\":18446744073709551615")).unwrap();
    whole.clamp();
    assert_eq!(whole.sequence, u64::MAX);
}

#[test]
fn a_usual_report_fits_as_it_is() {
    let mut report = report();
    report.sources = sources(100, SourceState::Agreeing, "Agrees, and a preferred source is there.");
    report.transitions = transitions(1..=64, "Lost synchronisation: no majority: a says 3 s, b says 4 s");
    let before = report.clone();
    report.clamp();
    report.fit(json);
    assert_eq!(report, before, "{} octets", json(&before));
}

#[test]
fn what_matters_least_is_left_out_first() {
    let mut report = report();
    report.sources = sources(256, SourceState::Agreeing, "");
    report.sources[200].state = SourceState::Selected;
    report.sources[255].state = SourceState::Falseticker;
    report.transitions = transitions(1..=64, "Lost synchronisation");
    report.clamp();
    assert!(json(&report) > LARGEST_REPORT);
    report.fit(json);
    let (size, left) = (json(&report), 256 - report.sources.len());
    assert!(size <= LARGEST_REPORT && size > LARGEST_REPORT - 2048, "{size}");
    assert!((10..150).contains(&left), "{left}");
    let has = |state| report.sources.iter().any(|source| source.state == state);
    assert!(has(SourceState::Selected) && has(SourceState::Falseticker));
    assert_eq!(report.transitions.len(), 64);
    let said = format!("Follows s0. The report leaves out {left} of 256 upstreams: it would be too large");
    assert_eq!(report.clock.message, said);
    // The sources stay in the order of the profile.
    let names: Vec<_> = report.sources.iter().map(|source| &source.name).collect();
    let mut in_order = sources(256, SourceState::Agreeing, "");
    in_order.retain(|source| names.contains(&&source.name));
    assert_eq!(names, in_order.iter().map(|source| &source.name).collect::<Vec<_>>());
}

/// The largest report within the limits. Each octet of its texts takes two octets in JSON.
#[test]
fn the_worst_report_fits() {
    let mut report = report();
    report.sources = sources(300, SourceState::Unusable, "");
    report.transitions = transitions(1..=100, "");
    report.conflict.as_mut().unwrap().suspects = vec![String::new(); 20];
    texts(&mut report).into_iter().for_each(|(text, _)| *text = "\"".repeat(5000));
    report.clamp();
    report.fit(json);
    let size = json(&report);
    assert!(size <= LARGEST_REPORT, "{size}");
    assert!(!report.transitions.is_empty());
    let again = report.clone();
    report.clamp();
    assert_eq!(report, again, "what fits is within the limits");
}
