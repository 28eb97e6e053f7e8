//! Limits the number of connections: a new one always gets a slot, and if none is left, an older connection loses its
//! slot. So connections that only wait cannot block others.
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The slots, and the connections that have them.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    most: usize,
    most_of_one: usize,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    /// By the order of arrival.
    present: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    client: IpAddr,
    answered: bool,
    /// Dropped with this value, which ends the connection's task.
    _place: oneshot::Sender<Infallible>,
}

/// The slot of one connection. It is free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    limit: Arc<ConnectionLimit>,
    number: u64,
}

/// Resolves when the slot was given to another connection.
pub(super) type Eviction = oneshot::Receiver<Infallible>;

impl ConnectionLimit {
    /// At most `most` connections, and `most_of_one` of them from one client. An IPv6 client is a /64 network.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, connections: Mutex::default() }
    }

    /// Gives a slot to a connection from `address`.
    ///
    /// If its client has as many slots as allowed, the client's own oldest connection ends. If all slots are taken, a
    /// connection of the client with the most slots ends: the oldest one that has no answer yet. So a client with one
    /// connection loses it only if no client has two.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> (Slot, Eviction) {
        let client = client(address);
        let (sender, eviction) = oneshot::channel();
        let mut connections = self.connections();
        let own = connections.present.values().filter(|connection| connection.client == client).count();
        let victim = if own >= self.most_of_one {
            connections.oldest(|connection| connection.client == client)
        } else if connections.present.len() >= self.most {
            connections.oldest_of_most()
        } else {
            None
        };
        if let Some(victim) = victim {
            connections.present.remove(&victim);
        }
        let number = connections.next;
        connections.next += 1;
        connections.present.insert(number, Connection { client, answered: false, _place: sender });
        (Slot { limit: Arc::clone(self), number }, eviction)
    }

    // The value is valid at every moment, even after a thread panicked.
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// The oldest of these; if possible one that has no answer yet.
    fn oldest(&self, of: impl Fn(&Connection) -> bool) -> Option<u64> {
        let these = self.present.iter().filter(|(_, connection)| of(connection));
        these.min_by_key(|(number, connection)| (connection.answered, **number)).map(|(number, _)| *number)
    }

    /// The same, of the clients with the most slots.
    fn oldest_of_most(&self) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.present.values().for_each(|connection| *counts.entry(connection.client).or_default() += 1);
        let most = counts.values().copied().max();
        self.oldest(|connection| counts.get(&connection.client).copied() == most)
    }
}

impl Slot {
    /// Records that the client's request was answered: only the end of the connection is left.
    pub(super) fn answered(&self) {
        if let Some(connection) = self.limit.connections().present.get_mut(&self.number) {
            connection.answered = true;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limit.connections().present.remove(&self.number);
    }
}

fn client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room(Arc<ConnectionLimit>, Vec<(Option<Slot>, Eviction)>);

    impl Room {
        fn new(most: usize, most_of_one: usize) -> Self {
            Self(Arc::new(ConnectionLimit::new(most, most_of_one)), Vec::new())
        }

        fn admit(&mut self, address: &str) {
            let (slot, eviction) = self.0.admit(address.parse().unwrap());
            self.1.push((Some(slot), eviction));
        }

        /// The connections that had to end, in the order of their arrival.
        fn gone(&mut self) -> Vec<usize> {
            let closed =
                |eviction: &mut Eviction| eviction.try_recv() == Err(oneshot::error::TryRecvError::Closed);
            let mut gone = Vec::new();
            for (number, (slot, eviction)) in self.1.iter_mut().enumerate() {
                if slot.is_some() && closed(eviction) {
                    gone.push(number);
                }
            }
            gone
        }
    }

    #[test]
    fn a_client_replaces_its_own_oldest_connection() {
        let mut room = Room::new(100, 2);
        for address in ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"] {
            room.admit(address);
        }
        assert_eq!(room.gone(), [0; 0]);
        room.admit("2001:db8::ffff");
        assert_eq!(room.gone(), [0], "one client has a whole network of IPv6");
        room.admit("192.0.2.1");
        assert_eq!(room.gone(), [0]);
    }

    #[test]
    fn where_all_is_taken_the_client_with_most_places_loses_its_oldest() {
        let mut room = Room::new(5, 4);
        for address in ["192.0.2.9", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"] {
            room.admit(address);
        }
        room.1[2].0.as_ref().unwrap().answered();
        room.admit("192.0.2.3");
        assert_eq!(room.gone(), [3], "what was answered is left to end by itself");
        room.admit("192.0.2.4");
        assert_eq!(room.gone(), [3, 4]);
        room.admit("192.0.2.5");
        assert_eq!(room.gone(), [0, 3, 4], "all have one: the oldest goes");
    }

    #[test]
    fn who_leaves_frees_the_place() {
        let mut room = Room::new(2, 2);
        room.admit("192.0.2.1");
        room.admit("192.0.2.2");
        room.1[0].0 = None;
        room.admit("192.0.2.3");
        assert_eq!(room.gone(), [0; 0]);
        room.1.clear();
        assert!(room.0.connections().present.is_empty());
    }
}
