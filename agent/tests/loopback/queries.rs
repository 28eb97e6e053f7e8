//! Debian's own ntpq and ntpstat ask the agent on port 123, in a network of the test's own: its upstreams are next door.
use std::{
    fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use contract::{Report, SourceReport};

use crate::bench::{Agent, Folder, Process, harmless, namespace, unpacked, wait_for};

/// Four upstreams next door: two good ones, one that is 5 s ahead, and an address that nobody has.
pub(crate) struct Upstreams {
    _servers: [Process; 3],
    _neighbour: namespace::Neighbour,
}

const GOOD: [&str; 2] = ["192.0.2.11", "192.0.2.12"];
const LIAR: &str = "192.0.2.13";
const NOBODY: &str = "192.0.2.14";

/// What the liar is ahead by, milliseconds.
const LIE: f64 = 5000.0;

impl Upstreams {
    pub(crate) fn start(folder: &Folder) -> Self {
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
            "[[profile.upstreams]]\nname = \"{}\"\nserver = \"{address}\"\niburst = true\n\
             minPoll = 0\nmaxPoll = 2\n",
            address.replace('.', "-")
        )
    });
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n[profile]\nmode = \"Observe\"\n{}{more}",
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

/// Asks while one source is followed, and says what the agent reported then.
fn steadily<T>(agent: &Agent, ask: impl Fn() -> T) -> (Report, T) {
    let mut told = None;
    wait_for("no other source followed meanwhile", || {
        let before = agent.report().clock.reference;
        let answer = ask();
        let report = agent.report();
        let steady = before == report.clock.reference;
        told = Some((report, answer));
        steady
    });
    told.unwrap()
}

/// The session that a user of ntpd knows, with an agent that has these four upstreams from whatever file.
pub(crate) fn replay(agent: &Agent) {
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

    let (report, (code, said)) = steadily(agent, ntpstat);
    let address = source(&report, report.clock.reference.as_deref().unwrap()).address.as_deref().unwrap();
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

/// The ntp.conf of a tutorial that many have typed in, with the test's four servers in place of its three.
#[test]
fn the_tutorials_session_with_its_file_converted() {
    namespace::alone(|| {
        let folder = Folder::new();
        let theirs = include_str!("../convert/tutorial.ntp.conf");
        let lines = theirs.lines().filter(|line| !line.starts_with("server "));
        let servers =
            GOOD.into_iter().chain([LIAR, NOBODY]).map(|address| format!("server {address} iburst"));
        let text: Vec<_> = lines.map(str::to_owned).chain(servers).collect();
        let file = folder.path().join("ntp.conf");
        fs::write(&file, text.join("\n") + "\n").unwrap();
        let (code, converted) = converted(&["convert", "--to", "agent", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{converted}");
        let _upstreams = Upstreams::start(&folder);
        let table = "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n";
        let agent = Agent::start(&folder, &format!("{table}{converted}"));
        replay(&agent);
    });
}

/// Exit code and standard output alone: what is said beside is on standard error.
fn converted(arguments: &[&str]) -> (i32, String) {
    let output = harmless(env!("CARGO_BIN_EXE_timesync-agent")).args(arguments).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
}

fn source<'a>(report: &'a Report, name: &str) -> &'a SourceReport {
    report.sources.iter().find(|source| source.name == name.replace('.', "-")).unwrap()
}

/// The value of `name=value` in what ntpq prints.
fn variable(text: &str, name: &str) -> String {
    let words = text.split([',', '\n']).map(str::trim);
    let value = words.filter_map(|word| word.split_once('=')).find(|(known, _)| known.trim() == name);
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).1.to_owned()
}

/// The value behind a legend, such as `root delay:`.
fn legend(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(name));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().to_owned()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Theirs are milliseconds and ours seconds; within `bound`, seconds, either may have changed between two questions.
fn near(theirs: &str, ours: f64, bound: f64) {
    assert!((number(theirs) / 1e3 - ours).abs() <= bound + 1e-3, "{theirs} {ours} {bound}");
}

