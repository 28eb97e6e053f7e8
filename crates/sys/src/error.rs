//! The one error of this crate: which call failed, and the kernel's reason.
use std::{fmt, io};

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    errno: i32,
}

impl Error {
    /// An error of `call` with the number that the kernel would give for it.
    pub(crate) fn new(call: &'static str, errno: i32) -> Self {
        Self { call, errno }
    }

    /// The error that `call` just left in errno.
    pub(crate) fn last(call: &'static str) -> Self {
        Self::new(call, io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// `result` of `call`, or the error that -1 stands for.
    pub(crate) fn check(call: &'static str, result: libc::c_int) -> Result<libc::c_int, Self> {
        if result == -1 { Err(Self::last(call)) } else { Ok(result) }
    }

    /// The call's name.
    pub fn call(self) -> &'static str {
        self.call
    }

    /// The kernel's number for the reason.
    pub fn errno(self) -> i32 {
        self.errno
    }

    /// Nothing is there yet: ask again after the next `poll`.
    pub fn would_block(self) -> bool {
        self.errno == libc::EAGAIN || self.errno == libc::EWOULDBLOCK
    }

    /// A signal came.
    pub fn interrupted(self) -> bool {
        self.errno == libc::EINTR
    }

    /// This process may not do that.
    pub fn not_permitted(self) -> bool {
        self.errno == libc::EPERM || self.errno == libc::EACCES
    }

    /// There is no such file or device.
    pub fn not_found(self) -> bool {
        matches!(self.errno, libc::ENOENT | libc::ENODEV | libc::ENXIO)
    }

    /// The address or device is in use by somebody else.
    pub fn in_use(self) -> bool {
        self.errno == libc::EADDRINUSE || self.errno == libc::EBUSY
    }

    /// The kernel found a value that cannot be (EINVAL).
    pub fn invalid(self) -> bool {
        self.errno == libc::EINVAL
    }

    /// The kernel has no such address family, or it is switched off.
    pub fn no_such_family(self) -> bool {
        matches!(self.errno, libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
            || (self.call == "socket" && self.errno == libc::EINVAL)
    }

    /// There is no way to that address. Of a route of type blackhole the kernel says EINVAL.
    pub fn no_route(self) -> bool {
        matches!(self.errno, libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN)
            || (self.call == "connect" && self.errno == libc::EINVAL)
    }

    /// No local port is free. When a connected socket is to get one, the kernel says EAGAIN.
    pub fn no_port(self) -> bool {
        matches!(self.errno, libc::EADDRINUSE | libc::EADDRNOTAVAIL)
            || (self.call == "connect" && self.errno == libc::EAGAIN)
    }

    /// This process, or the machine, has no free file descriptor.
    pub fn no_descriptor(self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE)
    }

    /// The host on the other side says that nobody listens on that port.
    pub fn refused(self) -> bool {
        self.errno == libc::ECONNREFUSED
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_and_reason_are_told() {
        let error = Error::new("bind", libc::EADDRINUSE);
        assert_eq!(error.to_string(), "bind: Address already in use (os error 98)");
        assert!(error.in_use() && !error.would_block());
    }

    #[test]
    fn a_connection_without_a_port_is_not_one_to_wait_for() {
        assert!(Error::new("connect", libc::EAGAIN).no_port());
        assert!(!Error::new("recvmsg", libc::EAGAIN).no_port());
        assert!(Error::new("socket", libc::EMFILE).no_descriptor());
        assert!(Error::new("connect", libc::ENETUNREACH).no_route());
    }
}
