//! UDP sockets that know when a datagram came and to which of our addresses, and if wanted when one left.
//!
//! Datagrams out and in, one system call each. Made without flag bits and read by one `recvmsg` with one buffer and a
//! large control buffer, so that a simulator in front of libc can follow.
use std::{
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use crate::{Error, clock};

pub(crate) mod address;
mod batch;
mod control;

pub use batch::{Inbox, Outbox};

/// A datagram that came, without its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many octets of the buffer are its.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of ours that it came to, if the kernel told; for a broadcast that of the interface.
    pub local: Option<IpAddr>,
    /// It was sent to a broadcast or multicast address, so to others as well.
    pub to_group: bool,
    /// When it came, nanoseconds of CLOCK_REALTIME: the kernel's stamp, or the time right after reading it.
    pub at_ns: i64,
}

/// A record of the error queue: a datagram of ours that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// How many octets of the buffer are the frame's: headers of the link, of IP and UDP, and the datagram.
    pub len: usize,
    /// When it was given to the network device, nanoseconds of CLOCK_REALTIME.
    pub at_ns: i64,
}

/// A bound or connected UDP socket that does not block.
#[derive(Debug)]
pub struct UdpSocket {
    descriptor: OwnedFd,
}

impl UdpSocket {
    /// A server's socket on `address`, for itself alone: without SO_REUSEADDR and SO_REUSEPORT, so that a second program
    /// on the port is noticed, and none can join it later. Several threads may use it at once. With an IPv6 address it
    /// takes IPv6 only.
    ///
    /// # Errors
    /// [`Error::in_use`], [`Error::not_permitted`] (ports below 1024), [`Error::no_such_family`] and others.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let socket = Self::open(&address)?;
        match address {
            SocketAddr::V4(_) => socket.switch_on(libc::IPPROTO_IP, libc::IP_PKTINFO)?,
            SocketAddr::V6(_) => {
                socket.switch_on(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
                socket.switch_on(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
            }
        }
        let (storage, len) = address::encode(&address);
        // SAFETY: the pointer and the length are those of a live socket address.
        let result = unsafe { libc::bind(socket.raw(), (&raw const storage).cast(), len) };
        Error::check("bind", result)?;
        Ok(socket)
    }

    /// A client's socket to one server, on a fresh port (RFC 9109): it hears nobody else, and it hears when nobody
    /// listens there ([`Error::refused`]).
    ///
    /// # Errors
    /// When there is no way to `server`, or no such family.
    pub fn connect(server: SocketAddr) -> Result<Self, Error> {
        let socket = Self::open(&server)?;
        let (family, info) = match server {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        socket.switch_on(family, info)?;
        let (storage, len) = address::encode(&server);
        // SAFETY: the pointer and the length are those of a live socket address.
        let result = unsafe { libc::connect(socket.raw(), (&raw const storage).cast(), len) };
        Error::check("connect", result)?;
        Ok(socket)
    }

    fn open(address: &SocketAddr) -> Result<Self, Error> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: socket takes no pointer; the descriptor that it returns belongs to nobody else.
        let descriptor = unsafe {
            let raw = Error::check("socket", libc::socket(family, libc::SOCK_DGRAM, 0))?;
            OwnedFd::from_raw_fd(raw)
        };
        let socket = Self { descriptor };
        socket.set_descriptor_flag(libc::F_SETFD, libc::FD_CLOEXEC)?;
        socket.set_descriptor_flag(libc::F_SETFL, libc::O_NONBLOCK)?;
        // Stamps are wanted, not needed: without them the time is read right after the datagram.
        let _ = socket.stamp(libc::SOF_TIMESTAMPING_RX_SOFTWARE);
        Ok(socket)
    }

    fn stamp(&self, which: libc::c_uint) -> Result<(), Error> {
        let stamps = which | libc::SOF_TIMESTAMPING_SOFTWARE;
        self.set_option(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, stamps as libc::c_int)
    }

    /// From now on each datagram that leaves comes back by the error queue, with the time at which it left:
    /// [`crate::poll::ready`] tells, [`UdpSocket::departure`] reads (Linux Documentation/networking/timestamping.rst).
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn stamp_departures(&self) -> Result<(), Error> {
        // First, so that a queue that nobody is told of is never filled.
        self.switch_on(libc::SOL_SOCKET, SO_SELECT_ERR_QUEUE)?;
        self.stamp(libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_SOFTWARE)
    }

    /// Reads one record of the error queue, the frame into `buffer`; what does not fit is lost. None if the record is
    /// no stamp. Only to be called when [`crate::poll::ready`] says that there is one: a simulator would take a
    /// datagram instead.
    ///
    /// # Errors
    /// [`Error::would_block`] if none is there.
    pub fn departure(&self, buffer: &mut [u8]) -> Result<Option<Departure>, Error> {
        let mut control = control::Buffer::new();
        let (message, len) = self.receive_message(buffer, None, &mut control, libc::MSG_ERRQUEUE)?;
        let told = control.read(&message);
        let left = message.msg_flags & libc::MSG_ERRQUEUE != 0;
        Ok(told.stamp_ns.filter(|_| left).map(|at_ns| Departure { len, at_ns }))
    }

    /// Reads one datagram into `buffer`; what does not fit is lost. An error that came back for an earlier datagram
    /// of a connected socket is reported here, once.
    ///
    /// # Errors
    /// [`Error::would_block`] if none is there, [`Error::refused`] and the like on a connected socket.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, Error> {
        let mut from = address::blank();
        let mut control = control::Buffer::new();
        let received = self.receive_message(buffer, Some(&mut from), &mut control, 0);
        let read_at = clock::realtime_ns();
        let (message, len) = received?;
        // A datagram without a sender cannot be answered; a kernel does not deliver such over IP.
        let from = address::decode(&from).ok_or(Error::new("recvmsg", libc::EAFNOSUPPORT))?;
        let told = control.read(&message);
        let at_ns = told.stamp_ns.unwrap_or(read_at);
        Ok(Received { len, from, local: told.local, to_group: told.to_group, at_ns })
    }

