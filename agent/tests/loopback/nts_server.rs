//! Network Time Security as the agent serves it: to chronyd, to NTPsec's ntpd and to another agent; over a change of
//! keys, between agents with the same ones, and while strangers do their worst.
use std::{
    fs, io,
    io::{Read, Write},
    net::{Ipv6Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use contract::{SourceState, TransitionKind};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    authority::{Authority, Certificate, VALID},
    bench::{
        Agent, Folder, Process, free_udp_port, harmless,
        namespace::{Neighbour, alone},
        unpacked, wait_for,
    },
    hostile::Crowd,
};

/// An agent that serves its own clock, with NTS.
struct Served {
    agent: Agent,
    port: u16,
    exchange_port: u16,
    text: String,
}

/// Two keys for cookies and a third, as lines of a file.
const KEYS: [&str; 3] = [
    "0000000a 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
    "0000000b 102132435465768798a9bacbdcedfe0f102132435465768798a9bacbdcedfe0f\n",
    "0000000c 2031425364758697a8b9cadbecfd0e1f2031425364758697a8b9cadbecfd0e1f\n",
];

impl Served {
    /// With keys of its own for cookies, or those in the file `cookies`.
    fn start(folder: &Folder, authority: &Authority, shared: bool) -> Self {
        Self::start_at(folder, authority, shared, (free_udp_port(), free_udp_port()))
    }

    /// At these ports: of time, and of the key exchange.
    fn start_at(
        folder: &Folder,
        authority: &Authority,
        shared: bool,
        (port, exchange_port): (u16, u16),
    ) -> Self {
        put(folder, &authority.certificate("localhost", VALID));
        let cookie_keys = if shared { "cookieKeys = \"cookies\"\n" } else { "" };
        let text = format!(
            "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\nkeysDirectory = \"{}\"\n\
             [profile]\nmode = \"Observe\"\nstratum = {{ local = 5, activateAfter = \"0s\" }}\n\
             [profile.serve]\nport = {port}\n[profile.serve.nts]\ncertificate = \"server.pem\"\n\
             privateKey = \"server.key\"\nport = {exchange_port}\n{cookie_keys}",
            keys(folder).display(),
        );
        let agent = Agent::start(folder, &text);
        Self { agent, port, exchange_port, text }
    }

    fn counted(&self, line: &str) -> u64 {
        let (_, metrics) = self.agent.get("/metrics", None);
        let value = metrics.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    fn answers(&self) -> u64 {
        self.counted("timesync_server_nts_answers_total")
    }

    fn kisses(&self) -> u64 {
        self.counted("timesync_server_nts_kisses_total")
    }

    fn exchanges(&self, result: &str) -> u64 {
        self.counted(&format!("timesync_server_key_exchanges_total{{result=\"{result}\"}}"))
    }

    fn wait_open(&self) {
        self.agent.wait_for_own_clock();
        wait_for("the key exchange's port", || TcpStream::connect(("127.0.0.1", self.exchange_port)).is_ok());
    }

    fn trouble(&self, word: &str) {
        let mut told = String::new();
        let says = || {
            told = self.agent.report().server.message;
            told.contains(word)
        };
        wait_for(&format!("trouble {word}"), says);
    }
}

fn keys(folder: &Folder) -> PathBuf {
    folder.path().join("keys")
}

/// Puts certificate and key where the agent looks for them.
fn put(folder: &Folder, certificate: &Certificate) {
    fs::create_dir_all(keys(folder)).unwrap();
    for (from, to) in [(&certificate.chain, "server.pem"), (&certificate.key, "server.key")] {
        let beside = keys(folder).join("new");
        fs::copy(from, &beside).unwrap();
        fs::rename(&beside, keys(folder).join(to)).unwrap();
    }
}

fn put_cookie_keys(folder: &Folder, lines: &[&str]) {
    fs::create_dir_all(keys(folder)).unwrap();
    let beside = keys(folder).join("new");
    fs::write(&beside, lines.concat()).unwrap();
    fs::rename(&beside, keys(folder).join("cookies")).unwrap();
}

/// chronyd that asks, sets no clock, and says in a log what it hears.
struct Client {
    folder: PathBuf,
    _process: Process,
}

impl Client {
    /// Asks every 250 ms.
    fn start(folder: &Folder, served: &Served, root: &Path) -> Self {
        Self::polling(-2, folder, served, root)
    }

    /// Asks every second: its 8 cookies last while an agent ends and another one starts.
    fn patient(folder: &Folder, served: &Served, root: &Path) -> Self {
        Self::polling(0, folder, served, root)
    }

    fn polling(exponent: i8, folder: &Folder, served: &Served, root: &Path) -> Self {
        let own = folder.path().join("client");
        fs::create_dir(&own).unwrap();
        let text = format!(
            "server localhost port {} nts ntsport {} minpoll {exponent} maxpoll {exponent} iburst\nport 0\ncmdport 0\nntstrustedcerts {}\npidfile {own}/pid\nlogdir {own}\nlog measurements\n\
             bindcmdaddress {own}/socket\n",
            served.port,
            served.exchange_port,
            root.display(),
            own = own.display(),
        );
        fs::write(own.join("chrony.conf"), text).unwrap();
        let log = fs::File::create(own.join("log")).unwrap();
        let process = harmless("/usr/sbin/chronyd")
            .args(["-4", "-x", "-U", "-u", "root", "-d", "-f"])
            .arg(own.join("chrony.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("these tests need Debian's package chrony");
        Self { folder: own, _process: Process(process) }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Answers that it believed: all tests passed.
    fn believed(&self) -> usize {
        self.text("measurements.log").lines().filter(|line| line.contains(" 111 111 ")).count()
    }

    fn wait_believed(&self, more: usize) {
        let before = self.believed();
        wait_for(&format!("{more} more answers believed:\n{}", self.text("log")), || {
            self.believed() >= before + more
        });
    }
}

#[test]
fn chronyd_believes_us_and_comes_back_after_a_restart_of_ours() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "authority");
    let mut served = Served::start(&folder, &authority, false);
    served.wait_open();
    let client = Client::patient(&folder, &served, &authority.root());
    client.wait_believed(12);
    wait_for("all counted", || served.answers() >= 12);
    assert_eq!((served.exchanges("done"), served.kisses()), (1, 0));
    let stored = folder.path().join("state/cookie_keys");
    assert_eq!(fs::metadata(&stored).unwrap().permissions().mode() & 0o777, 0o600);
    let report = served.agent.report().server;
    assert_eq!((report.serving, report.message.as_str()), (true, ""));

    let text = served.text.clone();
    let key = fs::read_to_string(&stored).unwrap();
    assert_eq!(served.agent.stop(), 0);
    served.agent = Agent::start(&folder, &text);
    client.wait_believed(4);
    assert_eq!((served.exchanges("done"), served.kisses()), (0, 0), "its cookies are still good");
    assert_eq!(fs::read_to_string(&stored).unwrap(), key);
    let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
    let secret = key.split_whitespace().last().unwrap();
    assert!(secret.len() == 64 && !log.contains(secret));

    // With the keys its cookies are gone, too: it is told, exchanges keys and goes on.
    assert_eq!(served.agent.stop(), 0);
    fs::remove_file(&stored).unwrap();
    served.agent = Agent::start(&folder, &text);
    wait_for("NTSN", || served.kisses() > 0);
    wait_for("another exchange", || served.exchanges("done") == 1);
    client.wait_believed(4);
}

#[test]
fn old_cookies_are_good_while_their_key_is_there() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "authority");
    put_cookie_keys(&folder, &KEYS[..1]);
    let served = Served::start(&folder, &authority, true);
    served.wait_open();
    let client = Client::start(&folder, &served, &authority.root());
    client.wait_believed(4);
    let changes = || {
        let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
        log.matches("Cookie keys changed").count()
    };

    // As the operator does it: second, then first, then alone.
    for (n, lines) in [[KEYS[0], KEYS[1]], [KEYS[1], KEYS[0]], [KEYS[1], "# gone"]].into_iter().enumerate() {
        put_cookie_keys(&folder, &lines);
        wait_for("the change", || changes() == n + 1);
        // All of its cookies are others now.
        client.wait_believed(12);
    }
    assert_eq!((served.exchanges("done"), served.kisses()), (1, 0));

    put_cookie_keys(&folder, &KEYS[2..]);
    wait_for("NTSN", || served.kisses() > 0);
    wait_for("another exchange", || served.exchanges("done") == 2);
    client.wait_believed(4);

    put_cookie_keys(&folder, &["0000000d 00\n"]);
    served.trouble("NtsCookieKeys: file cookies: line 1: must be 8 hexadecimal digits");
    client.wait_believed(4);
    let report = served.agent.report();
    assert!(report.server.serving, "what runs goes on");
    assert!(report.transitions.iter().any(|t| t.kind == TransitionKind::ServingFailed));
    put_cookie_keys(&folder, &KEYS[2..]);
    wait_for("no trouble", || served.agent.report().server.message.is_empty());
}

#[test]
fn agents_with_the_same_keys_take_each_others_cookies() {
    let (folder, other) = (Folder::new(), Folder::new());
    let authority = Authority::new(&folder, "authority");
    put_cookie_keys(&folder, &KEYS[..1]);
    put_cookie_keys(&other, &[KEYS[1], KEYS[0]]);
    let served = Served::start(&folder, &authority, true);
    served.wait_open();
    let client = Client::patient(&folder, &served, &authority.root());
    client.wait_believed(4);
    let ports = (served.port, served.exchange_port);
    assert_eq!(served.agent.stop(), 0);
    // Another one takes its place, as behind a name that stands for both.
    let served = Served::start_at(&other, &authority, true, ports);
    client.wait_believed(12);
    assert_eq!((served.exchanges("done"), served.kisses()), (0, 0));
}

#[test]
fn an_agent_follows_an_agent() {
    let (folder, other) = (Folder::new(), Folder::new());
    let authority = Authority::new(&folder, "authority");
    let served = Served::start(&folder, &authority, false);
    served.wait_open();
    // Who is not authenticated gets nothing there.
    let before = served.agent.report().profile;
    served.agent.rewrite(&format!(
        "{}[[profile.restrict]]\nsource = \"default\"\nflags = [\"notrust\"]\n",
        served.text
    ));
    wait_for("the stricter profile", || served.agent.report().profile != before);
    fs::create_dir_all(keys(&other)).unwrap();
    fs::copy(authority.root(), keys(&other).join("ca.pem")).unwrap();
    let upstream = |name: &str, more: &str| {
        format!(
            "[[profile.upstreams]]\nname = \"{name}\"\nserver = \"localhost\"\nport = {}\niburst = true\n\
             minPoll = 0\nmaxPoll = 0\n{more}\n",
            served.port
        )
    };
    let with = upstream("with", &format!("nts = {{ ca = \"ca.pem\", port = {} }}", served.exchange_port));
    let without = upstream("without", "").replace("localhost", "127.0.0.2");
    let text = format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\nkeysDirectory = \"{}\"\n\
         [profile]\nmode = \"Observe\"\nserve.enabled = false\n{with}{without}",
        keys(&other).display()
    );
    let client = Agent::start(&other, &text);
    // None before the engine knows its upstreams.
    let source = |name: &str| client.report().sources.into_iter().find(|source| source.name == name);
    wait_for("the proven one followed", || {
        source("with").is_some_and(|source| source.state == SourceState::Selected)
    });
    wait_for("the other one unanswered", || source("without").is_some_and(|source| source.sent >= 8));
    assert_eq!(source("without").unwrap().received, 0);
    let refused = || served.counted("timesync_server_dropped_total{reason=\"unauthenticated\"}");
    wait_for("drops counted", || refused() >= 8);
    assert_eq!((source("with").unwrap().rejected, served.kisses()), (0, 0));
}

