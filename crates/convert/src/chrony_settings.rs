//! Lines of chrony.conf with settings for all upstreams or for the server: limits, steps, keys. Each goes into the
//! draft's profile, or gets a remark.
use std::path::Path;

use contract::Span;
use profile::{
    Flag, LeapMode,
    ranges::{
        LOCAL_STRATUM, MAX_SLEW_RATE, MOST_SERVE_KEYS, RATE_BURST, RATE_INTERVAL, RATE_LEAK, Range,
        STEP_LIMIT,
    },
};

use crate::{
    beside::Unread,
    chrony_facts::Facts,
    draft::Draft,
    lines::{self, Line},
    ntp_server::serve_nts,
    ntp_settings::{NO_LIMIT, seconds},
    source_line::Words,
};

/// `ratelimit`. Returns the flags of clients that are allowed.
pub(super) fn rate_limit(line: &Line<'_>, draft: &mut Draft<'_>) -> Vec<Flag> {
    let mut flags = vec![Flag::Limited];
    let mut words = Words::new(line);
    draft.set(line, "serve.rateLimit");
    while let Some(word) = words.next() {
        let option = word.to_ascii_lowercase();
        let Some(number) = words.number::<i8>(&option, draft) else { continue };
        let limit = &mut draft.profile.serve.rate_limit;
        match (option.as_str(), u8::try_from(number)) {
            ("interval", _) if RATE_INTERVAL.contains(&number) => limit.interval = number,
            ("burst", Ok(burst)) if RATE_BURST.contains(&burst) => limit.burst = burst,
            ("leak", Ok(leak)) if RATE_LEAK.contains(&leak) => limit.leak = leak,
            ("kod", Ok(0)) => {}
            ("kod", Ok(1..=4)) => {
                flags.insert(0, Flag::Kod);
                draft.note(line, "kod: the share of kisses is that of ntpd's kod");
            }
            _ => {
                let what = format!(
                    "{} {number}: the ranges are {RATE_INTERVAL} for interval, {RATE_BURST} for burst, {RATE_LEAK} for leak",
                    lines::printable(word)
                );
                draft.leave_out(line, what);
            }
        }
    }
    flags
}

/// The default stratum of `local` (chrony.conf(5)).
const UNSAID_STRATUM: u8 = 10;

/// `local`: serving without upstreams.
pub(super) fn local(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mut stratum = profile::Stratum { local: Some(UNSAID_STRATUM), orphan: false, activate_after: None };
    let mut words = Words::new(line);
    while let Some(word) = words.next() {
        let option = word.to_ascii_lowercase();
        match option.as_str() {
            "stratum" => match words.number(&option, draft) {
                Some(local) if LOCAL_STRATUM.contains(&local) => stratum.local = Some(local),
                _ => {
                    let why = format!("the stratum of the node's own clock must be {LOCAL_STRATUM}");
                    return draft.leave_out(line, why);
                }
            },
            "orphan" => stratum.orphan = true,
            "waitunsynced" => stratum.activate_after = seconds(&mut words, &option, draft),
            "distance" | "activate" | "waitsynced" => {
                words.skip(1);
                draft.leave_out(
                    line,
                    format!(
                        "{option}: the node's own clock is served once no upstream tells \
                     the time, after stratum.activateAfter"
                    ),
                );
            }
            _ => draft.leave_out(line, format!("{:?}: there is no such option", lines::printable(word))),
        }
    }
    draft.profile.stratum = stratum;
    draft.set(line, "stratum");
    if stratum.activate_after.is_none() && !stratum.orphan {
        draft.note(
            line,
            "chronyd serves its own clock at once where no waitunsynced is given; here stratum.activateAfter is 64s then, and 0s \
                 is chronyd's way",
        );
    }
}

/// `makestep THRESHOLD UPDATES`.
pub(super) fn make_step(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    let (threshold, limit) = (seconds(&mut words, "makestep", draft), words.number::<i32>("makestep", draft));
    let Some((threshold, limit)) = threshold.zip(limit) else { return };
    if threshold == Span::default() && limit != 0 {
        return draft.leave_out(line, "the threshold must be more than 0");
    }
    let here = "between the node's boot and its first synchronisation";
    let mut step = profile::Step { threshold, ..profile::Step::default() };
    if let Ok(updates) = u32::try_from(limit) {
        step.limit = updates.min(STEP_LIMIT.most);
    }
    draft.set(line, "clock.step");
    match limit {
        0 => step.threshold = profile::Step::default().threshold,
        1.. => draft.note(
            line,
            format!(
                "chronyd steps in its first {limit} updates. The agent makes at most {} steps, {here}",
                step.limit
            ),
        ),
        // chrony.conf(5): a negative number of updates means no limit.
        _ => {
            draft.note(
                line,
                format!(
                    "chronyd steps at any time. Here a clock is stepped {here}, {} times at most. After that it is stepped \
                     when another program set it (clock.onExternalStep) and when the machine was paused, within clock.maxChange; what \
                     upstreams are off by otherwise is slewed",
                    step.limit
                ),
            );
        }
    }
    draft.profile.clock.step = step;
    words.end(draft);
}

