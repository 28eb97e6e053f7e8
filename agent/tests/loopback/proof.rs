//! Keys and Network Time Security against chronyd and NTPsec's ntpd: what is accepted, and what is refused with which
//! words.
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use contract::{Report, SourceReport, SourceState};

use crate::{
    authority::{Authority, EXPIRED, TO_COME, VALID},
    bench::{Agent, Chronyd, Folder, Process, free_udp_port, harmless, unpacked, wait_for},
    relay::{Mode, Relay},
};

const KEYS: [(&str, &str); 7] = [
    ("1 MD5 ASCII:0123456789", "1 MD5 ASCII:0123456789"),
    ("2 SHA1 ASCII:0123456789abc", "2 SHA1 HEX:30313233343536373839616263"),
    ("3 SHA256 HEX:00112233445566778899", "3 SHA256 HEX:00112233445566778899"),
    ("4 SHA384 HEX:00112233445566778899", "4 SHA384 HEX:00112233445566778899"),
    ("5 SHA512 HEX:00112233445566778899", "5 SHA512 HEX:00112233445566778899"),
    ("6 AES128 HEX:00112233445566778899aabbccddeeff", "6 AES128 HEX:00112233445566778899AABBCCDDEEFF"),
    (
        "7 AES256 HEX:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "7 AES256 HEX:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    ),
];

/// An agent's file; keys are in the folder `keys` beside it.
fn file(folder: &Folder, upstreams: &[String]) -> String {
    let keys = folder.path().join("keys");
    fs::create_dir_all(&keys).unwrap();
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\nkeysDirectory = \"{}\"\n\
         [profile]\nmode = \"Observe\"\n[profile.serve]\nenabled = false\n{}",
        keys.display(),
        upstreams.concat()
    )
}

fn upstream(name: &str, server: &str, port: u16, proof: &str) -> String {
    format!(
        "[[profile.upstreams]]\nname = \"{name}\"\nserver = \"{server}\"\nport = {port}\niburst = true\n\
         minPoll = 0\nmaxPoll = 1\n{proof}\n"
    )
}

fn write_key(folder: &Folder, name: &str, text: &str) {
    fs::write(folder.path().join("keys").join(name), text).unwrap();
}

fn source(report: &Report, name: &str) -> SourceReport {
    report.sources.iter().find(|source| source.name == name).cloned().unwrap()
}

fn good(source: &SourceReport) -> bool {
    matches!(source.state, SourceState::Selected | SourceState::Combined)
}

fn wait_good(agent: &Agent, name: &str) {
    wait_for(&format!("{name} good: {:?}", agent.report().sources), || {
        agent.report().sources.iter().any(|source| source.name == name && good(source))
    });
}

fn wait_why(agent: &Agent, name: &str, why: &str) {
    let mut last = String::new();
    let told = || {
        // There is none before the engine's first look.
        let source = agent.report().sources.into_iter().find(|source| source.name == name);
        last = source.map(|source| source.message).unwrap_or_default();
        last.contains(why)
    };
    wait_for(&format!("{name} saying {why}"), told);
}

#[test]
fn chronyd_and_we_agree_on_every_kind_of_key() {
    let folder = Folder::new();
    let theirs: Vec<_> = KEYS.iter().map(|(theirs, _)| format!("{theirs}\n")).collect();
    let keys = folder.path().join("chrony.keys");
    fs::write(&keys, theirs.concat()).unwrap();
    let server = Chronyd::start_with(&folder, 3, &format!("keyfile {}\n", keys.display()));
    let names = ["1", "2", "3", "4", "5", "6", "7", "unknown", "bad", "late"];
    // One server may stand there once only, so each name gets a way to it of its own.
    let upstreams = names.map(|name| {
        let port = free_udp_port();
        Relay::start(address("127.0.0.1", port), address("127.0.0.1", server.port));
        upstream(name, "127.0.0.1", port, &format!("key = \"{name}\""))
    });
    let text = file(&folder, &upstreams);
    for (name, (_, ours)) in names.iter().zip(KEYS) {
        write_key(&folder, name, ours);
    }
    write_key(&folder, "unknown", "6 AES128 HEX:10112233445566778899aabbccddeeff");
    write_key(&folder, "bad", "# ours\n6 DES HEX:00");
    let agent = Agent::start(&folder, &text);
    for name in &names[..7] {
        wait_good(&agent, name);
    }
    wait_why(&agent, "unknown", "It does not answer: check the address, that the server has the same key");
    wait_why(&agent, "bad", "Key file bad: line 2: unknown type");
    wait_why(&agent, "late", "Key file late: No such file");
    assert_eq!(source(&agent.report(), "late").state, SourceState::Unusable);
    write_key(&folder, "late", KEYS[5].1);
    wait_good(&agent, "late");
    let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
    assert_eq!(log.matches("Key is weak").count(), 2, "MD5 and SHA1, each once:\n{log}");
}

