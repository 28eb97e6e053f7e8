//! Limits the number of connections: a new one always gets a place, and if none is left, an older connection loses its
//! place. So connections that only wait cannot block others.
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The places, and the connections that have them.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    most_of_one: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    /// By the order of arrival.
    present: BTreeMap<u64, Guest>,
    next: u64,
}

#[derive(Debug)]
struct Guest {
    client: IpAddr,
    answered: bool,
    /// Dropped with the guest, which ends the connection's task.
    _place: oneshot::Sender<Infallible>,
}

/// The place of one connection. It is free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    number: u64,
}

/// Resolves when the place was given to another connection.
pub(super) type Eviction = oneshot::Receiver<Infallible>;

impl Admission {
    /// At most `most` connections, and `most_of_one` of them from one client. An IPv6 client is a /64 network.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, guests: Mutex::default() }
    }

    /// Gives a place to a connection from `address`.
    ///
    /// If its client has as many places as allowed, the client's own oldest connection ends. If all places are taken, a
    /// connection of the client with the most places ends: the oldest one that has no answer yet. So a client with one
    /// connection loses it only if no client has two.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> (Place, Eviction) {
        let client = client(address);
        let (sender, eviction) = oneshot::channel();
        let mut guests = self.guests();
        let own = guests.present.values().filter(|guest| guest.client == client).count();
        let victim = if own >= self.most_of_one {
            guests.oldest(|guest| guest.client == client)
        } else if guests.present.len() >= self.most {
            guests.oldest_of_most()
        } else {
            None
        };
        if let Some(victim) = victim {
            guests.present.remove(&victim);
        }
        let number = guests.next;
        guests.next += 1;
        guests.present.insert(number, Guest { client, answered: false, _place: sender });
        (Place { admission: Arc::clone(self), number }, eviction)
    }

    // The value is valid at every moment, even after a thread panicked.
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// The oldest of these; if possible one that has no answer yet.
    fn oldest(&self, of: impl Fn(&Guest) -> bool) -> Option<u64> {
        let these = self.present.iter().filter(|(_, guest)| of(guest));
        these.min_by_key(|(number, guest)| (guest.answered, **number)).map(|(number, _)| *number)
    }

    /// The same, of the clients with the most places.
    fn oldest_of_most(&self) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.present.values().for_each(|guest| *counts.entry(guest.client).or_default() += 1);
        let most = counts.values().copied().max();
        self.oldest(|guest| counts.get(&guest.client).copied() == most)
    }
}

impl Place {
    /// Records that the client's request was answered: only the end of the connection is left.
    pub(super) fn answered(&self) {
        if let Some(guest) = self.admission.guests().present.get_mut(&self.number) {
            guest.answered = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.guests().present.remove(&self.number);
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

    struct Room(Arc<Admission>, Vec<(Option<Place>, Eviction)>);

    impl Room {
        fn new(most: usize, most_of_one: usize) -> Self {
            Self(Arc::new(Admission::new(most, most_of_one)), Vec::new())
        }

        fn enter(&mut self, address: &str) {
            let (place, eviction) = self.0.enter(address.parse().unwrap());
            self.1.push((Some(place), eviction));
        }

        /// The connections that had to end, in the order of their arrival.
        fn gone(&mut self) -> Vec<usize> {
            let closed =
                |eviction: &mut Eviction| eviction.try_recv() == Err(oneshot::error::TryRecvError::Closed);
            let mut gone = Vec::new();
            for (number, (place, eviction)) in self.1.iter_mut().enumerate() {
                if place.is_some() && closed(eviction) {
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
            room.enter(address);
        }
        assert_eq!(room.gone(), [0; 0]);
        room.enter("2001:db8::ffff");
        assert_eq!(room.gone(), [0], "one client has a whole network of IPv6");
        room.enter("192.0.2.1");
        assert_eq!(room.gone(), [0]);
    }

    #[test]
    fn where_all_is_taken_the_client_with_most_places_loses_its_oldest() {
        let mut room = Room::new(5, 4);
        for address in ["192.0.2.9", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"] {
            room.enter(address);
        }
        room.1[2].0.as_ref().unwrap().answered();
        room.enter("192.0.2.3");
        assert_eq!(room.gone(), [3], "what was answered is left to end by itself");
        room.enter("192.0.2.4");
        assert_eq!(room.gone(), [3, 4]);
        room.enter("192.0.2.5");
        assert_eq!(room.gone(), [0, 3, 4], "all have one: the oldest goes");
    }

    #[test]
    fn who_leaves_frees_the_place() {
        let mut room = Room::new(2, 2);
        room.enter("192.0.2.1");
        room.enter("192.0.2.2");
        room.1[0].0 = None;
        room.enter("192.0.2.3");
        assert_eq!(room.gone(), [0; 0]);
        room.1.clear();
        assert!(room.0.guests().present.is_empty());
    }
}
