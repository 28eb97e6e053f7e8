//! Network interfaces: an interface's number by its name, and the addresses of all interfaces.
use std::{
    ffi::{CStr, CString},
    net::IpAddr,
    ptr,
};

use crate::{Error, udp::address};

/// The kernel's number of the interface `name` in this process's network namespace. It is the scope of a link-local
/// address.
///
/// # Errors
/// [`Error::not_found`].
pub fn index(name: &str) -> Result<u32, Error> {
    let text = CString::new(name).map_err(|_| Error::new("if_nametoindex", libc::ENODEV))?;
    // SAFETY: the name is a live string that ends in a zero; the call keeps no pointer to it.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(Error::last("if_nametoindex")),
        index => Ok(index),
    }
}

/// An address, and the name of its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name, such as `eth0`.
    pub interface: String,
    /// The address, of IPv4 or IPv6.
    pub address: IpAddr,
}

/// All addresses of IPv4 and IPv6, in the kernel's order.
///
/// # Errors
/// If the kernel refuses the call.
pub fn addresses() -> Result<Vec<InterfaceAddress>, Error> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the pointer is to a live place for the list.
    Error::check("getifaddrs", unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: until freeifaddrs each pointer in the list is null or points to a live entry, whose name is a C string
    // and whose address, if there is one, is a socket address of its family's length.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: as above.
        if let Some(address) = unsafe { address_at(entry.ifa_addr) } {
            // SAFETY: as above.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            found.push(InterfaceAddress { interface: name.to_string_lossy().into_owned(), address });
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list comes from getifaddrs, and nothing of it is used after this.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// The address at `from`; none if it is of another family.
///
/// # Safety
/// `from` is null, or points to a socket address of its family's length.
unsafe fn address_at(from: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise; every socket address begins with its family.
    let family = libc::c_int::from(unsafe { from.as_ref()?.sa_family });
    let len = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let mut storage = address::blank();
    // SAFETY: the caller's promise for `from`; the storage has room for every socket address.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(&mut storage).cast::<u8>(), len) };
    address::decode(&storage).map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_nonsense_is_not() {
        assert!(index("lo").unwrap() > 0);
        assert!(index("no-such-if").unwrap_err().not_found());
        assert!(index("l\0").unwrap_err().not_found());
    }

    #[test]
    fn loopback_is_among_them_where_it_is_up() {
        let found = addresses().unwrap();
        let loopback: Vec<_> = found.iter().filter(|found| found.address.is_loopback()).collect();
        assert!(loopback.iter().all(|found| found.interface == "lo"), "{found:?}");
        assert!(loopback.iter().any(|found| found.address.is_ipv4()), "{found:?}");
    }
}
