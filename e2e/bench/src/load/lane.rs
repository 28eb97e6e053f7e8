//! Two namespaces and a wire between them: a server's, and one where every address of 10.64.0.0/12 is a client. Both go
//! when the lane is dropped. In: nothing. Out: words that run a program at either end, and what went over the wire.
//!
//! Only the first addresses get their answers: the others go onto the wire to an Ethernet address that nobody has. On a
//! wire between two machines the server does not pay for what the client does with an answer, and here it would.
use std::{net::Ipv4Addr, path::Path};

use anyhow::Context;
use lab::network;
use xtask::process::sh;

/// Where a server listens.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 63, 0, 1);
/// The first client.
pub(crate) const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// So many of the clients get their answers: the prefix of 28 bits, without its first address.
pub(crate) const CHECKED: u32 = 15;
/// Ethernet addresses, fixed so that nobody need ask for them.
pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The wire's name at both ends.
pub(crate) const WIRE: &str = "eth0";

// Not the cluster's prefix: who takes a cluster down leaves a measurement alone.
const SERVER_END: &str = "tsload-server";
const CLIENT_END: &str = "tsload-client";

/// The lane, as long as it lives.
#[derive(Debug)]
pub(crate) struct Lane(());

impl Lane {
    /// Makes the lane; what a killed predecessor left is removed first.
    pub(crate) fn new() -> anyhow::Result<Self> {
        remove();
        let lane = Self(());
        for name in [SERVER_END, CLIENT_END] {
            sh(&format!("ip netns add {name}"))?;
            sh(&format!("ip -n {name} link set lo up"))?;
        }
        sh(&format!(
            "ip -n {SERVER_END} link add {WIRE} address 02:00:00:00:00:01 type veth \
             peer name {WIRE} address 02:00:00:00:00:02 netns {CLIENT_END}"
        ))?;
        let (gateway, nobody) = ("10.63.0.2", "10.63.0.3");
        sh(&format!("ip -n {SERVER_END} addr add {SERVER}/24 dev {WIRE}"))?;
        sh(&format!("ip -n {CLIENT_END} addr add {gateway}/24 dev {WIRE}"))?;
        sh(&format!("ip -n {SERVER_END} link set {WIRE} up"))?;
        sh(&format!("ip -n {CLIENT_END} link set {WIRE} up"))?;
        // By way of one neighbour, so that nobody looks for 100,000 of them.
        sh(&format!("ip -n {SERVER_END} route add 10.64.0.0/28 via {gateway}"))?;
        sh(&format!(
            "ip -n {SERVER_END} neigh add {nobody} lladdr 02:00:00:00:00:03 dev {WIRE} nud permanent"
        ))?;
        sh(&format!("ip -n {SERVER_END} route add 10.64.0.0/12 via {nobody}"))?;
        sh(&format!("ip -n {CLIENT_END} route add local 10.64.0.0/12 dev lo"))?;
        Ok(lane)
    }

    /// Words that run a program at the server's end.
    pub(crate) fn at_server(&self) -> String {
        network::inside(SERVER_END)
    }

    /// Words that run a program at the clients' end.
    pub(crate) fn at_clients(&self) -> String {
        network::inside(CLIENT_END)
    }

    /// What the server's end has seen so far.
    pub(crate) fn traffic(&self) -> anyhow::Result<Traffic> {
        // One process for both, which sees its own namespace there.
        let text = sh(&format!("{} cat /proc/net/dev /proc/net/snmp", self.at_server()))?;
        traffic(&text).with_context(|| format!("cannot read the counters in {text}"))
    }
}

/// Counters of the server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Frames that went out.
    pub(crate) sent: u64,
    /// Datagrams that found the server's queue full.
    pub(crate) overflowed: u64,
}

/// Reads proc_pid_net(5)'s `dev` (field 10 is what was sent) and `snmp`.
fn traffic(text: &str) -> Option<Traffic> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(WIRE)?.strip_prefix(':'))?;
    let sent = line.split_whitespace().nth(9)?.parse().ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|name| name == "RcvbufErrors")?;
    Some(Traffic { sent, overflowed: values.split(' ').nth(place)?.parse().ok()? })
}

impl Drop for Lane {
    fn drop(&mut self) {
        remove();
    }
}

fn remove() {
    for name in [SERVER_END, CLIENT_END] {
        if Path::new("/run/netns").join(name).exists() {
            // The wire goes with either end.
            let _ = sh(&format!("ip netns del {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  \
                    eth0: 1 2 3 4 5 6 7 8 9 77 11 12 13 14 15 16\n\
                    Icmp: A B\nIcmp: 1 2\nUdp: InDatagrams RcvbufErrors X\nUdp: 5 33 6\n";
        assert_eq!(traffic(text), Some(Traffic { sent: 77, overflowed: 33 }));
        assert_eq!(traffic("eth0: 1\n"), None);
    }
}
