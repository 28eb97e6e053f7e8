//! Lines of ntp.conf that set something for all upstreams or for the server: limits, thresholds, keys. Each goes into
//! the draft's profile, or is said.
use contract::{Mode, Span};
use profile::ServeNts;

use super::{
    draft::{Draft, SERVER_SECRET},
    lines::{self, Line},
    ntp_conf::Facts,
    ntp_options::{SWITCHES, TINKER, TOS},
    source_line::Words,
};

/// `discard average A minimum M monitor P`: A is how long a token takes.
pub(super) fn discard(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "average" => interval(words.number(option, draft), line, draft),
            "minimum" => {
                words.next();
                draft.note(
                    line,
                    "minimum: how soon one request may follow another is not limited by itself, \
                     only how many there are",
                );
            }
            "monitor" => {
                words.next();
                draft.note(
                    line,
                    "monitor: the table of clients has a fixed size and forgets who was silent the longest",
                );
            }
            _ => unknown(option, line, draft),
        }
    }
}

fn interval(given: Option<i8>, line: &Line<'_>, draft: &mut Draft) {
    match given {
        Some(interval) if (-6..=12).contains(&interval) => {
            draft.profile.serve.rate_limit.interval = interval;
            draft.carry(line);
        }
        Some(interval) => {
            let field = draft.field("serve.rateLimit.interval");
            draft.leave_out(line, format!("{field} goes from -6 to 12, and this is {interval}"));
        }
        None => {}
    }
}

/// NTPsec's `limit average A burst B kod K`: A packets a second in the long run, B at once.
pub(super) fn limit(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "average" => {
                let Some(rate) = words.number::<f64>(option, draft) else { continue };
                let exponent = -rate.log2();
                if (-6.0..=12.0).contains(&exponent) && exponent.fract() == 0.0 {
                    // In range by the line above, and whole.
                    #[allow(clippy::cast_possible_truncation, reason = "within -6 to 12")]
                    interval(Some(exponent as i8), line, draft);
                } else {
                    let field = draft.field("serve.rateLimit.interval");
                    let what = format!(
                        "average: {field} is a power of two in seconds, from -6 to 12, and no such is {rate} \
                         packets a second"
                    );
                    draft.leave_out(line, what);
                }
            }
            "burst" => match words.number(option, draft) {
                Some(0) => draft.leave_out(line, "burst: it must be 1 at least"),
                Some(burst) => {
                    draft.profile.serve.rate_limit.burst = burst;
                    draft.carry(line);
                }
                None => {}
            },
            "kod" => {
                words.next();
                draft.note(line, "kod: how many of the excess get a kiss is fixed");
            }
            _ => unknown(option, line, draft),
        }
    }
}

/// So many addresses can be remembered.
const CLIENTS: std::ops::RangeInclusive<u32> = 1024..=1_048_576;

/// `mru maxdepth N …`: how many clients are remembered.
pub(super) fn mru(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "maxdepth" => match words.number(option, draft) {
                Some(clients) if CLIENTS.contains(&clients) => {
                    draft.profile.serve.rate_limit.max_clients = Some(clients);
                    draft.carry(line);
                }
                Some(clients) => {
                    let field = draft.field("serve.rateLimit.maxClients");
                    let (least, most) = (CLIENTS.start(), CLIENTS.end());
                    draft.leave_out(
                        line,
                        format!("maxdepth: {field} goes from {least} to {most}, and this is {clients}"),
                    );
                }
                None => {}
            },
            _ => {
                words.next();
                draft.note(
                    line,
                    format!("{}: the table of clients has a fixed size", lines::printable(option)),
                );
            }
        }
    }
}

