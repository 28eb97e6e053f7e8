//! Each directive of both programs, a line of a table each; and what must hold for any text: no panic, no line that
//! nothing is said of, no secret repeated.
use proptest::prelude::*;

use super::*;

/// What `lines` become beside a server, as an agent's file: all of `parts` are in it, and what is said of these lines
/// is `said`, one `kind: part of the text` each.
#[track_caller]
fn check(dialect: Dialect, lines: &str, parts: &[&str], said: &[&str]) {
    let base = match dialect {
        Dialect::Ntp => "server 192.0.2.1 minpoll 4 maxpoll 6\nrestrict default\n",
        Dialect::Chrony => "server 192.0.2.1 minpoll 4 maxpoll 6\nmakestep 1 3\nallow\n",
    };
    let before = base.lines().count();
    let order = Order { origin: "f", from: Some(dialect), to: Target::Agent, name: "default" };
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
    ntp("server [2001:db8::1]:1123 nts", &[], &["left out: the whole upstream, nts: needs a host name"]);
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
    ntp("server a.example minpoll x", &["minPoll = 6"], &["left out: minpoll: what follows"]);
    ntp("server a.example key 7", &["key = \"key-7\""], &[]);
    ntp(
        "server a.example key x",
        &[],
        &["left out: key: what follows", "left out: the whole upstream, since"],
    );
    ntp("server a.example autokey", &[], &["left out: the whole upstream: Autokey"]);
    ntp("server a.example nts", &["[profile.upstreams.nts]"], &[]);
    ntp("server a.example:4461 nts\nnts ca /c", &["ca = \"ca.pem\"\nport = 4461"], &[]);
    ntp("server a.example nts noval", &[], &["left out: noval: certificates are always verified"]);
    ntp("server 192.0.2.9 nts", &[], &["left out: the whole upstream, nts: needs a host name"]);
    ntp(
        "server a.example version 3 mode 2 bias 0.1 x",
        &["a.example"],
        &["note: version", "note: mode", "left out: bias", "left out: \"x\": there is no such option"],
    );
    ntp("server -4 a.example", &["a.example"], &["left out: -4"]);
    ntp("server -6 2001:db8::1", &["2001:db8::1"], &[]);
    ntp("server 192.0.2.1 iburst", &[], &["left out: the whole upstream, name: "]);
    ntp("pool 192.0.2.9", &[], &["left out: the whole upstream, pool: "]);
    ntp("server", &[], &["left out: it does not say whom to ask"]);
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
        &["left out: prefer: one upstream"],
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
    ntp("restrict localhost", &[], &["left out: is no IP address"]);
    ntp("restrict 10.0.0.0 mask 255.0.255.0", &[], &["left out: is no network's mask"]);
    ntp("restrict 10.0.0.0 mask ffff::", &[], &["left out: of the other family"]);
    ntp("restrict 10.0.0.0/33", &[], &["left out: no prefix length"]);
    ntp("restrict -6 10.0.0.0", &[], &["left out: of the other family"]);
    ntp("restrict ::ffff:10.0.0.0", &[], &["left out: write it as such"]);
    ntp("restrict", &[], &["left out: for whom"]);
}

