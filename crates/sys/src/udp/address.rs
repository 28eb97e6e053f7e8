//! Converts socket addresses to and from the kernel's form.
use std::{
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr,
};

/// Room for an address of any family.
pub(crate) fn blank() -> libc::sockaddr_storage {
    // SAFETY: a plain structure; all zeros is an address of no family.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The kernel's form, and how many of its octets are used.
pub(super) fn encode(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = blank();
    let len = write(&mut storage, address);
    (storage, len)
}

/// Writes the same into `storage`, whose other octets do not change.
pub(super) fn write(storage: &mut libc::sockaddr_storage, address: &SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let kernels = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every socket address, and nothing borrows it.
            unsafe { ptr::from_mut(storage).cast::<libc::sockaddr_in>().write(kernels) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let kernels = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::from_mut(storage).cast::<libc::sockaddr_in6>().write(kernels) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Converts from the kernel's form; none if the address is of another family.
pub(crate) fn decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large enough and aligned, and of integers alone, so any octets are an address.
            let kernels = unsafe { ptr::from_ref(storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(kernels.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(kernels.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let kernels = unsafe { ptr::from_ref(storage).cast::<libc::sockaddr_in6>().read() };
            let (ip, port) = (kernels.sin6_addr.s6_addr.into(), u16::from_be(kernels.sin6_port));
            Some(SocketAddrV6::new(ip, port, kernels.sin6_flowinfo, kernels.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for text in ["192.0.2.7:123", "[2001:db8::1]:40000", "[fe80::1%3]:123"] {
            let address: SocketAddr = text.parse().unwrap();
            let (storage, len) = encode(&address);
            assert_eq!(decode(&storage), Some(address));
            assert!(len as usize <= size_of_val(&storage));
        }
        assert_eq!(decode(&blank()), None);
    }
}