#[test]
fn ntpd_believes_us() {
    alone(|| {
        let folder = Folder::new();
        let authority = Authority::new(&folder, "authority");
        // It wants port 123 for itself, so it looks on from next door.
        let neighbour = Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        let served = Served::start_at(&folder, &authority, false, (123, 4460));
        served.wait_open();
        let file = folder.path().join("ntp.conf");
        let text = "server 192.0.2.1 nts noval iburst minpoll 0 maxpoll 1\ndisable ntp\nrestrict 127.0.0.1\n";
        fs::write(&file, text).unwrap();
        let log = folder.path().join("ntpd.log");
        let mut daemon = neighbour.command(unpacked("ntpsec", "usr/sbin/ntpd").to_str().unwrap());
        daemon.args(["-n", "-N", "-d", "-c", file.to_str().unwrap()]).stdout(fs::File::create(&log).unwrap());
        let _daemon = Process(
            daemon.stderr(fs::File::create(folder.path().join("ntpd.err")).unwrap()).spawn().unwrap(),
        );
        wait_for("ntpd's requests answered", || served.answers() >= 12);
        assert_eq!((served.exchanges("done"), served.kisses()), (1, 0));
    });
}

/// A key exchange of the test's own, in which anything can be said.
struct Exchange(StreamOwned<ClientConnection, TcpStream>);