#[test]
fn a_default_that_is_not_said_is_safe() {
    let converted = |text: &str, to: Target| {
        convert(text, Order { origin: "f", from: Some(Dialect::Ntp), to, name: "default" }).unwrap()
    };
    let nothing = converted("server 192.0.2.1", Target::Agent);
    assert!(
        !nothing.output.contains("restrict") && nothing.messages.contains("no restrict line: ntpd"),
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
    let order = |to| Order { origin: "f", from: Some(Dialect::Ntp), to, name: "default" };
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
    ntp("discard", &[], &["left out: it does not say what it sets"]);
    ntp("limit average 0.25 burst 20 kod 0.5", &["interval = 2\nburst = 20"], &["note: kod"]);
    ntp("limit average 0.3", &[], &["left out: power of two"]);
    ntp("mru maxdepth 2000 maxmem 4", &["maxClients = 2000"], &["note: maxmem"]);
    ntp(
        "tos minsane 1 minclock 3 maxclock 9 ceiling 8",
        &["minSources = 1"],
        &["note: minclock", "note: maxclock", "left out: ceiling"],
    );
    ntp("tos minsane 0", &[], &["left out: minsane"]);
    ntp("tos maxdist 16", &["maxDistance = \"16s\""], &[]);
    ntp("tos maxdist 3 minsane 1", &["maxDistance = \"3s\"\nminSources = 1"], &[]);
    ntp("tos maxdist 20", &["maxDistance = \"16s\""], &["note: maxdist: 16s is the most"]);
    ntp("tos maxdist 0", &[], &["left out: maxdist: clock.maxDistance goes from 1ms to 16s"]);
    ntp("tos maxdist x", &[], &["left out: maxdist: what follows is no number"]);
    ntp(
        "tinker step 0.25 panic 60 stepout 900",
        &["threshold = \"250ms\"", "maxChange = \"60s\""],
        &["note: stepout"],
    );
    ntp("tinker step 0", &["limit = 0"], &["note: 0 is for never"]);
    ntp("tinker panic 0", &["maxChange = \"876000h\""], &["note: 0 is for no limit"]);
    ntp("tinker step -1", &[], &["left out: no number of seconds"]);
    ntp("tinker stepback 1", &[], &["left out: one threshold"]);
    ntp("disable monitor auth", &[], &["note: monitor", "note: auth"]);
    ntp("disable ntp", &["mode = \"Observe\""], &["note: not moved"]);
    ntp("enable bclient stats", &[], &["left out: bclient", "note: stats"]);
    ntp("keys /k", &[], &["note: no line uses a key"]);
    ntp("trustedkey 1 (3 ... 5)", &["keys = [\"key-1\", \"key-3\", \"key-4\", \"key-5\"]"], &[]);
    ntp("trustedkey (1...65535)", &[], &["left out: 16 keys at most"]);
    ntp("trustedkey a", &[], &["left out: no number of a key"]);
    ntp(
        "nts cert /c\nnts enable\nnts key /k\nnts cookie /o mintls TLS1.3",
        &["certificate = \"tls.crt\"\nprivateKey = \"tls.key\""],
        &["note: cookie", "note: mintls"],
    );
    ntp("nts cert /c", &[], &["note: without `nts enable`"]);
    ntp("interface listen eth0", &[], &["left out: on all addresses"]);
    ntp("listen on *", &[], &["left out: on all addresses"]);
    ntp("interface listen all", &[], &["note: it is so without it"]);
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
    ] {
        ntp(line, &[], &["note: "]);
    }
    for line in [
        "broadcast 192.0.2.255",
        "multicastclient",
        "includefile /x",
        "crypto pw x",
        "leapsmearinterval 9",
        "trap a",
        "setvar a=b",
        "dscp 46",
        "nonsense",
    ] {
        ntp(line, &[], &["left out: "]);
    }
}

#[test]
fn an_orphan_waits() {
    ntp("tos orphan 8 orphanwait 60", &["local = 8\norphan = true\nactivateAfter = \"60s\""], &[]);
    ntp("tos orphan 8\nserver 127.127.1.0", &["local = 8\norphan"], &["left out: another line says"]);
    chrony(
        "local stratum 8 orphan waitunsynced 60",
        &["local = 8\norphan = true\nactivateAfter = \"60s\""],
        &[],
    );
    ntp("tos orphanwait 60", &[], &["note: without orphan"]);
    ntp("tos orphan 16", &[], &["note: never"]);
    ntp("tos orphan 17", &[], &["left out: no stratum"]);
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
        &["note: public authorities"],
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
        &["left out: offset", "left out: offline"],
    );
    chrony(
        "refclock PHC /dev/ptp0:nocrossts poll 2 dpoll -2 refid X",
        &["device = \"/dev/ptp0\"\nminPoll = 2\nmaxPoll = 2"],
        &["note: dpoll", "note: refid"],
    );
    chrony("refclock PHC /dev/ptp0", &["device = \"/dev/ptp0\"\nmaxPoll = 4"], &[]);
    chrony("refclock PHC /dev/ptp0 tai", &[], &["left out: the whole upstream: tai"]);
    chrony("refclock PHC /dev/watchdog", &[], &["left out: the whole upstream, device"]);
    chrony("refclock SHM 0", &[], &["left out: the whole upstream"]);
}

