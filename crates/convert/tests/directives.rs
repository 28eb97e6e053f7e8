//! Each directive of both programs, a line of a table each: what it becomes, and what is said of it. Whole files, beside
//! what they include, are here too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{net::IpAddr, path::Path};

use convert::{Beside, Converted, Dialect, Order, Target, Unread, convert};

/// Files beside the one that is converted, and one name that has addresses.
#[derive(Clone, Copy, Debug)]
struct Files(&'static [(&'static str, &'static str)]);

/// The text of a file that may not be read.
const UNREADABLE: &str = "(unreadable)";

impl Beside for Files {
    fn read(&self, path: &Path) -> Result<String, Unread> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        if found.is_some_and(|(_, text)| *text == UNREADABLE) {
            return Err(Unread::Failed("Permission denied".to_owned()));
        }
        found.map(|(_, text)| (*text).to_owned()).ok_or(Unread::Missing)
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, Unread> {
        let inside = self.0.iter().filter_map(|(name, _)| Path::new(name).strip_prefix(folder).ok());
        let names: Vec<_> = inside.map(|name| name.display().to_string()).collect();
        if names.is_empty() { Err(Unread::Missing) } else { Ok(names) }
    }

    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        match name {
            "known.example" => Ok(["192.0.2.77", "2001:db8::77"].map(|a| a.parse().unwrap()).to_vec()),
            _ => Err("no such name".to_owned()),
        }
    }
}

/// What is asked for where a test says nothing else.
fn order(dialect: Dialect, to: Target) -> Order<'static> {
    Order { origin: "f", from: Some(dialect), to, name: "default", beside: &Files(&[]), keep_local: false }
}

/// What a text becomes beside these files.
fn beside(dialect: Dialect, text: &str, files: &Files) -> Converted {
    convert(text, Order { beside: files, ..order(dialect, Target::Agent) }).unwrap_or_else(|e| panic!("{e}"))
}

/// What `lines` become beside a server, as an agent's file: all of `parts` are in it, and what is said of these lines
/// is `said`, one `kind: part of the text` each.
#[track_caller]
fn check(dialect: Dialect, lines: &str, parts: &[&str], said: &[&str]) {
    let base = match dialect {
        Dialect::Ntp => "server 192.0.2.1 minpoll 4 maxpoll 6\nrestrict default\n",
        Dialect::Chrony => "server 192.0.2.1 minpoll 4 maxpoll 6\nmakestep 1 3\nallow\n",
    };
    let before = base.lines().count();
    let order = order(dialect, Target::Agent);
    let converted =
        convert(&format!("{base}{lines}"), order).unwrap_or_else(|error| panic!("{lines}: {error}"));
    for part in parts {
        assert!(converted.output.contains(part), "{lines}: no {part} in\n{}", converted.output);
    }
    let of_lines = |text: &&str| {
        let number = text.strip_prefix("f:").and_then(|rest| rest.split_once(':'));
        number.is_some_and(|(number, _)| number.parse::<usize>().is_ok_and(|number| number > before))
    };
    let found: Vec<_> = converted.messages.lines().filter(of_lines).collect();
    assert_eq!(found.len(), said.len(), "{lines}: {found:#?}");
    for (found, said) in found.iter().zip(said) {
        let (kind, what) = said.split_once(": ").unwrap();
        assert!(found.contains(&format!(": {kind}: `")) && found.contains(what), "{found}\nis not {said}");
    }
    let checked: profile::AgentFile = toml::from_str(&converted.output).unwrap();
    profile::check(&checked.profile.unwrap()).unwrap();
}

#[track_caller]
fn ntp(lines: &str, parts: &[&str], said: &[&str]) {
    check(Dialect::Ntp, lines, parts, said);
}

#[track_caller]
fn chrony(lines: &str, parts: &[&str], said: &[&str]) {
    check(Dialect::Chrony, lines, parts, said);
}

#[test]
fn hosts_in_every_form() {
    for dialect in [Dialect::Ntp, Dialect::Chrony] {
        let check = |line: &str, parts: &[&str], said: &[&str]| check(dialect, line, parts, said);
        check("server 2001:db8::1", &["server = \"2001:db8::1\"\n"], &[]);
        check("server [2001:db8::1]", &["server = \"2001:db8::1\"\n"], &[]);
        check("server [2001:db8::1]:1123", &["server = \"2001:db8::1\"\nport = 1123\n"], &[]);
        check("server a.example:1123", &["server = \"a.example\"\nport = 1123\n"], &[]);
        check("pool p.example:1123", &["pool = \"p.example\"\nport = 1123\n"], &[]);
        let zone = &["left out: the whole upstream, server: \"fe80::1%eth0\" is a link-local address"];
        check("server fe80::1%eth0", &[], zone);
        check(
            "server fe80::1",
            &[],
            &["left out: the whole upstream, server: \"fe80::1\" is a link-local address"],
        );
    }
    ntp("server [2001:db8::1]:1123 nts", &[], &["left out: the whole upstream, nts: requires a host name"]);
}

#[test]
fn servers_of_ntp() {
    ntp("server a.example", &["server = \"a.example\"\nminPoll = 6\nmaxPoll = 10"], &[]);
    ntp(
        "server a.example iburst burst true noselect",
        &["iburst = true\nburst = true\nnoselect = true"],
        &["note: with noselect"],
    );
    ntp("server a.example true", &["trust = true"], &[]);
    ntp("pool p.example minpoll 5", &["pool = \"p.example\"\nminPoll = 5\nmaxPoll = 10"], &[]);
    ntp("server a.example maxpoll 5", &["server = \"a.example\"\nminPoll = 5\nmaxPoll = 5"], &[]);
    ntp("server a.example minpoll 12", &["minPoll = 10\nmaxPoll = 10"], &[]);
    ntp(
        "server a.example minpoll 18 maxpoll 20",
        &["minPoll = 17\nmaxPoll = 17"],
        &["left out: minpoll 18", "left out: maxpoll 20"],
    );
    ntp("server a.example minpoll x", &["minPoll = 6"], &["left out: minpoll: its value"]);
    ntp("server a.example key 7", &["key = \"key-7\""], &[]);
    ntp("server a.example key x", &[], &["left out: key: its value", "left out: the whole upstream, since"]);
    ntp("server a.example autokey", &[], &["left out: the whole upstream: Autokey"]);
    ntp("server a.example nts", &["[profile.upstreams.nts]"], &[]);
    ntp("server a.example:4461 nts\nnts ca /c", &["ca = \"ca.pem\"\nport = 4461"], &[]);
    ntp("server a.example nts noval", &[], &["left out: noval: certificates are always verified"]);
    ntp("server 192.0.2.9 nts", &[], &["left out: the whole upstream, nts: requires a host name"]);
    ntp(
        "server a.example version 3 mode 2 bias 0.1 x",
        &["a.example"],
        &["note: version", "note: mode", "left out: bias", "left out: \"x\": there is no such option"],
    );
    ntp("server -4 a.example", &["a.example"], &["left out: -4"]);
    ntp("server -6 2001:db8::1", &["2001:db8::1"], &[]);
    ntp("server 192.0.2.1 iburst", &[], &["left out: the whole upstream, name: "]);
    ntp("pool 192.0.2.9", &[], &["left out: the whole upstream, pool: "]);
    ntp("server", &[], &["left out: it names no server"]);
    for host in [
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.1.1",
        "ff05::101",
        "127.127.",
        "127.127.1",
        "::ffff:127.127.1.0",
    ] {
        for directive in ["server", "peer", "pool"] {
            ntp(&format!("{directive} {host} iburst"), &[], &["left out: the whole upstream"]);
        }
    }
    ntp(
        "server a.example prefer\nserver b.example prefer",
        &["b.example"],
        &["left out: prefer: only one upstream"],
    );
    ntp(
        "server 127.127.28.0\nfudge 127.127.28.0 time1 0.1",
        &[],
        &["left out: the whole upstream: reference clocks", "note: it is for a reference clock"],
    );
    ntp(
        "server 127.127.1.0\nfudge 127.127.1.0 stratum 9 refid X",
        &["local = 10"],
        &["note: this is stratum.local: 10", "note: refid"],
    );
    ntp("server 127.127.1.0", &["local = 6"], &["note: stratum"]);
    ntp("refclock local stratum 3", &["local = 4"], &["note: stratum"]);
    ntp("server 127.127.1.0\nfudge 127.127.1.0 stratum 15", &[], &["left out: cannot be served"]);
    ntp("refclock shm unit 0", &[], &["left out: the whole upstream"]);
}

