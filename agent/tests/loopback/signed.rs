//! Shared keys on the server's side: chronyd, NTPsec's ntpdig and ntpd, and our own client ask an agent that answers
//! nobody without one.
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use contract::SourceState;

use crate::{
    bench::{
        Agent, Folder, Process, free_udp_port, harmless,
        namespace::{Neighbour, alone},
        unpacked, wait_for,
    },
    files,
};

const HEX: &str = "00112233445566778899aabbccddeeff";

/// Types of key as chrony and we name them, with what stands behind the type; the number is the place, from 1.
fn keys() -> [(&'static str, String); 7] {
    [
        ("MD5", "ASCII:0123456789".to_owned()),
        ("SHA1", "HEX:30313233343536373839616263".to_owned()),
        ("SHA256", format!("HEX:{HEX}")),
        ("SHA384", format!("HEX:{HEX}")),
        ("SHA512", format!("HEX:{HEX}")),
        ("AES128", format!("HEX:{HEX}")),
        ("AES256", format!("HEX:{HEX}{HEX}")),
    ]
}

/// An agent that serves its own clock on `port`, to who knows one of the keys above. A file for each in the folder
/// `keys`.
fn agent(folder: &Folder, port: u16) -> Agent {
    let directory = folder.path().join("keys");
    fs::create_dir(&directory).unwrap();
    let mut names = Vec::new();
    for (number, (kind, secret)) in (1..).zip(keys()) {
        fs::write(directory.join(format!("k{number}")), format!("{number} {kind} {secret}\n")).unwrap();
        names.push(format!("\"k{number}\""));
    }
    let text = files::serving_own_clock(port)
        .replace("[profile]\n", &format!("keysDirectory = \"{}\"\n[profile]\n", directory.display()));
    let restrict = "[[profile.restrict]]\nsource = \"default\"\nflags = [\"notrust\", \"noquery\"]\n";
    let agent = Agent::start(folder, &format!("{text}keys = [{}]\n{restrict}", names.join(", ")));
    agent.wait_for_own_clock();
    agent
}

fn unauthenticated(agent: &Agent) -> u64 {
    let (_, metrics) = agent.get("/metrics", None);
    let line = "timesync_server_dropped_total{reason=\"unauthenticated\"} ";
    metrics.lines().find_map(|l| l.strip_prefix(line)).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// A chronyd that asks until it knows the time, then ends well; or ends ill after some seconds.
struct Asking {
    what: String,
    child: Process,
}

fn chronyd(folder: &Folder, port: u16, what: &str, keys: &str, options: &str, patience: &str) -> Asking {
    let at = |ending: &str| folder.path().join(format!("{what}.{ending}"));
    fs::write(at("keys"), keys).unwrap();
    let lines = [
        format!("pidfile {}", at("pid").display()),
        format!("keyfile {}", at("keys").display()),
        format!("server 127.0.0.1 port {port} iburst maxsamples 4 {options}"),
    ];
    let child: Child = harmless("/usr/sbin/chronyd")
        .args(["-Q", "-U", "-u", "root", "-t", patience])
        .args(lines)
        .stdout(fs::File::create(at("out")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs Debian's package chrony");
    Asking { what: what.to_owned(), child: Process(child) }
}

impl Asking {
    fn succeeds(mut self) -> bool {
        let mut ended = None;
        wait_for(&format!("the end of chronyd {}", self.what), || {
            ended = self.child.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().success()
    }
}

#[test]
fn chronyd_gets_answers_made_with_its_key_and_else_none() {
    let (folder, port) = (Folder::new(), free_udp_port());
    let agent = agent(&folder, port);
    let mut good = Vec::new();
    for (number, (kind, secret)) in (1..).zip(keys()) {
        // Version 3 holds a digest whole, version 4 at most 20 octets of it; chronyd chooses if nothing is said.
        for (name, version) in [("3", "version 3"), ("4", "version 4"), ("any", "")] {
            let line = format!("{number} {kind} {secret}\n");
            let (what, options) = (format!("{kind}-{name}"), format!("key {number} {version}"));
            good.push(chronyd(&folder, port, &what, &line, &options, "40"));
        }
    }
    for asking in good {
        let what = asking.what.clone();
        assert!(asking.succeeds(), "chronyd {what} was not answered");
    }
    assert_eq!(unauthenticated(&agent), 0);
    let silence = [
        ("none", String::new(), ""),
        ("wrong", format!("6 AES128 HEX:{}\n", HEX.replace("ff", "fe")), "key 6"),
        ("kind", format!("6 SHA1 HEX:{HEX}\n"), "key 6"),
        ("number", format!("9 AES128 HEX:{HEX}\n"), "key 9"),
    ];
    let asking = silence.map(|(what, line, options)| chronyd(&folder, port, what, &line, options, "5"));
    wait_for("all four refused", || unauthenticated(&agent) >= 4);
    // By now the others' last answers are counted, too.
    let answered = agent.report().server.answered;
    assert!(answered >= 7 * 3, "{answered}");
    for asking in asking {
        let what = asking.what.clone();
        assert!(!asking.succeeds(), "chronyd {what} was answered");
    }
    assert_eq!(agent.report().server.answered, answered);
}

/// Says whether the reply was accepted.
fn ntpdig(folder: &Folder, line: &str, number: u32) -> bool {
    let file: PathBuf = folder.path().join("ntpdig.keys");
    fs::write(&file, line).unwrap();
    let mut command = harmless("ntpdig");
    command.args(["-t", "2", "-a", &number.to_string(), "-k", file.to_str().unwrap(), "127.0.0.1"]);
    let output = command.output().expect("this test needs Debian's package ntpsec-ntpdig");
    String::from_utf8_lossy(&output.stdout).contains("s5 no-leap")
}

#[test]
fn ntpdig_and_ntpd_ask_with_keys_and_a_changed_file_counts() {
    alone(|| {
        let folder = Folder::new();
        let agent = agent(&folder, 123);
        let line = |secret: &str| format!("6 AES-128 {secret}\n");
        assert!(ntpdig(&folder, "1 MD5 0123456789\n", 1));
        assert!(ntpdig(&folder, &line(HEX), 6));

        let other = HEX.replace("00", "a5");
        assert!(!ntpdig(&folder, &line(&other), 6));
        let file = folder.path().join("keys/k6");
        fs::write(&file, format!("6 AES128 HEX:{other}\n")).unwrap();
        wait_for("the changed key", || ntpdig(&folder, &line(&other), 6));
        assert!(!ntpdig(&folder, &line(HEX), 6));

        fs::remove_file(&file).unwrap();
        wait_for("the lost key told", || agent.report().server.message.contains("key file k6: No such file"));
        assert!(agent.report().server.serving && !ntpdig(&folder, &line(&other), 6));
        fs::write(&file, format!("1 AES128 HEX:{other}\n")).unwrap();
        let twice = "key file k6: key 1 is in k1 as well, and that one counts";
        wait_for("two of a number told", || agent.report().server.message == twice);
        assert!(ntpdig(&folder, "1 MD5 0123456789\n", 1));
        fs::write(&file, format!("6 AES128 HEX:{HEX}\n")).unwrap();
        wait_for("nothing to tell", || agent.report().server.message.is_empty());

        let neighbour = Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("ntp.keys"), line(HEX)).unwrap();
        let text = format!(
            "server 192.0.2.1 key 6 iburst minpoll 0 maxpoll 2\nkeys {}\ntrustedkey 6\ndisable ntp\nrestrict 127.0.0.1\n",
            at("ntp.keys")
        );
        fs::write(at("ntp.conf"), text).unwrap();
        let mut ntpd: Command = neighbour.command(unpacked("ntpsec", "usr/sbin/ntpd").to_str().unwrap());
        ntpd.args(["-n", "-c", &at("ntp.conf")]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ntpd = Process(ntpd.spawn().unwrap());
        let mut said = String::new();
        wait_for("ntpd follows", || {
            let mut ntpq = neighbour.command(unpacked("ntpsec", "usr/bin/ntpq").to_str().unwrap());
            let output = ntpq.args(["-pn", "127.0.0.1"]).output().unwrap();
            said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            said.contains("*192.0.2.1")
        });
    });
}

#[test]
fn our_client_and_our_server_agree_on_keys() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let port = free_udp_port();
    let _server = agent(&ours, port);
    let keys = ours.path().join("keys");
    let upstream = |name: &str| {
        let key = if name == "none" { String::new() } else { format!("key = \"{name}\"\n") };
        format!(
            "[[profile.upstreams]]\nname = \"{name}\"\nserver = \"127.0.0.{}\"\nport = {port}\niburst = true\n\
             minPoll = 0\nmaxPoll = 1\n{key}",
            if name == "none" { "9" } else { &name[1..] }
        )
    };
    let names = ["k1", "k2", "k3", "k4", "k5", "k6", "k7"];
    let text = format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\nkeysDirectory = \"{}\"\n\
         [profile]\nmode = \"Observe\"\n[profile.serve]\nenabled = false\n{}{}",
        keys.display(),
        names.map(upstream).concat(),
        upstream("none")
    );
    let client = Agent::start(&theirs, &text);
    wait_for("all followed but one", || {
        let good = |state| matches!(state, SourceState::Selected | SourceState::Combined);
        let sources = client.report().sources;
        sources.iter().filter(|source| good(source.state)).count() == names.len()
    });
    let sources = client.report().sources;
    let none = sources.iter().find(|source| source.name == "none").unwrap();
    assert_eq!(none.received, 0, "{none:?}");
}
