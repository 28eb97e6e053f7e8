//! Why an upstream gives no time: real sockets, firewalls' answers and servers that misbehave, and what `sources`,
//! `status` and `query` say of each. A table of cause and words.
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
};

use contract::{Reason, SourceState, TransitionKind};

use crate::bench::{Agent, Folder, namespace::alone, wait_for};

/// What is done to an answer that would be good.
type Change = fn(&mut [u8; 48]);

/// A server on `address` whose answers are changed; it lives as long as the test's program.
fn serve(address: Ipv4Addr, change: Change) {
    let socket = UdpSocket::bind((address, 123)).unwrap();
    thread::spawn(move || {
        let mut request = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut request) {
            let now = now();
            let mut answer = [0; 48];
            (answer[0], answer[1], answer[2], answer[3]) = (4 << 3 | 4, 2, 6, 0xec);
            answer[12..16].copy_from_slice(b"TEST");
            answer[16..24].copy_from_slice(&(now - (1 << 32)).to_be_bytes());
            answer[24..32].copy_from_slice(&request[40..48]);
            answer[32..40].copy_from_slice(&now.to_be_bytes());
            answer[40..48].copy_from_slice(&now.to_be_bytes());
            change(&mut answer);
            socket.send_to(&answer, from).unwrap();
        }
    });
}

/// As a timestamp of NTP.
fn now() -> u64 {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap();
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    (since_1970.as_secs() + 2_208_988_800) << 32 | fraction
}

fn kiss(answer: &mut [u8; 48], code: [u8; 4]) {
    answer[0] |= 0xc0;
    answer[1] = 0;
    answer[12..16].copy_from_slice(&code);
    answer[32..48].fill(0);
}

/// Seconds, as root dispersion.
fn dispersion(answer: &mut [u8; 48], seconds: u8) {
    answer[8..12].copy_from_slice(&[0, seconds, 0, 0]);
}

/// Moves the transmit timestamp back. All its 32 bits of seconds take part: one byte alone would borrow from none.
fn sent_earlier(answer: &mut [u8; 48], seconds: u32) {
    let sent = u32::from_be_bytes([answer[40], answer[41], answer[42], answer[43]]);
    answer[40..44].copy_from_slice(&sent.wrapping_sub(seconds).to_be_bytes());
}

fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// The last octet of a server's address 127.0.0.x, its name, what it does, its state, and words that are said of it.
const SERVERS: [(u8, &str, Change, &str); 11] = [
    (2, "unsynchronised", |a| a[0] |= 0xc0, "It answers, but is not synchronised"),
    (3, "sixteen", |a| a[1] = 16, "It answers, but is not synchronised"),
    (4, "fifteen", |a| a[1] = 15, "Its stratum is 15, so this node would have 16"),
    (5, "rate", |a| kiss(a, *b"RATE"), "It answers RATE instead of the time"),
    (6, "deny", |a| kiss(a, *b"DENY"), "It refuses to serve this node (DENY)"),
    (7, "rstr", |a| kiss(a, *b"RSTR"), "It refuses to serve this node (RSTR)"),
    (
        8,
        "controller",
        |a| dispersion(a, 10),
        "Its root distance, up to 11s, is larger than clock.maxDistance, 1500ms",
    ),
    (9, "backwards", |a| sent_earlier(a, 9), "Its stamps run backwards"),
    (10, "init", |a| kiss(a, *b"INIT"), "It answers, but is not synchronised"),
    (11, "stray", |a| a[24] ^= 1, "none of them answers a request of this node"),
    (
        12,
        "silent",
        |_| thread::sleep(std::time::Duration::from_secs(3600)),
        "It does not answer: check the address",
    ),
];

/// Of upstreams without a server: name, address, words.
const OTHERS: [(&str, &str, &str); 6] = [
    (
        "closed",
        "127.0.0.13",
        "no program listens on UDP port 123 there, or a firewall rejects them (ECONNREFUSED)",
    ),
    ("forbidden", "192.0.2.1", "This node may not send to it: a firewall"),
    ("unreachable", "192.0.2.2", "This node has no route to it"),
    ("blackhole", "192.0.2.3", "This node has no route to it"),
    ("no-route", "198.51.100.1", "This node has no route to it"),
    ("ipv6", "2001:db8::1", "Its address is an IPv6 one, and this node has none"),
];

#[test]
fn each_cause_is_told_in_words() {
    alone(|| {
        ip("route add prohibit 192.0.2.1");
        ip("route add unreachable 192.0.2.2");
        ip("route add blackhole 192.0.2.3");
        for (octet, _, change, _) in SERVERS {
            serve(Ipv4Addr::new(127, 0, 0, octet), change);
        }
        let servers = SERVERS.map(|(octet, name, _, words)| (name, format!("127.0.0.{octet}"), words));
        let others = OTHERS.map(|(name, address, words)| (name, address.to_owned(), words));
        let all: Vec<_> = servers.into_iter().chain(others).collect();
        // A profile may name sixteen. Of the first nine something comes, of the others nothing that is the server's.
        let (answering, silent) = all.split_at(9);
        told(answering, Reason::NoUsableUpstream, "No upstream can be used. ");
        told(silent, Reason::Unreachable, "No upstream answers. ");
        for (_, address, words) in &all {
            let (code, said) = crate::bench::run(&["query", address]);
            // The limit of the distance is a profile's, and a query has none.
            let limitless = words.contains("clock.maxDistance");
            assert_eq!(code == 0, limitless, "{address}: {said}");
            assert!(limitless || said.contains(words), "{address}: {words} is not in {said}");
        }
    });
}

