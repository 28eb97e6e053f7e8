//! Reads a whole chrony.conf into the draft: each line goes to the parser of its directive. All lines are scanned
//! first, since some of them change the meaning of others (`keyfile`, `ntstrustedcerts`). chronyd's words are
//! case-insensitive.
use profile::Nts;

use crate::{
    Dialect,
    allow_line::Allowed,
    chrony_facts::Facts,
    chrony_options::{DEVICE_DEFAULTS, OF_DEVICE, OF_SERVER, SERVER_DEFAULTS},
    chrony_settings as settings, defaults, directives,
    draft::Draft,
    lines::{self, Line},
    listen,
    remarks::Fate,
    source_line::{Source, Words, is_number, is_own, leave_out_own},
};

/// Reads `lines` into `draft`.
pub(super) fn read(lines: &[Line<'_>], draft: &mut Draft<'_>) {
    let facts = Facts::of(lines);
    let mut allowed = Allowed::default();
    let mut limits = Vec::new();
    let mut bound = Vec::new();
    for line in lines {
        if draft.included(line) {
            continue;
        }
        match line.directive.to_ascii_lowercase().as_str() {
            kind @ ("server" | "pool" | "peer") => upstream(line, kind, &facts, draft),
            "refclock" => refclock(line, &facts, draft),
            "allow" => allowed.line(line, true, draft),
            "deny" => allowed.line(line, false, draft),
            "ratelimit" => limits = settings::rate_limit(line, draft),
            "local" => settings::local(line, draft),
            "makestep" => settings::make_step(line, draft),
            "initstepslew" => settings::init_step_slew(line, &facts, draft),
            "hwclockfile" => settings::clock_file(line, draft),
            "bindaddress" => bound.push(line),
            "smoothtime" => settings::smooth_time(line, &facts, draft),
            "bindacqaddress" | "bindacqdevice" => settings::bind_requests(line, draft),
            "maxchange" => settings::max_change(line, draft),
            "maxdistance" => settings::max_distance(line, draft),
            "maxslewrate" => settings::max_slew_rate(line, draft),
            "minsources" => settings::min_sources(line, draft),
            "leapsecmode" => settings::leap_mode(line, draft),
            "port" => settings::port(line, draft),
            "rtcdevice" => line.words.iter().take(1).for_each(|device| draft.set_rtc_device(line, device)),
            "keyfile" => settings::key_file(line, &facts, draft),
            "authselectmode" => settings::auth_select_mode(line, &facts, draft),
            "ntsservercert" | "ntsserverkey" | "ntsport" => settings::server_nts(line, &facts, draft),
            "ntstrustedcerts" => settings::trusted_certificates(line, &facts, draft),
            _ => directives::without_field(Dialect::Chrony, line, draft),
        }
        if !bound.contains(&line) {
            draft.account_for(line);
        }
    }
    listen::bind_addresses(&bound, facts.serves, draft);
    if allowed.anybody() {
        draft.set_restrict(allowed.list(&limits));
    } else {
        draft.profile.serve.enabled = false;
        draft.remark(
            "no client may ask, which is chronyd's default without a line allow: serve.enabled is false",
        );
    }
    defaults::of_chrony(draft, |directive| {
        lines.iter().any(|line| line.directive.eq_ignore_ascii_case(directive))
    });
}

fn upstream(line: &Line<'_>, kind: &str, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    let Some(host) = words.next() else { return draft.leave_out(line, "it names no server") };
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
            // The default.
            _ if is_default(SERVER_DEFAULTS, &option, words.peek()) => words.skip(1),
            "maxsources" => upstream.max_sources = words.number(&option, draft),
            "nts" => drop(upstream.nts.get_or_insert_default()),
            "ntsport" => {
                if let Some(port) = words.number(&option, draft) {
                    upstream.nts.get_or_insert_default().port = port;
                }
            }
            "key" => match words.number::<u32>(&option, draft) {
                Some(id) => {
                    upstream.key = Some(draft.file("ntp-keys", &format!("key-{id}"), facts.key_line(id)));
                }
                None => {
                    return draft.leave_out(line, "the whole upstream, since it would not be authenticated");
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
    // A port of the key exchange without the option `nts` does not turn NTS on.
    let asks_for_nts = line.words.iter().any(|word| word.eq_ignore_ascii_case("nts"));
    // ntp.conf's names for reference clocks are addresses of this node to chronyd. Another port is another server.
    let is_local_clock = host.starts_with("127.127.1.") && facts.serves_local;
    let own_port = facts.port == Some(source.upstream.port) && !host.starts_with("127.127.");
    if is_own(&host_of(&source)) && (is_local_clock || own_port) {
        return leave_out_own(line, "chronyd", facts.serves_local, draft);
    }
    source.upstream.nts = source.upstream.nts.filter(|_| asks_for_nts);
    if let Some((nts, (_, path))) = source.upstream.nts.as_mut().zip(facts.trusted) {
        let content = format!("the certificates (PEM) of {}", lines::printable(path));
        *nts = Nts { ca: Some(draft.file("ntp-certificates", "ca.pem", content)), port: nts.port };
    }
    source.finish(line, false, draft);
}

/// The host of any kind of upstream.
fn host_of(source: &Source) -> String {
    let upstream = &source.upstream;
    [&upstream.server, &upstream.pool, &upstream.peer]
        .into_iter()
        .flatten()
        .next()
        .cloned()
        .unwrap_or_default()
}

fn is_default(defaults: &[(&str, f64)], option: &str, word: Option<&str>) -> bool {
    defaults.iter().any(|(name, value)| *name == option && is_number(word, *value))
}

/// The default poll of a reference clock (chrony.conf(5), `refclock`).
const DEVICE_POLL: i8 = 4;

fn refclock(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    let (driver, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !driver.eq_ignore_ascii_case("PHC") {
        return draft.leave_out_clock(
            line,
            "the whole upstream: of reference clocks PTP clocks alone are read (PHC). For others run a server \
             that reads them, and name it",
        );
    }
    let mut parts = path.split(':');
    let path = parts.next().unwrap_or_default();
    let mut source = Source::new("device", path);
    source.upstream.device = Some(path.to_owned());
    source.set_polls(DEVICE_POLL, DEVICE_POLL);
    let mut remarks = Vec::new();
    for part in parts {
        match part.to_ascii_lowercase().as_str() {
            "nocrossts" => remarks.push((
                Fate::Unneeded,
                "nocrossts: the agent reads a device in the best way that it supports".to_owned(),
            )),
            other if ["extpps", "pin=", "channel=", "clear"].iter().any(|pulse| other.starts_with(pulse)) => {
                return draft.leave_out_clock(
                    line,
                    "the whole upstream: the agent does not read pulses at a pin of a card",
                );
            }
            other => remarks.push((
                Fate::LeftOut,
                format!("{:?}: there is no such option of a PHC", lines::printable(other)),
            )),
        }
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
                if let Some(poll) = crate::source_line::poll(&option, &mut words, draft) {
                    source.set_polls(poll, poll);
                }
            }
            // The default.
            _ if is_default(DEVICE_DEFAULTS, &option, words.peek()) => words.skip(1),
            // A client of this node sees one stratum more than the source's.
            "stratum" => {
                let stratum = lines::printable(words.next().unwrap_or_default());
                let fate = if facts.serves { Fate::LeftOut } else { Fate::Unneeded };
                remarks.push((fate, format!("stratum {stratum}: a device has stratum 0, and this node 1")));
            }
            "tai" | "offset" | "pps" | "local" | "lock" => {
                return draft.leave_out_clock(
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
                    remarks.push((*fate, format!("{option}: {why}")));
                }
                None => remarks
                    .push((Fate::LeftOut, format!("{:?}: there is no such option", lines::printable(word)))),
            },
        }
    }
    for (fate, what) in remarks {
        draft.tell(line, fate, what);
    }
    source.finish(line, false, draft);
}
