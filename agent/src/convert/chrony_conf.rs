//! A whole chrony.conf into the draft: each line to the step that knows its directive. First a look over all lines,
//! since some of them speak of others (`keyfile`, `ntstrustedcerts`). chronyd takes its words in any case.
use contract::{Flag, LeapMode, Nts, Span};

use super::{
    allow_line::Allowed,
    chrony_options::{OF_DEVICE, OF_SERVER, WITHOUT_FIELD},
    defaults,
    draft::Draft,
    lines::{self, Line},
    ntp_settings::{NO_LIMIT, seconds, serve_nts},
    source_line::{Source, Words},
};

/// Reads `text` into `draft`.
pub(super) fn read(text: &str, draft: &mut Draft) {
    let lines = lines::of_chrony(text);
    let facts = Facts::of(&lines);
    let mut allowed = Allowed::default();
    let mut limits = Vec::new();
    for line in &lines {
        match line.directive.to_ascii_lowercase().as_str() {
            kind @ ("server" | "pool" | "peer") => upstream(line, kind, &facts, draft),
            "refclock" => refclock(line, draft),
            "allow" => allowed.line(line, true, draft),
            "deny" => allowed.line(line, false, draft),
            "ratelimit" => limits = rate_limit(line, draft),
            "local" => local(line, draft),
            "makestep" => make_step(line, draft),
            "maxchange" => max_change(line, draft),
            "maxslewrate" => max_slew_rate(line, draft),
            "minsources" => min_sources(line, draft),
            "leapsecmode" => leap_mode(line, draft),
            "port" => port(line, draft),
            "rtcsync" => draft.carry(line),
            "rtcdevice" => line.words.iter().take(1).for_each(|device| draft.set_rtc_device(line, device)),
            "keyfile" => key_file(line, &facts, draft),
            "authselectmode" => auth_select_mode(line, draft),
            "ntsservercert" | "ntsserverkey" | "ntsport" => server_nts(line, &facts, draft),
            "ntstrustedcerts" => trusted_certificates(line, &facts, draft),
            "nosystemcert" => draft.carry(line),
            directive => match WITHOUT_FIELD.iter().find(|(names, ..)| names.contains(&directive)) {
                Some((_, fate, why)) => draft.tell(line, *fate, *why),
                None => draft.leave_out(line, "there is no such directive in chrony.conf"),
            },
        }
        draft.account_for(line);
    }
    if allowed.anybody() {
        draft.set_restrict(allowed.list(&limits));
    } else {
        draft.profile.serve.enabled = false;
        let field = draft.field("serve.enabled");
        draft.remark(format!(
            "nobody is allowed to ask, as chronyd has it where no line says otherwise: {field} is false"
        ));
    }
    defaults::of_chrony(draft, |directive| {
        lines.iter().any(|line| line.directive.eq_ignore_ascii_case(directive))
    });
}

