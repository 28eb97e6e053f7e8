//! An agent as the upstream of another.
use std::net::SocketAddr;

use crate::{
    bench::{Agent, Chronyd, Folder, free_udp_port, wait_for},
    files,
    relay::Relay,
};

#[test]
fn an_agent_follows_an_agent_one_stratum_below() {
    let folders = [Folder::new(), Folder::new()];
    let upstream = Chronyd::start(&folders[0], 3);
    // By way of another address, else the first would seem to follow the second: both are 127.0.0.1.
    let between = SocketAddr::from(([127, 0, 0, 2], free_udp_port()));
    let _relay = Relay::start(between, SocketAddr::from(([127, 0, 0, 1], upstream.port)));
    let served = free_udp_port();
    let text = files::alone(between.port(), served).replace("\"127.0.0.1\"\nport", "\"127.0.0.2\"\nport");
    let first = Agent::start(&folders[0], &text);
    wait_for("the first synchronized", || first.report().clock.synchronized);
    let second = Agent::start(&folders[1], &files::alone(served, free_udp_port()));
    wait_for("the second synchronized", || second.report().clock.synchronized);
    assert_eq!((first.report().clock.stratum, second.report().clock.stratum), (4, 5));
    let source = second.report().sources.remove(0);
    assert!(source.rejected == 0 && source.message.is_empty(), "{source:?}");
}
