//! Checks the upstreams of a profile: what each of them is, and whether its options can be combined. Reads only its
//! arguments.
use std::{collections::BTreeSet, fmt, net::IpAddr};

use super::notes::Notes;
use crate::{
    Nts, Upstream,
    ranges::{self, Range},
};

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The server, pool or device that is asked.
    pub place: Place,
    /// All its fields. At most one of `key` and `nts` is set.
    pub upstream: Upstream,
}

impl Source {
    /// The largest number of votes that it can have.
    pub fn votes(&self) -> usize {
        match &self.place {
            _ if self.upstream.noselect => 0,
            Place::Pool { max_sources, .. } => *max_sources,
            Place::Server { .. } | Place::Device { .. } => 1,
        }
    }
}

/// The server, pool or device that is asked: the one of `server`, `peer`, `pool` and `device` that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A server or a peer, which is asked like a server.
    Server {
        /// The IP address or host name.
        host: String,
    },
    /// A pool.
    Pool {
        /// The host name.
        host: String,
        /// The largest number of its servers that are asked.
        max_sources: usize,
    },
    /// A device.
    Device {
        /// The path under /dev.
        path: String,
    },
}

impl Place {
    /// Returns true if both are the same by their text. The engine detects names that resolve to one server.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server { host: one }, Self::Server { host: two })
            | (Self::Pool { host: one, .. }, Self::Pool { host: two, .. }) => {
                canonical(one) == canonical(two)
            }
            (Self::Device { path: one }, Self::Device { path: two }) => one == two,
            _ => false,
        }
    }
}

/// The host in canonical form: names in lower case (RFC 4343) without the final dot, addresses in their usual form.
fn canonical(host: &str) -> String {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical().to_string());
    address.unwrap_or_else(|_| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

/// Records the problems of each upstream, and of all together. Returns the valid ones.
pub(super) fn check(upstreams: &[Upstream], notes: &mut Notes) -> Vec<Source> {
    if upstreams.len() > ranges::MOST_UPSTREAMS {
        let most = ranges::MOST_UPSTREAMS;
        notes.wrong("upstreams", format!("has {} entries, but at most {most} are allowed", upstreams.len()));
    }
    let preferred = upstreams.iter().filter(|each| each.prefer).count();
    if preferred > 1 {
        notes.wrong("upstreams", format!("{preferred} have prefer, but at most one may"));
    }
    let (mut names, mut sources) = (BTreeSet::new(), Vec::<Source>::new());
    for (n, upstream) in upstreams.iter().enumerate() {
        let mut field = Field { upstream: n, notes };
        check_options(upstream, &mut field);
        if !names.insert(&upstream.name) {
            field.wrong("name", format!("{:?} is used twice: each name must be unique", upstream.name));
        }
        let Some(place) = check_place(upstream, &mut field) else { continue };
        let same = |other: &&Source| other.place.is(&place) && other.upstream.port == upstream.port;
        if let Some(other) = sources.iter().find(same) {
            field.wrong(
                "name",
                format!(
                    "{:?} is the same server as {:?}, which would have two votes: remove one",
                    upstream.name, other.upstream.name
                ),
            );
        }
        sources.push(Source { place, upstream: upstream.clone() });
    }
    sources
}

/// Records problems of one upstream.
struct Field<'a> {
    upstream: usize,
    notes: &'a mut Notes,
}

impl Field<'_> {
    fn port(&mut self, part: &str, port: u16) {
        self.notes.port(format!("upstreams[{}].{part}", self.upstream), port);
    }

    fn wrong(&mut self, part: &str, message: impl Into<String>) {
        self.notes.wrong(format!("upstreams[{}].{part}", self.upstream), message);
    }

    fn range<T: PartialOrd + fmt::Display>(&mut self, part: &str, value: T, range: Range<T>) {
        self.notes.range(format!("upstreams[{}].{part}", self.upstream), value, range);
    }
}

