//! The server of a profile: on which addresses it listens, its limits and keys. Notes what is wrong; reads nothing but
//! its arguments.
use std::net::IpAddr;

use super::{notes::Notes, upstreams};
use crate::{RateLimit, Serve, ServeNts, ranges};

/// Notes everything that is wrong with the server.
pub(super) fn check(serve: &Serve, notes: &mut Notes) {
    let Serve { enabled, port, addresses, rate_limit, workers, keys, nts } = serve;
    let RateLimit { interval, burst, leak, max_clients } = *rate_limit;
    notes.port("serve.port", *port);
    check_addresses(addresses, notes);
    notes.range("serve.rateLimit.interval", interval, ranges::RATE_INTERVAL);
    notes.range("serve.rateLimit.burst", burst, ranges::RATE_BURST);
    notes.range("serve.rateLimit.leak", leak, ranges::RATE_LEAK);
    if let Some(most) = max_clients {
        notes.range("serve.rateLimit.maxClients", most, ranges::MAX_CLIENTS);
    }
    if let Some(workers) = *workers {
        notes.range("serve.workers", workers, ranges::WORKERS);
    }
    if keys.len() > ranges::MOST_SERVE_KEYS {
        notes.wrong("serve.keys", format!("has more than {} files", ranges::MOST_SERVE_KEYS));
    }
    for (n, file) in keys.iter().enumerate() {
        if !upstreams::is_file_name(file) {
            notes.wrong(format!("serve.keys[{n}]"), upstreams::no_file_name(file));
        } else if keys[..n].contains(file) {
            notes.wrong(format!("serve.keys[{n}]"), format!("{file:?} is listed twice"));
        }
    }
    if let Some(nts) = nts {
        check_nts(nts, *enabled, notes);
    }
}

fn check_nts(nts: &ServeNts, enabled: bool, notes: &mut Notes) {
    let ServeNts { certificate, private_key, cookie_keys, port } = nts;
    let names = [
        ("certificate", Some(certificate)),
        ("privateKey", Some(private_key)),
        ("cookieKeys", cookie_keys.as_ref()),
    ];
    for (part, file) in names {
        if let Some(file) = file.filter(|file| !upstreams::is_file_name(file)) {
            notes.wrong(format!("serve.nts.{part}"), upstreams::no_file_name(file));
        }
    }
    notes.port("serve.nts.port", *port);
    if !enabled {
        notes.hints.push("serve.nts: has no effect while serve.enabled is false".to_owned());
    }
}

fn check_addresses(addresses: &[String], notes: &mut Notes) {
    if addresses.len() > ranges::MOST_SERVE_ADDRESSES {
        let most = ranges::MOST_SERVE_ADDRESSES;
        return notes.wrong("serve.addresses", format!("{} are too many: at most {most}", addresses.len()));
    }
    let parsed: Vec<Option<IpAddr>> = addresses.iter().map(|text| text.parse().ok()).collect();
    for (n, (text, address)) in addresses.iter().zip(&parsed).enumerate() {
        let Some(address) = address else {
            notes.wrong(
                format!("serve.addresses[{n}]"),
                format!("{:?} is no IP address: write it as 192.0.2.1 or 2001:db8::1", shown(text)),
            );
            continue;
        };
        if let Some(why) = unfit_to_listen(*address) {
            notes.wrong(format!("serve.addresses[{n}]"), format!("{text:?} {why}"));
        }
        if parsed[..n].contains(&Some(*address)) {
            notes.wrong(format!("serve.addresses[{n}]"), format!("{text:?} is listed twice"));
        }
    }
}

/// Enough of a text to find it.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Why no server can listen on this address, if none can; to be read after the address.
pub fn unfit_to_listen(address: IpAddr) -> Option<&'static str> {
    if address.to_canonical() != address {
        return Some("is an IPv4 address in IPv6 notation: write it as IPv4");
    }
    if address.is_multicast() || address == IpAddr::from([255; 4]) {
        return Some("is a multicast or broadcast address: clients ask a server at an address of its own");
    }
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(
            "is a link-local address, which means another host behind each interface: use a global or unique local one",
        ),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Profile, check};

    #[test]
    fn addresses_to_listen_on() {
        let verdict = |addresses: &[&str]| {
            let text = format!("mode = \"Observe\"\n[serve]\naddresses = {addresses:?}");
            let profile: Profile = toml::from_str(&text).unwrap();
            check(&profile).map(|checked| checked.addresses()).map_err(|error| error.to_string())
        };
        let taken = |addresses: &[&str], expected: &[&str]| {
            let expected: Vec<std::net::IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(verdict(addresses), Ok(expected), "{addresses:?}");
        };
        taken(&[], &["0.0.0.0", "::"]);
        taken(&["::"], &["::"]);
        taken(&["192.0.2.1", "2001:db8::1", "127.0.0.1"], &["192.0.2.1", "2001:db8::1", "127.0.0.1"]);
        // The socket for all addresses of a family answers on this one, too.
        taken(&["192.0.2.1", "0.0.0.0", "::1"], &["0.0.0.0", "::1"]);
        let refused = |addresses: &[&str], expected: &str| {
            let why = verdict(addresses).unwrap_err();
            assert!(why.contains(expected), "{addresses:?}: {why}");
        };
        refused(&["eth0"], "serve.addresses[0]: \"eth0\" is no IP address");
        refused(&["192.0.2.1/24"], "no IP address");
        refused(&["192.0.2.1", "192.0.2.1"], "serve.addresses[1]: \"192.0.2.1\" is listed twice");
        refused(&["2001:db8::1", "2001:DB8:0::1"], "serve.addresses[1]: \"2001:DB8:0::1\" is listed twice");
        refused(&["::ffff:192.0.2.1"], "write it as IPv4");
        refused(&["224.0.1.1"], "multicast or broadcast");
        refused(&["255.255.255.255"], "multicast or broadcast");
        refused(&["ff05::101"], "multicast or broadcast");
        refused(&["fe80::1"], "link-local");
        let many: Vec<String> = (0..17).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        taken(&many[..16], &many[..16]);
        refused(&many, "serve.addresses: 17 are too many: at most 16");
    }
}
