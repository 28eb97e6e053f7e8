//! Interleaved mode, with chronyd as server and as client, and among agents: that all mean the same, and that nothing is
//! lost when chronyd forgets.
use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
};

use crate::{
    bench::{Agent, Chronyd, Folder, free_udp_port, harmless, wait_for},
    files,
    relay::Relay,
};

#[test]
fn chronyd_and_we_interleave_and_find_back_to_it() {
    let folder = Folder::new();
    let mut upstream = Chronyd::start_with(&folder, 3, "local stratum 3\n");
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let between = free_udp_port();
    let relay = Relay::start(address(between), address(upstream.port));
    let text = files::alone(between, free_udp_port())
        .replace("iburst = true", "iburst = true\ninterleaved = true")
        .replace("maxPoll = 2", "maxPoll = 0");
    let agent = Agent::start(&folder, &text);
    // So the answer says which of the two fields it answers: transmit, or receive (RFC 9769).
    let interleaved = || relay.seen().iter().filter(|(asked, told)| told[24..32] == asked[32..40]).count();
    wait_for("interleaved answers", || interleaved() >= 5);

    for (asked, told) in relay.seen() {
        // Where a receive and a transmit time would be stands nothing but the cookie, twice.
        let refers = asked[24..32] != [0; 8];
        let complement: Vec<u8> = asked[40..48].iter().map(|octet| if refers { !octet } else { 0 }).collect();
        assert_eq!(&asked[32..40], complement);
        assert_eq!((&asked[..4], &asked[4..24]), (&[0x23, 0, 0, 32][..], &[0; 20][..]));
        assert!(told[24..32] == asked[40..48] || told[24..32] == asked[32..40]);
    }
    let source = agent.report().sources.remove(0);
    assert!(agent.report().clock.synchronized && source.rejected == 0, "{source:?}");

    upstream.restart();
    let before = interleaved();
    wait_for("interleaved answers again", || interleaved() >= before + 5);
    let source = agent.report().sources.remove(0);
    assert!(agent.report().clock.synchronized && source.rejected == 0, "{source:?}");
}

#[test]
fn agents_interleave() {
    let (folder, its_folder) = (Folder::new(), Folder::new());
    let (port, between) = (free_udp_port(), free_udp_port());
    let unlimited = "[[profile.restrict]]\nsource = \"default\"\n";
    let upstream = Agent::start(&its_folder, &(files::serving_own_clock(port) + unlimited));
    upstream.wait_for_own_clock();
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let relay = Relay::start(address(between), address(port));
    let text = files::alone(between, free_udp_port())
        .replace("iburst = true", "iburst = true\ninterleaved = true")
        .replace("maxPoll = 2", "maxPoll = 0");
    let agent = Agent::start(&folder, &text);
    let interleaved = || relay.seen().iter().filter(|(asked, told)| told[24..32] == asked[32..40]).count();
    wait_for("interleaved answers", || interleaved() >= 5);
    // When an answer left is told by the next one: later than it said itself, since a stamp is the last thing.
    let seen = relay.seen();
    let number = |octets: &[u8]| u64::from_be_bytes(octets.try_into().unwrap());
    let mut judged = 0;
    for (asked, told) in seen.iter().filter(|(asked, told)| told[24..32] == asked[32..40]) {
        let before = seen.iter().find(|(_, before)| before[32..40] == asked[24..32]);
        let (before, _) = before.map(|(asked, told)| (told, asked)).expect("the answer that it refers to");
        if before[24..32] != told[24..32] && number(&before[40..48]) > number(&before[32..40]) {
            judged += u32::from(number(&told[40..48]) >= number(&before[40..48]));
        }
    }
    assert!(judged >= 1, "no departure is later than was said");
    let source = agent.report().sources.remove(0);
    assert!(agent.report().clock.synchronized && source.rejected == 0, "{source:?}");
    assert!(upstream.report().server.answered >= 13);
}

#[test]
fn chronyd_is_answered_interleaved() {
    let folder = Folder::new();
    let port = free_udp_port();
    let unlimited = "[[profile.restrict]]\nsource = \"default\"\n";
    let server = Agent::start(&folder, &(files::serving_own_clock(port) + unlimited));
    server.wait_for_own_clock();
    // chronyd takes commands in a folder that is closed to others.
    let closed = folder.path().join("chronyd");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let socket = closed.join("socket");
    let lines = format!(
        "server 127.0.0.1 port {port} xleave minpoll 0 maxpoll 0\nbindcmdaddress {}\n",
        socket.display()
    );
    let _client = Chronyd::start_with(&folder, 9, &lines);
    let mut said = String::new();
    wait_for("chronyd to say that it is answered interleaved", || {
        let output = harmless("chronyc").arg("-h").arg(&socket).arg("ntpdata").output().unwrap();
        said = String::from_utf8_lossy(&output.stdout).into_owned();
        let interleaved = |line: &str| line.starts_with("Interleaved") && line.ends_with("Yes");
        // Its first interleaved sample is as old as two polls, which it does not take.
        let all_tests_passed = |line: &str| line == "NTP tests       : 111 111 1111";
        said.lines().any(interleaved) && said.lines().any(all_tests_passed)
    });
}