/// What ntpq's other commands print, against what the agent says of itself.
fn other_commands(agent: &Agent) {
    let (report, text) = steadily(agent, || asked(&["-c", "rv", "-c", "as"]));
    let bound = report.clock.error_bound.unwrap();
    assert_eq!((variable(&text, "leap"), variable(&text, "stratum")), ("00".to_owned(), "3".to_owned()));
    assert!(text.contains("status=0615 leap_none, sync_ntp, 1 event, clock_sync"), "{text}");
    assert!(variable(&text, "version").starts_with("\"timesync-agent "), "{text}");
    near(&variable(&text, "offset"), -report.clock.offset.unwrap(), bound);
    near(&variable(&text, "sys_jitter"), report.clock.jitter.unwrap(), bound);
    near(&variable(&text, "rootdist"), bound, bound);
    assert!((number(&variable(&text, "frequency")) - report.clock.frequency_ppm).abs() < 50.0, "{text}");
    let peer = variable(&text, "peer");
    let rows = text.lines().skip_while(|line| !line.starts_with('=')).skip(1);
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.split_whitespace().collect()).filter(|row: &Vec<_>| !row.is_empty()).collect();
    let conditions: Vec<_> = rows.iter().map(|row| (row[3], row[4], row[6])).collect();
    let followed = rows.iter().position(|row| row[1] == peer).unwrap();
    let mut expected = [("yes", "yes", "candidate"); 4];
    expected[followed].2 = "sys.peer";
    expected[2].2 = "falsetick";
    expected[3] = ("yes", "no", "reject");
    assert_eq!(conditions, expected, "{text}");
    let ids: Vec<_> = rows.iter().map(|row| row[1]).collect();

    let (report, text) = steadily(agent, || asked(&["-c", "sysinfo"]));
    assert_eq!(
        Some(legend(&text, "system peer:")),
        report.clock.reference.as_ref().map(|name| format!("{}:123", name.replace('-', ".")))
    );
    assert_eq!(legend(&text, "system peer mode:"), "client");
    assert_eq!((legend(&text, "leap indicator:").as_str(), legend(&text, "stratum:").as_str()), ("00", "3"));
    assert_eq!(legend(&text, "log2 precision:"), "-24");
    assert_eq!(legend(&text, "reference ID:"), report.clock.reference.unwrap().replace('-', "."));
    near(&legend(&text, "root dispersion:"), bound, bound);
    near(&legend(&text, "clock jitter:"), 0.0, bound);
    assert!(legend(&text, "reference time:").contains("20"), "{text}");
    assert!(number(&legend(&text, "clock wander:")) >= 0.0, "{text}");

    let text = asked(&["-c", "sysstats"]);
    assert!(number(&legend(&text, "control requests:")) > 20.0, "{text}");
    let first = |name: &str| number(legend(&text, name).split_whitespace().next().unwrap());
    assert!(first("older version:") > 20.0, "ntpq speaks version 2\n{text}");
    assert_eq!(first("current version:") + first("older version:"), first("packets received:"), "{text}");
    assert_eq!((first("processed for time:"), first("restricted:"), first("rate limited:")), (0.0, 0.0, 0.0));

    let text = asked(&["-c", "kerninfo"]);
    assert_eq!(legend(&text, "frequency tolerance:"), "500.0");
    assert!(number(&legend(&text, "maximum error:")) > 0.0, "{text}");
    assert!(number(&legend(&text, "pll frequency:")).abs() < 600.0, "{text}");

    let text = asked(&["-c", &format!("pstats {}", ids[2])]);
    let report = agent.report();
    assert_eq!(legend(&text, "remote host:"), LIAR);
    assert_eq!(legend(&text, "local address:"), "192.0.2.1");
    assert!(
        (number(&legend(&text, "packets sent:")) - source(&report, LIAR).sent as f64).abs() <= 30.0,
        "{text}"
    );
    assert!(
        (number(&legend(&text, "packets received:")) - source(&report, LIAR).received as f64).abs() <= 30.0
    );
    assert_eq!(legend(&text, "bogus origin:"), "0");
    assert_eq!(legend(&text, "count of nts cookies:"), "-1");

    let text = asked(&["-c", &format!("rv {}", ids[2])]);
    assert_eq!(variable(&text, "srcadr"), LIAR);
    assert!(text.contains("conf, reach, sel_falsetick"), "{text}");
    let offsets = variable(&text, "filtoffset");
    let offsets: Vec<_> = offsets.split_whitespace().map(number).collect();
    assert!(offsets.len() == 8 && (offsets[0] - LIE).abs() < 500.0, "{text}");
    let text = asked(&[
        "-c",
        "rv 0 offset,leap",
        "-c",
        &format!("rv {} reach", ids[3]),
        "-c",
        "apeers",
        "-c",
        "opeers",
    ]);
    assert_eq!(number(&variable(&text, "reach")), 0.0);
}