/// `maxchange OFFSET START IGNORE`: the offset is carried over.
pub(super) fn max_change(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    let Some(change) = seconds(&mut words, "maxchange", draft) else { return };
    draft.profile.clock.max_change = if change == Span::default() { NO_LIMIT } else { change };
    draft.set(line, "clock.maxChange");
    draft.note(
        line,
        "clock.maxChange holds from the first synchronisation on. What is larger is refused and told, each time, and \
         the agent goes on",
    );
}

/// `maxdistance DISTANCE`.
pub(super) fn max_distance(line: &Line<'_>, draft: &mut Draft<'_>) {
    if let Some(distance) = seconds(&mut Words::new(line), "maxdistance", draft) {
        draft.set_max_distance(line, "maxdistance", distance);
    }
}

/// `maxslewrate PPM`.
pub(super) fn max_slew_rate(line: &Line<'_>, draft: &mut Draft<'_>) {
    let Some(rate) = Words::new(line).number::<f64>("maxslewrate", draft) else { return };
    let Range { least, most } = MAX_SLEW_RATE;
    if !(f64::from(least)..=f64::from(most)).contains(&rate) {
        return draft.leave_out(line, format!("the range is {MAX_SLEW_RATE} ppm"));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the range by the lines above"
    )]
    let whole = rate as u32;
    draft.profile.clock.max_slew_rate = whole;
    draft.set(line, "clock.maxSlewRate");
    if rate.fract() > 0.0 {
        draft.note(line, format!("rounded to whole ppm: {whole}"));
    }
}

/// `minsources N`.
pub(super) fn min_sources(line: &Line<'_>, draft: &mut Draft<'_>) {
    if let Some(least) = Words::new(line).number("minsources", draft) {
        draft.profile.clock.min_sources = Some(least);
        draft.set(line, "clock.minSources");
    }
}

/// `leapsecmode`.
pub(super) fn leap_mode(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mode = line.words.first().map(|word| word.to_ascii_lowercase());
    draft.profile.clock.leap.mode = match mode.as_deref() {
        Some("system") => LeapMode::Kernel,
        Some("step") => LeapMode::Step,
        Some("slew") => LeapMode::Slew,
        Some("ignore") => LeapMode::Ignore,
        _ => return draft.leave_out(line, "it must be system, step, slew or ignore"),
    };
    draft.carry(line);
}

/// `port N`; 0 means that no client is served.
pub(super) fn port(line: &Line<'_>, draft: &mut Draft<'_>) {
    match Words::new(line).number("port", draft) {
        Some(0) => {
            draft.profile.serve.enabled = false;
            draft.carry(line);
        }
        Some(port) => {
            draft.profile.serve.port = port;
            draft.set(line, "serve.port");
        }
        None => {}
    }
}

/// `initstepslew THRESHOLD [HOST]…`: at the start the clock is set once, by a step if the offset is larger than the
/// threshold (chrony.conf(5), which recommends makestep instead).
pub(super) fn init_step_slew(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    let Some(threshold) = seconds(&mut words, "initstepslew", draft) else { return };
    let is_asked = |host: &str| facts.hosts.iter().any(|other| other.eq_ignore_ascii_case(host));
    let mut others = Vec::new();
    while let Some(host) = words.next() {
        if !is_asked(host) {
            others.push(lines::printable(host));
        }
    }
    if facts.steps {
        draft.note(line, "makestep decides about steps at the start");
    } else {
        draft.profile.clock.step = profile::Step { threshold, limit: 1 };
        draft.set(line, "clock.step");
    }
    if !others.is_empty() {
        let others = others.join(" ");
        draft.leave_out(
            line,
            format!("{others}: no server is asked only at the start. Name it in a line server"),
        );
    }
}

/// `hwclockfile FILE`: the file that says that the hardware clock shows UTC or local time.
pub(super) fn clock_file(line: &Line<'_>, draft: &mut Draft<'_>) {
    match line.words.first() {
        Some(&"/etc/adjtime") => draft.carry(line),
        _ => draft.leave_out(
            line,
            "the agent reads only from /etc/adjtime whether the hardware clock has UTC or local time",
        ),
    }
}

