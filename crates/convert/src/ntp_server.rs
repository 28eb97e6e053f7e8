//! Lines of ntp.conf for the server: limits, keys, certificates, addresses. Each goes into the draft's profile, or gets
//! a remark.
use profile::{
    ServeNts,
    ranges::{self, MAX_CLIENTS, MOST_SERVE_KEYS, RATE_INTERVAL},
};

use crate::{
    draft::Draft,
    lines::{self, Line},
    ntp_facts::Facts,
    ntp_settings::unknown,
    source_line::Words,
    wanted::SERVER_SECRET,
};

/// `discard average A minimum M monitor P`: A is the time for one token.
pub(super) fn discard(line: &Line<'_>, draft: &mut Draft<'_>) {
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
                    "monitor: the table of clients has a fixed size and drops the client that was silent the longest",
                );
            }
            _ => unknown(option, line, draft),
        }
    }
}

fn interval(given: Option<i8>, line: &Line<'_>, draft: &mut Draft<'_>) {
    match given {
        Some(interval) if RATE_INTERVAL.contains(&interval) => {
            draft.profile.serve.rate_limit.interval = interval;
            draft.set(line, "serve.rateLimit");
        }
        Some(interval) => {
            draft.leave_out(
                line,
                format!("the range of serve.rateLimit.interval is {RATE_INTERVAL}, and this is {interval}"),
            );
        }
        None => {}
    }
}

/// NTPsec's `limit average A burst B kod K`: A packets a second in the long run, B at once.
pub(super) fn limit(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "average" => {
                let Some(rate) = words.number::<f64>(option, draft) else { continue };
                let exponent = -rate.log2();
                let (least, most) = (f64::from(RATE_INTERVAL.least), f64::from(RATE_INTERVAL.most));
                if (least..=most).contains(&exponent) && exponent.fract() == 0.0 {
                    #[allow(
                        clippy::cast_possible_truncation,
                        reason = "within the range of the field, and whole"
                    )]
                    interval(Some(exponent as i8), line, draft);
                } else {
                    let what = format!(
                        "average: serve.rateLimit.interval is a power of two in seconds, from {RATE_INTERVAL}, and no such is {rate} \
                         packets a second"
                    );
                    draft.leave_out(line, what);
                }
            }
            "burst" => match words.number(option, draft) {
                Some(0) => draft.leave_out(line, "burst: it must be at least 1"),
                Some(burst) => {
                    draft.profile.serve.rate_limit.burst = burst;
                    draft.set(line, "serve.rateLimit");
                }
                None => {}
            },
            "kod" => {
                words.next();
                draft.note(line, "kod: the share of kisses is fixed");
            }
            _ => unknown(option, line, draft),
        }
    }
}

/// `mru maxdepth N …`: the number of clients that the server remembers.
pub(super) fn mru(line: &Line<'_>, draft: &mut Draft<'_>) {
    let mut words = Words::new(line);
    while let Some(option) = words.next() {
        match option {
            "maxdepth" => match words.number(option, draft) {
                Some(clients) if MAX_CLIENTS.contains(&clients) => {
                    draft.profile.serve.rate_limit.max_clients = Some(clients);
                    draft.set(line, "serve.rateLimit");
                }
                Some(clients) => {
                    draft.leave_out(
                        line,
                        format!("maxdepth: the range of serve.rateLimit.maxClients is {MAX_CLIENTS}, and this is {clients}"),
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

/// `keys FILE`: the file is not read.
pub(super) fn keys(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    if facts.uses_keys {
        draft.note(
            line,
            "the file is not read. Each key gets a file of its own with one line `ID TYPE KEY`. TYPE is M in \
             ntpd's file where it is MD5 \
             here, and AES128CMAC where it is AES128; a KEY of more than 20 characters is hexadecimal there, and begins with HEX: here",
        );
    } else {
        draft.note(line, "no line uses a key of this file");
    }
}

/// `trustedkey 1 2 (8 ... 11)`: clients may use any of these keys in requests, and the answer is authenticated by the
/// same key.
pub(super) fn trusted_keys(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
    // Normalises blanks, so that every range is three words: `8 ... 11`.
    let spaced = line.words.join(" ").replace(['(', ')'], " ").replace("...", " ... ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut ids: Vec<u32> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let last = if words.get(at + 1) == Some(&"...") { words.get(at + 2) } else { None };
        at += if last.is_some() { 3 } else { 1 };
        let range = word.parse::<u32>().ok().zip(last.unwrap_or(word).parse().ok());
        let Some((first, last)) = range else {
            return draft.leave_out(line, format!("{:?} is not the id of a key", lines::printable(word)));
        };
        ids.extend((first..=last).take(MOST_SERVE_KEYS + 1));
    }
    if ids.len() > MOST_SERVE_KEYS {
        return draft.leave_out(
            line,
            format!("clients can use at most {MOST_SERVE_KEYS} keys: name those that they use"),
        );
    }
    for id in ids {
        let file = draft.file("ntp-keys", &format!("key-{id}"), facts.key_line(id));
        if !draft.profile.serve.keys.contains(&file) {
            draft.profile.serve.keys.push(file);
        }
        draft.set(line, "serve.keys");
    }
}

/// NTPsec's `nts`: the certificates that a client trusts are in each upstream; a server's certificate and key are
/// carried over.
pub(super) fn nts(line: &Line<'_>, facts: &Facts<'_>, draft: &mut Draft<'_>) {
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
            "disable" => draft.note(line, "it is the default"),
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
                draft.note(line, format!("{option}: it is not used without `nts enable`"));
            }
            "cookie" => {
                words.next();
                draft.note(line, "cookie: the agents keep the keys of cookies themselves");
            }
            "mintls" | "maxtls" | "tlsciphers" | "tlsciphersuites" | "tlsecdhcurves" | "aead" => {
                words.next();
                draft.note(line, format!("{option}: only TLS 1.3 and AES-SIV-CMAC-256 are supported"));
            }
            _ => unknown(option, line, draft),
        }
    }
}

/// The certificate of the NTS server.
pub(super) fn serve_nts(draft: &mut Draft<'_>, certificate: &str, private_key: &str, port: Option<u16>) {
    let certificate =
        draft.file(SERVER_SECRET, "tls.crt", format!("the certificates (PEM) of {certificate}"));
    let private_key = draft.file(SERVER_SECRET, "tls.key", format!("the private key (PEM) of {private_key}"));
    let nts =
        ServeNts { certificate, private_key, cookie_keys: None, port: port.unwrap_or(ranges::NTS_PORT) };
    draft.profile.serve.nts = Some(nts);
}
