//! Debian's own ntpq and ntpstat ask the agent on port 123, in a network of the test's own: its upstreams are next door.
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use contract::{Report, SourceReport};

use crate::bench::{Agent, Folder, Process, harmless, namespace, unpacked, wait_for};

/// Four upstreams next door: two good ones, one that is 5 s ahead, and an address that nobody has.
struct Upstreams {
    _servers: [Process; 3],
    _neighbour: namespace::Neighbour,
}

const GOOD: [&str; 2] = ["192.0.2.11", "192.0.2.12"];
const LIAR: &str = "192.0.2.13";
const NOBODY: &str = "192.0.2.14";

/// What the liar is ahead by, milliseconds.
const LIE: f64 = 5000.0;

impl Upstreams {
    fn start(folder: &Folder) -> Self {
        let neighbour = namespace::Neighbour::new("upstreams", "192.0.2.1/24", "192.0.2.2/24");
        for address in [GOOD[0], GOOD[1], LIAR] {
            let mut ip = neighbour.command("ip");
            assert!(
                ip.args(["addr", "add", &format!("{address}/24"), "dev", "eth0"]).status().unwrap().success()
            );
        }
        let good = GOOD.map(|address| {
            let file = folder.path().join(address);
            let text = format!(
                "bindaddress {address}\ncmdport 0\nallow\nlocal stratum 2\npidfile {}.pid\n",
                file.display()
            );
            fs::write(&file, text).unwrap();
            let mut chronyd = neighbour.command("/usr/sbin/chronyd");
            chronyd.args(["-x", "-U", "-u", "root", "-d", "-f"]).arg(&file);
            quiet(chronyd)
        });
        let [first, second] = good;
        let mut liar = neighbour.command("/usr/bin/python3");
        liar.args(["-c", LIAR_PROGRAM, LIAR]);
        Self { _servers: [first, second, quiet(liar)], _neighbour: neighbour }
    }
}

/// A server of stratum 1 that is ahead.
const LIAR_PROGRAM: &str = "
import socket, struct, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 123))
while True:
    asked, client = server.recvfrom(1024)
    now = int((time.time() + 2208988800 + 5) * 2**32)
    head = struct.pack('>BBbb2L4s', 0x24, 1, 2, -20, 0, 64, b'GPS')
    server.sendto(head + struct.pack('>Q', now) + asked[40:48] + struct.pack('>QQ', now, now), client)
";

fn quiet(mut command: Command) -> Process {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Process(child.expect("these tests need Debian's packages chrony and python3-ntp"))
}

/// The agent's file: all four, asked as quickly as may be; `more` goes into the profile.
fn file(more: &str) -> String {
    let upstreams = GOOD.into_iter().chain([LIAR, NOBODY]).map(|address| {
        format!(
            "[[profile.upstreams]]\nname = \"{address}\"\nserver = \"{address}\"\niburst = true\n\
             min_poll = 0\nmax_poll = 2\n"
        )
    });
    format!(
        "[agent]\nstate_directory = \"STATE\"\nhttp_address = \"HTTP\"\n[profile]\nmode = \"Observe\"\n{}{more}",
        upstreams.collect::<String>()
    )
}

fn ntpq() -> PathBuf {
    unpacked("ntpsec", "usr/bin/ntpq")
}

/// What ntpq prints; it must not stumble.
fn asked(words: &[&str]) -> String {
    let output = harmless(ntpq().to_str().unwrap()).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let stumbles = ["Traceback", "???", "Unknown variable", "***", "timed out"];
    let stumble = stumbles.into_iter().find(|stumble| text.contains(stumble));
    assert!(output.status.success() && stumble.is_none(), "ntpq {words:?}: {stumble:?}\n{text}");
    text
}

/// ntpstat's exit code and lines.
fn ntpstat() -> (i32, Vec<String>) {
    let output = harmless("ntpstat").output().expect("this test needs Debian's package ntpstat");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text.lines().map(|line| line.trim().to_owned()).collect())
}

/// A line of `ntpq -pn`.
#[derive(Debug)]
struct Line {
    tally: char,
    remote: String,
    refid: String,
    stratum: u8,
    kind: String,
    when: String,
    poll: u32,
    reach: u8,
    delay: f64,
    offset: f64,
    jitter: f64,
}

