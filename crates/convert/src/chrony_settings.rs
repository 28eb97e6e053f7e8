//! Lines of chrony.conf that set something for all upstreams or for the server: limits, steps, keys. Each goes into the
//! draft's profile, or is said.
use contract::Span;
use profile::{Flag, LeapMode};

use super::{
    chrony_conf::Facts,
    draft::Draft,
    lines::{self, Line},
    ntp_settings::{NO_LIMIT, seconds, serve_nts},
    source_line::Words,
};

/// `ratelimit`; the flags that those who are allowed get.
pub(super) fn rate_limit(line: &Line<'_>, draft: &mut Draft) -> Vec<Flag> {
    let mut flags = vec![Flag::Limited];
    let mut words = Words::new(line);
    draft.carry(line);
    while let Some(word) = words.next() {
        let option = word.to_ascii_lowercase();
        let Some(number) = words.number::<i8>(&option, draft) else { continue };
        let limit = &mut draft.profile.serve.rate_limit;
        match (option.as_str(), u8::try_from(number)) {
            ("interval", _) if (-6..=12).contains(&number) => limit.interval = number,
            ("burst", Ok(burst @ 1..)) => limit.burst = burst,
            ("leak", Ok(leak @ 1..=4)) => limit.leak = leak,
            ("kod", Ok(0)) => {}
            ("kod", Ok(1..=4)) => {
                flags.insert(0, Flag::Kod);
                draft.note(line, "kod: those of the excess that get a kiss are as many as ntpd's kod has it");
            }
            _ => {
                let what = format!(
                    "{} {number}: interval goes from -6 to 12, burst from 1, leak from 1 to 4",
                    lines::printable(word)
                );
                draft.leave_out(line, what);
            }
        }
    }
    flags
}

/// The stratum of `local` if none is said (chrony.conf(5)).
const LOCAL_STRATUM: u8 = 10;

/// `local`: serving without upstreams.
pub(super) fn local(line: &Line<'_>, draft: &mut Draft) {
    let mut stratum = profile::Stratum { local: Some(LOCAL_STRATUM), orphan: false, activate_after: None };
    let mut words = Words::new(line);
    while let Some(word) = words.next() {
        let option = word.to_ascii_lowercase();
        match option.as_str() {
            "stratum" => match words.number(&option, draft) {
                Some(local @ 1..=15) => stratum.local = Some(local),
                _ => {
                    return draft
                        .leave_out(line, "the node's own clock can be served at a stratum from 1 to 15");
                }
            },
            "orphan" => stratum.orphan = true,
            "waitunsynced" => stratum.activate_after = seconds(&mut words, &option, draft),
            "distance" | "activate" | "waitsynced" => {
                words.skip(1);
                let field = draft.field("stratum.activateAfter");
                draft.leave_out(
                    line,
                    format!(
                        "{option}: the node's own clock is served once no upstream tells \
                     the time, after {field}"
                    ),
                );
            }
            _ => draft.leave_out(line, format!("{:?}: there is no such option", lines::printable(word))),
        }
    }
    draft.profile.stratum = stratum;
    draft.carry(line);
    let field = draft.field("stratum.activateAfter");
    if stratum.activate_after.is_none() && !stratum.orphan {
        draft.note(
            line,
            format!(
                "chronyd serves its own clock at once where no waitunsynced is given; here {field} is 64s then, and 0s \
                 is chronyd's way"
            ),
        );
    }
}

/// `makestep THRESHOLD UPDATES`.
pub(super) fn make_step(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    let (threshold, limit) = (seconds(&mut words, "makestep", draft), words.number::<i32>("makestep", draft));
    let Some((threshold, limit)) = threshold.zip(limit) else { return };
    if threshold == Span::default() && limit != 0 {
        return draft.leave_out(line, "the threshold must be more than 0");
    }
    let here = "between the node's boot and its first synchronisation";
    let mut step = profile::Step { threshold, ..profile::Step::default() };
    if let Ok(updates) = u32::try_from(limit) {
        step.limit = updates.min(MOST_STEPS);
        draft.carry(line);
    }
    match limit {
        0 => step.threshold = profile::Step::default().threshold,
        1.. => draft.note(
            line,
            format!(
                "chronyd steps in its first {limit} updates. Here there are {} steps at most, {here}",
                step.limit
            ),
        ),
        _ => draft.leave_out(
            line,
            format!(
                "steps at any time: a clock is stepped {here} only, {} times at most; later it is slewed",
                step.limit
            ),
        ),
    }
    draft.profile.clock.step = step;
}

/// So many steps a policy can allow.
const MOST_STEPS: u32 = 1000;