#[test]
fn who_may_ask_chrony() {
    let list = |lines: &str| {
        let order = Order { origin: "f", from: Some(Dialect::Chrony), to: Target::Agent, name: "default" };
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
    chrony("allow host.example", &[], &["left out: neither an address nor a network"]);
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
    chrony("makestep 0.1 -1", &["threshold = \"100ms\""], &["left out: steps at any time"]);
    chrony("makestep 0.1", &[], &["left out: makestep"]);
    chrony("maxdistance 16.0", &["maxDistance = \"16s\""], &[]);
    chrony("maxdistance 0.5", &["maxDistance = \"500ms\""], &[]);
    chrony("maxdistance 30", &["maxDistance = \"16s\""], &["note: maxdistance: 16s is the most"]);
    chrony("maxdistance -1", &[], &["left out: maxdistance: what follows is no number"]);
    chrony("maxchange 10 1 2", &["maxChange = \"10s\""], &["note: clock.maxChange holds"]);
    chrony("maxslewrate 1000.5", &["maxSlewRate = 1000"], &["note: whole ppm"]);
    chrony("maxslewrate 1e9", &[], &["left out: 100000"]);
    chrony("minsources 1", &["minSources = 1"], &[]);
    chrony("leapsecmode slew", &["mode = \"Slew\""], &[]);
    chrony("leapsecmode none", &[], &["left out: none of"]);
    chrony("port 1123", &["port = 1123"], &[]);
    chrony("local stratum 8", &["local = 8"], &["note: chronyd serves its own clock at once"]);
    chrony("local stratum 8 waitunsynced 0", &["local = 8\nactivateAfter = \"0s\""], &[]);
    chrony("local distance 0.1", &["local = 10"], &["left out: distance", "note: chronyd serves"]);
    chrony("local stratum 0", &[], &["left out: from 1 to 15"]);
    chrony("rtcsync", &[], &[]);
    chrony("rtcdevice /dev/rtc1", &["rtcDevice = \"/dev/rtc1\""], &[]);
    chrony("keyfile /k", &[], &["left out: clients that ask with a key"]);
    chrony("authselectmode mix", &[], &["note: it is so"]);
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
    ] {
        chrony(line, &[], &["note: "]);
    }
    for line in [
        "confdir /c",
        "sourcedir /s",
        "include /i",
        "hwtimestamp *",
        "smoothtime 400 0.01",
        "bindaddress 192.0.2.7",
        "initstepslew 1 a",
        "acquisitionport 1",
        "rtcfile /r",
        "nonsense",
    ] {
        chrony(line, &[], &["left out: "]);
    }
}

#[test]
fn nothing_usable_is_an_error() {
    let error = |text: &str, from: Dialect| {
        convert(text, Order { origin: "f", from: Some(from), to: Target::Policy, name: "default" })
            .unwrap_err()
            .to_string()
    };
    assert!(error("driftfile /d", Dialect::Ntp).contains("needs an upstream"));
    let ignored = error("server 192.0.2.1\nrestrict default ignore", Dialect::Ntp);
    assert!(
        ignored
            .contains("f:1: left out: `server 192.0.2.1`: the whole upstream, server: 192.0.2.1 is covered"),
        "{ignored}"
    );
    let step = error("server 192.0.2.1\nmakestep 2000 3", Dialect::Chrony);
    assert!(step.contains("clock.step.threshold: 2000s is larger than clock.maxChange, 1000s"), "{step}");
    let impossible = error("server 192.0.2.1\nminsources 3", Dialect::Chrony);
    assert!(impossible.contains("clock.minSources: 3 can never agree"), "{impossible}");
}

