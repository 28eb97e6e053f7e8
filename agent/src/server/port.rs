//! One open port of the server.
use std::net::IpAddr;

use sys::udp::UdpSocket;

use super::departures::InFlightReplies;

/// The open port on one address, or on all addresses of a family, which all workers share. It is one socket, so that no
/// other program can join it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) address: IpAddr,
    pub(super) socket: UdpSocket,
    /// Answers through this port that are on their way out.
    pub(super) in_flight: InFlightReplies,
}