/// `keyfile FILE`: if clients may ask, any of its keys can be theirs, so the numbers of its keys are read, and nothing else.
pub(super) fn key_file(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let name_them = "If clients ask with a key, name its file in serve.keys";
    let Some(path) = line.words.first() else { return };
    if !facts.serves {
        return draft.note(
            line,
            if facts.uses_keys {
                "the file is not read; the end of this output says what to make of it"
            } else {
                "no line uses a key of this file"
            },
        );
    }
    match draft.beside.read(Path::new(path)) {
        Ok(text) => keys_of_clients(line, &text, facts, draft),
        Err(Unread::Missing) => draft.note(
            line,
            format!("the file does not exist here, and it has the keys. {name_them}, or run the conversion on the machine that has the file"),
        ),
        Err(Unread::Elsewhere) => draft.leave_out(
            line,
            format!("the file is not read, since the configuration is from standard input. {name_them}, or run the conversion on the machine that has the file"),
        ),
        Err(Unread::Failed(why)) => {
            draft.leave_out(line, format!("the keys of clients are not known: {why}. {name_them}"));
        }
    }
}

fn keys_of_clients(line: &Line<'_>, text: &str, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let raw = lines::raw("", text);
    let ids = lines::of_chrony(&raw).into_iter().filter(|key| !key.words.is_empty());
    let mut ids: Vec<u32> = ids.filter_map(|key| key.directive.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return draft.note(line, "the file has no keys");
    }
    for id in ids.iter().take(MOST_SERVE_KEYS) {
        let file = draft.file("ntp-keys", &format!("key-{id}"), facts.key_line(*id));
        draft.profile.serve.keys.push(file);
    }
    draft.set(line, "serve.keys");
    if ids.len() > MOST_SERVE_KEYS {
        let cut: Vec<_> = ids[MOST_SERVE_KEYS..].iter().take(MOST_SERVE_KEYS).map(u32::to_string).collect();
        draft.leave_out(
            line,
            format!("clients can use at most {MOST_SERVE_KEYS} keys: {} … are left out", cut.join(" ")),
        );
    }
}

/// `authselectmode`: the agent does what one of its four modes does.
pub(super) fn auth_select_mode(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    match line.words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("mix") => draft.note(line, "it is the default"),
        Some("require" | "prefer") if facts.all_prove => {
            draft.note(line, "every upstream is authenticated, so the mode excludes none");
        }
        _ => draft.leave_out(
            line,
            "where some upstreams prove who they are, these have trust and require; say trust and require of \
             others yourself (mix)",
        ),
    }
}

/// `smoothtime`: what clients are served.
pub(super) fn smooth_time(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    if facts.serves {
        draft.leave_out(
            line,
            "time is not smeared or smoothed for clients. If the upstreams smear, set clock.leap.smear",
        );
    } else {
        draft.note(line, "no client may ask, so no client gets a smoothed time");
    }
}

/// `bindacqaddress` and `bindacqdevice`: where requests leave.
pub(super) fn bind_requests(line: &Line<'_>, draft: &mut Draft<'_>) {
    match line.words.as_slice() {
        ["0.0.0.0" | "::"] => draft.note(line, "it is the default"),
        _ => draft.leave_out(line, "the node's routes decide how requests leave"),
    }
}

/// `ntsservercert`, `ntsserverkey`, `ntsport`: together one setting.
pub(super) fn server_nts(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let Some(((first, certificate), (second, key))) = facts.certificate.zip(facts.private_key) else {
        return draft
            .leave_out(line, "NTS requires both a certificate (ntsservercert) and its key (ntsserverkey)");
    };
    if line.directive.eq_ignore_ascii_case("ntsport") || [first, second].contains(&line.number) {
        serve_nts(draft, &lines::printable(certificate), &lines::printable(key), facts.nts_port);
        draft.carry(line);
    } else {
        draft.leave_out(line, "the server has one certificate");
    }
}

/// `ntstrustedcerts FILE`: each upstream already has it.
pub(super) fn trusted_certificates(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let is_first = facts.trusted.is_some_and(|(number, _)| number == line.number);
    match (facts.uses_nts, is_first) {
        (false, _) => draft.note(line, "no line uses NTS"),
        (true, false) => draft.leave_out(
            line,
            "an upstream has one file of certificates: put all trusted certificates into the first one",
        ),
        (true, true) => {
            draft.carry(line);
            if !facts.no_system_certificates {
                draft.note(
                    line,
                    "the public certificate authorities are not trusted in addition, as with nosystemcert",
                );
            }
        }
    }
}
