//! One UDP socket: a datagram with each system call, and the time at which one came or left.
use std::{
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use super::{address, control};
use crate::{Error, clock};

/// A received datagram, without its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Number of octets in the buffer.
    pub len: usize,
    /// The sender's address.
    pub from: SocketAddr,
    /// The local address that it came to, if the kernel reports it; for a broadcast that of the interface.
    pub local: Option<IpAddr>,
    /// True if it was sent to a broadcast or multicast address, and so to other hosts as well.
    pub to_group: bool,
    /// When it came, nanoseconds of CLOCK_REALTIME: the kernel's timestamp, or else the time right after it was read.
    pub at_ns: i64,
}

/// A record of the error queue: a datagram of this socket that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Number of octets of the frame in the buffer: the headers of the link, of IP and UDP, and the datagram.
    pub len: usize,
    /// When the kernel gave it to the network device, nanoseconds of CLOCK_REALTIME.
    pub at_ns: i64,
}

/// A UDP socket that is bound or connected, and does not block.
#[derive(Debug)]
pub struct UdpSocket {
    descriptor: OwnedFd,
}

impl UdpSocket {
    /// A server's socket on `address` that no other program can share. It has neither SO_REUSEADDR nor SO_REUSEPORT, so
    /// that another program on the port makes this call fail, and none can join the port later. Several threads may use
    /// the socket at once. With an IPv6 address it receives IPv6 only.
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

    /// A client's socket to one server, on a new port (RFC 9109). It receives datagrams of no other sender, and it is
    /// told if no process listens there ([`Error::refused`]).
    ///
    /// # Errors
    /// If there is no route to `server`, or no such address family.
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