fn billboard() -> Vec<Line> {
    let text = asked(&["-pn"]);
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header.join(" "), "remote refid st t when poll reach delay offset jitter");
    let line = |line: &str| {
        let mut fields = line[1..].split_whitespace();
        let mut next = || fields.next().unwrap_or_else(|| panic!("too few columns: {line}")).to_owned();
        Line {
            tally: line.chars().next().unwrap(),
            remote: next(),
            refid: next(),
            stratum: next().parse().unwrap(),
            kind: next(),
            when: next(),
            poll: next().parse().unwrap(),
            reach: u8::from_str_radix(&next(), 8).unwrap(),
            delay: next().parse().unwrap(),
            offset: next().parse().unwrap(),
            jitter: next().parse().unwrap(),
        }
    };
    lines.filter(|line| !line.starts_with('=')).map(line).collect()
}

/// The session that a user of ntpd knows, with an agent that has these four upstreams from whatever file.
fn replay(agent: &Agent) {
    let tallies = || billboard().iter().map(|line| line.tally).collect::<String>();
    wait_for("both good ones, and the liar known", || {
        let tallies = tallies();
        agent.report().clock.synchronized && (tallies == "*+x " || tallies == "+*x ")
    });
    let lines = billboard();
    println!("{lines:#?}");
    let remotes: Vec<_> = lines.iter().map(|line| line.remote.as_str()).collect();
    assert_eq!(remotes, [GOOD[0], GOOD[1], LIAR, NOBODY]);
    let refids: Vec<_> = lines.iter().map(|line| line.refid.as_str()).collect();
    assert_eq!(refids, ["127.127.1.1", "127.127.1.1", ".GPS.", ".INIT."]);
    let strata: Vec<_> = lines.iter().map(|line| line.stratum).collect();
    assert_eq!(strata, [2, 2, 1, 16]);
    for line in &lines {
        assert_eq!(line.kind, "u", "{line:?}");
        assert!(line.poll.is_power_of_two(), "{line:?}");
    }
    for line in &lines[..3] {
        assert!(line.when.parse::<u32>().is_ok_and(|when| when < 60) || line.when == "-", "{line:?}");
        assert!(line.reach != 0 && line.delay > 0.0 && line.delay < 1000.0 && line.jitter >= 0.0, "{line:?}");
    }
    // Behind the liar, so positive.
    assert!((lines[2].offset - LIE).abs() < 500.0, "{:?}", lines[2]);
    assert_eq!((lines[3].reach, lines[3].when.as_str(), lines[3].offset), (0, "-", 0.0));

    let (code, said) = ntpstat();
    let report = agent.report();
    let address = report.clock.reference.as_deref().unwrap();
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(said[0], format!("synchronised to NTP server ({address}) at stratum 3"));
    let within = said[1].strip_prefix("time correct to within ").and_then(|rest| rest.strip_suffix(" ms"));
    let within: f64 = within.unwrap_or_else(|| panic!("{said:?}")).parse().unwrap();
    assert!((within - 1e3 * report.clock.error_bound.unwrap()).abs() <= 100.0, "{said:?}");
    let polls = said[2].strip_prefix("polling server every ").and_then(|rest| rest.strip_suffix(" s"));
    assert!(polls.is_some_and(|polls| polls.parse::<u32>().unwrap().is_power_of_two()), "{said:?}");
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn ntpq_and_ntpstat_show_what_a_user_of_ntpd_knows() {
    namespace::alone(|| {
        let folder = Folder::new();
        let agent = Agent::start(&folder, &file(""));
        wait_for("served", || agent.report().server.serving);
        let (code, said) = ntpstat();
        assert!(code == 1 && said[0].starts_with("unsynchronised"), "{code} {said:?}");
        let _upstreams = Upstreams::start(&folder);
        replay(&agent);
        other_commands(&agent);
    });
}

fn source<'a>(report: &'a Report, name: &str) -> &'a SourceReport {
    report.sources.iter().find(|source| source.name == name).unwrap()
}

fn other_commands(agent: &Agent) {
    let report = agent.report();
    for words in
        [&["-c", "rv"][..], &["-c", "as"], &["-c", "sysinfo"], &["-c", "sysstats"], &["-c", "kerninfo"]]
    {
        println!("{}", asked(words));
    }
    let _ = source(&report, LIAR);
}
