//! Why a request did not reach its server, as far as the kernel reports it: the error of a system call and the server's
//! address in; the engine's reason out. Reads only /proc, to see if the node has IPv6 at all.
use std::{fs, net::SocketAddr};

use ntp::SendError;

/// The engine's reason for `error`, which a request to `to` caused.
pub(crate) fn send_error(error: sys::Error, to: SocketAddr) -> SendError {
    if error.refused() {
        SendError::NoListener
    } else if error.not_permitted() {
        SendError::NotPermitted
    } else if error.no_descriptor() {
        SendError::NoDescriptor
    } else if to.is_ipv6() && (error.no_such_family() || error.no_route() && !has_ipv6()) {
        SendError::NoIpv6
    } else if error.no_route() {
        SendError::NoRoute
    } else if error.no_port() {
        SendError::NoPort
    } else {
        SendError::Other(error.errno())
    }
}

/// Returns true if an interface of this node has an IPv6 address that is valid beyond its own link.
fn has_ipv6() -> bool {
    fs::read_to_string("/proc/net/if_inet6").is_ok_and(|text| text.lines().any(is_global))
}

/// Returns true if a line of /proc/net/if_inet6 (address, index, prefix, scope, flags, name) has such an address.
/// Scopes are hexadecimal: 00 is global, 10 the host, 20 the link.
fn is_global(line: &str) -> bool {
    line.split_whitespace().nth(3) == Some("00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_link_is_not_ipv6_for_the_world() {
        assert!(!is_global("00000000000000000000000000000001 01 80 10 80       lo"));
        assert!(!is_global("fe80000000000000b0a1b2fffec3d4e5 02 40 20 80     eth0"));
        assert!(is_global("20010db8000000000000000000000007 02 40 00 80     eth0"));
        assert!(!is_global(""));
    }

    #[test]
    fn what_the_kernel_says_of_a_port_without_a_listener() {
        let free = sys::udp::UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = free.local_address().unwrap();
        drop(free);
        let socket = sys::udp::UdpSocket::connect(to).unwrap();
        socket.send(b"x").unwrap();
        // On loopback the reply is there when the call returns.
        let error = socket.receive(&mut [0; 8]).unwrap_err();
        assert_eq!(send_error(error, to), SendError::NoListener);
        let nowhere: SocketAddr = "[2001:db8::1]:123".parse().unwrap();
        if let Err(error) = sys::udp::UdpSocket::connect(nowhere) {
            let expected = if has_ipv6() { SendError::NoRoute } else { SendError::NoIpv6 };
            assert_eq!(send_error(error, nowhere), expected);
        }
    }
}
