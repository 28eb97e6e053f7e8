//! The only error type of this crate: the call that failed, and the kernel's reason.
use std::{fmt, io};

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    errno: i32,
}

impl Error {
    /// The error of `call` with this number of the kernel.
    pub(crate) fn new(call: &'static str, errno: i32) -> Self {
        Self { call, errno }
    }

    /// The error of `call`, which has just set errno.
    pub(crate) fn last(call: &'static str) -> Self {
        Self::new(call, io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The `result` of `call`, or its error if the result is -1.
    pub(crate) fn check(call: &'static str, result: libc::c_int) -> Result<libc::c_int, Self> {
        if result == -1 { Err(Self::last(call)) } else { Ok(result) }
    }

    /// The call's name.
    pub fn call(self) -> &'static str {
        self.call
    }

    /// The kernel's error number.
    pub fn errno(self) -> i32 {
        self.errno
    }

    /// Returns true if nothing is there yet: try again after the next `poll`.
    pub fn would_block(self) -> bool {
        self.errno == libc::EAGAIN || self.errno == libc::EWOULDBLOCK
    }

    /// Returns true if a signal interrupted the call.
    pub fn interrupted(self) -> bool {
        self.errno == libc::EINTR
    }

    /// Returns true if this process has no right to do that.
    pub fn not_permitted(self) -> bool {
        self.errno == libc::EPERM || self.errno == libc::EACCES
    }

    /// Returns true if there is no such file or device.
    pub fn not_found(self) -> bool {
        matches!(self.errno, libc::ENOENT | libc::ENODEV | libc::ENXIO)
    }

    /// Returns true if another process uses the address or device.
    pub fn in_use(self) -> bool {
        self.errno == libc::EADDRINUSE || self.errno == libc::EBUSY
    }

    /// Returns true if the kernel finds a value invalid (EINVAL).
    pub fn invalid(self) -> bool {
        self.errno == libc::EINVAL
    }

    /// Returns true if the kernel does not have the address family, or it is switched off.
    pub fn no_such_family(self) -> bool {
        matches!(self.errno, libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
            || (self.call == "socket" && self.errno == libc::EINVAL)
    }

    /// Returns true if there is no route to the address. For a route of type blackhole the kernel returns EINVAL.
    pub fn no_route(self) -> bool {
        matches!(self.errno, libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN)
            || (self.call == "connect" && self.errno == libc::EINVAL)
    }

    /// Returns true if no local port is free. For a socket that is to be connected the kernel returns EAGAIN.
    pub fn no_port(self) -> bool {
        matches!(self.errno, libc::EADDRINUSE | libc::EADDRNOTAVAIL)
            || (self.call == "connect" && self.errno == libc::EAGAIN)
    }

    /// Returns true if this process, or the machine, has no free file descriptor.
    pub fn no_descriptor(self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE)
    }

    /// Returns true if the other host reports that no process listens on the port.
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