/// What some lines say of others.
#[derive(Debug, Default)]
struct Facts<'a> {
    keys: Option<&'a str>,
    uses_keys: bool,
    serves: bool,
    /// The first file of certificates to trust, and its line.
    trusted: Option<(usize, &'a str)>,
    no_system_certificates: bool,
    uses_nts: bool,
    certificate: Option<(usize, &'a str)>,
    private_key: Option<(usize, &'a str)>,
    nts_port: Option<u16>,
}

impl<'a> Facts<'a> {
    fn of(lines: &[Line<'a>]) -> Self {
        let mut facts = Self::default();
        for line in lines {
            let last = line.words.last().map(|word| (line.number, *word));
            let has = |option: &str| line.words.iter().any(|word| word.eq_ignore_ascii_case(option));
            match line.directive.to_ascii_lowercase().as_str() {
                "keyfile" => facts.keys = line.words.first().copied(),
                "server" | "pool" | "peer" => {
                    facts.uses_keys |= has("key");
                    facts.uses_nts |= has("nts");
                }
                "allow" => facts.serves = true,
                "ntstrustedcerts" => facts.trusted = facts.trusted.or(last),
                "nosystemcert" => facts.no_system_certificates = true,
                "ntsservercert" => facts.certificate = facts.certificate.or(last),
                "ntsserverkey" => facts.private_key = facts.private_key.or(last),
                "ntsport" => facts.nts_port = last.and_then(|(_, port)| port.parse().ok()),
                _ => {}
            }
        }
        facts
    }
}

fn upstream(line: &Line<'_>, kind: &str, facts: &Facts<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    let Some(host) = words.next() else { return draft.leave_out(line, "it does not say whom to ask") };
    let mut source = Source::new(kind, host);
    while let Some(word) = words.next() {
        let option = word.to_ascii_lowercase();
        if source.common(&option, &mut words, draft) {
            continue;
        }
        let upstream = &mut source.upstream;
        match option.as_str() {
            "trust" => upstream.trust = true,
            "require" => upstream.require = true,
            "xleave" => upstream.interleaved = true,
            "maxsources" => upstream.max_sources = words.number(&option, draft),
            "nts" => drop(upstream.nts.get_or_insert_default()),
            "ntsport" => {
                if let Some(port) = words.number(&option, draft) {
                    upstream.nts.get_or_insert_default().port = port;
                }
            }
            "key" => match words.number::<u32>(&option, draft) {
                Some(id) => {
                    let path = lines::printable(facts.keys.unwrap_or("the key file"));
                    let content = format!("the line of key {id} in {path}, as it stands there");
                    upstream.key = Some(draft.file("ntp-keys", &format!("key-{id}"), content));
                }
                None => {
                    return draft
                        .leave_out(line, "the whole upstream, since it would not have to prove who it is");
                }
            },
            _ => match OF_SERVER.iter().find(|(name, ..)| *name == option) {
                Some((_, follow, fate, why)) => {
                    words.skip(*follow);
                    draft.tell(line, *fate, format!("{option}: {why}"));
                }
                None => {
                    draft.leave_out(line, format!("{:?}: there is no such option", lines::printable(word)))
                }
            },
        }
    }
    // A port of a key exchange alone asks for none.
    let asks_for_nts = line.words.iter().any(|word| word.eq_ignore_ascii_case("nts"));
    source.upstream.nts = source.upstream.nts.filter(|_| asks_for_nts);
    if let Some((nts, (_, path))) = source.upstream.nts.as_mut().zip(facts.trusted) {
        let content = format!("the certificates (PEM) of {}", lines::printable(path));
        *nts = Nts { ca: Some(draft.file("ntp-certificates", "ca.pem", content)), port: nts.port };
    }
    source.finish(line, false, draft);
}

/// The poll of a reference clock if nothing is said (chrony.conf(5), `refclock`).
const DEVICE_POLL: i8 = 4;

fn refclock(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    let (driver, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !driver.eq_ignore_ascii_case("PHC") {
        return draft.leave_out(
            line,
            "the whole upstream: of reference clocks PTP clocks alone are read (PHC). For others run a server that reads them, and name it",
        );
    }
    let (path, options) = path.split_once(':').unwrap_or((path, ""));
    let mut source = Source::new("device", path);
    source.upstream.device = Some(path.to_owned());
    source.set_polls(DEVICE_POLL, DEVICE_POLL);
    if options.contains("pps") {
        return draft.leave_out(line, "the whole upstream: pulses at a card's pin are not read");
    }
    while let Some(word) = words.next() {
        let option = word.to_ascii_lowercase();
        let upstream = &mut source.upstream;
        match option.as_str() {
            "prefer" => upstream.prefer = true,
            "noselect" => upstream.noselect = true,
            "trust" => upstream.trust = true,
            "require" => upstream.require = true,
            "poll" => {
                if let Some(poll) = super::source_line::poll(&option, &mut words, draft) {
                    source.set_polls(poll, poll);
                }
            }
            "tai" | "offset" | "pps" | "local" | "lock" => {
                return draft.leave_out(
                    line,
                    format!("the whole upstream: {option}: a device is taken to show UTC, and to be right. Have phc2sys or ptp4l set it to UTC"),
                );
            }
            _ => match OF_DEVICE.iter().find(|(name, ..)| *name == option) {
                Some((_, follow, fate, why)) => {
                    words.skip(*follow);
                    draft.tell(line, *fate, format!("{option}: {why}"));
                }
                None => {
                    draft.leave_out(line, format!("{:?}: there is no such option", lines::printable(word)))
                }
            },
        }
    }
    source.finish(line, false, draft);
}

/// `ratelimit`; the flags that those who are allowed get.
fn rate_limit(line: &Line<'_>, draft: &mut Draft) -> Vec<Flag> {
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

fn local(line: &Line<'_>, draft: &mut Draft) {
    let mut stratum = contract::Stratum { local: Some(LOCAL_STRATUM), orphan: false, activate_after: None };
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
                let field = draft.field("stratum.activate_after");
                draft.leave_out(line, format!("{option}: the node's own clock is served once no upstream tells the time, after {field}"));
            }
            _ => draft.leave_out(line, format!("{:?}: there is no such option", lines::printable(word))),
        }
    }
    draft.profile.stratum = stratum;
    draft.carry(line);
}

fn make_step(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    let (threshold, limit) = (seconds(&mut words, "makestep", draft), words.number::<i32>("makestep", draft));
    let Some((threshold, limit)) = threshold.zip(limit) else { return };
    if threshold == Span::default() && limit != 0 {
        return draft.leave_out(line, "the threshold must be more than 0");
    }
    let here = "between the node's boot and its first synchronisation";
    let mut step = contract::Step { threshold, ..contract::Step::default() };
    if let Ok(updates) = u32::try_from(limit) {
        step.limit = updates.min(MOST_STEPS);
        draft.carry(line);
    }
    match limit {
        0 => step.threshold = contract::Step::default().threshold,
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

fn max_change(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    let Some(change) = seconds(&mut words, "maxchange", draft) else { return };
    draft.profile.clock.max_change = if change == Span::default() { NO_LIMIT } else { change };
    draft.carry(line);
    let field = draft.field("clock.max_change");
    draft.note(line, format!("{field} holds from the first synchronisation on. What is larger is refused and told, each time, and the agent goes on"));
}

fn max_slew_rate(line: &Line<'_>, draft: &mut Draft) {
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

fn min_sources(line: &Line<'_>, draft: &mut Draft) {
    match Words::new(line).number("minsources", draft) {
        Some(least @ 1..=16) => {
            draft.profile.clock.min_sources = Some(least);
            draft.carry(line);
        }
        Some(_) => draft.leave_out(line, "from 1 to 16 sources can be asked for"),
        None => {}
    }
}

fn leap_mode(line: &Line<'_>, draft: &mut Draft) {
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

fn port(line: &Line<'_>, draft: &mut Draft) {
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

fn key_file(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    match (facts.uses_keys, facts.serves) {
        (_, true) => {
            let field = draft.field("serve.keys");
            draft.leave_out(
                line,
                format!("the file is not read, so clients that ask with a key of it get no proven answers: name those keys in {field}"),
            );
        }
        (true, false) => {
            draft.note(line, "the file is not read; what has to be made of it stands at the end")
        }
        (false, false) => draft.note(line, "no line uses a key of it"),
    }
}

fn auth_select_mode(line: &Line<'_>, draft: &mut Draft) {
    match line.words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("mix") => draft.note(line, "it is so without it"),
        _ => draft.leave_out(
            line,
            "where some upstreams prove who they are, these have trust and require; say trust and require of others yourself (mix)",
        ),
    }
}

fn server_nts(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
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

fn trusted_certificates(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
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