/// An agent with these upstreams: name, address, words.
fn told(upstreams: &[(&str, String, &str)], reason: Reason, sentence: &str) {
    let folder = Folder::new();
    let lines = upstreams.iter().map(|(name, address, _)| upstream(name, address));
    let agent = Agent::start(&folder, &(head() + &lines.collect::<String>()));
    for (name, _, words) in upstreams {
        let mut last = String::new();
        let said = || {
            let sources = agent.report().sources;
            last = sources.iter().find(|s| s.name == *name).map(|s| s.message.clone()).unwrap_or_default();
            last.contains(words)
        };
        wait_for(&format!("{name}: {words}"), said);
    }
    wait_for("the reason", || agent.report().clock.reason == reason);
    let (code, text) = agent.command(&["sources"]);
    assert!(code != 0 && upstreams.iter().all(|(.., words)| text.contains(words)), "{text}");
    let (code, text) = agent.command(&["status"]);
    assert!(code != 0 && text.contains(&format!("no ({sentence}")), "{text}");
    assert!(upstreams.iter().any(|(.., words)| text.contains(words)), "{text}");
    wait_for("the transition", || {
        let told = |kind| agent.report().transitions.iter().any(|told| told.kind == kind);
        assert!(!told(TransitionKind::UpstreamsReachable), "none was reached");
        told(TransitionKind::UpstreamsUnreachable)
    });
}

fn head() -> String {
    "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n[profile]\nmode = \"Observe\"\n\
     [profile.serve]\nenabled = false\n"
        .to_owned()
}

fn upstream(name: &str, address: &str) -> String {
    format!(
        "[[profile.upstreams]]\nname = \"{name}\"\nserver = \"{address}\"\niburst = true\nminPoll = 0\nmaxPoll = 2\n"
    )
}

#[test]
fn a_domain_controller_is_used_if_the_policy_says_so() {
    alone(|| {
        serve(Ipv4Addr::new(127, 0, 0, 8), |answer| dispersion(answer, 10));
        let folder = Folder::new();
        let text = format!(
            "{}{}[profile.clock]\nmaxDistance = \"16s\"\n",
            head(),
            upstream("dc", "127.0.0.8").replace("maxPoll = 2", "maxPoll = 1")
        );
        let agent = Agent::start(&folder, &text);
        wait_for("the error bound", || agent.report().clock.reason == Reason::ErrorBound);
        let message = agent.report().clock.message;
        assert!(message.contains("dc itself may be wrong by that much"), "{message}");
        assert!(message.contains("raise thresholds.errorBound"), "{message}");
        agent.rewrite(&format!("{text}[profile.thresholds]\nerrorBound = \"12s\"\n"));
        wait_for("synchronized", || agent.report().clock.synchronized);
    });
}

#[test]
fn what_the_own_access_list_drops_is_told() {
    alone(|| {
        serve(Ipv4Addr::new(127, 0, 0, 1), |_| ());
        let folder = Folder::new();
        // By name: an address under `ignore` would be refused at once.
        let text = head()
            + &upstream("a", "localhost")
            + "[[profile.restrict]]\nsource = \"127.0.0.0/8\"\nflags = [\"ignore\"]\n";
        let agent = Agent::start(&folder, &text);
        let dropped = || {
            let sources = agent.report().sources;
            sources.iter().any(|s| s.state == SourceState::Unusable && s.message.contains("flag ignore"))
        };
        wait_for("dropped answers told", dropped);
    });
}

#[test]
fn a_key_file_that_is_mended_is_not_called_wrong_any_more() {
    alone(|| {
        // There is no server, so that no good answer can end what was said before.
        let silent = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 123))).unwrap();
        let folder = Folder::new();
        let keys = folder.path().join("keys");
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("k"), "1 MD5\n").unwrap();
        let text = head().replace("[profile]", &format!("keysDirectory = \"{}\"\n[profile]", keys.display()))
            + &upstream("a", "127.0.0.1")
            + "key = \"k\"\n";
        let agent = Agent::start(&folder, &text);
        let message = || agent.report().sources.first().map(|s| s.message.clone()).unwrap_or_default();
        wait_for("the key's fault told", || message().contains("Key file k: line 1"));
        fs::write(keys.join("k"), "1 AES128 HEX:000102030405060708090a0b0c0d0e0f\n").unwrap();
        wait_for("silence told", || message().contains("that the server has the same key"));
        drop(silent);
    });
}