/// `tos`: how sources are chosen, and what is done without any.
pub(super) fn tos(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "minsane" => match words.number(option, draft) {
                Some(least @ 1..=16) => {
                    draft.profile.clock.min_sources = Some(least);
                    draft.carry(line);
                }
                Some(least) => draft
                    .leave_out(line, format!("minsane: from 1 to 16 sources can be asked for, not {least}")),
                None => {}
            },
            "orphan" => match words.number(option, draft) {
                Some(stratum @ 1..=15) if draft.profile.stratum.local.is_none() => {
                    draft.profile.stratum.local = Some(stratum);
                    draft.profile.stratum.orphan = true;
                    draft.carry(line);
                }
                Some(16) => draft.note(line, "orphan: 16 is for never"),
                Some(1..=15) => {
                    draft.leave_out(line, "another line says already how the node's own clock is served")
                }
                Some(stratum) => {
                    draft.leave_out(line, format!("orphan: {stratum} is no stratum from 1 to 15"))
                }
                None => {}
            },
            "orphanwait" => {
                let wait = words.number::<u32>(option, draft);
                if !facts.elects_orphans {
                    draft.note(line, "orphanwait: without orphan it is for nothing");
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
            "maxclock" => {
                words.next();
                let field = draft.field("maxSources");
                draft.note(
                    line,
                    format!(
                        "maxclock: how many servers of a pool are asked is {field} of each pool, 4 if absent"
                    ),
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
pub(super) fn tinker(line: &Line<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "step" => match seconds(&mut words, option, draft) {
                Some(span) if span == Span::default() => {
                    draft.profile.clock.step.limit = 0;
                    draft.carry(line);
                    let field = draft.field("clock.step.limit");
                    draft.note(
                        line,
                        format!(
                            "0 is for never, here {field}: 0. A clock that is far off takes \
                         long to come right: 1 s in 33 minutes"
                        ),
                    );
                }
                Some(span) => {
                    draft.profile.clock.step.threshold = span;
                    draft.carry(line);
                }
                None => {}
            },
            "panic" => match seconds(&mut words, option, draft) {
                Some(span) if span == Span::default() => {
                    draft.profile.clock.max_change = NO_LIMIT;
                    draft.carry(line);
                    let field = draft.field("clock.maxChange");
                    draft.note(line, format!("0 is for no limit, which {field} cannot say: it is a century"));
                }
                Some(span) => {
                    draft.profile.clock.max_change = span;
                    draft.carry(line);
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

/// The next word as seconds; if it is none that is said of `option`.
pub(super) fn seconds(words: &mut Words<'_>, option: &str, draft: &mut Draft) -> Option<Span> {
    let span = words.next().and_then(|word| format!("{word}s").parse().ok());
    if span.is_none() {
        draft.leave_out(words.line, format!("{option}: what follows is no number of seconds, such as 0.128"));
    }
    span
}

/// `enable` and `disable`.
pub(super) fn switch(line: &Line<'_>, draft: &mut Draft) {
    let off = line.directive == "disable";
    for word in &line.words {
        match (*word, off) {
            ("ntp", true) => {
                draft.profile.mode = Mode::Observe;
                draft.carry(line);
                draft.note(line, "the clock is measured and not moved: mode Observe");
            }
            ("ntp", false) => draft.note(line, "it is so without it"),
            ("bclient", false) => {
                draft.leave_out(line, "bclient: broadcasts are not listened to. Name the servers")
            }
            ("calibrate", false) => draft.leave_out(line, "calibrate: reference clocks are not read"),
            _ => match SWITCHES.iter().find(|(name, _)| name == word) {
                Some((_, why)) => draft.note(line, format!("{word}: {why}")),
                None => unknown(word, line, draft),
            },
        }
    }
}

/// `keys FILE`: the file is not read.
pub(super) fn keys(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    if facts.uses_keys {
        draft.note(
            line,
            "the file is not read. Each key gets a file of its own with one line `ID TYPE KEY`. TYPE is M in \
             ntpd's file where it is MD5 \
             here, and AES128CMAC where it is AES128; a KEY of more than 20 characters is hexadecimal there, and begins with HEX: here",
        );
    } else {
        draft.note(line, "no line uses a key of it");
    }
}

/// So many keys a server can have for its clients.
const MOST_KEYS: usize = 16;

/// `trustedkey 1 2 (8 ... 11)`: clients may ask with any of these keys, and get answers that are proven by it.
pub(super) fn trusted_keys(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    // The same with blanks, and every range as three words: `8 ... 11`.
    let spaced = line.words.join(" ").replace(['(', ')'], " ").replace("...", " ... ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut ids: Vec<u32> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let last = if words.get(at + 1) == Some(&"...") { words.get(at + 2) } else { None };
        at += if last.is_some() { 3 } else { 1 };
        let range = word.parse::<u32>().ok().zip(last.unwrap_or(word).parse().ok());
        let Some((first, last)) = range else {
            return draft.leave_out(line, format!("{:?} is no number of a key", lines::printable(word)));
        };
        ids.extend((first..=last).take(MOST_KEYS + 1));
    }
    if ids.len() > MOST_KEYS {
        return draft.leave_out(
            line,
            format!("clients can ask with {MOST_KEYS} keys at most: name those that they use"),
        );
    }
    for id in ids {
        let file = draft.file("ntp-keys", &format!("key-{id}"), facts.key_line(id));
        if !draft.profile.serve.keys.contains(&file) {
            draft.profile.serve.keys.push(file);
        }
        draft.carry(line);
    }
}

/// NTPsec's `nts`: what a client trusts is with each upstream; a server's certificate and key are carried over.
pub(super) fn nts(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "enable" => {
                let path =
                    |given: Option<&str>, default| lines::printable(given.unwrap_or(default)).into_owned();
                let certificate = path(facts.nts_certificate, "/etc/ntp/cert-chain.pem");
                let key = path(facts.nts_private_key, "/etc/ntp/key.pem");
                serve_nts(draft, &certificate, &key, None);
                draft.carry(line);
            }
            "disable" => draft.note(line, "it is so without it"),
            "ca" => {
                words.next();
                draft.carry(line);
            }
            "cert" | "key" if facts.nts_served => {
                words.next();
                draft.carry(line);
            }
            "cert" | "key" => {
                words.next();
                draft.note(line, format!("{option}: without `nts enable` it is not used"));
            }
            "cookie" => {
                words.next();
                draft.note(line, "cookie: the agents keep the keys of cookies themselves");
            }
            "mintls" | "maxtls" | "tlsciphers" | "tlsciphersuites" | "tlsecdhcurves" | "aead" => {
                words.next();
                draft.note(line, format!("{option}: TLS 1.3 and AES-SIV-CMAC-256 are what is spoken"));
            }
            _ => unknown(option, line, draft),
        }
    }
}

/// The server proves its answers by this certificate.
pub(super) fn serve_nts(draft: &mut Draft, certificate: &str, private_key: &str, port: Option<u16>) {
    let certificate =
        draft.file(SERVER_SECRET, "tls.crt", format!("the certificates (PEM) of {certificate}"));
    let private_key = draft.file(SERVER_SECRET, "tls.key", format!("the private key (PEM) of {private_key}"));
    let nts = ServeNts { certificate, private_key, cookie_keys: None, port: port.unwrap_or(4460) };
    draft.profile.serve.nts = Some(nts);
}

/// `interface`: time is served on all addresses.
pub(super) fn interface(line: &Line<'_>, draft: &mut Draft) {
    match line.words.as_slice() {
        ["listen", "all" | "*"] | ["all" | "*"] => draft.note(line, "it is so without it"),
        _ => draft.leave_out(
            line,
            "time is served on all addresses of the node. Say in restrict lines who may ask, or in a firewall on \
             which card",
        ),
    }
}

fn unknown(word: &str, line: &Line<'_>, draft: &mut Draft) {
    draft.leave_out(line, format!("{:?}: there is no such word in this line", lines::printable(word)));
}
