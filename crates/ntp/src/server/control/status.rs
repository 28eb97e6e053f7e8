//! The status words of the system and of each association, 16 bits each (RFC 9327 §2.2, §2.3). ntpq derives the tally
//! code at the start of its lines from them.
use super::ControlView;
use crate::{Leap, Reason, SourceSnapshot, SourceState};

/// Values of the clock source field in the system status word.
const FROM_NOWHERE: u16 = 0;
const FROM_LOCAL: u16 = 5;
const FROM_NTP: u16 = 6;
const FROM_OTHER: u16 = 7;

/// The event counter: always one event, since events are not counted.
const ONE_EVENT: u16 = 1 << 4;

/// The system status word.
pub(super) fn of_system(view: &ControlView<'_>) -> u16 {
    let leap = view.served.indicator();
    let event = match (leap, view.snapshot.map(|snapshot| snapshot.reason)) {
        (Leap::Insert | Leap::Delete, _) => 9,
        (_, None | Some(Reason::Starting)) => 6,
        (_, Some(Reason::Synchronized | Reason::LocalReference)) => 5,
        (_, Some(Reason::MaxChange | Reason::ResumeRefused)) => 7,
        (_, Some(Reason::UnexplainedJump | Reason::ExternalStep)) => 0xc,
        (_, Some(_)) => 8,
    };
    (leap as u16) << 14 | source(view, leap) << 8 | ONE_EVENT | event
}

fn source(view: &ControlView<'_>, leap: Leap) -> u16 {
    let reference = view.snapshot.and_then(|snapshot| snapshot.reference);
    let followed = super::sources(view).find(|source| Some(source.id) == reference);
    match (leap, view.snapshot.map(|snapshot| snapshot.reason), followed) {
        (Leap::Unknown, ..) => FROM_NOWHERE,
        (_, Some(Reason::LocalClock), _) => FROM_LOCAL,
        (_, _, Some(source)) if source.detail.device => FROM_OTHER,
        _ => FROM_NTP,
    }
}

const CONFIGURED: u16 = 0x80;
const MUST_PROVE: u16 = 0x40;
const PROVEN: u16 = 0x20;
const REACHABLE: u16 = 0x10;

/// The peer status word of a source.
pub(super) fn of_peer(source: &SourceSnapshot) -> u16 {
    let detail = &source.detail;
    let bit = |bit: u16, holds: bool| if holds { bit } else { 0 };
    let status = CONFIGURED
        | bit(MUST_PROVE, detail.authenticated)
        | bit(PROVEN, detail.authenticated && source.received > 0)
        | bit(REACHABLE, source.reach != 0);
    let event = match (selection(source), source.reach) {
        (SYSTEM_PEER | PPS_PEER, _) => 0xa,
        (_, 0) => 3,
        _ => 4,
    };
    (status | selection(source)) << 8 | ONE_EVENT | event
}

const REJECTED: u16 = 0;
const FALSETICKER: u16 = 1;
const EXCESS: u16 = 2;
const OUTLIER: u16 = 3;
const CANDIDATE: u16 = 4;
const SYSTEM_PEER: u16 = 6;
const PPS_PEER: u16 = 7;

/// The select field of a peer status word.
fn selection(source: &SourceSnapshot) -> u16 {
    match source.state {
        SourceState::Selected if source.detail.device => PPS_PEER,
        SourceState::Selected => SYSTEM_PEER,
        SourceState::Combined => CANDIDATE,
        // Nothing was heard of it lately, and what was heard before still agrees.
        SourceState::Agreeing if source.reach == 0 => EXCESS,
        SourceState::Agreeing => OUTLIER,
        // Without a majority ntpd calls them all falsetickers.
        SourceState::Falseticker | SourceState::Untrusted | SourceState::NoMajority => FALSETICKER,
        SourceState::Unresolved
        | SourceState::Unreachable
        | SourceState::Measuring
        | SourceState::Unusable
        | SourceState::Noselect => REJECTED,
    }
}
