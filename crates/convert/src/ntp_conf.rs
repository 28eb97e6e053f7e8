//! Reads a whole ntp.conf, of classic ntpd or of NTPsec, into the draft: each line goes to the parser of its directive.
//! All lines are scanned first, since some of them change the meaning of others (`fudge`, `keys`, `nts`).
use profile::Nts;

use crate::{
    Dialect, defaults, directives,
    draft::Draft,
    lines::{self, Line},
    listen,
    ntp_facts::{Facts, LOCAL_CLOCK},
    ntp_options::OF_SERVER,
    ntp_server as server, ntp_settings as settings,
    restrict_line::AccessList,
    source_line::{Source, Words, host_and_port, is_number, is_own, leave_out_own},
};

/// Reads `lines` into `draft`.
pub(super) fn read(lines: &[Line<'_>], draft: &mut Draft<'_>) {
    let facts = Facts::of(lines);
    let mut access = AccessList::new(facts.hosts.clone());
    let mut interfaces = Vec::new();
    for line in lines {
        if draft.included(line) {
            continue;
        }
        match line.directive {
            "server" | "pool" | "peer" => upstream(line, &facts, draft),
            "refclock" => refclock(line, draft),
            "fudge" => fudge(line, &facts, draft),
            "restrict" => access.restrict(line, draft),
            "unrestrict" | "delrestrict" => access.unrestrict(line, draft),
            "discard" => server::discard(line, draft),
            "limit" => server::limit(line, draft),
            "mru" => server::mru(line, draft),
            "tos" => settings::tos(line, &facts, draft),
            "tinker" => settings::tinker(line, draft),
            "enable" | "disable" => settings::switch(line, draft),
            "keys" => server::keys(line, &facts, draft),
            "trustedkey" => server::trusted_keys(line, &facts, draft),
            "nts" => server::nts(line, &facts, draft),
            "interface" | "nic" | "listen" => interfaces.push(line),
            "crypto" => crypto(line, &facts, draft),
            "slewalways" => settings::slew_always(line, draft),
            _ => directives::without_field(Dialect::Ntp, line, draft),
        }
        if !interfaces.contains(&line) && !access.defers(line) {
            draft.account_for(line);
        }
    }
    listen::interfaces(&interfaces, draft);
    access.finish(draft);
    defaults::of_ntp(draft);
}

/// `server`, `pool` and `peer`.
fn upstream(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    let mut host = words.next();
    while let Some(family @ ("-4" | "-6")) = host {
        host = words.next();
        if host.is_some_and(|host| host.parse::<std::net::IpAddr>().is_err()) {
            draft.leave_out(line, format!("{family}: addresses of both families are asked"));
        }
    }
    let Some(host) = host else { return draft.leave_out(line, "it names no server") };
    if host.starts_with("127.127.") {
        return clock_driver(line, host, facts, draft);
    }
    // In NTPsec the port of the key exchange follows the name.
    let is_nts = line.words.contains(&"nts");
    if is_own(host) && !is_nts {
        return leave_out_own(line, "ntpd", facts.serves_local, draft);
    }
    let (mut source, exchange) = match host_and_port(host) {
        (name, port) if is_nts => (Source::new(line.directive, &name), port),
        _ => (Source::of_host(line.directive, host), None),
    };
    while let Some(option) = words.next() {
        if source.common(option, &mut words, draft) {
            continue;
        }
        match option {
            "true" => source.upstream.trust = true,
            // The default.
            "bias" if is_number(words.peek(), 0.0) => words.skip(1),
            "key" => {
                let id: Option<u32> = words.number(option, draft);
                let file = |id| draft.file("ntp-keys", &format!("key-{id}"), facts.key_line(id));
                match id.map(file) {
                    Some(file) => source.upstream.key = Some(file),
                    None => {
                        return draft
                            .leave_out(line, "the whole upstream, since it would not be authenticated");
                    }
                }
            }
            "nts" => {
                let port = exchange.unwrap_or(Nts::default().port);
                let ca =
                    facts.nts_ca.map(|path| draft.file("ntp-certificates", "ca.pem", certificates(path)));
                source.upstream.nts.get_or_insert(Nts { ca: None, port }).ca = ca;
            }
            "ca" => {
                let path = words.next().unwrap_or_default();
                let key = format!("ca-{}.pem", line.number);
                let ca = draft.file("ntp-certificates", &key, certificates(path));
                let port = exchange.unwrap_or(Nts::default().port);
                source.upstream.nts.get_or_insert(Nts { ca: None, port }).ca = Some(ca);
            }
            "autokey" => {
                return draft.leave_out(
                    line,
                    "the whole upstream: Autokey is broken and not supported, and without it the upstream would not \
                     be authenticated. Use NTS or a shared key",
                );
            }
            _ => match OF_SERVER.iter().find(|(name, ..)| *name == option) {
                Some((_, follow, fate, why)) => {
                    words.skip(*follow);
                    draft.tell(line, *fate, format!("{option}: {why}"));
                }
                None => {
                    draft.leave_out(line, format!("{:?}: there is no such option", lines::printable(option)))
                }
            },
        }
    }
    source.finish(line, true, draft);
}

fn certificates(path: &str) -> String {
    format!("the certificates (PEM) of {}", lines::printable(path))
}

/// A server 127.127.T.U is a clock of the machine, of type T. Type 1 is the system clock itself.
fn clock_driver(line: &Line<'_>, address: &str, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    if address.parse::<std::net::IpAddr>().is_err() {
        return draft.leave_out(line, "the whole upstream: it is not an address");
    }
    if !address.starts_with(LOCAL_CLOCK) {
        return draft.leave_out_clock(line, NO_CLOCKS);
    }
    let at = line.words.iter().position(|word| *word == address).unwrap_or_default();
    local_clock(line, &line.words[at + 1..], facts.strata.get(address).copied(), draft);
}

