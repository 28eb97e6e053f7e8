//! Stands between the agent and its server, remembers what goes by, and loses or spoils it.
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What is done with replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    Lose,
    /// One bit of each reply is flipped, another one each time.
    Spoil,
}

/// Requests and replies that went by.
type Exchange = (Vec<u8>, Vec<u8>);

/// A relay; its thread ends with the test's process.
pub(crate) struct Relay {
    mode: Arc<Mutex<Mode>>,
    seen: Arc<Mutex<Vec<Exchange>>>,
    copies: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    /// Relays from `own` to `server`.
    pub(crate) fn start(own: SocketAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(own).unwrap();
        let mode = Arc::new(Mutex::new(Mode::Pass));
        let relay = Self { mode, seen: Arc::default(), copies: Arc::default() };
        let (mode, seen) = (Arc::clone(&relay.mode), Arc::clone(&relay.seen));
        let copies = Arc::clone(&relay.copies);
        thread::spawn(move || {
            let mut spoiled = 0;
            loop {
                let mut buffer = [0; 2048];
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let request = buffer[..length].to_vec();
                let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
                outside.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                if let Some(other) = *copies.lock().unwrap() {
                    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                    (0..4).for_each(|_| drop(stranger.send_to(&request, other)));
                    // Until they are answered.
                    thread::sleep(Duration::from_millis(2));
                }
                if outside.send_to(&request, server).is_err() {
                    continue;
                }
                let Ok(length) = outside.recv(&mut buffer) else { continue };
                let mut reply = buffer[..length].to_vec();
                seen.lock().unwrap().push((request, reply.clone()));
                match *mode.lock().unwrap() {
                    Mode::Pass => {}
                    Mode::Lose => continue,
                    Mode::Spoil => {
                        // Every 37th bit: over the whole reply within a few, whatever its length.
                        let bit = (37 * spoiled) % (8 * reply.len());
                        reply[bit / 8] ^= 1 << (bit % 8);
                        spoiled += 1;
                    }
                }
                let _ = socket.send_to(&reply, client);
            }
        });
        relay
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// From now on each request is also sent to `other`, four times, and first.
    pub(crate) fn copy_to(&self, other: SocketAddr) {
        *self.copies.lock().unwrap() = Some(other);
    }

    /// What went by so far.
    pub(crate) fn seen(&self) -> Vec<Exchange> {
        self.seen.lock().unwrap().clone()
    }
}
