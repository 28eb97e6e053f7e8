//! The requests on their way. Each has a socket, on a port of its own (RFC 9109), and what is needed to recognise the
//! timestamp of its departure. Datagrams out and in; the engine interprets them.
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use ntp::{NtpTimestamp, RequestId, Wall};
use sys::{
    poll::Ready,
    udp::{Received, UdpSocket},
};
use tracing::debug;

use crate::loop_detector::LoopDetector;

/// The sockets.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, Request>,
    /// Tells the agent's own server about the requests.
    loop_detector: Arc<LoopDetector>,
}

#[derive(Debug)]
struct Request {
    socket: UdpSocket,
    to: SocketAddr,
    cookie: NtpTimestamp,
}

impl Requests {
    /// Starts without requests. The server that has `loop_detector` will know of them.
    pub(super) fn with_loop_detector(loop_detector: Arc<LoopDetector>) -> Self {
        Self { open: BTreeMap::new(), loop_detector }
    }

    /// Sends a request with this `cookie`. Returns when it left, as far as that is known before the kernel's timestamp
    /// comes.
    pub(super) fn send(
        &mut self,
        id: RequestId,
        to: SocketAddr,
        cookie: NtpTimestamp,
        datagram: &[u8],
    ) -> Result<Wall, sys::Error> {
        let socket = UdpSocket::connect(to)?;
        if let Err(error) = socket.stamp_departures() {
            debug!(%error, "Kernel does not stamp departures");
        }
        // Read before the call. On the way out the request takes a path through the network stack. A reading after the
        // call would miss that time if another thread, or on loopback the receiver, runs first.
        let at = Wall(sys::clock::realtime_ns());
        // Before the call too: the server may have the request before the call returns.
        self.loop_detector.begin(cookie);
        if let Err(error) = socket.send(datagram) {
            self.loop_detector.end(cookie);
            return Err(error);
        }
        self.open.insert(id, Request { socket, to, cookie });
        Ok(at)
    }

    pub(super) fn close(&mut self, id: RequestId) {
        self.open.remove(&id).into_iter().for_each(|request| self.loop_detector.end(request.cookie));
    }

    pub(super) fn close_all(&mut self) {
        let open = std::mem::take(&mut self.open);
        open.values().for_each(|request| self.loop_detector.end(request.cookie));
    }

    /// The descriptors to wait for, in the order of [`Requests::ready`].
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().map(|request| request.socket.as_fd())
    }

    /// The requests that these sockets belong to.
    pub(super) fn ready(&self, found: &[Ready]) -> Vec<(RequestId, Ready)> {
        let all = self.open.keys().copied().zip(found.iter().copied());
        all.filter(|(_, ready)| *ready != Ready::default()).collect()
    }

    /// The kernel's timestamp of a request's departure. Call this only if the request's error queue is ready.
    pub(super) fn departure(&self, id: RequestId) -> Option<Wall> {
        let request = self.open.get(&id)?;
        let mut frame = [0; FRAME];
        let left = request.socket.departure(&mut frame).ok()??;
        let cookie = request.cookie.0.to_be_bytes();
        // Recognised by its content, since headers of any length come before it in the frame.
        let own = frame[..left.len].windows(cookie.len()).any(|octets| octets == cookie);
        own.then_some(Wall(left.at_ns))
    }

    /// Returns true if a datagram that came for a request is an answer of the agent's own server.
    pub(super) fn is_own_reply(&self, id: RequestId, datagram: &[u8]) -> bool {
        self.open.get(&id).is_some_and(|request| self.loop_detector.is_own_reply(request.cookie, datagram))
    }

    /// The address that a request was sent to.
    pub(super) fn asked(&self, id: RequestId) -> Option<SocketAddr> {
        self.open.get(&id).map(|request| request.to)
    }

    /// One datagram that came for a request; none if the request has ended.
    pub(super) fn receive(&self, id: RequestId, buffer: &mut [u8]) -> Option<Result<Received, sys::Error>> {
        self.open.get(&id).map(|request| request.socket.receive(buffer))
    }
}

/// Room for the headers of link, IP and UDP, and for the part of the datagram with the cookie.
const FRAME: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ntp::packet;
    use sys::poll;

    use super::*;

    #[test]
    fn a_requests_departure_is_known_before_its_answer() {
        let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut requests = Requests::default();
        let (id, to) = (RequestId(3), server.local_address().unwrap());
        let cookie = NtpTimestamp(0x0102_0304_0506_0708);
        let sent = requests.send(id, to, cookie, &packet::client_request(cookie)).unwrap();
        let limit = Some(Duration::from_secs(10));
        let found = poll::ready(&requests.descriptors().collect::<Vec<_>>(), limit).unwrap();
        let [(found, ready)] = requests.ready(&found)[..] else { panic!("nothing within ten seconds") };
        assert!(found == id && ready.queue);
        let left = requests.departure(id).expect("a stamp");
        assert!(sent <= left && left.0 <= sys::clock::realtime_ns(), "{sent:?} {left:?}");

        assert_eq!(poll::readable(&[server.as_fd()], limit).unwrap(), [true]);
        let mut buffer = [0; 64];
        let request = server.receive(&mut buffer).unwrap();
        assert_eq!(packet::decode(&buffer[..request.len]).unwrap().transmit, cookie);
        assert!(left.0 <= request.at_ns, "{left:?} {request:?}");
        requests.close(id);
        assert!(requests.departure(id).is_none() && requests.receive(id, &mut buffer).is_none());
    }
}