#[test]
fn ntpd_and_we_agree_on_keys() {
    // NTPsec's ntpd listens on port 123 and on no other, so it and the agent get a network of their own.
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = format!(
        "tos orphan 1 orphanwait 1\nrestrict 127.0.0.0 mask 255.0.0.0\nkeys {}\ntrustedkey 1 2 3 6\n",
        at("ntp.keys")
    );
    fs::write(at("ntp.conf"), text).unwrap();
    let theirs = "1 MD5 0123456789\n2 SHA1 0123456789abc\n3 SHA256 00112233445566778899aabbccddeeff0011223344556677\n\
                  6 AES-128 00112233445566778899aabbccddeeff\n";
    fs::write(at("ntp.keys"), theirs).unwrap();
    let names = ["1", "2", "3", "6", "unknown"];
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.6", "127.0.0.9"];
    let key = |n: usize| upstream(names[n], addresses[n], 123, &format!("key = \"{}\"", names[n]));
    let upstreams = [0, 1, 2, 3, 4].map(key);
    let text = file(&folder, &upstreams);
    let text = text.replace("STATE", &at("state")).replace("HTTP", "127.0.0.1:9817");
    fs::write(at("agent.toml"), text).unwrap();
    for name in ["1", "2", "6"] {
        write_key(&folder, name, KEYS[name.parse::<usize>().unwrap() - 1].1);
    }
    write_key(&folder, "3", "3 SHA256 HEX:00112233445566778899aabbccddeeff0011223344556677");
    write_key(&folder, "unknown", "5 SHA512 HEX:00112233445566778899");
    let script = format!(
        "ip link set lo up || exit\nfor n in 2 3 6 9; do ip address add 127.0.0.$n/32 dev lo || exit; done\n{ntpd} -n -N -c {conf} > {log} 2>&1 &\n{agent} run --config {file} 2> {ours} &\n\
         while sleep 0.5; do {agent} sources --json --config {file} 2> {none}; echo; done",
        ntpd = unpacked("ntpsec", "usr/sbin/ntpd").display(),
        conf = at("ntp.conf"),
        log = at("ntpd.log"),
        agent = env!("CARGO_BIN_EXE_timesync-agent"),
        file = at("agent.toml"),
        ours = at("agent.log"),
        none = at("none"),
    );
    let mut child = harmless("unshare")
        .args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs Debian's package util-linux");
    // Read beside the test, so that silence ends the test and not its patience.
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line.unwrap_or_default())));
    let _process = Process(child);
    let mut last = String::new();
    wait_for("ntpd's answers believed", || {
        let line = lines.recv_timeout(Duration::from_secs(60));
        last = line.unwrap_or_else(|error| panic!("{error}; the last words were {last}"));
        let Ok(report) = serde_json::from_str::<Report>(&last) else { return false };
        // A report may come before the engine knows its upstreams.
        let is = |name: &str, so: &dyn Fn(&SourceReport) -> bool| {
            report.sources.iter().any(|source| source.name == name && so(source))
        };
        is("unknown", &|source| source.message.contains("that the server has the same key"))
            && names[..4].iter().all(|name| is(name, &good))
    });
}