/// The place of an upstream. None if it is missing, given more than once, or invalid.
fn check_place(upstream: &Upstream, field: &mut Field<'_>) -> Option<Place> {
    let Upstream { server, peer, pool, device, max_sources, .. } = upstream;
    if max_sources.is_some() && pool.is_none() {
        field.wrong("maxSources", "is only for a pool");
    }
    match (server, peer, pool, device) {
        (Some(host), None, None, None) => check_server("server", host, field),
        // The peer asks this node, too. The engine ensures that neither follows a node that follows it.
        (None, Some(host), None, None) => check_server("peer", host, field),
        (None, None, Some(host), None) => {
            let max_sources = max_sources.unwrap_or(ranges::DEFAULT_MAX_SOURCES);
            field.range("maxSources", max_sources, ranges::MAX_SOURCES);
            let sound = match host.parse::<IpAddr>() {
                Ok(_) => {
                    Err("is an address: a pool is a host name that resolves to several servers".to_owned())
                }
                Err(_) => check_host(host),
            };
            let sound = sound.map_err(|why| field.wrong("pool", format!("{host:?} {why}")));
            sound.ok().map(|()| Place::Pool { host: host.clone(), max_sources: usize::from(max_sources) })
        }
        (None, None, None, Some(path)) => {
            if !is_device(path) {
                field.wrong("device", format!("{path:?} is not a PTP clock: use a path such as /dev/ptp0"));
                return None;
            }
            Some(Place::Device { path: path.clone() })
        }
        _ => {
            field.wrong("server", "set exactly one of server, peer, pool and device");
            None
        }
    }
}

fn check_server(part: &str, host: &str, field: &mut Field<'_>) -> Option<Place> {
    let sound = check_host(host).map_err(|why| field.wrong(part, format!("{host:?} {why}")));
    sound.ok().map(|()| Place::Server { host: host.to_owned() })
}