#[test]
fn restrict_lines() {
    let all = "source = \"default\"\n";
    ntp("restrict default kod limited", &["source = \"default\"\nflags = [\"kod\", \"limited\"]"], &[]);
    ntp(
        "restrict 10.0.0.0 mask 255.0.0.0 nomodify notrap",
        &[all, "source = \"10.0.0.0/8\"\nflags = [\"nomodify\", \"notrap\"]"],
        &[],
    );
    ntp("restrict 10.1.2.3/8", &["\"10.0.0.0/8\""], &["note: bits beyond its mask"]);
    ntp("restrict 10.1.2.3", &["source = \"10.1.2.3\"\n"], &[]);
    ntp("restrict -6 fd00:: mask ff00:: nopeer", &["\"fd00::/8\"\nflags = [\"nopeer\"]"], &[]);
    ntp("restrict ::1", &["source = \"::1\""], &[]);
    ntp(
        "restrict -4 default noserve ntpport",
        &["source = \"0.0.0.0/0\"\nflags = [\"noserve\", \"ntpport\"]"],
        &[],
    );
    ntp(
        "restrict -6 default noserve",
        &["source = \"0.0.0.0/0\"\n", "source = \"::/0\"\nflags = [\"noserve\"]"],
        &[],
    );
    ntp("restrict 0.0.0.0 mask 0.0.0.0 version", &["source = \"0.0.0.0/0\"\nflags = [\"version\"]"], &[]);
    ntp(
        "restrict 10.0.0.1 kod\nrestrict 10.0.0.1 limited",
        &["\"10.0.0.1\"\nflags = [\"kod\", \"limited\"]"],
        &[],
    );
    ntp(
        "restrict 10.0.0.1 kod limited\nunrestrict 10.0.0.1 kod",
        &["\"10.0.0.1\"\nflags = [\"limited\"]"],
        &[],
    );
    ntp("restrict default ippeerlimit 3 flake", &[all], &["note: ippeerlimit", "left out: flake"]);
    ntp("restrict source nomodify", &["source = \"source\"\nflags = [\"nomodify\"]"], &[]);
    ntp("restrict source ntpport", &[all], &["left out: ntpport"]);
    ntp("restrict source ignore", &[all], &["left out: ignore would drop"]);
    ntp("restrict default nonsense", &[all], &["left out: the whole line: there is no flag"]);
    ntp("restrict localhost", &["source = \"127.0.0.1\"", "source = \"::1\""], &[]);
    ntp("restrict 10.0.0.0 mask 255.0.255.0", &[], &["left out: is no network's mask"]);
    ntp("restrict 10.0.0.0 mask ffff::", &[], &["left out: has the other address family"]);
    ntp("restrict 10.0.0.0/33", &[], &["left out: is not a prefix length"]);
    ntp("restrict -6 10.0.0.0", &[], &["left out: has the other address family"]);
    ntp("restrict ::ffff:10.0.0.0", &[], &["left out: write it as IPv4"]);
    ntp("restrict", &[], &["left out: it has no address"]);
}

#[test]
fn a_default_that_is_not_said_is_safe() {
    let converted = |text: &str, to: Target| convert(text, order(Dialect::Ntp, to)).unwrap();
    let nothing = converted("server 192.0.2.1", Target::Agent);
    assert!(
        !nothing.output.contains("restrict") && nothing.messages.contains("no restrict line: classic ntpd"),
        "{nothing:?}"
    );
    let half = converted("server 192.0.2.1\nrestrict -4 default ignore\nrestrict 192.0.2.1", Target::Agent);
    assert!(half.messages.contains("no restrict line for IPv6's default"), "{}", half.messages);
    let flags = "source = \"::/0\"\nflags = [\"kod\", \"limited\", \"nomodify\", \"nopeer\", \"noquery\"]";
    assert!(half.output.contains(flags) && half.output.contains("source = \"::1\""), "{}", half.output);
    assert!(!half.output.contains("127.0.0.1"), "the IPv4 lines are as they were");
}

#[test]
fn a_source_stands_once_in_a_policy() {
    let text = "server 192.0.2.1\nrestrict default\nrestrict default ntpport noserve\nrestrict 10.0.0.1\nrestrict 10.0.0.1 ntpport kod\n\
                restrict 10.0.0.0/8\nrestrict 10.0.0.0/8 ntpport ignore";
    let order = |to| order(Dialect::Ntp, to);
    let policy = convert(text, order(Target::Policy)).unwrap();
    for source in ["default", "0.0.0.0/0", "::/0", "10.0.0.1", "10.0.0.1/32", "10.0.0.0/8"] {
        assert_eq!(
            policy.output.matches(&format!("source: {source}\n")).count(),
            1,
            "{source}: {}",
            policy.output
        );
    }
    assert!(policy.messages.contains("f:7: left out: ") && !policy.complete, "{}", policy.messages);
    let agent = convert(text, order(Target::Agent)).unwrap();
    assert!(agent.complete && agent.output.matches("\"10.0.0.0/8\"").count() == 2, "{}", agent.output);
}

