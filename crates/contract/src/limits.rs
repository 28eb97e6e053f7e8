//! The limits of a report. An agent stays within them, and the operator cuts what exceeds them before it uses a report.
//! So a faulty or hostile node cannot disturb the operator's work for other nodes. Every struct is destructured, so
//! that a new field cannot be forgotten.
use crate::{
    Assignment, BootReport, ClockReport, ConflictReport, ProfileError, Report, RtcReport, ServerReport,
    SourceReport, StepReport, TimezoneReport, Transition,
};

/// Largest body of a report, octets. One with 16 sources and 64 transitions has about 15 KiB, and one with 100 sources
/// fits.
pub const LARGEST_REPORT: usize = 64 << 10;
/// Number of transitions that an agent keeps. The operator asks every 30 s, so it misses none if the agent makes at
/// most two per second.
pub const MOST_TRANSITIONS: usize = 64;
/// Largest number of sources: a policy has at most 16 upstreams, and a pool has at most 16 servers.
pub const MOST_SOURCES: usize = 256;
/// Largest number of named programs that steer one clock. More would not help a reader.
pub const MOST_SUSPECTS: usize = 16;
/// Longest name, word, address or id, octets. A DNS name has 253.
pub const LONGEST_NAME: usize = 256;
/// Longest message, octets. The API server accepts no longer note in an Event.
pub const LONGEST_MESSAGE: usize = 1024;
/// Longest duration, seconds: 317 years. That is more than the 292 years that 64 bits of nanoseconds can hold.
pub const LONGEST_TIME: f64 = 1e10;
/// Largest frequency, parts per million: a clock that stands still, or that runs at twice its speed.
pub const LARGEST_FREQUENCY: f64 = 1e6;
/// Latest time, the first second of the year 9999: RFC 3339 has no later year.
pub const LAST_TIME: f64 = 253_370_764_800.0;
/// Largest number of a transition: NodeClock has it as a signed integer.
pub const LAST_TRANSITION: u64 = i64::MAX as u64;
/// Stratum of a clock that is not synchronised (RFC 5905 §7.3, MAXSTRAT).
pub const UNSYNCHRONIZED: u8 = 16;

impl Report {
    /// Cuts everything to the limits. The newest transitions stay, and their numbers are strictly increasing
    /// afterwards.
    pub fn clamp(&mut self) {
        let Self {
            version,
            boot_id,
            instance,
            sequence: _,
            assignment,
            // Its own parser limits it to 262 octets.
            profile: _,
            profile_error,
            mode: _,
            clock,
            sources,
            conflict,
            rtc,
            timezone,
            boot,
            state_error,
            server,
            http_message,
            transitions,
        } = self;
        [version, boot_id, instance].into_iter().for_each(limit_name);
        match assignment {
            Assignment::Unassigned | Assignment::None | Assignment::Profile(_) => {}
        }
        if let Some(ProfileError { reason: _, message: text }) = profile_error {
            limit_message(text);
        }
        of_clock(clock);
        sources.truncate(MOST_SOURCES);
        sources.iter_mut().for_each(of_source);
        if let Some(ConflictReport { since, message: text, suspects }) = conflict {
            limit_time(since);
            limit_message(text);
            suspects.truncate(MOST_SUSPECTS);
            suspects.iter_mut().for_each(limit_name);
        }
        of_rtc(rtc);
        if let Some(TimezoneReport { name: zone, message: text }) = timezone {
            zone.iter_mut().for_each(limit_name);
            limit_message(text);
        }
        if let Some(BootReport { state: _, message: text }) = boot {
            limit_message(text);
        }
        state_error.iter_mut().for_each(limit_message);
        let ServerReport {
            enabled: _,
            serving: _,
            failure: _,
            message: text,
            answered: _,
            dropped: _,
            kod: _,
        } = server;
        limit_message(text);
        limit_message(http_message);
        keep_increasing(transitions);
        for Transition { number: _, at, kind: _, message: text } in transitions {
            limit_time(at);
            limit_message(text);
        }
    }

    /// If the report is larger than [`LARGEST_REPORT`], leaves out the least important parts until it is not, and says
    /// so in the clock's message. `size` returns the length of its JSON. With up to 100 sources nothing is left out.
    pub fn fit(&mut self, size: impl Fn(&Self) -> usize) {
        let excess = |report: &Self| size(report).saturating_sub(LARGEST_REPORT);
        if excess(self) == 0 {
            return;
        }
        self.transitions.iter_mut().for_each(|transition| cut(&mut transition.message, SHORT_MESSAGE));
        self.sources.iter_mut().for_each(|source| cut(&mut source.message, SHORT_MESSAGE));
        let (all, said) = (self.sources.len(), self.clock.message.clone());
        loop {
            let excess = excess(self);
            if excess == 0 {
                return;
            }
            if self.sources.is_empty() {
                // The operator has already received the oldest ones.
                self.transitions.drain(..self.transitions.len().div_ceil(2));
                if self.transitions.is_empty() {
                    return;
                }
                continue;
            }
            leave_out(&mut self.sources, excess.div_ceil(TYPICAL_SOURCE));
            let left = all - self.sources.len();
            self.clock.message =
                format!("{said}. The report leaves out {left} of {all} upstreams: it would be too large");
            limit_message(&mut self.clock.message);
        }
    }
}

/// Longest message in a report that is too large, octets.
const SHORT_MESSAGE: usize = 256;
/// Typical size of a source as JSON, octets. From it follows how many sources one pass leaves out, so that few passes
/// are needed, and few sources are left out unnecessarily.
const TYPICAL_SOURCE: usize = 512;

