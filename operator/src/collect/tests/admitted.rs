//! Whatever an agent reports, the API server takes the NodeClock that is made of it: the CRD's schema admits the status
//! of the largest report that the collector lets in.
use contract::{
    Assignment, BootPodState, BootReport, ConflictReport, ProfileError, ProfileName, SourceReport,
    SourceState, StepReport, TimezoneReport,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use timesync_http::Untrusted;

use super::*;
use crate::{
    build::PreparedNode, facts::NodeFacts, fixtures::prepared_node, node_clock, reports::AgentState,
    stored_node_clock::StoredNodeClock,
};

/// A report that is beyond each limit.
fn worst() -> Report {
    let text = || "\u{1b}€".repeat(300_000);
    let mut report = with_transitions(14_000);
    report.transitions.iter_mut().for_each(|transition| transition.number += u64::MAX - 14_000);
    for field in [&mut report.version, &mut report.boot_id, &mut report.instance, &mut report.http_message] {
        *field = text();
    }
    report.profile = Some(ProfileName::of(&"p".repeat(253), ""));
    report.profile_error = Some(ProfileError { reason: contract::ProfileFailure::Unknown, message: text() });
    let clock = &mut report.clock;
    (clock.message, clock.reference) = (text(), Some(text()));
    (clock.offset, clock.jitter, clock.error_bound) = (Some(-1e300), Some(1e300), Some(1e300));
    (clock.frequency_ppm, clock.steps, clock.external_steps) = (f64::MIN, u32::MAX, u32::MAX);
    clock.last_step = Some(StepReport { at: 1e300, by: -1e300 });
    clock.last_external_step = Some(StepReport { at: -1e300, by: 1e300 });
    (clock.leap, clock.stratum) = (255, 255);
    let source = |number: usize| SourceReport {
        name: format!("{number}{}", text()),
        address: Some(text()),
        state: if number == 0 { SourceState::Unusable } else { SourceState::Unreachable },
        message: format!("{number}{}", text()),
        stratum: 255,
        poll: i8::MIN,
        offset: Some(-1e300),
        delay: Some(1e300),
        jitter: Some(1e300),
        ..report.sources[0].clone()
    };
    // Some of them have one name after they are cut.
    // The last ones have the names of the first.
    report.sources = (0..300).map(|number| source(number % 250)).collect();
    report.conflict = Some(ConflictReport { since: 1e300, message: text(), suspects: vec![text(); 100] });
    report.timezone = Some(TimezoneReport { name: Some(text()), message: text() });
    report.boot = Some(BootReport { state: BootPodState::Installed, message: text() });
    report.state_error = Some(text());
    (report.rtc.message, report.rtc.offset, report.rtc.drift_ppm) = (text(), Some(1e300), Some(-1e300));
    (report.rtc.writes, report.rtc.write_failures) = (u64::MAX, u64::MAX);
    report.server.message = text();
    (report.server.answered, report.server.dropped, report.server.kod) = (u64::MAX, u64::MAX, u64::MAX);
    report
}

fn node() -> PreparedNode {
    let facts = NodeFacts { name: "n".repeat(253), uid: "u".to_owned(), ..NodeFacts::default() };
    let wanted = Assignment::Profile(ProfileName::of(&"p".repeat(253), ""));
    PreparedNode { facts: Arc::new(facts), wanted, ..prepared_node() }
}

fn status(heard: AgentState<'_>) -> Value {
    let now = Timestamp::now();
    let status =
        node_clock::status(&node(), heard, &StoredNodeClock::default(), Some(u64::MAX), now).unwrap();
    serde_json::to_value(status).unwrap()
}

fn schema() -> Value {
    let [_, (_, crd)] = api::crds().unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].clone()
}

#[test]
fn the_largest_report_makes_a_status_that_is_taken() {
    let mut report = worst();
    let now = Timestamp::now();
    // One source is enough to see that nothing is taken as it comes.
    let mut small = report.clone();
    small.sources.truncate(1);
    small.transitions.clear();
    assert!(refused(&status(AgentState::Report(&small, now)), &schema()).len() > 20);
    report.clamp();
    let status = status(AgentState::Report(&report, now));
    assert_eq!(refused(&status, &schema()), [""; 0]);
    assert_eq!(status["sources"].as_array().unwrap().len(), 250);
}

#[test]
fn so_do_silence_and_an_impostor() {
    let why = "€".repeat(300_000);
    assert_eq!(refused(&status(AgentState::Silent(Some(&why))), &schema()), [""; 0]);
    let why = Unproven::Untrusted(Untrusted::OtherNode("x".repeat(253)));
    let impostor = Impostor { address: "[2001:db8::1]:9817".to_owned(), why };
    assert_eq!(refused(&status(AgentState::Unproven(&impostor)), &schema()), [""; 0]);
}

/// What of a value its schema does not admit.
fn refused(value: &Value, schema: &Value) -> Vec<String> {
    let mut all = Vec::new();
    look(value, schema, "status", &mut all);
    all
}

fn look(value: &Value, schema: &Value, at: &str, all: &mut Vec<String>) {
    let limit = |name: &str| {
        schema[name].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
    };
    let mut refuse = |why: String| all.push(format!("{at}: {why}"));
    match (value, schema["type"].as_str().unwrap()) {
        (Value::Null, _) if schema["nullable"] == true => {}
        (Value::Bool(_), "boolean") => {}
        (Value::Number(number), "integer") => {
            let fits = match schema["format"].as_str() {
                Some("int32") => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                _ => number.is_i64(),
            };
            if !fits {
                refuse(format!("{number}"));
            }
        }
        (Value::String(text), "string") => {
            let length = text.chars().count();
            if length > limit("maxLength") {
                refuse(format!("{length} characters"));
            }
            let is_time =
                || text.parse::<Timestamp>().is_ok() && text.starts_with(|c: char| c.is_ascii_digit());
            if schema["format"] == "date-time" && !is_time() {
                refuse(format!("{text:?} is no time"));
            }
        }
        (Value::Array(items), "array") => {
            if items.len() > limit("maxItems") {
                refuse(format!("{} items", items.len()));
            }
            for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
                let keys: std::collections::BTreeSet<_> =
                    items.iter().map(|item| item[key.as_str().unwrap()].to_string()).collect();
                if keys.len() < items.len() {
                    refuse(format!("{key} is there twice"));
                }
            }
            for item in items {
                look(item, &schema["items"], &format!("{at}[]"), all);
            }
        }
        (Value::Object(fields), "object") => {
            for (name, field) in fields {
                match schema["properties"].get(name) {
                    Some(schema) => look(field, schema, &format!("{at}.{name}"), all),
                    None => all.push(format!("{at}.{name}: unknown")),
                }
            }
        }
        (value, wanted) => refuse(format!("{value} is no {wanted}")),
    }
}