#[test]
fn settings_of_ntp() {
    ntp("discard average 4 minimum 1 monitor 9", &["interval = 4"], &["note: minimum", "note: monitor"]);
    ntp("discard average 13", &[], &["left out: -6 to 12"]);
    ntp("discard", &[], &["left out: it has no value"]);
    ntp("limit average 0.25 burst 20 kod 0.5", &["interval = 2\nburst = 20"], &["note: kod"]);
    ntp("limit average 0.3", &[], &["left out: power of two"]);
    ntp("mru maxdepth 2000 maxmem 4", &["maxClients = 2000"], &["note: maxmem"]);
    ntp(
        "tos minsane 1 minclock 3 maxclock 9 ceiling 8",
        &["minSources = 1"],
        &["note: minclock", "note: maxclock", "left out: ceiling"],
    );
    ntp("tos minsane 0", &["minSources = 1"], &["note: minsane"]);
    ntp("tos maxdist 16", &["maxDistance = \"16s\""], &[]);
    ntp("tos maxdist 3 minsane 1", &["maxDistance = \"3s\"\nminSources = 1"], &[]);
    ntp("tos maxdist 20", &["maxDistance = \"16s\""], &["note: maxdist: 16s is the largest value"]);
    ntp("tos maxdist 0", &[], &["left out: clock.maxDistance: 0s is not within 1ms to 16s"]);
    ntp("tos maxdist x", &[], &["left out: maxdist: its value is not a number"]);
    ntp(
        "tinker step 0.25 panic 60 stepout 900",
        &["threshold = \"250ms\"", "maxChange = \"60s\""],
        &["note: stepout"],
    );
    ntp("tinker step 0", &["limit = 0"], &["note: 0 is for never"]);
    ntp("tinker panic 0", &["maxChange = \"876000h\""], &["note: 0 means no limit"]);
    ntp("tinker step -1", &[], &["left out: not a number of seconds"]);
    ntp("tinker stepback 1", &[], &["left out: one threshold"]);
    ntp("disable monitor auth", &[], &["note: monitor", "note: auth"]);
    ntp("disable ntp", &["mode = \"Observe\""], &["note: only measured"]);
    ntp("enable bclient stats", &[], &["left out: bclient", "note: stats"]);
    ntp("keys /k", &[], &["note: no line uses a key"]);
    ntp("trustedkey 1 (3 ... 5)", &["keys = [\"key-1\", \"key-3\", \"key-4\", \"key-5\"]"], &[]);
    ntp("trustedkey (1...65535)", &[], &["left out: at most 16 keys"]);
    ntp("trustedkey a", &[], &["left out: is not the id of a key"]);
    ntp(
        "nts cert /c\nnts enable\nnts key /k\nnts cookie /o mintls TLS1.3",
        &["certificate = \"tls.crt\"\nprivateKey = \"tls.key\""],
        &["note: cookie", "note: mintls"],
    );
    ntp("nts cert /c", &[], &["note: without `nts enable`"]);
    for line in [
        "driftfile /d",
        "leapfile /l",
        "logfile /l",
        "statsdir /s",
        "filegen x",
        "controlkey 1",
        "ttl 1",
        "pidfile /p",
        "rlimit memlock 1",
        "dscp 46",
    ] {
        ntp(line, &[], &["note: "]);
    }
    for line in [
        "broadcast 192.0.2.255",
        "multicastclient",
        "includefile /x",
        "leapsmearinterval 9",
        "trap a",
        "setvar a=b",
        "nonsense",
    ] {
        ntp(line, &[], &["left out: "]);
    }
}

#[test]
fn an_orphan_waits() {
    ntp("tos orphan 8 orphanwait 60", &["local = 8\norphan = true\nactivateAfter = \"60s\""], &[]);
    ntp("tos orphan 8\nserver 127.127.1.0", &["local = 8\norphan"], &["left out: another line already sets"]);
    chrony(
        "local stratum 8 orphan waitunsynced 60",
        &["local = 8\norphan = true\nactivateAfter = \"60s\""],
        &[],
    );
    ntp("tos orphanwait 60", &[], &["note: without orphan"]);
    ntp("tos orphan 16", &[], &["note: never"]);
    ntp("tos orphan 17", &[], &["left out: is not a stratum"]);
}

#[test]
fn servers_of_chrony() {
    for (host, why) in [
        ("127.127.1.0", "write stratum.local instead"),
        ("127.127.20.0", "write device for a PTP clock"),
        ("0.0.0.0", "stands for this node itself"),
        ("::", "stands for this node itself"),
        ("255.255.255.255", "is the broadcast address"),
        ("ff05::101", "is a multicast address"),
    ] {
        chrony(&format!("server {host} iburst"), &[], &[&format!("left out: {why}")]);
        chrony(&format!("peer {host}"), &[], &[&format!("left out: {why}")]);
    }
    chrony(
        "SERVER a.example iBurst trust require xleave",
        &["iburst = true\ninterleaved = true\ntrust = true\nrequire = true\nminPoll = 6"],
        &[],
    );
    chrony(
        "pool p.example maxsources 3 polltarget 20 maxdelay 0.1",
        &["maxSources = 3"],
        &["note: polltarget", "left out: maxdelay"],
    );
    chrony(
        "server a.example minpoll -6 maxpoll -2",
        &["minPoll = 0\nmaxPoll = 0"],
        &["left out: minpoll -6", "left out: maxpoll -2"],
    );
    chrony("server a.example maxpoll 5", &["server = \"a.example\"\nminPoll = 6\n"], &[]);
    chrony(
        "server a.example nts ntsport 4461\nntstrustedcerts /c",
        &["ca = \"ca.pem\"\nport = 4461"],
        &["note: public certificate authorities"],
    );
    chrony(
        "server a.example nts\nntstrustedcerts /c\nnosystemcert\nntstrustedcerts /d",
        &["ca = \"ca.pem\""],
        &["left out: one file"],
    );
    chrony("server a.example ntsport 4461", &["server = \"a.example\""], &[]);
    chrony(
        "server a.example key 3 offset 0.1 offline",
        &["key = \"key-3\""],
        &["left out: offset", "note: offline"],
    );
    chrony(
        "refclock PHC /dev/ptp0:nocrossts poll 2 dpoll -2 refid X",
        &["device = \"/dev/ptp0\"\nminPoll = 2\nmaxPoll = 2"],
        &["note: nocrossts", "note: dpoll", "note: refid"],
    );
    chrony("refclock PHC /dev/ptp0", &["device = \"/dev/ptp0\"\nmaxPoll = 4"], &[]);
    chrony("refclock PHC /dev/ptp0 tai", &[], &["left out: the whole upstream: tai"]);
    chrony("refclock PHC /dev/watchdog", &[], &["left out: the whole upstream, device"]);
    chrony("refclock SHM 0", &[], &["left out: the whole upstream"]);
}