    pub(super) fn open(address: &SocketAddr) -> Result<Self, Error> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: socket takes no pointer; nothing else owns the descriptor that it returns.
        let descriptor = unsafe {
            let raw = Error::check("socket", libc::socket(family, libc::SOCK_DGRAM, 0))?;
            OwnedFd::from_raw_fd(raw)
        };
        let socket = Self { descriptor };
        socket.set_descriptor_flag(libc::F_SETFD, libc::FD_CLOEXEC)?;
        socket.set_descriptor_flag(libc::F_SETFL, libc::O_NONBLOCK)?;
        // Timestamps are wanted, but not needed: without them the time is read right after the datagram.
        let _ = socket.stamp(libc::SOF_TIMESTAMPING_RX_SOFTWARE);
        Ok(socket)
    }

    fn stamp(&self, which: libc::c_uint) -> Result<(), Error> {
        let stamps = which | libc::SOF_TIMESTAMPING_SOFTWARE;
        self.set_option(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, stamps as libc::c_int)
    }

    /// From now on, the error queue has a record of each datagram that leaves, with its time: [`crate::poll::ready`]
    /// reports it, and [`UdpSocket::departure`] reads it (Linux Documentation/networking/timestamping.rst).
    ///
    /// # Errors
    /// If the kernel does not support it.
    pub fn stamp_departures(&self) -> Result<(), Error> {
        // This option is set first, so that `poll` reports every record in the queue.
        self.switch_on(libc::SOL_SOCKET, SO_SELECT_ERR_QUEUE)?;
        self.stamp(libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_SOFTWARE)
    }

    /// Reads one record of the error queue, with its frame in `buffer`. Octets that do not fit are lost. Returns none
    /// if the record has no timestamp. Call this only if [`crate::poll::ready`] reports a record: otherwise a simulator
    /// would take a datagram instead.
    ///
    /// # Errors
    /// [`Error::would_block`] if there is none.
    pub fn departure(&self, buffer: &mut [u8]) -> Result<Option<Departure>, Error> {
        let mut control = control::Buffer::new();
        let (message, len) = self.receive_message(buffer, None, &mut control, libc::MSG_ERRQUEUE)?;
        let ancillary = control.read(&message);
        let left = message.msg_flags & libc::MSG_ERRQUEUE != 0;
        Ok(ancillary.stamp_ns.filter(|_| left).map(|at_ns| Departure { len, at_ns }))
    }

    /// Reads one datagram into `buffer`. Octets that do not fit are lost. On a connected socket, an error that an
    /// earlier datagram caused is returned here, once.
    ///
    /// # Errors
    /// [`Error::would_block`] if there is none; on a connected socket also [`Error::refused`] and similar errors.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, Error> {
        let mut from = address::blank();
        let mut control = control::Buffer::new();
        let received = self.receive_message(buffer, Some(&mut from), &mut control, 0);
        let read_at = clock::realtime_ns();
        let (message, len) = received?;
        // A datagram without a sender cannot be answered. A kernel does not deliver such a datagram over IP.
        let from = address::decode(&from).ok_or(Error::new("recvmsg", libc::EAFNOSUPPORT))?;
        let ancillary = control.read(&message);
        let at_ns = ancillary.stamp_ns.unwrap_or(read_at);
        Ok(Received { len, from, local: ancillary.local, to_group: ancillary.to_group, at_ns })
    }

    /// The returned message keeps pointers to what the caller lent. Use only its control part, `control`, afterwards.
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
    /// An error that an earlier datagram caused is returned here too ([`Error::refused`]).
    pub fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        self.transmit(datagram, None, None, false)
    }

    /// Sends `datagram` to `to`, with the source address `local` if given.
    ///
    /// # Errors
    /// If there is no route to `to`, or `local` is not an address of this machine any more.
    pub fn send_from(&self, local: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> Result<(), Error> {
        self.transmit(datagram, Some(to), local, false)
    }

    /// The same, and asks for a record of this datagram's departure in the error queue ([`UdpSocket::departure`]).
    /// While the queue has a record, [`crate::poll`] reports that the socket is ready.
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

    /// Prepares a server's socket for many datagrams at a time, and asks for a receive buffer of `octets`. The kernel
    /// doubles the number, because it counts its own bookkeeping as well (socket(7)). Returns the size that the kernel
    /// gives, by its own count. With CAP_NET_ADMIN the size may exceed the limit for users.
    ///
    /// Timestamps come in their shortest form. Datagrams are not fragmented, for two reasons. The kernel then needs no
    /// number by which fragments find each other, which takes a twentieth of the whole cost of an answer
    /// (ip_select_ident_segs in include/net/ip.h). And an attacker cannot put a forged fragment into an answer. No
    /// answer is larger than its request, for which the path was wide enough; reports of a smaller path MTU are
    /// ignored.
    ///
    /// # Errors
    /// Rarely: the kernel gives a smaller buffer instead.
    pub fn expect_many(&self, octets: usize) -> Result<usize, Error> {
        // Wanted, but not needed. The new form of timestamps is switched on before the old one is switched off, so that
        // no timestamp is missed.
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

    /// The local address and port.
    ///
    /// # Errors
    /// Rarely.
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

    pub(super) fn switch_on(&self, level: libc::c_int, option: libc::c_int) -> Result<(), Error> {
        self.set_option(level, option, 1)
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<(), Error> {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the pointer and the length are those of a live int, which is what these options take.
        let result = unsafe { libc::setsockopt(self.raw(), level, option, (&raw const value).cast(), len) };
        Error::check("setsockopt", result).map(drop)
    }

    pub(super) fn raw(&self) -> libc::c_int {
        self.descriptor.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// From the kernel's include/uapi/asm-generic/socket.h: an error queue that is not empty also raises POLLPRI.
const SO_SELECT_ERR_QUEUE: libc::c_int = 45;

pub(super) fn blank_message() -> libc::msghdr {
    // SAFETY: msghdr is a plain structure; all zeros is one without name, buffers or control data.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// `::` and `0.0.0.0`: every address of the family.
pub fn any_address(ipv6: bool, port: u16) -> SocketAddr {
    if ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}