/// Only PTP clocks: opening another device, such as a watchdog, can start it.
fn is_device(path: &str) -> bool {
    let word = |rest: &str| {
        (1..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    path.strip_prefix("/dev/ptp").is_some_and(word)
}

/// Checks all fields except the place.
fn check_options(upstream: &Upstream, field: &mut Field<'_>) {
    // Without `..`, so that a new field without a check does not compile.
    let Upstream {
        name,
        server,
        peer,
        pool: _,
        max_sources: _,
        device,
        port,
        iburst: _,
        burst: _,
        interleaved: _,
        prefer,
        trust,
        require,
        noselect,
        min_poll,
        max_poll,
        key,
        nts,
    } = upstream;
    if !is_name(name) {
        let why = format!(
            "{name:?} is not a valid name: use 1 to 32 lower case letters, digits and '-', as in ntp-1"
        );
        field.wrong("name", why);
    }
    field.port("port", *port);
    field.range("minPoll", *min_poll, ranges::POLL);
    field.range("maxPoll", *max_poll, ranges::POLL);
    if min_poll > max_poll {
        field.wrong("minPoll", format!("{min_poll} is larger than maxPoll {max_poll}"));
    }
    if *noselect && (*prefer || *trust || *require) {
        field.wrong(
            "noselect",
            "cannot be combined with prefer, trust and require: the upstream is never selected",
        );
    }
    if key.is_some() && nts.is_some() {
        field.wrong("nts", "cannot be combined with key: a server is authenticated in one way");
    }
    if device.is_some() && (key.is_some() || nts.is_some()) {
        field.wrong("device", "cannot be combined with key and nts: a device is not authenticated");
    }
    for (part, host) in [("server", server), ("peer", peer)] {
        if nts.is_some() && host.as_ref().is_some_and(|host| host.parse::<IpAddr>().is_ok()) {
            field.wrong("nts", format!("requires a host name in {part}: certificates are for names"));
        }
    }
    if let Some(nts) = nts {
        field.port("nts.port", nts.port);
    }
    let ca = nts.as_ref().and_then(|Nts { ca, port: _ }| ca.as_ref());
    for (part, file) in [("key", key.as_ref()), ("nts.ca", ca)] {
        if let Some(file) = file.filter(|file| !is_file_name(file)) {
            field.wrong(part, no_file_name(file));
        }
    }
}

/// Returns true if `name` is a file name that cannot leave the folder of keys.
pub(super) fn is_file_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    (1..=253).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(word)
}

/// The message for a name that is not.
pub(super) fn no_file_name(file: &str) -> String {
    format!("{file:?} is not a file name: use letters, digits, '.', '-' and '_', without a folder")
}

/// Lower case letters, digits and `-`, which is neither first nor last: the name is a label of metrics.
fn is_name(name: &str) -> bool {
    (1..=ranges::LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Returns an error if `host` is neither an address that can be asked nor a name that could resolve.
fn check_host(host: &str) -> Result<(), String> {
    contract::upstream_host(host).map(drop).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "[[upstreams]]\nname = \"a\"\nserver = \"192.0.2.1\"\n";

    fn outcome(text: &str) -> Result<crate::Checked, String> {
        crate::check(&toml::from_str(text).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn an_upstream_is_one_of_four_and_has_options_that_agree() {
        let check = |line: &str, expected: &str| {
            let text = format!("{A}[[upstreams]]\nname = \"b\"\n{line}");
            match outcome(&text) {
                Ok(checked) => assert_eq!((checked.sources().len(), expected), (2, ""), "{line}"),
                Err(why) => assert_eq!(why, format!("upstreams[1].{expected}"), "{line}"),
            }
        };
        check("pool = 'pool.example.com'", "");
        check("pool = 'pool.example.com'\nmaxSources = 16\nnts = {}", "");
        check("device = '/dev/ptp0'", "");
        check("device = '/dev/ptp_kvm'\ntrust = true", "");
        check("server = 'ntp.example.com'\nnts = { ca = 'site_ca.pem' }", "");
        check("server = '192.0.2.2'\nkey = 'site_one'\nburst = true\nrequire = true", "");
        check("server = '192.0.2.1'\nport = 1123", "");
        let one = "server: set exactly one of server, peer, pool and device";
        check("", one);
        check("server = '192.0.2.2'\npool = 'p.example'", one);
        check("server = '192.0.2.2'\ndevice = '/dev/ptp0'", one);
        check("server = '192.0.2.2'\npeer = '192.0.2.3'", one);
        check("peer = '192.0.2.2'\nkey = 'k'", "");
        check("peer = 'b.example'\nnts = {}", "");
        check(
            "peer = '192.0.2.1'",
            "name: \"b\" is the same server as \"a\", which would have two votes: remove one",
        );
        check(
            "server = 'ntp.example.com:1123'",
            "server: \"ntp.example.com:1123\" has a port in it: write ntp.example.com here, and 1123 in the field \
             port beside it",
        );
        check(
            "peer = '[2001:db8::1]'",
            "peer: \"[2001:db8::1]\" has brackets: write 2001:db8::1, without them",
        );
        check("peer = '1.2.3'", "peer: \"1.2.3\" looks like an IP address and is none");
        let own = "server: \"127.127.1.0\" is ntp.conf's name for this node's own clock: write stratum.local instead";
        check("server = '127.127.1.0'", own);
        let multicast = "is a multicast address: write the address of each server";
        check("peer = 'ff02::101'", &format!("peer: \"ff02::101\" {multicast}"));
        check("peer = '192.0.2.2'\nmaxSources = 2", "maxSources: is only for a pool");
        check(
            "peer = '192.0.2.2'\nnts = {}",
            "nts: requires a host name in peer: certificates are for names",
        );
        let ignored =
            "peer: 192.0.2.2 is covered by a restrict entry with ignore: its replies would be dropped";
        check("peer = '192.0.2.2'\n[[restrict]]\nsource = '192.0.2.2'\nflags = ['ignore']", ignored);
        check(
            "server = '192.0.2.1'",
            "name: \"b\" is the same server as \"a\", which would have two votes: remove one",
        );
        check("server = '192.0.2.2'\nmaxSources = 2", "maxSources: is only for a pool");
        check("pool = 'p.example'\nmaxSources = 0", "maxSources: 0 is not within 1 to 16");
        check("pool = 'p.example'\nmaxSources = 17", "maxSources: 17 is not within 1 to 16");
        check(
            "pool = '192.0.2.2'",
            "pool: \"192.0.2.2\" is an address: a pool is a host name that resolves to several servers",
        );
        check("pool = 'a b'", "pool: \"a b\" is neither an IP address nor a host name");
        for path in
            ["/dev/watchdog", "/dev/../etc/passwd", "/dev/ptp0/x", "/dev/ptp", "ptp0", "/dev/ptp0\\u0000"]
        {
            assert!(outcome(&format!("[[upstreams]]\nname = \"d\"\ndevice = \"{path}\"")).is_err(), "{path}");
        }
        check(
            "server = 'h'\nnoselect = true\nrequire = true",
            "noselect: cannot be combined with prefer, trust and require: the upstream is never selected",
        );
        check(
            "server = 'h'\nkey = 'k'\nnts = {}",
            "nts: cannot be combined with key: a server is authenticated in one way",
        );
        check(
            "device = '/dev/ptp0'\nkey = 'k'",
            "device: cannot be combined with key and nts: a device is not authenticated",
        );
        check(
            "server = '192.0.2.2'\nnts = {}",
            "nts: requires a host name in server: certificates are for names",
        );
        check("server = 'h'\nnts = { port = 0 }", "nts.port: 0 is no port");
        for name in ["../token/token", "", ".hidden", "a/b", "..data"] {
            let said = "is not a file name: use letters, digits, '.', '-' and '_', without a folder";
            check(&format!("server = 'h'\nkey = '{name}'"), &format!("key: {name:?} {said}"));
            check(&format!("server = 'h'\nnts = {{ ca = '{name}' }}"), &format!("nts.ca: {name:?} {said}"));
        }
    }

    #[test]
    fn one_server_in_two_spellings_is_there_twice() {
        let check = |one: &str, other: &str, twice: bool| {
            let text = format!("[[upstreams]]\nname = \"a\"\n{one}\n[[upstreams]]\nname = \"b\"\n{other}");
            let expected = "upstreams[1].name: \"b\" is the same server as \"a\", which would have two votes: remove one";
            assert_eq!(outcome(&text).err(), twice.then(|| expected.to_owned()), "{one} {other}");
        };
        check("server = 'ntp.example.com'", "server = 'NTP.Example.com'", true);
        check("server = 'ntp.example.com'", "server = 'ntp.example.com.'", true);
        check("server = 'ntp.example.com.'", "peer = 'ntp.EXAMPLE.com'", true);
        check("server = '2001:db8::1'", "server = '2001:DB8:0:0::1'", true);
        check("pool = 'p.example'", "pool = 'P.example.'\nmaxSources = 2", true);
        check("server = 'ntp.example.com'", "server = 'ntp.example.com.'\nport = 1123", false);
        check("server = 'ntp.example.com'", "pool = 'ntp.example.com'", false);
        check("server = 'ntp.example.com'", "server = 'ntp2.example.com'", false);
    }

    #[test]
    fn hosts() {
        let check = |host: &str, sound: bool| assert_eq!(check_host(host).is_ok(), sound, "{host}");
        for host in ["192.0.2.1", "2001:db8::1", "ntp.example.com", "ntp1", "a_b.example", "ntp.example.com."]
        {
            check(host, true);
        }
        for host in [
            "",
            ".",
            "010.1.1.1",
            "1.2.3",
            "::ffff:10.1.1.1",
            "a b",
            "-a.example",
            "a..b",
            "x/y",
            "ü.example",
            "[2001:db8::1]",
            "[2001:db8::1]:123",
            "ntp.example.com:123",
            "192.0.2.1:123",
            "fe80::1",
            "fe80::1%eth0",
        ] {
            check(host, false);
        }
    }
}
