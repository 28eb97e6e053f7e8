//! A whole chrony.conf into the draft: each line to the step that knows its directive. First a look over all lines,
//! since some of them speak of others (`keyfile`, `ntstrustedcerts`). chronyd takes its words in any case.
use profile::Nts;

use super::{
    allow_line::Allowed,
    chrony_options::{OF_DEVICE, OF_SERVER, WITHOUT_FIELD},
    chrony_settings as settings, defaults,
    draft::Draft,
    lines::{self, Line},
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
            "ratelimit" => limits = settings::rate_limit(line, draft),
            "local" => settings::local(line, draft),
            "makestep" => settings::make_step(line, draft),
            "maxchange" => settings::max_change(line, draft),
            "maxdistance" => settings::max_distance(line, draft),
            "maxslewrate" => settings::max_slew_rate(line, draft),
            "minsources" => settings::min_sources(line, draft),
            "leapsecmode" => settings::leap_mode(line, draft),
            "port" => settings::port(line, draft),
            "rtcsync" => draft.carry(line),
            "rtcdevice" => line.words.iter().take(1).for_each(|device| draft.set_rtc_device(line, device)),
            "keyfile" => settings::key_file(line, &facts, draft),
            "authselectmode" => settings::auth_select_mode(line, draft),
            "ntsservercert" | "ntsserverkey" | "ntsport" => settings::server_nts(line, &facts, draft),
            "ntstrustedcerts" => settings::trusted_certificates(line, &facts, draft),
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
pub(super) struct Facts<'a> {
    keys: Option<&'a str>,
    /// Some upstream has a key.
    pub(super) uses_keys: bool,
    /// Somebody may ask.
    pub(super) serves: bool,
    /// The first file of certificates to trust, and its line.
    pub(super) trusted: Option<(usize, &'a str)>,
    /// The public authorities do not count.
    pub(super) no_system_certificates: bool,
    /// Some upstream proves itself by NTS.
    pub(super) uses_nts: bool,
    /// What a server of NTS shows, and the line that says it.
    pub(super) certificate: Option<(usize, &'a str)>,
    /// What it proves that with.
    pub(super) private_key: Option<(usize, &'a str)>,
    /// Where it is asked for keys.
    pub(super) nts_port: Option<u16>,
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
    let mut source = Source::of_host(kind, host);
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
            "the whole upstream: of reference clocks PTP clocks alone are read (PHC). For others run a server \
             that reads them, and name it",
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
                    format!(
                        "the whole upstream: {option}: a device is taken to show UTC, and to be right. Have \
                         phc2sys or ptp4l set it to UTC"
                    ),
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
