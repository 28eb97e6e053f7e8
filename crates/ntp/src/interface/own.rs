//! This node's addresses, and the UDP ports at which its own server answers. Addresses and ports go in. The result is
//! whether a destination or a reference id is this node itself. This file does not read the network interfaces.
//!
//! Nodes that serve their local clock all show the same stratum and reference id. So a reply does not show which node
//! sent it, and a node must know before it asks that the destination is not itself.
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::wire::packet::reference_id_of;

/// This node's addresses, and the ports at which it serves time. A clone is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Sorted. IPv4 addresses are in IPv4 form.
    addresses: Arc<[IpAddr]>,
    /// The reference ids by which a server that follows this node may name it. Sorted.
    reference_ids: Arc<[[u8; 4]]>,
    ports: OwnPorts,
}

/// The UDP ports at which this node's own server answers, one for each address family. None if it does not serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnPorts {
    /// The port at all IPv4 addresses.
    pub v4: Option<u16>,
    /// The port at all IPv6 addresses.
    pub v6: Option<u16>,
}

/// Why an address is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// This node itself serves time at the address.
    OwnAddress,
    /// No server can have such an address.
    NoServer,
}

impl OwnAddresses {
    /// Takes the addresses of the node's interfaces. Loopback addresses may be missing.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, ports: OwnPorts) -> Self {
        let mut addresses: Vec<IpAddr> =
            addresses.into_iter().map(|address| address.to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let unique = addresses.iter().filter(|address| is_of_one_node(**address));
        let mut reference_ids: Vec<[u8; 4]> = unique.map(|address| reference_id_of(*address)).collect();
        reference_ids.sort_unstable();
        Self { addresses: addresses.into(), reference_ids: reference_ids.into(), ports }
    }

    /// Excludes addresses that many nodes have, such as those of bridges for containers, from the reference ids: a
    /// reference id made of such an address does not identify this node.
    #[must_use]
    pub fn shared_by_many(self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let shared: Vec<[u8; 4]> =
            addresses.into_iter().map(|address| reference_id_of(address.to_canonical())).collect();
        let names = self.reference_ids.iter().filter(|id| !shared.contains(id)).copied();
        Self { reference_ids: names.collect(), ..self }
    }

    /// Why `to` is not asked. None if it may be a server.
    pub(crate) fn forbid(&self, to: SocketAddr) -> Option<Forbidden> {
        let address = to.ip().to_canonical();
        let no_server =
            address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255; 4]);
        match self.serve(to) {
            true => Some(Forbidden::OwnAddress),
            false => no_server.then_some(Forbidden::NoServer),
        }
    }

    /// Returns true if a request to `to` would be answered by this node's own server.
    fn serve(&self, to: SocketAddr) -> bool {
        let address = to.ip().to_canonical();
        let port = if address.is_ipv4() { self.ports.v4 } else { self.ports.v6 };
        port == Some(to.port()) && self.include(address)
    }

    /// Returns true if a datagram to `address` stays on this node. The kernel treats the unspecified address as the
    /// loopback address.
    pub(crate) fn include(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified() || self.addresses.binary_search(&address).is_ok()
    }

    /// Returns true if a server that follows this node may have this reference id. If this node does not serve, no
    /// server can follow it.
    pub(crate) fn are_named_by(&self, reference_id: [u8; 4]) -> bool {
        self.ports != OwnPorts::default() && self.reference_ids.binary_search(&reference_id).is_ok()
    }
}

/// Returns true if only one node can have the address. Loopback and link-local addresses are the same on many nodes,
/// and some link-local ones are time servers of clouds (169.254.169.123, 169.254.169.254), so a reference id made of
/// one identifies no node.
fn is_of_one_node(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(ports: OwnPorts) -> OwnAddresses {
        let addresses = ["10.0.0.7", "::ffff:10.0.0.8", "2001:db8::7", "fe80::7", "169.254.169.254"];
        OwnAddresses::new(addresses.map(|address| address.parse().unwrap()), ports)
    }

    const BOTH: OwnPorts = OwnPorts { v4: Some(123), v6: Some(123) };

    #[test]
    fn an_address_that_many_nodes_have_names_none_of_them() {
        let bridge: IpAddr = "10.0.0.8".parse().unwrap();
        let own = own(BOTH).shared_by_many([bridge]);
        assert!(own.are_named_by([10, 0, 0, 7]) && !own.are_named_by([10, 0, 0, 8]));
        assert!(own.include(bridge), "it stays an address of this node");
        assert!(!super::tests::own(OwnPorts::default()).are_named_by([10, 0, 0, 7]), "nothing is served");
    }

    #[test]
    fn a_destination_is_own_by_address_and_port() {
        let check = |ports, to: &str, expected: bool| {
            assert_eq!(own(ports).serve(to.parse().unwrap()), expected, "{to}");
        };
        for to in [
            "10.0.0.7:123",
            "10.0.0.8:123",
            "127.0.0.1:123",
            "127.9.9.9:123",
            "0.0.0.0:123",
            "169.254.169.254:123",
            "[::ffff:10.0.0.7]:123",
            "[::ffff:127.0.0.1]:123",
            "[::ffff:0.0.0.0]:123",
            "[::1]:123",
            "[::]:123",
            "[2001:db8::7]:123",
            "[fe80::7]:123",
        ] {
            check(BOTH, to, true);
            check(OwnPorts::default(), to, false);
            check(OwnPorts { v4: Some(1123), v6: Some(1123) }, to, false);
        }
        for to in ["10.0.0.9:123", "10.0.0.7:1123", "[2001:db8::8]:123", "126.0.0.1:123", "[::2]:123"] {
            check(BOTH, to, false);
        }
        // Another daemon has the port of one family.
        check(OwnPorts { v4: None, ..BOTH }, "127.0.0.1:123", false);
        check(OwnPorts { v4: None, ..BOTH }, "[::1]:123", true);
        check(OwnPorts { v6: None, ..BOTH }, "[::ffff:10.0.0.7]:123", true);
    }

    #[test]
    fn an_address_that_no_server_has_is_not_asked() {
        let check = |ports, to: &str, expected| {
            assert_eq!(own(ports).forbid(to.parse().unwrap()), expected, "{to}");
        };
        check(BOTH, "0.0.0.0:123", Some(Forbidden::OwnAddress));
        for to in ["0.0.0.0:1123", "[::]:1123", "224.0.1.1:123", "[ff05::101]:123", "255.255.255.255:123"] {
            check(BOTH, to, Some(Forbidden::NoServer));
        }
        check(OwnPorts::default(), "0.0.0.0:123", Some(Forbidden::NoServer));
        check(OwnPorts::default(), "127.0.0.1:123", None);
        check(BOTH, "192.0.2.1:123", None);
    }

    #[test]
    fn only_addresses_that_no_other_node_has_name_this_one() {
        let named = |id: [u8; 4]| own(BOTH).are_named_by(id);
        assert!(named([10, 0, 0, 7]) && named([10, 0, 0, 8]));
        assert!(named(reference_id_of("2001:db8::7".parse().unwrap())));
        assert!(!named([10, 0, 0, 9]) && !named([169, 254, 169, 254]) && !named([127, 0, 0, 1]));
        assert!(!named(reference_id_of("fe80::7".parse().unwrap())));
    }
}