/// Removes `count` sources: first those that agree and are not needed, last the selected one.
fn leave_out(sources: &mut Vec<SourceReport>, count: usize) {
    use crate::SourceState::{
        Agreeing, Combined, Falseticker, Measuring, NoMajority, Noselect, Selected, Unknown, Unreachable,
        Unresolved, Untrusted, Unusable,
    };
    let importance = |source: &SourceReport| match source.state {
        Selected => 3,
        Unresolved | Unreachable | Unusable | Falseticker | NoMajority | Untrusted => 2,
        Combined | Measuring => 1,
        Agreeing | Noselect | Unknown => 0,
    };
    let mut order: Vec<_> = (0..sources.len()).rev().collect();
    order.sort_by_key(|&index| importance(&sources[index]));
    let mut kept = vec![true; sources.len()];
    order.into_iter().take(count).for_each(|index| kept[index] = false);
    let mut kept = kept.into_iter();
    sources.retain(|_| kept.next().unwrap_or_default());
}

fn of_clock(clock: &mut ClockReport) {
    let ClockReport {
        synchronized: _,
        reason: _,
        message: text,
        leap,
        stratum,
        reference,
        offset,
        jitter,
        error_bound,
        root_delay,
        root_dispersion,
        frequency_ppm,
        kernel_frequency_ppm,
        last_update_age,
        steps: _,
        restored: _,
        resumed: _,
        raised: _,
        last_step,
        external_steps: _,
        last_external_step,
        start_phase: _,
        confirmed: _,
    } = clock;
    limit_message(text);
    *leap = (*leap).min(UNKNOWN_LEAP);
    *stratum = (*stratum).min(UNSYNCHRONIZED);
    reference.iter_mut().for_each(limit_name);
    [offset, jitter, error_bound, last_update_age].into_iter().for_each(limit_duration);
    [root_delay, root_dispersion].into_iter().for_each(|value| limit_number(value, LONGEST_TIME));
    [frequency_ppm, kernel_frequency_ppm]
        .into_iter()
        .for_each(|value| limit_number(value, LARGEST_FREQUENCY));
    for StepReport { at, by } in [last_step, last_external_step].into_iter().flatten() {
        limit_time(at);
        limit_number(by, LONGEST_TIME);
    }
}

/// RFC 5905 §7.3.
const UNKNOWN_LEAP: u8 = 3;

fn of_source(source: &mut SourceReport) {
    let SourceReport {
        name: its_name,
        address,
        state: _,
        message: text,
        reach: _,
        stratum,
        offset,
        delay,
        jitter,
        poll: _,
        last_answer_age,
        sent: _,
        received: _,
        rejected: _,
    } = source;
    limit_name(its_name);
    address.iter_mut().for_each(limit_name);
    limit_message(text);
    *stratum = (*stratum).min(UNSYNCHRONIZED);
    [offset, delay, jitter, last_answer_age].into_iter().for_each(limit_duration);
}

fn of_rtc(rtc: &mut RtcReport) {
    let RtcReport {
        present: _,
        health: _,
        message: text,
        offset,
        drift_ppm,
        read_age,
        writes: _,
        write_failures: _,
    } = rtc;
    limit_message(text);
    [offset, read_age].into_iter().for_each(limit_duration);
    *drift_ppm = drift_ppm.filter(|drift| drift.is_finite());
    drift_ppm.iter_mut().for_each(|drift| limit_number(drift, LARGEST_FREQUENCY));
}

/// Keeps the newest transitions whose numbers are in order. A reader tells only transitions beyond the largest number
/// that it knows, so a wrong number must not come before the right ones. Hence the list is checked from its end.
fn keep_increasing(transitions: &mut Vec<Transition>) {
    transitions.reverse();
    let mut newer = LAST_TRANSITION.saturating_add(1);
    transitions.retain(|transition| {
        let in_order = (1..newer).contains(&transition.number);
        if in_order {
            newer = transition.number;
        }
        in_order
    });
    transitions.truncate(MOST_TRANSITIONS);
    transitions.shrink_to_fit();
    transitions.reverse();
}

/// Cuts a name, a word, an address or an id to its limit.
fn limit_name(text: &mut String) {
    cut(text, LONGEST_NAME);
}

/// Cuts a sentence for a reader to its limit.
pub fn limit_message(text: &mut String) {
    cut(text, LONGEST_MESSAGE);
}

/// Replaces characters that a terminal would interpret by spaces, and cuts the text at a character's end. `…` shows
/// that text was cut.
fn cut(text: &mut String, longest: usize) {
    if text.contains(is_formatting) {
        *text = text.replace(is_formatting, " ");
    }
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest.saturating_sub(MORE.len_utf8())));
        text.push(MORE);
        text.shrink_to_fit();
    }
}

const MORE: char = '…';

/// Returns true for control characters, ends of lines, and characters that change the direction of a text (Unicode UAX
/// #9), which make it look like another text.
fn is_formatting(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn limit_duration(value: &mut Option<f64>) {
    *value = value.filter(|value| value.is_finite());
    value.iter_mut().for_each(|value| limit_number(value, LONGEST_TIME));
}

/// JSON has no form for NaN.
fn limit_number(value: &mut f64, largest: f64) {
    *value = if value.is_nan() { 0.0 } else { value.clamp(-largest, largest) };
}

/// Limits a time, which is in seconds since the epoch.
fn limit_time(at: &mut f64) {
    *at = if at.is_nan() { 0.0 } else { at.clamp(0.0, LAST_TIME) };
}

#[cfg(test)]
mod tests;