#[test]
fn one_flipped_bit_and_a_reply_is_refused() {
    let folder = Folder::new();
    let keys = folder.path().join("chrony.keys");
    fs::write(&keys, KEYS[5].0).unwrap();
    let server = Chronyd::start_with(&folder, 3, &format!("keyfile {}\n", keys.display()));
    let port = free_udp_port();
    let relay = Relay::start(address("127.0.0.1", port), address("127.0.0.1", server.port));
    relay.set(Mode::Spoil);
    let text = file(&folder, &[upstream("a", "127.0.0.1", port, "key = \"k\"")]);
    write_key(&folder, "k", KEYS[5].1);
    let agent = Agent::start(&folder, &text);
    wait_why(&agent, "a", "Its answers fail authentication (key 6): ");
    wait_for("many spoiled", || source(&agent.report(), "a").rejected >= 10);
    let spoiled = source(&agent.report(), "a");
    assert_eq!((spoiled.state, spoiled.received), (SourceState::Unusable, 0));
    relay.set(Mode::Pass);
    wait_good(&agent, "a");
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A chronyd that does NTS, with a relay between it and its clients.
struct NtsServer {
    server: Chronyd,
    relay: Relay,
    exchange_port: u16,
    root: PathBuf,
}

impl NtsServer {
    fn start(folder: &Folder, subject: &str, years: (i32, i32)) -> Self {
        let authority = Authority::new(folder, "authority");
        let certificate = authority.certificate(subject, years);
        let exchange_port = free_udp_port();
        let lines = format!(
            "ntsservercert {}\nntsserverkey {}\nntsport {exchange_port}\nntsntpserver 127.0.0.2\n",
            certificate.chain.display(),
            certificate.key.display()
        );
        let server = Chronyd::start_with(folder, 3, &lines);
        // Who is asked comes from the exchange, port and address: so the relay is found by what is negotiated.
        let relay = Relay::start(address("127.0.0.2", server.port), address("127.0.0.1", server.port));
        Self { server, relay, exchange_port, root: authority.root() }
    }

    /// The same with keys for its cookies that are new.
    fn restart(&mut self) {
        self.server.restart();
    }

    fn upstream(&self, folder: &Folder, server: &str) -> String {
        fs::create_dir_all(folder.path().join("keys")).unwrap();
        fs::copy(&self.root, folder.path().join("keys/ca.pem")).unwrap();
        let proof = format!("nts = {{ ca = \"ca.pem\", port = {} }}", self.exchange_port);
        upstream("a", server, 123, &proof)
    }
}

/// The bodies of a datagram's extension fields of this type.
fn fields(datagram: &[u8], kind: u16) -> Vec<Vec<u8>> {
    let fields = ntp::extension::fields(datagram, ntp::packet::HEADER_LEN).flatten();
    fields.filter(|field| field.kind == kind).map(|field| field.body.to_vec()).collect()
}

#[test]
fn chronyd_and_we_agree_on_nts() {
    let folder = Folder::new();
    let server = NtsServer::start(&folder, "localhost", VALID);
    let agent = Agent::start(&folder, &file(&folder, &[server.upstream(&folder, "localhost")]));
    wait_good(&agent, "a");
    assert_eq!(source(&agent.report(), "a").address.as_deref(), Some("127.0.0.2"));

    server.relay.set(Mode::Lose);
    let lost = server.relay.seen().len();
    wait_for("three replies lost", || server.relay.seen().len() >= lost + 3);
    server.relay.set(Mode::Pass);
    let before = source(&agent.report(), "a").received;
    wait_for("answers again", || source(&agent.report(), "a").received >= before + 3);

    let seen = server.relay.seen();
    let mut cookies = BTreeSet::new();
    for (request, reply) in &seen {
        assert!(request.len() >= reply.len(), "{} then {}", request.len(), reply.len());
        let [cookie] = &fields(request, 0x0204)[..] else { panic!("one cookie in each request") };
        assert!(cookies.insert(cookie.clone()), "a cookie went over the wire twice");
    }
    let asked_for = seen.iter().map(|(request, _)| fields(request, 0x0304).len()).max();
    assert!(asked_for >= Some(3), "lost cookies are asked for: {asked_for:?}");
}

#[test]
fn used_up_cookies_and_lost_keys_lead_to_another_exchange() {
    let folder = Folder::new();
    let mut server = NtsServer::start(&folder, "localhost", VALID);
    let agent = Agent::start(&folder, &file(&folder, &[server.upstream(&folder, "localhost")]));
    wait_good(&agent, "a");
    let exchanges = || {
        let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
        log.matches("Keys exchanged").count()
    };
    assert_eq!(exchanges(), 1);

    server.relay.set(Mode::Lose);
    wait_for("an exchange when all cookies are lost", || exchanges() == 2);
    // While no answer comes: the reason is told until the first good one, and the next exchange ends it.
    server.restart();
    server.relay.set(Mode::Pass);
    wait_why(&agent, "a", "it can no longer decrypt this node's cookies (NTSN)");
    wait_for("an exchange when the server lost its keys", || exchanges() >= 3);
    wait_good(&agent, "a");

    server.relay.set(Mode::Spoil);
    let before = source(&agent.report(), "a");
    wait_for("spoiled replies refused", || source(&agent.report(), "a").rejected >= before.rejected + 8);
    let after = source(&agent.report(), "a");
    // One reply may have been on its way.
    assert!(after.received <= before.received + 1, "{} then {}", before.received, after.received);
}

#[test]
fn a_failed_key_exchange_says_why() {
    let check = |subjects: &str, dates, why: &str| {
        let folder = Folder::new();
        let nts = NtsServer::start(&folder, subjects, dates);
        let agent = Agent::start(&folder, &file(&folder, &[nts.upstream(&folder, "localhost")]));
        let port = nts.exchange_port;
        wait_why(&agent, "a", &format!("Key exchange with localhost (TCP port {port}): {why}."));
        assert_eq!(source(&agent.report(), "a").state, SourceState::Unusable);
        assert!(nts.relay.seen().is_empty(), "nothing is sent without keys");
    };
    check("ntp.example", VALID, "the certificate is for another name");
    check("127.0.0.1", VALID, "the certificate is for another name");
    check("localhost", EXPIRED, "the certificate has expired");
    check("localhost", TO_COME, "the certificate is not valid yet");
}

#[test]
fn who_is_not_trusted_not_there_or_not_nts_is_told_apart() {
    let folder = Folder::new();
    let nts = NtsServer::start(&folder, "localhost", VALID);
    let stranger = Authority::new(&folder, "stranger");
    // A UDP port each, of which none is ever asked: one server may stand there once only.
    let at = |name: &str, ca: &str, port| {
        upstream(name, "localhost", free_udp_port(), &format!("nts = {{ {ca}port = {port} }}"))
    };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free_udp_port();
    let upstreams = [
        at("stranger", "ca = \"other.pem\", ", nts.exchange_port),
        at("public", "", nts.exchange_port),
        at("closed", "", closed),
        at("silent", "", silent.local_addr().unwrap().port()),
        at("missing", "ca = \"none.pem\", ", nts.exchange_port),
    ];
    let text = file(&folder, &upstreams);
    fs::copy(stranger.root(), folder.path().join("keys/other.pem")).unwrap();
    let agent = Agent::start(&folder, &text);
    wait_why(&agent, "stranger", "the certificate is not signed by an authority that this node trusts");
    wait_why(&agent, "public", "the certificate is not signed by an authority that this node trusts");
    wait_why(&agent, "closed", "Connection refused");
    wait_why(&agent, "silent", "timed out");
    wait_why(&agent, "missing", "file none.pem: ");
}

#[test]
fn a_clock_that_is_known_to_be_wrong_does_not_judge_a_certificates_dates() {
    let folder = Folder::new();
    let nts = NtsServer::start(&folder, "localhost", EXPIRED);
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    // In 2100 it was right the last time, so it is wrong now.
    fs::write(state.join("time"), "4102444800000000000\n").unwrap();
    let text = file(&folder, &[nts.upstream(&folder, "localhost")]);
    let agent = Agent::start(&folder, &text);
    // Its answers are proven. One source alone does not set a clock back to before the saved time.
    wait_why(&agent, "a", "before the last one known to be right on this node");
    assert!(source(&agent.report(), "a").received >= 3);
    let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
    assert!(log.contains("a certificate's dates are not tested"), "{log}");
    assert_eq!(agent.stop(), 0);

    // Another name is another name at any time.
    let folder = Folder::new();
    let nts = NtsServer::start(&folder, "ntp.example", EXPIRED);
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/time"), "4102444800000000000\n").unwrap();
    let agent = Agent::start(&folder, &file(&folder, &[nts.upstream(&folder, "localhost")]));
    wait_why(&agent, "a", "the certificate is for another name");
}

#[test]
fn the_engine_alone_refuses_nts() {
    let folder = Folder::new();
    let text = file(&folder, &[upstream("a", "localhost", 123, "nts = {}")]);
    let (code, said) = Agent::fails_with(&folder, &text, &["--engine-only"]);
    assert!(code != 0 && said.contains("upstream a: nts needs a second thread"), "{code} {said}");
}