#[test]
fn who_may_ask_chrony() {
    let list = |lines: &str| {
        let order = order(Dialect::Chrony, Target::Agent);
        let text = format!("server 192.0.2.1\n{lines}");
        let file: profile::AgentFile = toml::from_str(&convert(&text, order).unwrap().output).unwrap();
        let profile = file.profile.unwrap();
        let served = |r: &profile::Restrict| !r.flags.contains(&profile::Flag::Noserve);
        let list: Vec<_> = profile
            .restrict
            .iter()
            .map(|r| format!("{}{}", if served(r) { "+" } else { "-" }, r.source))
            .collect();
        (profile.serve.enabled, list.join(" "))
    };
    let check = |lines: &str, expected: &str| assert_eq!(list(lines), (true, expected.to_owned()), "{lines}");
    assert_eq!(list(""), (false, String::new()));
    assert_eq!(list("deny 10/8"), (false, String::new()));
    assert!(!list("allow\nport 0").0);
    check("allow", "+default +127.0.0.1 +::1");
    check("allow 0/0", "+0.0.0.0/0 -::/0 +127.0.0.1 -::1");
    check("allow 10.0.0.0/8\ndeny 10.1", "-default -127.0.0.1 -::1 +10.0.0.0/8 -10.1.0.0/16");
    check("allow 192.168.1.7/24", "-default -127.0.0.1 -::1 +192.168.1.0/24");
    check("allow fd00::/8\nallow 127.0.0.1", "-default +127.0.0.1 -::1 +fd00::/8");
    check("deny 10.0.0.0/10\nallow 10.0.0.0/9", "-default -127.0.0.1 -::1 +10.0.0.0/9");
    check("allow 10.0.0.0/9\ndeny 10.0.0.0/10", "-default -127.0.0.1 -::1 +10.0.0.0/9 -10.0.0.0/10");
    check("deny 10.0.0.0/16\nallow 10.0.0.0/8", "-default -127.0.0.1 -::1 -10.0.0.0/16 +10.0.0.0/8");
    check("deny 10.0.0.0/16\nallow all 10.0.0.0/8", "-default -127.0.0.1 -::1 +10.0.0.0/8");
    check("deny 10.0.0.0/16\nallow all", "+default +127.0.0.1 +::1");
    chrony("allow host.example", &[], &["left out: did not resolve: no such name"]);
    chrony("allow 1.2.3.4.5", &[], &["left out: neither"]);
    chrony(
        "ratelimit",
        &["flags = [\"limited\", \"noquery\"]", "source = \"127.0.0.1\"\nflags = [\"limited\"]"],
        &[],
    );
    chrony(
        "ratelimit interval 1 burst 16 leak 3 kod 2",
        &["interval = 1\nburst = 16\nleak = 3", "[\"kod\", \"limited\", \"noquery\"]"],
        &["note: kod"],
    );
    chrony("ratelimit interval -7", &[], &["left out: interval -7"]);
}

#[test]
fn settings_of_chrony() {
    chrony("makestep 0.5 10", &["threshold = \"500ms\"\nlimit = 10"], &["note: first 10 updates"]);
    chrony("makestep 0.1 -1", &["threshold = \"100ms\""], &["note: chronyd steps at any time. Here"]);
    chrony("makestep 0.1", &[], &["left out: makestep"]);
    chrony("maxdistance 16.0", &["maxDistance = \"16s\""], &[]);
    chrony("maxdistance 0.5", &["maxDistance = \"500ms\""], &[]);
    chrony("maxdistance 30", &["maxDistance = \"16s\""], &["note: maxdistance: 16s is the largest value"]);
    chrony("maxdistance -1", &[], &["left out: maxdistance: its value is not a number"]);
    chrony("maxchange 10 1 2", &["maxChange = \"10s\""], &["note: clock.maxChange holds"]);
    chrony("maxslewrate 1000.5", &["maxSlewRate = 1000"], &["note: whole ppm"]);
    chrony("maxslewrate 1e9", &[], &["left out: 100000"]);
    chrony("minsources 1", &["minSources = 1"], &[]);
    chrony("leapsecmode slew", &["mode = \"Slew\""], &[]);
    chrony("leapsecmode none", &[], &["left out: it must be system"]);
    chrony("port 1123", &["port = 1123"], &[]);
    chrony("local stratum 8", &["local = 8"], &["note: chronyd serves its own clock at once"]);
    chrony("local stratum 8 waitunsynced 0", &["local = 8\nactivateAfter = \"0s\""], &[]);
    chrony("local distance 0.1", &["local = 10"], &["left out: distance", "note: chronyd serves"]);
    chrony("local stratum 0", &[], &["left out: must be 1 to 15"]);
    chrony("rtcsync", &[], &[]);
    chrony("rtcdevice /dev/rtc1", &["rtcDevice = \"/dev/rtc1\""], &[]);
    chrony("keyfile /k", &[], &["note: the file does not exist here"]);
    chrony("authselectmode mix", &[], &["note: it is the default"]);
    chrony("authselectmode require", &[], &["left out: "]);
    chrony(
        "ntsservercert /c\nntsserverkey /k\nntsport 4461",
        &["certificate = \"tls.crt\"\nprivateKey = \"tls.key\"\nport = 4461"],
        &[],
    );
    chrony("ntsserverkey /k", &[], &["left out: both"]);
    for line in [
        "driftfile /d",
        "ntsdumpdir /d",
        "logdir /l",
        "log tracking",
        "leapsectz right/UTC",
        "cmdallow",
        "bindcmdaddress /x",
        "maxupdateskew 100",
        "lock_all",
        "user _chrony",
        "rtcfile /r",
        "dscp 46",
    ] {
        chrony(line, &[], &["note: "]);
    }
    for line in ["include /i", "hwtimestamp *", "smoothtime 400 0.01", "acquisitionport 1", "nonsense"] {
        chrony(line, &[], &["left out: "]);
    }
}

#[test]
fn nothing_usable_is_an_error() {
    let error =
        |text: &str, from: Dialect| convert(text, order(from, Target::Policy)).unwrap_err().to_string();
    assert!(error("driftfile /d", Dialect::Ntp).contains("no line names a time source"));
    let ignored = error("server 192.0.2.1\nrestrict default ignore", Dialect::Ntp);
    assert!(
        ignored
            .contains("f:1: left out: `server 192.0.2.1`: the whole upstream, server: 192.0.2.1 is covered"),
        "{ignored}"
    );
}

#[test]
fn what_is_too_much_is_left_out() {
    let servers: String = (1..=18).map(|n| format!("server s{n}.example\n")).collect();
    let order = order(Dialect::Ntp, Target::Policy);
    let converted = convert(&servers, order).unwrap();
    assert_eq!(converted.output.matches("server: ").count(), 16);
    assert!(
        converted.messages.contains("f:17: left out: ") && converted.messages.contains("f:18: left out: ")
    );
}

#[test]
fn ignore_and_names_are_a_hint() {
    let messages = |lines: &str| {
        let order = order(Dialect::Ntp, Target::Agent);
        convert(&format!("server a.example\nrestrict default ignore\n{lines}"), order).unwrap().messages
    };
    assert!(messages("restrict 192.0.2.0 mask 255.255.255.0").contains("Those that are given by name"));
    assert!(!messages("restrict source").contains("Those that are given by name"));
}

