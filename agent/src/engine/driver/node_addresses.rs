//! This node's identity in the network, for the engine: the addresses of its interfaces, which are read from time to
//! time, and the ports of its own server. Reads interfaces and the clock, decides nothing.
use std::{net::IpAddr, path::Path, sync::Arc};

use ntp::{Mono, OwnAddresses, OwnPorts};
use sys::interface::InterfaceAddress;
use tracing::debug;

use crate::loop_detector::LoopDetector;

/// What is known of this node's addresses.
pub(super) struct NodeAddresses {
    loop_detector: Arc<LoopDetector>,
    addresses: Vec<IpAddr>,
    /// The addresses of bridges: docker0, cni0, virbr0. Many nodes have the same ones.
    bridges: Vec<IpAddr>,
    /// The addresses and ports that the engine knows; none if it knows nothing yet.
    reported: Option<(OwnAddresses, OwnPorts)>,
    /// When the interfaces must be read again.
    next: Mono,
}

/// A new address is known after this time, seconds. Until then, answers from it are recognised as this node's own by
/// `loop_detector`.
const INTERVAL: f64 = 5.0;

/// The interval is at least this many times the duration of a reading. It takes 50 us on most nodes, and milliseconds
/// on a node with thousands of addresses.
const SHARE: f64 = 1000.0;

/// kube-proxy in IPVS mode puts the address of each Service on this interface. They are not this node's: a datagram to
/// one of them reaches the Service's pods.
const SERVICES: &str = "kube-ipvs0";

impl NodeAddresses {
    pub(super) fn new(loop_detector: Arc<LoopDetector>) -> Self {
        Self {
            loop_detector,
            addresses: Vec::new(),
            bridges: Vec::new(),
            reported: None,
            next: Mono(i64::MIN),
        }
    }

    /// Forgets what the engine knows, since a new engine knows nothing.
    pub(super) fn forget(&mut self) {
        self.reported = None;
    }

    /// Reads the addresses if that is due. Returns them with the server's ports if they differ from what the engine
    /// knows; none if no time is served.
    pub(super) fn changed(&mut self, now: Mono) -> Option<OwnAddresses> {
        let ports = self.loop_detector.ports();
        let due = ports != OwnPorts::default() && self.next <= now;
        if !due && self.reported.as_ref().is_some_and(|(_, reported)| *reported == ports) {
            return None;
        }
        if due {
            self.read(now);
        }
        let own = OwnAddresses::new(self.addresses.iter().copied(), ports);
        let reported = (own.shared_by_many(self.bridges.iter().copied()), ports);
        if self.reported.as_ref() == Some(&reported) {
            return None;
        }
        debug!(?ports, addresses = self.addresses.len(), "This node's own addresses and ports");
        let addresses = reported.0.clone();
        self.reported = Some(reported);
        Some(addresses)
    }

    fn read(&mut self, now: Mono) {
        match sys::interface::addresses() {
            Ok(found) => {
                let ours = found.iter().filter(|found| found.interface != SERVICES);
                self.addresses = ours.map(|found| found.address).collect();
                let bridges = found.iter().filter(|found| is_bridge(found));
                self.bridges = bridges.map(|found| found.address).collect();
            }
            Err(error) => debug!(%error, "Interfaces not read"),
        }
        let took = Mono(sys::clock::monotonic_ns()) - now;
        self.next = now.plus(INTERVAL.max(SHARE * took));
    }
}

/// Returns true if the interface is a bridge (Documentation/ABI/testing/sysfs-class-net in the kernel's sources).
fn is_bridge(found: &InterfaceAddress) -> bool {
    Path::new("/sys/class/net").join(&found.interface).join("bridge").exists()
}