/// A query of version 2, as ntpq sends it.
fn query(opcode: u8, data: &str) -> Vec<u8> {
    let mut query = vec![0xd6, opcode, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    query.extend(data.as_bytes());
    query
}

/// Sends a query, and then the same so many times more; tells how many datagrams came for the first and for the others.
const STRANGER_PROGRAM: &str = "
import socket, sys
asked = bytes.fromhex(sys.argv[1])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.settimeout(1)

def parts(last):
    count = 0
    try:
        while True:
            part = server.recv(2048)
            count += 1
            if last(part):
                break
    except socket.timeout:
        pass
    return count

server.sendto(asked, ('192.0.2.1', 123))
first = parts(lambda part: not part[1] & 0x20)
for _ in range(int(sys.argv[2])):
    server.sendto(asked, ('192.0.2.1', 123))
print(first, parts(lambda part: False))
";

fn stranger(next_door: &namespace::Neighbour, asked: &[u8], more: u32) -> Vec<u32> {
    let mut python = next_door.command("/usr/bin/python3");
    let output = python.args(["-c", STRANGER_PROGRAM, &hex::encode(asked), &more.to_string()]).output();
    let output = output.expect("this test needs Debian's package python3");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[test]
fn strangers_are_told_nothing_and_little_where_they_may_ask() {
    namespace::alone(|| {
        let folder = Folder::new();
        let next_door = namespace::Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        let closed = file("");
        let agent = Agent::start(&folder, &closed);
        wait_for("served", || agent.report().server.serving);
        asked(&["-c", "rv"]);
        // As long an answer as can be had by names.
        let longest = query(2, &"clock,".repeat(78));
        assert_eq!(stranger(&next_door, &query(2, ""), 0), [0, 0], "noquery is the default");
        wait_for("one counted", || dropped(&agent, "noquery") == 1);

        // `version` is about requests for time; ntpq speaks version 2.
        let open =
            |source, flags| format!("[[profile.restrict]]\nsource = \"{source}\"\nflags = [{flags}]\n");
        agent.rewrite(&format!("{closed}{}{}", open("192.0.2.0/24", "\"version\""), open("127.0.0.1", "")));
        wait_for("open", || stranger(&next_door, &query(2, ""), 0)[0] > 0);
        assert_eq!(stranger(&next_door, &longest, 0), [4, 0]);
        assert_eq!(parts(&longest), 5);

        let before = dropped(&agent, "query_limited");
        let [_, answered] = stranger(&next_door, &query(2, "leap"), 100)[..] else { panic!() };
        assert!((1..100).contains(&answered), "{answered}");
        assert!(dropped(&agent, "query_limited") > before);
        let (_, metrics) = agent.get("/metrics", None);
        assert!(metrics.contains("\ntimesync_server_queries_total "), "{metrics}");
        // Its own queries are not limited.
        for _ in 0..3 {
            asked(&["-pn", "127.0.0.1"]);
        }
    });
}

/// How many datagrams this host gets for a query.
fn parts(asked: &[u8]) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.send_to(asked, "127.0.0.1:123").unwrap();
    let mut part = [0; 2048];
    let mut count = 0;
    loop {
        socket.recv(&mut part).unwrap();
        count += 1;
        if part[1] & 0x20 == 0 {
            return count;
        }
    }
}

fn dropped(agent: &Agent, reason: &str) -> u32 {
    let (_, metrics) = agent.get("/metrics", None);
    let name = format!("timesync_server_dropped_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}
