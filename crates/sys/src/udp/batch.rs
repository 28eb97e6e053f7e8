//! Many datagrams with one system call: an [`Inbox`] that `recvmmsg` fills, and an [`Outbox`] that `sendmmsg` empties.
//!
//! All memory is allocated when they are created. The kernel gets the same headers each time, which point to the same
//! buffers. Only what it changed in them is restored.
use std::net::{IpAddr, SocketAddr};

use super::{
    address, control,
    socket::{Received, UdpSocket, blank_message},
};
use crate::{Error, clock};

/// Datagrams that were received together, each of at most `ROOM` octets. Octets that do not fit are lost.
#[derive(Debug)]
pub struct Inbox<const ROOM: usize> {
    messages: Messages<ROOM>,
    /// The number of headers that the kernel changed.
    filled: usize,
    /// When they were read.
    read_at_ns: i64,
}

impl<const ROOM: usize> Inbox<ROOM> {
    /// An inbox for `count` datagrams.
    pub fn new(count: usize) -> Self {
        let mut messages = Messages::new(count);
        (0..count).for_each(|place| messages.lend_all(place));
        Self { messages, filled: 0, read_at_ns: 0 }
    }

    /// Receives the waiting datagrams with one call that never waits. They replace the former content. Returns their
    /// number.
    ///
    /// # Errors
    /// [`Error::would_block`] if there is no datagram.
    pub fn receive(&mut self, socket: &UdpSocket) -> Result<usize, Error> {
        (0..self.filled).for_each(|place| self.messages.lend_all(place));
        self.filled = 0;
        let headers = &mut self.messages.headers;
        // SAFETY: each header points to a slot of its own in a vector that lives as long, is never moved nor grown,
        // and that nothing borrows during the call; the count is the vector's.
        let got = unsafe {
            let count = headers.len() as libc::c_uint;
            libc::recvmmsg(
                socket.raw(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let filled = usize::try_from(got).map_err(|_| Error::last("recvmmsg"))?;
        self.read_at_ns = clock::realtime_ns();
        self.filled = filled;
        Ok(filled)
    }

    /// The datagram at `place`, and its octets. None if fewer datagrams came last, or if it has no sender; a kernel
    /// does not deliver such a datagram over IP.
    pub fn datagram(&self, place: usize) -> Option<(Received, &[u8])> {
        let header = self.messages.headers[..self.filled].get(place)?;
        let slot = &self.messages.slots[place];
        let from = address::decode(&slot.name)?;
        let ancillary = slot.control.read(&header.msg_hdr);
        let len = (header.msg_len as usize).min(ROOM);
        let at_ns = ancillary.stamp_ns.unwrap_or(self.read_at_ns);
        Some((
            Received { len, from, local: ancillary.local, to_group: ancillary.to_group, at_ns },
            &slot.octets[..len],
        ))
    }
}

/// Datagrams to be sent together, each of `LEN` octets or fewer.
#[derive(Debug)]
pub struct Outbox<const LEN: usize> {
    messages: Messages<LEN>,
    filled: usize,
}

impl<const LEN: usize> Outbox<LEN> {
    /// An outbox for `count` datagrams.
    pub fn new(count: usize) -> Self {
        Self { messages: Messages::new(count), filled: 0 }
    }

    /// The number of datagrams that wait.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Returns true if no datagram waits.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Returns true if no further datagram fits.
    pub fn is_full(&self) -> bool {
        self.filled == self.messages.slots.len()
    }

    /// Adds a datagram to `to`, with the source address `local` if given. Does nothing if the outbox is full.
    pub fn push(&mut self, local: Option<IpAddr>, to: SocketAddr, datagram: &[u8; LEN]) {
        let Some(slot) = self.messages.slots.get_mut(self.filled) else { return };
        slot.octets = *datagram;
        self.messages.vectors[self.filled].iov_len = LEN;
        self.address(local, to);
    }

    /// Adds a datagram that may be shorter. If it is longer than `LEN`, or the outbox is full, does nothing and returns
    /// `false`.
    pub fn push_short(&mut self, local: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some(slot) = self.messages.slots.get_mut(self.filled) else { return false };
        let Some(octets) = slot.octets.get_mut(..datagram.len()) else { return false };
        octets.copy_from_slice(datagram);
        self.messages.vectors[self.filled].iov_len = datagram.len();
        self.address(local, to);
        true
    }

    /// Completes the datagram that was added last.
    fn address(&mut self, local: Option<IpAddr>, to: SocketAddr) {
        let place = self.filled;
        let slot = &mut self.messages.slots[place];
        let message = &mut self.messages.headers[place].msg_hdr;
        message.msg_namelen = address::write(&mut slot.name, &to);
        match local {
            Some(local) => slot.control.write_source(message, local),
            None => message.msg_controllen = 0,
        }
        self.filled += 1;
    }

    /// Sends all datagrams in their order, and empties the outbox. Calls `failed` with the place of each datagram that
    /// the kernel refused.
    pub fn send(&mut self, socket: &UdpSocket, mut failed: impl FnMut(usize)) {
        let mut next = 0;
        while next < self.filled {
            let rest = &mut self.messages.headers[next..self.filled];
            // SAFETY: each header points to a slot of its own in a vector that lives as long and is never moved nor
            // grown; the kernel reads what they point to and writes to nothing but the headers.
            let sent = unsafe {
                let count = rest.len() as libc::c_uint;
                libc::sendmmsg(socket.raw(), rest.as_mut_ptr(), count, libc::MSG_NOSIGNAL as _)
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => next += sent,
                _ if Error::last("sendmmsg").interrupted() => {}
                // The kernel refused the first of the rest. It may accept those after it.
                _ => {
                    failed(next);
                    next += 1;
                }
            }
        }
        self.filled = 0;
    }
}

/// Headers, and what they point to. The vectors never grow, so the pointers stay valid when this value is moved.
#[derive(Debug)]
struct Messages<const ROOM: usize> {
    headers: Vec<libc::mmsghdr>,
    slots: Vec<Slot<ROOM>>,
    /// The headers point to these.
    vectors: Vec<libc::iovec>,
}

/// The buffers of one datagram.
#[derive(Clone)]
struct Slot<const ROOM: usize> {
    name: libc::sockaddr_storage,
    control: control::Buffer,
    octets: [u8; ROOM],
}

impl<const ROOM: usize> std::fmt::Debug for Slot<ROOM> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

// SAFETY: the pointers in the headers and vectors are to memory that belongs to this value alone, and goes with it.
unsafe impl<const ROOM: usize> Send for Messages<ROOM> {}

impl<const ROOM: usize> Messages<ROOM> {
    fn new(count: usize) -> Self {
        let blank = Slot { name: address::blank(), control: control::Buffer::new(), octets: [0; ROOM] };
        let mut slots = vec![blank; count];
        let slot_of = slots.as_mut_ptr();
        let vector = |place| libc::iovec {
            // SAFETY: the place is within the vector. No reference to the octets is made.
            iov_base: unsafe { (&raw mut (*slot_of.add(place)).octets).cast() },
            iov_len: ROOM,
        };
        let mut vectors: Vec<_> = (0..count).map(vector).collect();
        let vector_of = vectors.as_mut_ptr();
        let header = |place| {
            let mut message = blank_message();
            // SAFETY: both places are within their vectors, of `count` elements each.
            unsafe {
                message.msg_name = (&raw mut (*slot_of.add(place)).name).cast();
                message.msg_control = (&raw mut (*slot_of.add(place)).control).cast();
                message.msg_iov = vector_of.add(place);
            }
            message.msg_iovlen = 1;
            libc::mmsghdr { msg_hdr: message, msg_len: 0 }
        };
        Self { headers: (0..count).map(header).collect(), slots, vectors }
    }

    /// Lets the kernel use all of the slot's name and control buffer.
    fn lend_all(&mut self, place: usize) {
        let message = &mut self.headers[place].msg_hdr;
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_controllen = size_of::<control::Buffer>() as _;
    }
}
