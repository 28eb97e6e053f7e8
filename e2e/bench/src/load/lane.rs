//! Two namespaces with a wire (veth) between them: one for the server, and one in which every address of 10.64.0.0/12
//! is a client. Dropping the lane removes both. Returns command prefixes that run a program at either end, and counts
//! the traffic.
//!
//! Only the first addresses receive their answers. Answers to the others go to an Ethernet address that no interface
//! has. Otherwise the server's processor would also do the client's work of receiving, which on a wire between two
//! machines it does not.
use std::{net::Ipv4Addr, path::Path};

use anyhow::Context;
use lab::network;
use xtask::process::sh;

/// Where a server listens.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 63, 0, 1);
/// The first client.
pub(crate) const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// The number of clients that receive their answers: the first /28, without its first address.
pub(crate) const CHECKED: u32 = 15;
/// Fixed Ethernet addresses, so that no lookup is needed.
pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The wire's name at both ends.
pub(crate) const WIRE: &str = "eth0";

// Not the prefix of the cluster's names, so that removing a cluster does not remove a lane.
const SERVER_END: &str = "tsload-server";
const CLIENT_END: &str = "tsload-client";

/// The lane. It exists until it is dropped.
#[derive(Debug)]
pub(crate) struct Lane(());

impl Lane {
    /// Makes the lane, after removing one that a killed program left.
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
        // One neighbour for all, so that the kernel does not resolve 100,000 addresses.
        sh(&format!("ip -n {SERVER_END} route add 10.64.0.0/28 via {gateway}"))?;
        sh(&format!(
            "ip -n {SERVER_END} neigh add {nobody} lladdr 02:00:00:00:00:03 dev {WIRE} nud permanent"
        ))?;
        sh(&format!("ip -n {SERVER_END} route add 10.64.0.0/12 via {nobody}"))?;
        sh(&format!("ip -n {CLIENT_END} route add local 10.64.0.0/12 dev lo"))?;
        Ok(lane)
    }

    /// The command prefix that runs a program at the server's end.
    pub(crate) fn at_server(&self) -> String {
        network::inside(SERVER_END)
    }

    /// The command prefix that runs a program at the clients' end.
    pub(crate) fn at_clients(&self) -> String {
        network::inside(CLIENT_END)
    }

    /// The traffic at the server's end so far.
    pub(crate) fn traffic(&self) -> anyhow::Result<Traffic> {
        // One process reads both files, in which it sees the counters of its own namespace.
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
            // Removing one end removes the wire.
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