/// ntpd follows a preferred local clock before all servers.
#[test]
fn a_local_clock_that_is_preferred_is_no_fallback() {
    for line in ["server 127.127.1.0 prefer", "server 127.127.1.1 minpoll 4 prefer", "refclock local prefer"]
    {
        let converted = beside(Dialect::Ntp, &format!("server a.example\n{line}"), &Files(&[]));
        assert!(!converted.complete && !converted.output.contains("local"), "{}", converted.output);
        assert!(converted.messages.contains("mode: Observe and stratum.local is what it means"), "{line}");
    }
    ntp(
        "server 127.127.1.0 iburst minpoll 4",
        &["local = 6"],
        &["note: iburst", "note: minpoll", "note: this is"],
    );
    ntp("server 127.127.1.0 key 5", &["local = 6"], &["left out: key", "left out: 5", "note: this is"]);
    ntp("server 127.127.1.0 noselect", &[], &["note: with noselect"]);
    ntp(
        "server 127.127.1.0 prefer\nfudge 127.127.1.0 stratum 5",
        &[],
        &["left out: the whole line: with prefer", "note: is left out"],
    );
    ntp(
        "server 127.127.1.0\nfudge 127.127.1.0 stratum 9 time1 0.0",
        &["local = 10"],
        &["note: this is", "note: time1"],
    );
}

#[test]
fn the_node_itself_is_no_upstream() {
    for host in ["127.0.0.1", "localhost", "::1", "127.127.1.0", "127.0.0.53", "localhost.localdomain"] {
        let line = format!("server {host} iburst\nlocal stratum 10 waitunsynced 0");
        chrony(
            &line,
            &["local = 10"],
            &["note: it is this node itself, and chronyd does not use itself as a source"],
        );
    }
    for host in ["127.0.0.1", "localhost", "::1"] {
        chrony(&format!("server {host}"), &[], &["left out: it is this node itself"]);
        ntp(&format!("server {host} iburst"), &[], &["left out: it is this node itself, and ntpd does not"]);
        ntp(&format!("server {host}\ntos orphan 8"), &["local = 8"], &["note: it is this node itself"]);
    }
    // Another program's port, and a chronyd that listens nowhere.
    chrony(
        "server 127.0.0.1 port 11123\nlocal stratum 10 waitunsynced 0",
        &["server = \"127.0.0.1\"", "port = 11123"],
        &[],
    );
    chrony("server 127.0.0.1\nport 0", &["server = \"127.0.0.1\""], &[]);
    chrony(
        "server 127.127.20.1\nlocal stratum 10 waitunsynced 0",
        &["local = 10"],
        &["left out: write device"],
    );
}

#[test]
fn ptp_devices_as_clouds_document_them() {
    chrony(
        "refclock PHC /dev/ptp_hyperv poll 3 dpoll -2 offset 0",
        &["device = \"/dev/ptp_hyperv\"\nminPoll = 3\nmaxPoll = 3"],
        &["note: dpoll"],
    );
    chrony("refclock PHC /dev/ptp0 offset 0.0 stratum 0 delay 1e-9", &["device = \"/dev/ptp0\""], &[]);
    chrony("refclock PHC /dev/ptp0 offset 0.5", &[], &["left out: the whole upstream: offset"]);
    chrony("refclock PHC /dev/ptp0 stratum 2", &["device = \"/dev/ptp0\""], &["left out: stratum 2"]);
    let quiet = beside(Dialect::Chrony, "server a.example\nrefclock PHC /dev/ptp0 stratum 2", &Files(&[]));
    assert!(quiet.complete && quiet.messages.contains("note: `refclock PHC /dev/ptp0 stratum 2`: stratum 2"));
    chrony("refclock PHC /dev/ptp0:nocrossts:what", &["device"], &["note: nocrossts", "left out: \"what\""]);
    chrony("refclock PHC /dev/ptp0:extpps:pin=1", &[], &["left out: pulses"]);
    chrony(
        "refclock PHC /dev/ptp0 sometimes",
        &["device"],
        &["left out: \"sometimes\": there is no such option"],
    );
    let pair = "server 169.254.169.123 prefer iburst minpoll 4 maxpoll 4\nrefclock PHC /dev/ptp0 poll 0 delay 0.000010 prefer\nserver b.example";
    let pair = beside(Dialect::Chrony, pair, &Files(&[]));
    let file: profile::AgentFile = toml::from_str(&pair.output).unwrap();
    let preferred: Vec<_> = file.profile.unwrap().upstreams.into_iter().map(|each| each.prefer).collect();
    assert!(pair.complete && preferred == [false, true, false], "{preferred:?} {}", pair.messages);
    let all = beside(Dialect::Ntp, "server a prefer\nserver b prefer", &Files(&[]));
    assert!(all.complete && !all.output.contains("prefer"), "{}", all.messages);
}

#[test]
fn a_server_without_its_reference_clocks_does_not_lie() {
    let refused = |dialect, text: &str| {
        let kept = convert(text, Order { keep_local: true, ..order(dialect, Target::Agent) }).unwrap();
        assert!(kept.output.contains("local = ") && !kept.complete, "{text}: {}", kept.output);
        let error = convert(text, order(dialect, Target::Agent)).unwrap_err().to_string();
        assert!(error.contains("--keep-local") && error.contains("f:1: `"), "{text}: {error}");
    };
    refused(Dialect::Chrony, "refclock SHM 0 refid GPS\nlocal stratum 1\nallow");
    refused(Dialect::Chrony, "refclock PPS /dev/pps0\nserver a.example\nlocal stratum 1\nallow");
    refused(Dialect::Chrony, "refclock SOCK /var/run/chrony.sock\nlocal stratum 10");
    refused(Dialect::Ntp, "server 127.127.28.0\nserver 127.127.1.0\nfudge 127.127.1.0 stratum 0");
    refused(Dialect::Ntp, "refclock gpsd unit 0\nrefclock local stratum 0\nserver a.example");
    let fallback = "refclock SHM 0\nserver a.example\nlocal stratum 10\nallow";
    assert!(!beside(Dialect::Chrony, fallback, &Files(&[])).complete);
    let error = convert("refclock SHM 0", order(Dialect::Chrony, Target::Agent)).unwrap_err().to_string();
    assert!(error.contains("reference clocks of the file are left out"), "{error}");
}

/// NTPsec begins with `noquery limited`, classic ntpd with nothing.
#[test]
fn without_a_default_ntpq_is_not_for_everybody() {
    for lines in [
        "",
        "restrict 10.0.0.0 mask 255.0.0.0",
        "restrict source",
        "restrict default ntpport",
        "unrestrict default",
        "restrict -4 default nomodify",
        "restrict default nonsense",
    ] {
        let converted = beside(Dialect::Ntp, &format!("server 192.0.2.1\n{lines}"), &Files(&[]));
        let file: profile::AgentFile = toml::from_str(&converted.output).unwrap();
        let given = file.profile.unwrap().restrict;
        let list = if given.is_empty() { profile::Restrict::safe_default() } else { given };
        let v6 = list.iter().find(|entry| {
            ["default", "::/0"].contains(&entry.source.as_str())
                && !entry.flags.contains(&profile::Flag::Ntpport)
        });
        assert!(v6.unwrap().flags.contains(&profile::Flag::Noquery), "{lines}: {list:?}");
    }
}

