//! The cluster's network: a bridge of this machine, namespaces and taps on it. Everything here has a name that only
//! this project uses, and nothing else is changed.
use std::{fs, path::Path};

use anyhow::bail;
use xtask::process::sh;

/// This machine on the bridge; the API server listens here.
pub const HOST: &str = "172.30.0.1";
/// Where the API server listens if it is alone. It needs no network of ours.
pub const LOOPBACK: &str = "127.30.0.1";
/// Where a broadcast reaches all nodes.
pub const BROADCAST: &str = "172.30.0.255";
/// Namespace of the upstream servers.
pub const UPSTREAMS: &str = "tse2e-up";
/// Namespace of the node that shares this machine's kernel.
pub const NODE1: &str = "tse2e-node1";

const BRIDGE: &str = "tse2e";

/// Makes the bridge, or says what is in its way.
pub fn up() -> anyhow::Result<()> {
    let addresses = sh("ip -o -4 addr show")?;
    if let Some(line) = addresses.lines().find(|line| line.contains(" 172.30.0.")) {
        bail!("the cluster needs 172.30.0.0/24, which this machine uses already: {}", line.trim());
    }
    sh(&format!("ip link add {BRIDGE} type bridge"))?;
    sh(&format!("ip addr add {HOST}/24 broadcast {BROADCAST} dev {BRIDGE}"))?;
    sh(&format!("ip link set {BRIDGE} up"))?;
    Ok(())
}

/// Makes a namespace with the addresses on the bridge.
pub fn namespace(name: &str, addresses: &[&str]) -> anyhow::Result<()> {
    sh(&format!("ip netns add {name}"))?;
    sh(&format!("ip link add {name} type veth peer name eth0 netns {name}"))?;
    sh(&format!("ip link set {name} master {BRIDGE} up"))?;
    for address in addresses {
        sh(&format!("ip -n {name} addr add {address}/24 broadcast {BROADCAST} dev eth0"))?;
    }
    sh(&format!("ip -n {name} link set eth0 up"))?;
    sh(&format!("ip -n {name} link set lo up"))?;
    sh(&format!("ip -n {name} route add default via {HOST}"))?;
    Ok(())
}

/// The name of a virtual machine's tap.
pub(crate) fn tap_name(machine: &str) -> String {
    format!("tse2e-{machine}")
}

/// Makes a tap for a virtual machine.
pub(crate) fn tap(machine: &str) -> anyhow::Result<()> {
    let name = tap_name(machine);
    sh(&format!("ip tuntap add {name} mode tap"))?;
    sh(&format!("ip link set {name} master {BRIDGE} up"))?;
    Ok(())
}

/// Words that run a program in a namespace. Not `ip netns exec`, which mounts a fresh /sys and hides the cgroups.
pub fn inside(namespace: &str) -> String {
    format!("nsenter --net=/run/netns/{namespace}")
}

/// Removes all of it; nothing happens if there is none.
pub(crate) fn down() -> anyhow::Result<()> {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("tse2e-") {
            sh(&format!("ip netns del {name}"))?;
        }
    }
    for entry in fs::read_dir("/sys/class/net")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("tse2e") && Path::new("/sys/class/net").join(&name).exists() {
            // The other end of a pair goes with its namespace, so it may be gone by now.
            let _ = sh(&format!("ip link del {name}"));
        }
    }
    Ok(())
}
