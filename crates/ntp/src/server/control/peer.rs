//! The variables of an association, with ntpd's names. Offsets have ntpd's sign, the opposite of the sign elsewhere:
//! positive means that this clock is behind the source.
//!
//! `org` and the departure of a request are never shown: with the cookie of a pending request an attacker could forge
//! its reply.
use super::{
    ControlView,
    text::{coarse_ms, ms, quoted, reference_id, seconds, stamp, time},
};
use crate::{NtpTimestamp, SourceSnapshot, SourceState};

/// The variables of an answer to a query without names. `rec` comes after `reftime`: clients use the last of the two as
/// the time of the last reply.
pub(super) const DEFAULT: &[&str] = &[
    "srcadr",
    "srcport",
    "dstadr",
    "dstport",
    "leap",
    "hmode",
    "stratum",
    "ppoll",
    "hpoll",
    "precision",
    "rootdelay",
    "rootdisp",
    "refid",
    "reftime",
    "rec",
    "xmt",
    "reach",
    "unreach",
    "delay",
    "offset",
    "jitter",
    "dispersion",
    "keyid",
    "filtdelay",
    "filtoffset",
    "pmode",
    "filtdisp",
    "flash",
    "headway",
    "srchost",
    "ntscookies",
];

/// Mode of a client (RFC 5905 §3).
pub(super) const CLIENT: &str = "3";

/// The address that clients interpret as a local reference clock of unknown type.
pub(super) const DEVICE_ADDRESS: &str = "127.127.0.0";

/// The dispersion if nothing is known, seconds (RFC 5905 §7.2, MAXDISP).
const UNKNOWN: f64 = 16.0;

/// The value of a variable. None if there is no such variable.
pub(super) fn value(view: &ControlView<'_>, source: &SourceSnapshot, name: &str) -> Option<String> {
    place(source, name)
        .or_else(|| answered(view, source, name))
        .or_else(|| measured(source, name))
        .or_else(|| counted(source, name))
}

/// The server, and how it is asked.
fn place(source: &SourceSnapshot, name: &str) -> Option<String> {
    let detail = &source.detail;
    Some(match name {
        "srcadr" if detail.device => DEVICE_ADDRESS.to_owned(),
        // Not resolved yet: then clients show the name.
        "srcadr" => source.address.map_or("0.0.0.0".to_owned(), |address| address.to_canonical().to_string()),
        "srcport" => detail.port.to_string(),
        "srchost" if detail.device => quoted(&format!("PHC({})", detail.host)),
        "srchost" if source.address.is_some_and(|address| address.to_string() == detail.host) => return None,
        "srchost" => quoted(&detail.host),
        "dstadr" => detail
            .heard
            .and_then(|heard| heard.local)
            .map_or("0.0.0.0".to_owned(), |local| local.to_canonical().to_string()),
        // Each request uses a new port.
        "dstport" => "0".to_owned(),
        "hmode" => CLIENT.to_owned(),
        "pmode" => if source.received > 0 && !detail.device { "4" } else { "0" }.to_owned(),
        "hpoll" => source.poll.to_string(),
        "keyid" if !detail.authenticated => "0".to_owned(),
        "ntscookies" => detail.cookies.map_or("-1".to_owned(), |cookies| cookies.to_string()),
        "headway" => "0".to_owned(),
        _ => return None,
    })
}

/// Fields of its last reply.
fn answered(view: &ControlView<'_>, source: &SourceSnapshot, name: &str) -> Option<String> {
    let heard = source.detail.heard.as_ref();
    let at = view.snapshot.map(|snapshot| snapshot.at);
    Some(match name {
        "leap" => heard.map_or(3, |heard| heard.leap as u8).to_string(),
        "stratum" => source.stratum.to_string(),
        // The server's poll interval is unknown: show this node's.
        "ppoll" => heard.map_or(source.poll, |heard| heard.poll).clamp(0, 17).to_string(),
        "precision" => heard.map_or(0, |heard| heard.precision).to_string(),
        "rootdelay" => coarse_ms(heard.map_or(0.0, |heard| heard.root_delay)),
        "rootdisp" => coarse_ms(heard.map_or(0.0, |heard| heard.root_dispersion)),
        "refid" if source.received == 0 => "INIT".to_owned(),
        "refid" => reference_id(source.reference_id, source.stratum),
        "reftime" => stamp(heard.map_or(NtpTimestamp(0), |heard| heard.reference_time)),
        "rec" => time(source.last_answer_age.and_then(|age| at.map(|at| at.plus(-age)))),
        "xmt" => stamp(heard.map_or(NtpTimestamp(0), |heard| heard.transmit)),
        _ => return None,
    })
}

/// Measured values.
fn measured(source: &SourceSnapshot, name: &str) -> Option<String> {
    let detail = &source.detail;
    let filter = |value: fn(&crate::SampleSnapshot) -> f64, none: f64| {
        let values = detail.samples.iter().map(value).chain(std::iter::repeat(none));
        let texts = values.take(FILTER).map(|value| format!("{:.2}", 1e3 * value));
        texts.collect::<Vec<_>>().join(" ")
    };
    Some(match name {
        "delay" => ms(source.delay.unwrap_or(0.0)),
        "offset" => ms(-source.offset.unwrap_or(0.0)),
        "jitter" => ms(source.jitter.unwrap_or(0.0)),
        "dispersion" => ms(detail.dispersion.unwrap_or(UNKNOWN)),
        "filtdelay" => filter(|sample| sample.delay, 0.0),
        "filtoffset" => filter(|sample| -sample.offset, 0.0),
        "filtdisp" => filter(|sample| sample.dispersion, UNKNOWN),
        "flash" => format!("0x{:x}", detail.flash),
        _ => return None,
    })
}

/// The size of ntpd's clock filter.
const FILTER: usize = 8;

/// Counters.
fn counted(source: &SourceSnapshot, name: &str) -> Option<String> {
    let detail = &source.detail;
    Some(match name {
        "reach" => format!("0x{:x}", source.reach),
        "unreach" => detail.unanswered.to_string(),
        "timerec" => seconds(source.last_answer_age.unwrap_or(0.0)),
        "timer" => seconds(detail.next_poll),
        "timereach" => seconds(detail.reach_age),
        "sent" => source.sent.to_string(),
        "received" => source.received.to_string(),
        "badauth" => detail.unauthentic.to_string(),
        "bogusorg" => detail.stray.to_string(),
        // A second answer arrives at a closed socket, so it is not counted.
        "oldpkt" => "0".to_owned(),
        // Replies rejected because of their content, such as a distance or a time.
        "seldisp" => (source.rejected - detail.unauthentic.saturating_add(detail.stray).min(source.rejected))
            .to_string(),
        "selbroken" => "0".to_owned(),
        "candidate" => candidate(source.state).to_owned(),
        _ => return None,
    })
}

/// Its place among those that count: the first, one of the others, none.
fn candidate(state: SourceState) -> &'static str {
    match state {
        SourceState::Selected => "1",
        SourceState::Combined => "2",
        _ => "0",
    }
}
