//! This node's identity in the network, for the engine: the addresses of its interfaces, which are read from time to
//! time, and the ports of its own server. Reads interfaces and the clock, decides nothing.
use std::{net::IpAddr, path::Path, sync::Arc};

use ntp::{Event, Mono, OwnAddresses, OwnPorts};
use sys::interface::InterfaceAddress;
use tracing::debug;

use super::Rim;
use crate::loop_detector::Itself;

/// What is known of this node's addresses.
pub(super) struct Own {
    pub(super) itself: Arc<Itself>,
    addresses: Vec<IpAddr>,
    /// The addresses of bridges: docker0, cni0, virbr0. Many nodes have the same ones.
    bridges: Vec<IpAddr>,
    /// The addresses and ports that the engine knows; none if it knows nothing yet.
    told: Option<(OwnAddresses, OwnPorts)>,
    /// When the interfaces must be read again.
    next: Mono,
}

/// A new address is known after this time, seconds. Until then, answers from it are recognised as this node's own by
/// `itself`.
const INTERVAL: f64 = 5.0;

/// The interval is at least this many times the duration of a reading. It takes 50 us on most nodes, and milliseconds
/// on a node with thousands of addresses.
const SHARE: f64 = 1000.0;

/// kube-proxy in IPVS mode puts the address of each Service on this interface. They are not this node's: a datagram to
/// one of them reaches the Service's pods.
const SERVICES: &str = "kube-ipvs0";

impl Own {
    pub(super) fn new(itself: Arc<Itself>) -> Self {
        Self { itself, addresses: Vec::new(), bridges: Vec::new(), told: None, next: Mono(i64::MIN) }
    }

    /// Forgets what the engine knows, since a new engine knows nothing.
    pub(super) fn forget(&mut self) {
        self.told = None;
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

impl Rim {
    /// Reads this node's addresses if that is due. Informs the engine if they, or the server's ports, have changed. If
    /// no time is served, does nothing.
    pub(super) fn know_itself(&mut self) {
        if self.engine.is_none() {
            return;
        }
        let now = self.clock.now().mono;
        let ports = self.own.itself.ports();
        let due = ports != OwnPorts::default() && self.own.next <= now;
        if !due && self.own.told.as_ref().is_some_and(|(_, told)| *told == ports) {
            return;
        }
        if due {
            self.own.read(now);
        }
        let Own { addresses, bridges, .. } = &self.own;
        let own = OwnAddresses::new(addresses.iter().copied(), ports);
        let told = (own.shared_by_many(bridges.iter().copied()), ports);
        if self.own.told.as_ref() != Some(&told) {
            debug!(?ports, addresses = self.own.addresses.len(), "This node's own addresses and ports");
            self.handle(Event::OwnAddresses(&told.0));
            self.own.told = Some(told);
        }
    }
}