/// A value that cannot be costs its line, not the file.
#[test]
fn what_cannot_be_is_named_by_its_line() {
    for (stratum, lines) in [(1, "tos orphan 1"), (15, "tos orphan 15")] {
        let why = format!("left out: stratum.local: {stratum} is not within 2 to 14");
        ntp(lines, &["server = \"192.0.2.1\""], &[&why]);
    }
    chrony("local stratum 15 orphan", &[], &["left out: stratum.local: 15"]);
    chrony(
        "minsources 9",
        &["server = \"192.0.2.1\""],
        &["left out: clock.minSources: 9 sources can never agree"],
    );
    chrony("minsources 17", &[], &["left out: clock.minSources: 17 is not within 1 to 16"]);
    ntp("tos minsane 3", &[], &["left out: clock.minSources: 3 sources can never agree"]);
    chrony("local waitunsynced 100000", &[], &["left out: stratum.activateAfter: must be at most 24h"]);
    ntp("trustedkey (1 ... 10)\ntrustedkey (11 ... 20)", &["key-16"], &["left out: has more than 16 files"]);
    let fails = "is larger than clock.maxChange, 1000s: the first step would be refused. Set a larger one";
    let step = format!("f:2: left out: `makestep 2000 3`: clock.step.threshold: 2000s {fails}");
    let change = "f:2: left out: `maxchange 0.001 1 1`: clock.maxChange: 1ms is smaller than clock.step.threshold, 10ms";
    for to in [Target::Agent, Target::Policy] {
        for (line, why) in [("makestep 2000 3", step.as_str()), ("maxchange 0.001 1 1", change)] {
            let made = convert(&format!("server 192.0.2.1\n{line}"), order(Dialect::Chrony, to)).unwrap();
            let is_left = made.output.contains("threshold") || made.output.contains("maxChange");
            assert!(made.messages.contains(why) && !is_left, "{}", made.messages);
        }
    }
    let networks: String = (0..60).map(|n| format!("restrict 10.{n}.0.0 mask 255.255.0.0\n")).collect();
    let text = format!(
        "server 192.0.2.1\nrestrict default ignore\nrestrict 192.0.2.1\n{networks}restrict 10.99.0.0/16 noserve\n"
    );
    let many = beside(Dialect::Ntp, &text, &Files(&[]));
    let file: profile::AgentFile = toml::from_str(&many.output).unwrap();
    let list = file.profile.unwrap().restrict;
    assert!(list.len() == 48 && list.iter().any(|entry| entry.source == "10.99.0.0/16"), "{}", list.len());
    assert!(
        many.messages
            .contains("f:63: left out: `restrict 10.59.0.0 mask 255.255.0.0`: the entry for 10.59.0.0/16")
    );
}

#[test]
fn directives_of_old_programs_exist() {
    ntp("slewalways yes", &["limit = 0"], &[]);
    ntp(
        "slewalways no\ntracefile /t\nauthenticate no",
        &[],
        &["note: it is the default", "note: AIX", "note: AIX"],
    );
    chrony("hwclockfile /etc/adjtime", &[], &[]);
    chrony("hwclockfile /etc/other", &[], &["left out: only from /etc/adjtime"]);
}

#[test]
fn files_that_a_file_includes() {
    let files = Files(&[
        ("/etc/chrony/conf.d/b.conf", "local stratum 9 waitunsynced 0\ninclude /etc/more.conf"),
        ("/etc/chrony/conf.d/a.conf", "# nothing\nmaxslewrate 100"),
        ("/etc/chrony/conf.d/not", "port 9"),
        ("/other/a.conf", "maxslewrate 200"),
        ("/etc/more.conf", "server more.example\nnonsense"),
        ("/etc/chrony/s/x.sources", "server x.example\nport 9"),
        ("/run/chrony-dhcp/eth0.sources", "server dhcp.example"),
    ]);
    let text =
        "confdir /etc/chrony/conf.d /other\nsourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/s\nallow";
    let made = beside(Dialect::Chrony, text, &files);
    for part in ["local = 9", "maxSlewRate = 100\n", "more.example", "x.example", "dhcp.example"] {
        assert!(made.output.contains(part), "{part}: {}", made.output);
    }
    assert!(!made.output.contains("port"), "{}", made.output);
    for said in [
        "/etc/more.conf:2: left out: `…`: there is no such directive",
        "/etc/chrony/s/x.sources:2: left out: `port 9`",
        "f:2: note: `sourcedir /run/chrony-dhcp`: its present content",
    ] {
        assert!(made.messages.contains(said), "{said}: {}", made.messages);
    }
    let check = |dialect, line: &str, said: &str, complete: bool| {
        let made = beside(dialect, &format!("server a.example\n{line}"), &files);
        assert!(made.messages.contains(said), "{line}: {}", made.messages);
        assert_eq!(made.complete, complete, "{line}");
    };
    check(Dialect::Chrony, "sourcedir /not/here", "note: `sourcedir /not/here`: /not/here is not here", true);
    check(Dialect::Chrony, "include /not/here.conf", "left out: `include /not/here.conf`", false);
    check(Dialect::Chrony, "include /not/*.conf", "note: ", true);
    check(Dialect::Chrony, "include /other/*.conf\nallow", "not needed, 0 left out", true);
    check(Dialect::Ntp, "includefile /etc/ntp/crypto/pw", "note: `includefile /etc/ntp/crypto/pw`", true);
    check(Dialect::Ntp, "includefile /etc/ntp/servers", "left out: `includefile /etc/ntp/servers`", false);
    let password = Files(&[("/etc/ntp/crypto/pw", "crypto pw geheim")]);
    let made = beside(Dialect::Ntp, "server a.example\nincludefile /etc/ntp/crypto/pw", &password);
    assert!(made.complete && !made.messages.contains("geheim"), "{}", made.messages);
    let asked = beside(Dialect::Ntp, "server a.example\nserver b.example autokey\ncrypto pw geheim", &files);
    assert!(asked.messages.contains("left out: `crypto …`"), "{}", asked.messages);
}

#[test]
fn includes_have_an_end() {
    let check = |files: &Files, said: &str| {
        let made = beside(Dialect::Chrony, "server a.example\ninclude /a", files);
        assert!(made.messages.contains(said) && !made.complete, "{}", made.messages);
    };
    check(
        &Files(&[("/a", "include /b"), ("/b", "include /a")]),
        "/b:1: left out: `include /a`: /a: it includes itself",
    );
    check(
        &Files(&[
            ("/a", "include /b\ninclude /b"),
            ("/b", "include /c\ninclude /c"),
            ("/c", "include /d\ninclude /d"),
            ("/d", "include /e\ninclude /e"),
            ("/e", "include /g\ninclude /g"),
            ("/g", "include /h\ninclude /h"),
            ("/h", "include /i\ninclude /i"),
            ("/i", "include /j\ninclude /j"),
            ("/j", "include /k\ninclude /k"),
            ("/k", ""),
        ]),
        "at most 256 files are read",
    );
}