const NO_CLOCKS: &str = "the whole upstream: reference clocks are not read. A PTP clock is an upstream with `device`; for others run a \
     server that reads them, and name it";

/// The local clock driver's own stratum (ntpd's manual, "Undisciplined Local Clock").
const LOCAL_STRATUM: &str = "5";

/// A client of a clock of stratum N has stratum N + 1, ntpd itself included; `stratum.local` is the latter.
fn local_clock(line: &Line<'_>, options: &[&str], stratum: Option<&str>, draft: &mut Draft<'_>) {
    if !local_options(line, options, draft) {
        return;
    }
    let given = stratum.unwrap_or(LOCAL_STRATUM);
    let served = given.parse::<u8>().ok().and_then(|stratum| stratum.checked_add(1)).filter(|n| *n <= 15);
    let Some(served) = served else {
        return draft.leave_out(
            line,
            format!("the local clock cannot be served from stratum {:?}", lines::printable(given)),
        );
    };
    if draft.profile.stratum.local.is_some() {
        return draft.leave_out(line, "another line already sets how the node's own clock is served");
    }
    draft.profile.stratum.local = Some(served);
    draft.set(line, "stratum");
    draft.note(
        line,
        format!(
            "this is stratum.local: {served}, the stratum that clients see; the node's own clock is served while \
             no upstream can be judged, and takes no part in the vote"
        ),
    );
}

/// Options of the local clock. Returns true if it is still served as ntpd would serve it. The manual of the driver
/// ("Undisciplined Local Clock", type 1) has `prefer` for a kernel clock that something else disciplines: ntpd then
/// follows it before all others.
fn local_options(line: &Line<'_>, options: &[&str], draft: &mut Draft<'_>) -> bool {
    let mut options = options.iter().copied();
    while let Some(option) = options.next() {
        match option {
            "prefer" | "true" => {
                draft.leave_out(
                    line,
                    format!(
                        "the whole line: with {option} ntpd follows this node's own clock before all servers, which is \
                         for a clock that another program sets. mode: Observe and stratum.local is what it means"
                    ),
                );
                return false;
            }
            "noselect" => {
                draft.note(line, "with noselect the node's own clock is never selected, so it is not served");
                return false;
            }
            "stratum" => drop(options.next()),
            "iburst" | "burst" | "preempt" | "xleave" | "dynamic" | "minpoll" | "maxpoll" | "version"
            | "unit" | "mode" | "refid" | "subtype" | "ttl" => {
                if !["iburst", "burst", "preempt", "xleave", "dynamic"].contains(&option) {
                    options.next();
                }
                draft.note(line, format!("{option}: the node's own clock is not asked like a server"));
            }
            "time1" | "time2" | "flag1" | "flag2" | "flag3" | "flag4"
                if is_number(options.clone().next(), 0.0) =>
            {
                options.next();
            }
            _ => draft.leave_out(
                line,
                format!("{}: the node's own clock is served without a correction", lines::printable(option)),
            ),
        }
    }
    true
}

/// NTPsec's other way to name a reference clock.
fn refclock(line: &Line<'_>, draft: &mut Draft<'_>) {
    let at = line.words.iter().position(|word| *word == "stratum");
    match line.words.split_first() {
        Some((&"local", options)) => {
            local_clock(line, options, at.and_then(|at| line.words.get(at + 1)).copied(), draft);
        }
        _ => draft.leave_out_clock(line, NO_CLOCKS),
    }
}

/// The clock already has the stratum.
fn fudge(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let is_local = line.words.first().is_some_and(|clock| clock.starts_with(LOCAL_CLOCK));
    if !is_local {
        return draft.note(line, "it is for a reference clock, and the agent reads none");
    }
    let mut words = Words::new(line);
    words.next();
    while let Some(option) = words.next() {
        let value = words.next();
        match option {
            "stratum" if facts.follows_local => {
                draft.note(line, "the line of its clock is left out");
            }
            "stratum" => draft.carry(line),
            "refid" => draft.note(line, "refid: an agent that serves its own clock has a fixed reference id"),
            _ if is_number(value, 0.0) => {
                draft.note(line, format!("{}: it is the default", lines::printable(option)))
            }
            _ => draft.leave_out(
                line,
                format!(
                    "{} {}: the node's own clock is served without a correction",
                    lines::printable(option),
                    lines::printable(value.unwrap_or_default())
                ),
            ),
        }
    }
}

/// `crypto` turns Autokey on, for upstreams with `autokey` and for clients; with `pw` only it sets the password of the
/// host's key (ntp_auth(5)).
fn crypto(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let is_password = matches!(line.words.as_slice(), ["pw", _] | ["randfile", _] | ["pw", _, "randfile", _]);
    if is_password && !facts.uses_autokey {
        return draft.note(line, "it is for Autokey, which is not supported, and no line uses it");
    }
    draft.leave_out(
        line,
        "Autokey is broken and not supported. Use NTS (`nts` in the server's line) or a shared key",
    );
}
