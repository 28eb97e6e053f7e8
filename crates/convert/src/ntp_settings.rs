//! Lines of ntp.conf with settings for all upstreams and for the clock: thresholds, steps. Each goes into the draft's
//! profile, or gets a remark.
use contract::{Mode, Span};

use crate::{
    draft::Draft,
    lines::{self, Line},
    ntp_facts::Facts,
    ntp_options::{SWITCHES, TINKER, TOS},
    source_line::{Words, is_number},
};

/// `tos`: how sources are selected, and what happens without a source.
pub(super) fn tos(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "minsane" => match words.number(option, draft) {
                Some(0) => {
                    draft.profile.clock.min_sources = Some(1);
                    draft.set(line, "clock.minSources");
                    draft.note(line, "minsane: without a source the clock is not corrected, so 0 means 1");
                }
                Some(least) => {
                    draft.profile.clock.min_sources = Some(least);
                    draft.set(line, "clock.minSources");
                }
                None => {}
            },
            "orphan" => match words.number(option, draft) {
                Some(stratum @ 1..=15) if draft.profile.stratum.local.is_none() => {
                    draft.profile.stratum.local = Some(stratum);
                    draft.profile.stratum.orphan = true;
                    draft.set(line, "stratum");
                }
                Some(16) => draft.note(line, "orphan: 16 means never"),
                Some(1..=15) => {
                    draft.leave_out(line, "another line already sets how the node's own clock is served")
                }
                Some(stratum) => {
                    draft.leave_out(line, format!("orphan: {stratum} is not a stratum from 1 to 15"))
                }
                None => {}
            },
            "orphanwait" => {
                let wait = words.number::<u32>(option, draft);
                if !facts.elects_orphans {
                    draft.note(line, "orphanwait: it has no effect without orphan");
                } else if let Some(wait) = wait {
                    draft.profile.stratum.activate_after = Some(Span::from_secs(u64::from(wait)));
                    draft.carry(line);
                }
            }
            "maxdist" => {
                if let Some(distance) = seconds(&mut words, option, draft) {
                    draft.set_max_distance(line, option, distance);
                }
            }
            // The defaults (miscopt.html, `tos`; NTPsec's ntp.conf(5)).
            "ceiling" if is_number(words.peek(), 15.0) || is_number(words.peek(), 16.0) => {
                words.next();
                draft.note(line, "ceiling: it is the default");
            }
            "floor" if is_number(words.peek(), 0.0) || is_number(words.peek(), 1.0) => {
                words.next();
                draft.note(line, "floor: it is the default");
            }
            "cohort" if is_number(words.peek(), 0.0) => {
                words.next();
                draft.note(line, "cohort: it is the default");
            }
            "maxclock" => {
                words.next();
                draft.note(
                    line,
                    "maxclock: maxSources of each pool limits the number of its servers, 4 by default",
                );
            }
            _ => match TOS.iter().find(|(name, ..)| *name == option) {
                Some((_, fate, why)) => {
                    words.next();
                    draft.tell(line, *fate, format!("{option}: {why}"));
                }
                None => unknown(option, line, draft),
            },
        }
    }
}

/// Longer than any clock can be off: a century.
pub(super) const NO_LIMIT: Span = Span::from_secs(876_000 * 3600);

/// `tinker`: of its constants the two thresholds are carried over.
pub(super) fn tinker(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "step" => match seconds(&mut words, option, draft) {
                Some(span) if span == Span::default() => {
                    draft.profile.clock.step.limit = 0;
                    draft.carry(line);
                    draft.note(
                        line,
                        "0 is for never, here clock.step.limit: 0. A clock that is far off takes \
                         long to come right: 1 s in 33 minutes",
                    );
                }
                Some(span) => {
                    draft.profile.clock.step.threshold = span;
                    draft.set(line, "clock.step");
                }
                None => {}
            },
            "panic" => match seconds(&mut words, option, draft) {
                Some(span) if span == Span::default() => {
                    draft.profile.clock.max_change = NO_LIMIT;
                    draft.carry(line);
                    draft.note(
                        line,
                        "0 means no limit, which clock.maxChange does not support: it becomes a century",
                    );
                }
                Some(span) => {
                    draft.profile.clock.max_change = span;
                    draft.set(line, "clock.maxChange");
                }
                None => {}
            },
            _ => match TINKER.iter().find(|(name, ..)| *name == option) {
                Some((_, fate, why)) => {
                    words.next();
                    draft.tell(line, *fate, format!("{option}: {why}"));
                }
                None => unknown(option, line, draft),
            },
        }
    }
}

/// The next word as seconds; if it is not a number, `option` gets a remark.
pub(super) fn seconds(words: &mut Words<'_>, option: &str, draft: &mut Draft<'_>) -> Option<Span> {
    let span = words.next().and_then(|word| format!("{word}s").parse().ok());
    if span.is_none() {
        draft.leave_out(words.line, format!("{option}: its value is not a number of seconds, such as 0.128"));
    }
    span
}

/// `enable` and `disable`.
pub(super) fn switch(line: &Line<'_>, draft: &mut Draft<'_>) {
    let off = line.directive == "disable";
    for word in &line.words {
        match (*word, off) {
            ("ntp", true) => {
                draft.profile.mode = Mode::Observe;
                draft.carry(line);
                draft.note(line, "the clock is only measured: mode Observe");
            }
            ("ntp", false) => draft.note(line, "it is the default"),
            ("bclient", false) => {
                draft.leave_out(line, "bclient: broadcast mode is not supported. Name the servers")
            }
            ("calibrate", false) => draft.leave_out(line, "calibrate: reference clocks are not read"),
            _ => match SWITCHES.iter().find(|(name, _)| name == word) {
                Some((_, why)) => draft.note(line, format!("{word}: {why}")),
                None => unknown(word, line, draft),
            },
        }
    }
}

/// `slewalways yes`, of AIX's xntpd: the clock is never stepped.
pub(super) fn slew_always(line: &Line<'_>, draft: &mut Draft<'_>) {
    match line.words.as_slice() {
        ["yes", ..] => {
            draft.profile.clock.step.limit = 0;
            draft.carry(line);
        }
        _ => draft.note(line, "it is the default"),
    }
}

pub(super) fn unknown(word: &str, line: &Line<'_>, draft: &mut Draft<'_>) {
    draft.leave_out(line, format!("{:?}: this line does not take that word", lines::printable(word)));
}