#[test]
fn keys_of_clients() {
    let check = |content: &'static str, keys: &str, complete: bool| {
        let files: &'static [(&str, &str)] = Box::leak(Box::new([("/k", content)]));
        let made = beside(Dialect::Chrony, "server a.example\nallow\nkeyfile /k", &Files(files));
        assert_eq!(made.output.lines().find(|line| line.starts_with("keys = ")).unwrap_or_default(), keys);
        assert!(made.complete == complete && !made.messages.contains("geheim"), "{}", made.messages);
    };
    check("# no key\n", "", true);
    check("7 SHA256 HEX:geheim\n! 3\n12 geheim\n", "keys = [\"key-7\", \"key-12\"]", true);
    let many: String = (1..=17).map(|n| format!("{n} geheim\n")).collect();
    let sixteen: Vec<_> = (1..=16).map(|n| format!("\"key-{n}\"")).collect();
    check(Box::leak(many.into_boxed_str()), &format!("keys = [{}]", sixteen.join(", ")), false);
}

#[test]
fn steps_at_the_start() {
    let step = |text: &str| {
        let made = beside(Dialect::Chrony, text, &Files(&[]));
        let file: profile::AgentFile = toml::from_str(&made.output).unwrap();
        (file.profile.unwrap().clock.step, made)
    };
    let (alone, made) = step("server a.example\ninitstepslew 30 a.example");
    assert_eq!((alone.threshold, alone.limit), (contract::Span::from_secs(30), 1));
    assert!(made.complete, "{}", made.messages);
    let (other, made) = step("server a.example\ninitstepslew 30 b.example");
    assert!(
        other.limit == 1
            && made.messages.contains("left out: `initstepslew 30 b.example`: b.example: no server")
    );
    let (both, made) = step("server a.example\nmakestep 1 5\ninitstepslew 30 a.example");
    assert!((both.threshold, both.limit) == (contract::Span::from_secs(1), 5) && made.complete);
}

#[test]
fn names_in_rules_are_looked_up() {
    ntp(
        "restrict known.example nomodify",
        &["\"192.0.2.77\"\nflags = [\"nomodify\"]", "\"2001:db8::77\"\nflags = [\"nomodify\"]"],
        &["note: known.example was looked up during the conversion: 192.0.2.77, 2001:db8::77"],
    );
    ntp(
        "restrict known.example mask 255.255.255.255",
        &["\"192.0.2.77\""],
        &["note: looked up during the conversion: 192.0.2.77. If"],
    );
    ntp("restrict known.example mask 255.255.0.0", &[], &["left out: is a name, which cannot have a mask"]);
    ntp("restrict unknown.example ignore", &[], &["left out: did not resolve: no such name"]);
    chrony(
        "allow known.example",
        &["\"192.0.2.77\"", "\"2001:db8::77\""],
        &["note: known.example was looked up"],
    );
}

#[test]
fn an_upstream_that_is_said_twice_is_one() {
    ntp(
        "server a.example\nserver a.example",
        &["a.example"],
        &["note: an earlier line names the same server"],
    );
    ntp(
        "server a.example\nserver a.example key 1",
        &["a.example"],
        &["left out: the whole upstream, name: "],
    );
}

/// The addresses of the result; none if it has no such field.
#[track_caller]
fn addresses(dialect: Dialect, lines: &str) -> Option<String> {
    let base = if dialect == Dialect::Ntp { "restrict default\n" } else { "allow\n" };
    let converted = beside(dialect, &format!("server 192.0.2.1\n{base}{lines}"), &Files(&[]));
    assert!(converted.complete, "{lines}: {}", converted.messages);
    let line = converted.output.lines().find_map(|line| line.strip_prefix("addresses = "));
    line.map(|list| list.replace('"', ""))
}

/// As the sockets that NTPsec 1.2.2 opens on a machine with one address of each family beside loopback.
#[test]
fn interface_lines_decide_together() {
    let check = |lines: &str, expected: &str| {
        let found = addresses(Dialect::Ntp, lines).unwrap_or_default();
        assert_eq!(found, expected, "{lines}");
    };
    check("", "");
    check("interface ignore ipv6", "[127.0.0.1]");
    check("interface ignore wildcard", "[127.0.0.1, ::1]");
    check("interface listen 192.0.2.7", "[127.0.0.1, 192.0.2.7, ::1]");
    check(
        "nic listen 192.0.2.7\nnic listen 2001:db8::7\nnic ignore 127.0.0.1",
        "[192.0.2.7, ::1, 2001:db8::7]",
    );
    check("interface ignore 192.0.2.7\ninterface listen all", "");
    check("interface ignore all\ninterface listen ipv4", "[0.0.0.0, ::1]");
    check("interface listen ipv4", "[0.0.0.0, ::1]");
    check("interface ignore ipv4\ninterface listen ::1", "[::1]");
    check("interface ignore wildcard\ninterface listen all", "");
    check("interface listen lo", "[127.0.0.1, ::1]");
    check("interface ignore all", "[127.0.0.1, ::1]");
    check("listen on *", "");
    check("interface listen wildcard", "");
    check("interface listen 0.0.0.0", "[0.0.0.0, ::1]");
}

#[test]
fn a_server_that_listens_nowhere_serves_nobody() {
    for lines in [
        "interface ignore ipv4\ninterface ignore ipv6",
        "interface ignore all\ninterface ignore lo",
        "interface ignore lo",
        "interface listen 127.0.0.1\ninterface ignore lo",
        "interface drop 127.0.0.1\ninterface drop ::1",
        "interface listen 192.0.2.7\ninterface drop lo\ninterface ignore 192.0.2.7",
    ] {
        let result =
            beside(Dialect::Ntp, &format!("server 192.0.2.1\nrestrict default\n{lines}"), &Files(&[]));
        assert!(result.complete && result.output.contains("enabled = false"), "{lines}: {}", result.output);
        assert!(result.messages.contains("would listen on no address"), "{lines}: {}", result.messages);
    }
}

