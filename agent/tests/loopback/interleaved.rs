//! Interleaved mode against chronyd: that both mean the same, and that nothing is lost when chronyd forgets.
use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    bench::{Agent, Chronyd, Folder, free_udp_port, wait_for},
    files,
    relay::Relay,
};

#[test]
fn chronyd_and_we_interleave_and_find_back_to_it() {
    let folder = Folder::new();
    let mut upstream = Chronyd::start(&folder, 3);
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let between = free_udp_port();
    let relay = Relay::start(address(between), address(upstream.port));
    let text = files::alone(between, free_udp_port())
        .replace("iburst = true", "iburst = true\ninterleaved = true")
        .replace("max_poll = 2", "max_poll = 0");
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
