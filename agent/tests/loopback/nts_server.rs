//! Network Time Security as the agent serves it: to chronyd, to NTPsec's ntpd and to another agent; over a change of
//! keys, between agents with the same ones, and while strangers do their worst.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use contract::SourceState;

use crate::{
    authority::{Authority, Certificate, VALID},
    bench::{Agent, Folder, Process, free_udp_port, harmless, wait_for},
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
        Self::start_at(folder, authority, shared, free_udp_port())
    }

    fn start_at(folder: &Folder, authority: &Authority, shared: bool, exchange_port: u16) -> Self {
        put(folder, &authority.certificate("DNS:localhost", VALID));
        let port = free_udp_port();
        let cookie_keys = if shared { "cookie_keys = \"cookies\"\n" } else { "" };
        let text = format!(
            "[agent]\nstate_directory = \"STATE\"\nhttp_address = \"HTTP\"\nkeys_directory = \"{}\"\n\
             [profile]\nmode = \"Observe\"\nstratum.local = 5\n\
             [profile.serve]\nport = {port}\n[profile.serve.nts]\ncertificate = \"server.pem\"\n\
             private_key = \"server.key\"\nport = {exchange_port}\n{cookie_keys}",
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
    fn start(folder: &Folder, name: &str, servers: &[&Served], root: &Path) -> Self {
        let own = folder.path().join(name);
        fs::create_dir(&own).unwrap();
        let line = |served: &&Served| {
            format!(
                "server localhost port {} nts ntsport {} minpoll -2 maxpoll -2 iburst\n",
                served.port, served.exchange_port
            )
        };
        let servers: String = servers.iter().map(line).collect();
        let text = format!(
            "{servers}port 0\ncmdport 0\nntstrustedcerts {}\npidfile {own}/pid\nlogdir {own}\nlog measurements\n\
             bindcmdaddress {own}/socket\n",
            root.display(),
            own = own.display(),
        );
        fs::write(own.join("chrony.conf"), text).unwrap();
        let log = fs::File::create(own.join("log")).unwrap();
        let process = harmless("/usr/sbin/chronyd")
            .args(["-x", "-U", "-u", "root", "-d", "-f"])
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
    let client = Client::start(&folder, "client", &[&served], &authority.root());
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