#[test]
fn interface_lines_that_no_list_can_say() {
    ntp("interface listen eth0", &[], &["left out: network cards"]);
    ntp(
        "interface ignore wildcard\ninterface listen eth0",
        &[],
        &["left out: it cannot stand without the others", "left out: network cards"],
    );
    ntp("interface listen 10.0.0.0/8", &[], &["left out: a part of a network"]);
    ntp("interface listen all\ninterface ignore 192.0.2.7", &[], &["left out: takes no exceptions"]);
    // `all` are those but loopback addresses, so ::1 stays dropped.
    ntp("interface drop ipv6\ninterface listen all", &[], &["left out: takes no exceptions"]);
    ntp("interface listen all\ninterface drop lo", &[], &["left out: takes no exceptions"]);
    // What comes to an address whose socket is dropped never reaches the socket for all others.
    ntp("interface listen wildcard\ninterface drop 192.0.2.7", &[], &["left out: takes no exceptions"]);
    ntp("interface listen wildcard\ninterface ignore 192.0.2.7", &[], &[]);
    ntp("interface listen fe80::1", &[], &["left out: fe80::1 is a link-local"]);
    ntp("interface listen", &[], &["left out: it does not say on which address"]);
    let many: String = (1..=17).map(|n| format!("interface listen 192.0.2.{n}\n")).collect();
    let converted =
        beside(Dialect::Ntp, &format!("server 192.0.2.200\nrestrict default\n{many}"), &Files(&[]));
    assert!(
        !converted.complete
            && converted.messages.contains("17 left out")
            && converted.messages.contains("the lines name 19 addresses"),
        "{}",
        converted.messages
    );
}

#[test]
fn bindaddress_lines_are_one_of_a_family() {
    let check = |lines: &str, expected: &str| {
        let found = addresses(Dialect::Chrony, lines).unwrap_or_default();
        assert_eq!(found, expected, "{lines}");
    };
    check("bindaddress 0.0.0.0\nbindaddress ::", "");
    check("bindaddress 192.0.2.7", "[192.0.2.7, ::]");
    check("bindaddress 192.0.2.7\nBindAddress 192.0.2.8", "[192.0.2.8, ::]");
    check("bindaddress 127.0.0.1\nbindaddress ::1", "[127.0.0.1, ::1]");
    chrony("bindaddress ntp.example.com", &[], &["left out: it is no IP address"]);
    chrony("bindaddress fe80::1", &[], &["left out: link-local"]);
    chrony("bindaddress", &[], &["left out: it does not say"]);
    let quiet = beside(Dialect::Chrony, "server a.example\nbindaddress 192.0.2.7", &Files(&[]));
    assert!(quiet.complete && !quiet.output.contains("addresses"), "{}", quiet.messages);
}

#[test]
fn a_row_for_each_line() {
    let text = "server a.example\n# comment\ndriftfile /d\nbroadcast 192.0.2.255\nserver b.example bias 1\nrestrict default\n";
    let table = beside(Dialect::Ntp, text, &Files(&[])).table;
    let rows: Vec<_> = table.lines().take(6).collect();
    for (row, parts) in rows.iter().zip([
        ["LINE", "BECAME", "WHAT IS DONE"],
        ["f:1", "carried over", "`upstreams`"],
        ["f:3", "not needed", "state directory"],
        ["f:4", "left out  ", "broadcast"],
        ["f:5", "left out in part", "bias"],
        ["f:6", "carried over", "`restrict`"],
    ]) {
        assert!(parts.iter().all(|part| row.contains(part)), "{row}\n{parts:?}");
    }
    let refused = convert("driftfile /d", order(Dialect::Ntp, Target::Agent)).unwrap_err();
    assert!(refused.table.contains("not needed"), "{}", refused.table);
}

#[test]
fn a_rule_for_the_name_of_an_upstream_is_for_upstreams() {
    let text = "server unknown.example\nrestrict default ignore\nrestrict Unknown.Example mask 255.255.255.255 nomodify noquery\n";
    let result = beside(Dialect::Ntp, text, &Files(&[]));
    assert!(result.complete, "{}", result.messages);
    assert!(
        result.output.contains("source = \"source\"\nflags = [\"nomodify\", \"noquery\"]"),
        "{}",
        result.output
    );
    assert!(result.messages.contains("so it is `source`"), "{}", result.messages);
    // The others of an address have a rule of their own.
    let more = format!(
        "{text}server 192.0.2.1\nrestrict 192.0.2.1 nomodify\nserver b.example\nrestrict b.example noquery nomodify\n"
    );
    let result = beside(Dialect::Ntp, &more, &Files(&[]));
    assert!(result.complete && result.output.contains("source = \"source\""), "{}", result.messages);
    for other in [
        // One upstream has another rule, or none; or there is one for all.
        "server b.example\nrestrict b.example noserve\n",
        "server b.example\n",
        "server 192.0.2.1\n",
        "restrict source noserve\n",
    ] {
        let result = beside(
            Dialect::Ntp,
            &format!("restrict 192.0.2.9\n{text}{other}").replace("default ignore", "default noquery"),
            &Files(&[]),
        );
        assert!(!result.complete, "{other}: {}\n{}", result.messages, result.output);
        assert!(
            !result.output.contains("source = \"source\"") || other.contains("restrict source"),
            "{other}: {}",
            result.output
        );
    }
    // The answers of all upstreams would be dropped.
    let ignored = convert(&text.replace("nomodify noquery", "ignore"), order(Dialect::Ntp, Target::Agent));
    assert!(ignored.unwrap_err().to_string().contains("would be dropped"));
    ntp("restrict [::1] noquery", &["source = \"::1\""], &[]);
    ntp("restrict [eth0] noquery", &[], &["left out: "]);
}

#[test]
fn lines_that_matter_by_what_others_say() {
    let all = "server a.example nts\nserver 192.0.2.1 key 1\nkeyfile /k\n";
    for mode in ["require", "prefer"] {
        let result = beside(Dialect::Chrony, &format!("{all}authselectmode {mode}"), &Files(&[]));
        assert!(result.complete, "{}", result.messages);
        let mixed = format!("{all}server b.example\nauthselectmode {mode}");
        assert!(!beside(Dialect::Chrony, &mixed, &Files(&[])).complete);
    }
    let quiet = beside(Dialect::Chrony, "server a.example\nsmoothtime 400 0.01", &Files(&[]));
    assert!(quiet.complete, "{}", quiet.messages);
    chrony("smoothtime 400 0.01", &[], &["left out: "]);
    chrony("bindacqaddress 0.0.0.0", &[], &["note: it is the default"]);
    chrony("bindacqaddress 192.0.2.7", &[], &["left out: "]);
}

/// There may be servers, keys and rules in it, so the line that names it is left out, with the reason.
#[test]
fn a_file_that_may_not_be_read_costs_its_line() {
    let check = |dialect, text: &str, file: &'static str| {
        let files = Files(Box::leak(Box::new([(file, UNREADABLE)])));
        let result = beside(dialect, text, &files);
        assert!(
            !result.complete && result.messages.contains("Permission denied"),
            "{text}: {}",
            result.messages
        );
        assert!(
            result.messages.contains(":2: left out: ") && result.output.contains("a.example"),
            "{}",
            result.messages
        );
    };
    check(Dialect::Chrony, "server a.example\ninclude /i", "/i");
    check(Dialect::Chrony, "server a.example\nconfdir /d", "/d/a.conf");
    check(Dialect::Chrony, "server a.example\nsourcedir /d", "/d/a.sources");
    check(Dialect::Chrony, "server a.example\nkeyfile /k\nallow", "/k");
    check(Dialect::Ntp, "server a.example\nincludefile /i\nrestrict default", "/i");
}