#[test]
fn what_is_too_much_is_left_out() {
    let servers: String = (1..=18).map(|n| format!("server s{n}.example\n")).collect();
    let order = Order { origin: "f", from: Some(Dialect::Ntp), to: Target::Policy, name: "default" };
    let converted = convert(&servers, order).unwrap();
    assert_eq!(converted.output.matches("server: ").count(), 16);
    assert!(
        converted.messages.contains("f:17: left out: ") && converted.messages.contains("f:18: left out: ")
    );
}

#[test]
fn ignore_and_names_are_a_hint() {
    let messages = |lines: &str| {
        let order = Order { origin: "f", from: Some(Dialect::Ntp), to: Target::Agent, name: "default" };
        convert(&format!("server a.example\nrestrict default ignore\n{lines}"), order).unwrap().messages
    };
    assert!(messages("restrict 192.0.2.0 mask 255.255.255.0").contains("Those that are given by name"));
    assert!(!messages("restrict source").contains("Those that are given by name"));
}

/// Words that lead into every corner.
const KNOWN: &[&str] = &[
    "server",
    "pool",
    "peer",
    "refclock",
    "restrict",
    "unrestrict",
    "fudge",
    "tos",
    "tinker",
    "discard",
    "limit",
    "mru",
    "nts",
    "trustedkey",
    "keys",
    "enable",
    "disable",
    "interface",
    "crypto",
    "pw",
    "allow",
    "deny",
    "all",
    "makestep",
    "local",
    "ratelimit",
    "ntstrustedcerts",
    "ntsservercert",
    "keyfile",
    "rtcdevice",
    "default",
    "source",
    "mask",
    "127.127.1.0",
    "127.127.20.1",
    "192.0.2.1",
    "10.0.0.0/8",
    "255.255.0.0",
    "2001:db8::/32",
    "::1",
    "-4",
    "-6",
    "0/0",
    "a.example",
    "b.example",
    "iburst",
    "prefer",
    "noselect",
    "key",
    "minpoll",
    "maxpoll",
    "stratum",
    "orphan",
    "step",
    "panic",
    "average",
    "burst",
    "PHC",
    "/dev/ptp0",
    "tai",
    "#",
    "\"",
    "(",
    "...",
    ")",
    "0",
    "1",
    "5",
    "-1",
    "0.5",
    "99999999999",
    "ntpport",
    "ignore",
    "kod",
    "limited",
    "version",
    "port",
    "ca",
];

/// One of these, and some that lead nowhere.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => "-?[0-9]{1,20}(\\.[0-9]{1,12})?"]
}

fn text() -> impl Strategy<Value = String> {
    let line = prop::collection::vec(word(), 0..7).prop_map(|words| words.join(" "));
    prop_oneof![4 => prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n")), 1 => "(?s).{0,200}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_line_is_accounted_for(text in text(), is_ntp in any::<bool>(), to_policy in any::<bool>()) {
        let to = if to_policy { Target::Policy } else { Target::Agent };
        let mut draft = Draft::new(to);
        let lines = if is_ntp { lines::of_ntp(&text) } else { lines::of_chrony(&text) };
        match is_ntp {
            true => ntp_conf::read(&text, &mut draft),
            false => chrony_conf::read(&text, &mut draft),
        }
        draft.settle();
        let expected: std::collections::BTreeSet<_> = lines.iter().map(|line| line.number).collect();
        prop_assert_eq!(draft.accounted(), expected);
    }

    #[test]
    fn what_comes_out_can_run(text in text(), is_ntp in any::<bool>()) {
        let from = Some(if is_ntp { Dialect::Ntp } else { Dialect::Chrony });
        let agent = convert(&text, Order { origin: "f", from, to: Target::Agent, name: "default" });
        let policy = convert(&text, Order { origin: "f", from, to: Target::Policy, name: "default" });
        if let Ok(converted) = agent {
            let file: profile::AgentFile = toml::from_str(&converted.output).unwrap();
            prop_assert!(profile::check(&file.profile.unwrap()).is_ok());
        }
        if let Ok(converted) = policy {
            prop_assert!(serde_norway::from_str::<serde_norway::Value>(&converted.output).is_ok());
        }
    }
}
