//! Control messages of a datagram: when it came, to which local address, and from which one to send.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// A buffer for control messages: 256 octets, of which a timestamp needs 64 and an address 32, aligned as `cmsghdr`
/// must be.
#[derive(Clone)]
#[repr(C, align(8))]
pub(super) struct Buffer([u8; 256]);

/// What the control messages of a received datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AncillaryData {
    /// When it came, nanoseconds of CLOCK_REALTIME.
    pub(super) stamp_ns: Option<i64>,
    /// The local address that it came to.
    pub(super) local: Option<IpAddr>,
    /// The destination address in the header is not an address of this machine alone.
    pub(super) to_group: bool,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self([0; 256])
    }

    /// Makes `message` be received with this buffer, which must outlive the call.
    pub(super) fn attach(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&self.0) as _;
    }

    /// The control messages that came with `message`, which was received with this buffer.
    pub(super) fn read(&self, message: &libc::msghdr) -> AncillaryData {
        let mut ancillary = AncillaryData::default();
        debug_assert!(ptr::eq(message.msg_control.cast(), self.0.as_ptr()));
        // SAFETY: the kernel filled msg_controllen octets of this buffer with a chain of control messages; the CMSG
        // functions stay within it, and each message is only read as what its level and type say that it is. The
        // data of a message may be less aligned than its type, hence read_unaligned.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while !header.is_null() {
                let data = libc::CMSG_DATA(header);
                let len = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                match ((*header).cmsg_level, (*header).cmsg_type) {
                    (libc::SOL_SOCKET, libc::SO_TIMESTAMPING) if len >= size_of::<libc::timespec>() => {
                        // Three timestamps: software, unused, hardware. Only the first was asked for.
                        let stamp = data.cast::<libc::timespec>().read_unaligned();
                        let nanos = stamp.tv_sec * 1_000_000_000 + stamp.tv_nsec;
                        ancillary.stamp_ns = Some(nanos).filter(|&nanos| nanos != 0);
                    }
                    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) if len >= size_of::<libc::timespec>() => {
                        let stamp = data.cast::<libc::timespec>().read_unaligned();
                        ancillary.stamp_ns = Some(stamp.tv_sec * 1_000_000_000 + stamp.tv_nsec);
                    }
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) if len >= size_of::<libc::in_pktinfo>() => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        ancillary.local = local_of(info).map(IpAddr::V4);
                        ancillary.to_group = is_to_group(info);
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if len >= size_of::<libc::in6_pktinfo>() => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        let to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                        ancillary.local = Some(to.into());
                        ancillary.to_group = to.is_multicast();
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
        ancillary
    }

    /// Makes `message` be sent from `local`, with this buffer, which must outlive the call.
    pub(super) fn write_source(&mut self, message: &mut libc::msghdr, local: IpAddr) {
        match local {
            IpAddr::V4(v4) => {
                let address = libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) };
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: address,
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.write(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(v6) => {
                let address = libc::in6_addr { s6_addr: v6.octets() };
                let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
                self.write(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// Asks the kernel to report in the error queue when `message` left (timestamping.rst §1.3.4). If
    /// [`Buffer::write_source`] is needed too, call it first.
    pub(super) fn write_stamp_request(&mut self, message: &mut libc::msghdr) {
        let before = message.msg_controllen;
        let wanted = libc::SOF_TIMESTAMPING_TX_SOFTWARE;
        if before == 0 {
            return self.write(message, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, wanted);
        }
        let start = before.next_multiple_of(align_of::<libc::cmsghdr>());
        let size = size_of_val(&wanted) as libc::c_uint;
        // SAFETY: a source is at most 40 octets with its header and what aligns the next, this one is 20, and there are
        // 256; the buffer is aligned as a header must be, and so is `start`.
        unsafe {
            let header = self.0.as_mut_ptr().add(start).cast::<libc::cmsghdr>();
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SO_TIMESTAMPING;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(header).cast::<libc::c_uint>().write_unaligned(wanted);
            message.msg_controllen = (start + libc::CMSG_LEN(size) as usize) as _;
        }
    }

    fn write<T>(&mut self, message: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, info: T) {
        let size = size_of::<T>() as libc::c_uint;
        self.attach(message);
        // SAFETY: both structures fit into 256 octets with their header; CMSG_FIRSTHDR is not null since the length
        // attached above is larger than a header.
        unsafe {
            // Without the octets that would align a further message: an IPv6 address with them is more than the kernel
            // has room for on its stack (____sys_sendmsg in net/socket.c).
            message.msg_controllen = libc::CMSG_LEN(size) as _;
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(info);
        }
    }
}

/// Returns true if the address in the header (`ipi_addr`) is a broadcast or multicast address. For a datagram to an
/// address of this machine, the kernel gives that address as the one to answer from, and for any other datagram the
/// interface's (fib_compute_spec_dst in net/ipv4/fib_frontend.c). So this also recognises each network's own broadcast
/// address.
fn is_to_group(info: libc::in_pktinfo) -> bool {
    let [local, to] =
        [info.ipi_spec_dst, info.ipi_addr].map(|address| Ipv4Addr::from(address.s_addr.to_ne_bytes()));
    to.is_multicast() || to.is_broadcast() || (!local.is_unspecified() && local != to)
}

/// The address to answer from (`ipi_spec_dst`: for a broadcast it is the interface's own), or the one in the header.
fn local_of(info: libc::in_pktinfo) -> Option<Ipv4Addr> {
    [info.ipi_spec_dst, info.ipi_addr]
        .into_iter()
        .map(|address| Ipv4Addr::from(address.s_addr.to_ne_bytes()))
        .find(|address| !address.is_unspecified())
}