impl Exchange {
    fn start(served: &Served, root: &Path, alpn: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", served.exchange_port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let name = "localhost".try_into().unwrap();
        Self(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream))
    }

    /// Says this, each part in a TLS record of its own, and hears the answer.
    fn say(mut self, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        for part in parts {
            self.0.write_all(part)?;
            self.0.flush()?;
        }
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

const NTS: &[&[u8]] = &[b"ntske/1"];

#[test]
fn strangers_get_what_they_are_due_and_keep_nobody_away() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "authority");
    let served = Served::start(&folder, &authority, false);
    served.wait_open();
    wait_for("the first connection's end", || served.exchanges("failed") == 1);
    let root = authority.root();
    let say = |parts: &[&[u8]]| Exchange::start(&served, &root, NTS).say(parts);

    // Every octet in a record of its own is as good.
    let offer = ntp::key_exchange::request();
    let octets: Vec<_> = offer.iter().map(std::slice::from_ref).collect();
    let answer = say(&octets).unwrap();
    let established = ntp::key_exchange::read(&answer).unwrap().unwrap();
    assert_eq!((established.cookies.len(), established.port), (8, Some(served.port)));

    let check = |said: &[u8], error: u16| {
        let refusal = ntp::key_exchange::read(&say(&[said]).unwrap());
        assert_eq!(refusal, Err(ntp::key_exchange::Error::Refused(error)), "{said:?}");
    };
    check(&[0x80, 99, 0, 0], 0);
    check(&[0x80, 0, 0, 0], 1);
    check(&[&offer[..6], &offer[..]].concat(), 1);
    // Sixteen kilooctets of records that are to be ignored, and no end.
    let endless = [&[0, 99, 0x10, 0][..], &[0; 4096]].concat().repeat(5);
    assert!(say(&[&endless]).is_ok_and(|answer| answer.is_empty()) || say(&[&endless]).is_err());
    assert!(say(&[&offer[..9]]).is_err(), "half a request, and silence");
    assert!(Exchange::start(&served, &root, &[b"h2"]).say(&[&offer]).is_err());
    assert!(Exchange::start(&served, &root, &[]).say(&[&offer]).is_err());
    let mut plain = TcpStream::connect(("127.0.0.1", served.exchange_port)).unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    assert_eq!(served.exchanges("done"), 1);

    // Many connections on which nothing is said: another address is served meanwhile.
    let silent: Vec<_> =
        (0..40).map(|_| TcpStream::connect((Ipv6Addr::LOCALHOST, served.exchange_port)).unwrap()).collect();
    wait_for("most of them closed", || served.exchanges("evicted") >= 24);
    let before = served.exchanges("failed");
    let client = Client::start(&folder, &served, &root);
    client.wait_believed(4);
    wait_for("the others ended", || served.exchanges("failed") >= before + 16);
    drop(silent);

    served
        .agent
        .rewrite(&format!("{}[[profile.restrict]]\nsource = \"::1\"\nflags = [\"noserve\"]\n", served.text));
    let before = served.exchanges("refused");
    wait_for("an address that is not served", || {
        let _ = TcpStream::connect((Ipv6Addr::LOCALHOST, served.exchange_port)).unwrap().read(&mut [0]);
        served.exchanges("refused") > before
    });
    let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
    assert!(!log.contains("Key exchange failed") && log.lines().count() < 40, "{log}");
}