    /// The message keeps pointers to what was lent: only its control part, `control`, may be looked at afterwards.
    fn receive_message(
        &self,
        buffer: &mut [u8],
        from: Option<&mut libc::sockaddr_storage>,
        control: &mut control::Buffer,
        flags: libc::c_int,
    ) -> Result<(libc::msghdr, usize), Error> {
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut message = blank_message();
        if let Some(from) = from {
            message.msg_name = ptr::from_mut(from).cast();
            message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        control.attach(&mut message);
        // SAFETY: every pointer in the message is to a live, exclusively borrowed object of the given length.
        let got = unsafe { libc::recvmsg(self.raw(), &raw mut message, flags) };
        let len = usize::try_from(got).map_err(|_| Error::last("recvmsg"))?;
        Ok((message, len))
    }

    /// Sends `datagram` on a connected socket.
    ///
    /// # Errors
    /// Also what came back for an earlier datagram ([`Error::refused`]).
    pub fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        self.transmit(datagram, None, None, false)
    }

    /// Sends `datagram` to `to`, with `local` as its source address if given.
    ///
    /// # Errors
    /// When there is no way to `to`, or `local` is no longer ours.
    pub fn send_from(&self, local: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> Result<(), Error> {
        self.transmit(datagram, Some(to), local, false)
    }

    /// The same, and when it left is told by the error queue ([`UdpSocket::departure`]), of this datagram alone. While
    /// something is in that queue, [`crate::poll`] says that the socket is ready.
    ///
    /// # Errors
    /// As [`UdpSocket::send_from`].
    pub fn send_stamped(&self, local: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> Result<(), Error> {
        self.transmit(datagram, Some(to), local, true)
    }

    fn transmit(
        &self,
        datagram: &[u8],
        to: Option<SocketAddr>,
        local: Option<IpAddr>,
        stamped: bool,
    ) -> Result<(), Error> {
        let name = to.as_ref().map(address::encode);
        let mut control = control::Buffer::new();
        let mut vector =
            libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        let mut message = blank_message();
        if let Some((storage, len)) = &name {
            message.msg_name = ptr::from_ref(storage).cast_mut().cast();
            message.msg_namelen = *len;
        }
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        if let Some(local) = local {
            control.write_source(&mut message, local);
        }
        if stamped {
            control.write_stamp_request(&mut message);
        }
        // SAFETY: every pointer in the message is to a live object of the given length; sendmsg writes to none.
        let sent = unsafe { libc::sendmsg(self.raw(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(Error::last("sendmsg")) } else { Ok(()) }
    }

    /// Makes a server's socket one for many datagrams at a time, and asks for room for `octets` of them that wait to be
    /// read. The kernel counts its own book-keeping in, and doubles what it is asked for because of it (socket(7));
    /// returned is what it gives, as it counts. With CAP_NET_ADMIN that is more than users may have otherwise.
    ///
    /// Stamps come in their shortest form. And datagrams are not to be fragmented: that spares the kernel the number by
    /// which fragments find each other (ip_select_ident_segs in include/net/ip.h, a twentieth of all that an answer
    /// costs), and nobody can put a forged fragment into an answer. None is larger than its question, for which the way
    /// was wide enough; reports of narrower ways are not believed.
    ///
    /// # Errors
    /// Hardly any: the kernel gives less rather.
    pub fn expect_many(&self, octets: usize) -> Result<usize, Error> {
        // Wanted, not needed. The new form of the stamps first, so that none is missed.
        if self.switch_on(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS).is_ok() {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 0);
        }
        let (level, option, value) = match self.local_address()? {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        };
        let _ = self.set_option(level, option, value);
        let wanted = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
        if self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted).is_err() {
            self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, wanted)?;
        }
        let mut given: libc::c_int = 0;
        let mut len = size_of_val(&given) as libc::socklen_t;
        // SAFETY: the pointers are to a live int, which is what this option gives, and to its length.
        let result = unsafe {
            let place = (&raw mut given).cast();
            libc::getsockopt(self.raw(), libc::SOL_SOCKET, libc::SO_RCVBUF, place, &raw mut len)
        };
        Error::check("getsockopt", result)?;
        Ok(usize::try_from(given).unwrap_or(0))
    }

    /// Our end.
    ///
    /// # Errors
    /// Hardly any.
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        let mut storage = address::blank();
        let mut len = size_of_val(&storage) as libc::socklen_t;
        // SAFETY: the pointers are to a live storage and its length.
        let result = unsafe { libc::getsockname(self.raw(), (&raw mut storage).cast(), &raw mut len) };
        Error::check("getsockname", result)?;
        address::decode(&storage).ok_or(Error::new("getsockname", libc::EAFNOSUPPORT))
    }

    fn set_descriptor_flag(&self, command: libc::c_int, flag: libc::c_int) -> Result<(), Error> {
        // SAFETY: both commands take an int.
        let result = unsafe { libc::fcntl(self.raw(), command, flag) };
        Error::check("fcntl", result).map(drop)
    }

    fn switch_on(&self, level: libc::c_int, option: libc::c_int) -> Result<(), Error> {
        self.set_option(level, option, 1)
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<(), Error> {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the pointer and the length are those of a live int, which is what these options take.
        let result = unsafe { libc::setsockopt(self.raw(), level, option, (&raw const value).cast(), len) };
        Error::check("setsockopt", result).map(drop)
    }

    fn raw(&self) -> libc::c_int {
        self.descriptor.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// From the kernel's include/uapi/asm-generic/socket.h: an error queue that is not empty is POLLPRI, too.
const SO_SELECT_ERR_QUEUE: libc::c_int = 45;

fn blank_message() -> libc::msghdr {
    // SAFETY: msghdr is a plain structure; all zeros is one without name, buffers or control data.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// `::` and `0.0.0.0`: every address of the family.
pub fn any_address(ipv6: bool, port: u16) -> SocketAddr {
    if ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}

#[cfg(test)]
mod tests;