/// `maxchange OFFSET START IGNORE`: the offset is carried over.
pub(super) fn max_change(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    let Some(change) = seconds(&mut words, "maxchange", draft) else { return };
    draft.profile.clock.max_change = if change == Span::default() { NO_LIMIT } else { change };
    draft.carry(line);
    let field = draft.field("clock.maxChange");
    draft.note(
        line,
        format!(
            "{field} holds from the first synchronisation on. What is larger is refused and \
         told, each time, and the agent goes on"
        ),
    );
}

/// `maxdistance DISTANCE`.
pub(super) fn max_distance(line: &Line<'_>, draft: &mut Draft) {
    if let Some(distance) = seconds(&mut Words::new(line), "maxdistance", draft) {
        draft.set_max_distance(line, "maxdistance", distance);
    }
}

/// `maxslewrate PPM`.
pub(super) fn max_slew_rate(line: &Line<'_>, draft: &mut Draft) {
    let Some(rate) = Words::new(line).number::<f64>("maxslewrate", draft) else { return };
    if !(1.0..=100_000.0).contains(&rate) {
        return draft.leave_out(line, "it goes from 1 to 100000 ppm");
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 1 to 100000 by the lines above"
    )]
    let whole = rate as u32;
    draft.profile.clock.max_slew_rate = whole;
    draft.carry(line);
    if rate.fract() > 0.0 {
        draft.note(line, format!("whole ppm are counted: {whole}"));
    }
}

/// `minsources N`.
pub(super) fn min_sources(line: &Line<'_>, draft: &mut Draft) {
    match Words::new(line).number("minsources", draft) {
        Some(least @ 1..=16) => {
            draft.profile.clock.min_sources = Some(least);
            draft.carry(line);
        }
        Some(_) => draft.leave_out(line, "from 1 to 16 sources can be asked for"),
        None => {}
    }
}

/// `leapsecmode`.
pub(super) fn leap_mode(line: &Line<'_>, draft: &mut Draft) {
    let mode = line.words.first().map(|word| word.to_ascii_lowercase());
    draft.profile.clock.leap.mode = match mode.as_deref() {
        Some("system") => LeapMode::Kernel,
        Some("step") => LeapMode::Step,
        Some("slew") => LeapMode::Slew,
        Some("ignore") => LeapMode::Ignore,
        _ => return draft.leave_out(line, "it is none of system, step, slew and ignore"),
    };
    draft.carry(line);
}

/// `port N`; 0 serves nobody.
pub(super) fn port(line: &Line<'_>, draft: &mut Draft) {
    match Words::new(line).number("port", draft) {
        Some(0) => {
            draft.profile.serve.enabled = false;
            draft.carry(line);
        }
        Some(port) => {
            draft.profile.serve.port = port;
            draft.carry(line);
        }
        None => {}
    }
}

/// `keyfile FILE`: the file is not read.
pub(super) fn key_file(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    match (facts.uses_keys, facts.serves) {
        (_, true) => {
            let field = draft.field("serve.keys");
            draft.leave_out(
                line,
                format!(
                    "the file is not read, so clients that ask with a key of it get no proven answers: name \
                     those keys in {field}"
                ),
            );
        }
        (true, false) => {
            draft.note(line, "the file is not read; what has to be made of it stands at the end")
        }
        (false, false) => draft.note(line, "no line uses a key of it"),
    }
}

/// `authselectmode`: one of its four is what happens here.
pub(super) fn auth_select_mode(line: &Line<'_>, draft: &mut Draft) {
    match line.words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("mix") => draft.note(line, "it is so without it"),
        _ => draft.leave_out(
            line,
            "where some upstreams prove who they are, these have trust and require; say trust and require of \
             others yourself (mix)",
        ),
    }
}

/// `ntsservercert`, `ntsserverkey`, `ntsport`: all three are one setting.
pub(super) fn server_nts(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    let Some(((first, certificate), (second, key))) = facts.certificate.zip(facts.private_key) else {
        return draft.leave_out(
            line,
            "NTS is served with both a certificate (ntsservercert) and its key (ntsserverkey)",
        );
    };
    if line.directive.eq_ignore_ascii_case("ntsport") || [first, second].contains(&line.number) {
        serve_nts(draft, &lines::printable(certificate), &lines::printable(key), facts.nts_port);
        draft.carry(line);
    } else {
        draft.leave_out(line, "the server has one certificate");
    }
}

/// `ntstrustedcerts FILE`: it is already with each upstream.
pub(super) fn trusted_certificates(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    let is_first = facts.trusted.is_some_and(|(number, _)| number == line.number);
    match (facts.uses_nts, is_first) {
        (false, _) => draft.note(line, "no line uses NTS"),
        (true, false) => draft.leave_out(
            line,
            "an upstream has one file of certificates: put all that are to be trusted into the first one",
        ),
        (true, true) => {
            draft.carry(line);
            if !facts.no_system_certificates {
                draft.note(line, "the public authorities count no more beside it, as with nosystemcert");
            }
        }
    }
}