/// Few addresses with many connections, and many with few: more than there are places, and each opened again at once.
#[test]
fn a_crowd_of_idle_connections_keeps_no_client_away() {
    alone(|| {
        let folder = Folder::new();
        let authority = Authority::new(&folder, "authority");
        let served = Served::start(&folder, &authority, false);
        served.wait_open();
        let offer = ntp::key_exchange::request();
        let asked = |times: usize| {
            let ask = || Exchange::start(&served, &authority.root(), NTS).say(&[&offer]);
            (0..times).filter(|_| ask().is_ok_and(|answer| answer.len() > 800)).count()
        };
        assert_eq!(asked(2), 2);
        for (addresses, each) in [(6, 50), (100, 10)] {
            let _crowd = Crowd::new(addresses, each, served.exchange_port);
            let good = asked(20);
            assert!(good >= 19, "{addresses} addresses with {each} connections each: {good} of 20");
        }
        assert!(served.exchanges("evicted") > 100);
    });
}

#[test]
fn what_is_amiss_is_told_and_plain_time_goes_on() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "authority");
    let exchange_port = free_udp_port();
    let holder = TcpListener::bind(("0.0.0.0", exchange_port)).unwrap();
    let served = Served::start_at(&folder, &authority, true, (free_udp_port(), exchange_port));
    served.trouble("NtsCookieKeys: ");
    served.agent.wait_for_own_clock();
    put_cookie_keys(&folder, &KEYS[..1]);
    served.trouble(&format!("NtsPortTaken: TCP port {exchange_port}: "));
    let plain = || {
        let (code, said) = served.agent.run(&["query", &format!("127.0.0.1:{}", served.port)]);
        assert!(code == 0 && served.agent.report().server.serving, "{said}");
    };
    plain();
    drop(holder);
    wait_for("no trouble", || served.agent.report().server.message.is_empty());
    served.wait_open();
    let offer = ntp::key_exchange::request();
    let ask = |root: &Path| Exchange::start(&served, root, NTS).say(&[&offer]);
    assert!(ask(&authority.root()).is_ok());
    let end = || served.counted("timesync_tls_certificate_not_after_timestamp_seconds");
    wait_for("the certificate's end in the metrics", || end() == 3_786_912_000);

    // A certificate of another authority, as it is renewed: certificate first, and its key a moment later.
    let another = Authority::new(&folder, "another");
    let certificate = another.certificate("localhost", (VALID.0, 2085));
    let chain = keys(&folder).join("server.pem");
    fs::copy(&certificate.chain, &chain).unwrap();
    served.trouble("NtsCertificate: certificate and private key: ");
    assert!(ask(&authority.root()).is_ok(), "the one before is served on");
    assert_eq!(end(), 3_786_912_000);
    put(&folder, &certificate);
    wait_for("the new certificate", || ask(&another.root()).is_ok());
    assert!(ask(&authority.root()).is_err());
    wait_for("its end in the metrics", || end() == 3_629_145_600);
    wait_for("no trouble", || served.agent.report().server.message.is_empty());

    fs::write(&chain, "no certificate").unwrap();
    served.trouble("NtsCertificate: file server.pem holds no certificate");
    fs::remove_file(&chain).unwrap();
    served.trouble("NtsCertificate: file server.pem: No such file");
    plain();

    // No longer wanted: the port is closed.
    let text = &served.text[..served.text.find("[profile.serve.nts]").unwrap()];
    served.agent.rewrite(text);
    wait_for("the port closed", || TcpStream::connect(("127.0.0.1", exchange_port)).is_err());
    wait_for("no trouble", || served.agent.report().server.message.is_empty());
    wait_for("no certificate in the metrics", || end() == 0);
}

#[test]
fn the_engine_alone_refuses_to_serve_nts() {
    let folder = Folder::new();
    let text = "[agent]\nstateDirectory = \"STATE\"\n[profile]\nmode = \"Observe\"\nstratum = { local = 5, activateAfter = \"0s\" }\n\
                [profile.serve.nts]\ncertificate = \"a\"\nprivateKey = \"b\"\n";
    let (code, said) = Agent::fails_with(&folder, text, &["--engine-only"]);
    assert!(code != 0 && said.contains("serve.nts needs a second thread"), "{code} {said}");
}
