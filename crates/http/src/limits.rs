//! Limits the number of open connections whose client has not proven the token, and chooses which one to close when a
//! new one arrives at a limit. The new one is always accepted, so a flood from one address closes that address's
//! connections first.
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::connection::Connection;

/// What clients that have not proven the token may use of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in total.
    pub connections: usize,
    /// Connections of one address; for IPv6, of one /64 network.
    pub per_address: usize,
    /// How long one connection may last.
    pub lifetime: Duration,
}

/// The connections whose clients have not proven the token, oldest first.
#[derive(Debug)]
pub(crate) struct UnprovenConnections {
    limits: Limits,
    list: Mutex<Vec<(IpAddr, Arc<Connection>)>>,
}

impl UnprovenConnections {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, list: Mutex::default() }
    }

    /// Adds a connection. If a limit is reached, ends another one and returns true.
    pub(crate) fn add(&self, address: IpAddr, connection: &Arc<Connection>) -> bool {
        let (client, mut list) = (client(address), self.list());
        let same = list.iter().filter(|(each, _)| *each == client).count();
        let gone = if same >= self.limits.per_address {
            first_to_go(&list, |each| each == client)
        } else if list.len() >= self.limits.connections {
            first_to_go(&list, |_| true)
        } else {
            None
        };
        if let Some(gone) = gone {
            list.remove(gone).1.end();
        }
        list.push((client, Arc::clone(connection)));
        gone.is_some()
    }

    /// Removes a connection that has ended, or whose client has proven the token.
    pub(crate) fn remove(&self, connection: &Arc<Connection>) {
        self.list().retain(|(_, each)| !Arc::ptr_eq(each, connection));
    }

    // Each entry is valid at every moment, so the list is valid even after a thread panicked.
    fn list(&self) -> MutexGuard<'_, Vec<(IpAddr, Arc<Connection>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection to close: first those that never completed a request, then those that are idle, last those that are
/// being answered; the oldest of each kind.
fn first_to_go(list: &[(IpAddr, Arc<Connection>)], counts: impl Fn(IpAddr) -> bool) -> Option<usize> {
    let candidates = list.iter().enumerate().filter(|(_, (client, _))| counts(*client));
    candidates.min_by_key(|(_, (_, connection))| connection.phase()).map(|(index, _)| index)
}

/// The client that an address stands for: for IPv6, one client has a whole /64 network.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { connections: 4, per_address: 2, lifetime: Duration::from_secs(30) };

    fn add(unproven: &UnprovenConnections, address: &str) -> Arc<Connection> {
        let connection = Arc::new(Connection::new(Some(LIMITS.lifetime)));
        unproven.add(address.parse().unwrap(), &connection);
        connection
    }

    fn ended(connections: &[&Arc<Connection>]) -> Vec<bool> {
        connections.iter().map(|connection| connection.has_ended()).collect()
    }

    #[test]
    fn an_address_at_its_limit_loses_its_own() {
        let unproven = UnprovenConnections::new(LIMITS);
        let other = add(&unproven, "192.0.2.1");
        let first = add(&unproven, "2001:db8::1");
        let second = add(&unproven, "2001:db8::2");
        // The same /64 network.
        let third = add(&unproven, "2001:db8::3:0:0:1");
        assert_eq!(ended(&[&other, &first, &second, &third]), [false, true, false, false]);
        let mapped = add(&unproven, "::ffff:192.0.2.1");
        let again = add(&unproven, "192.0.2.1");
        assert_eq!(ended(&[&other, &mapped, &again]), [true, false, false]);
    }

    #[test]
    fn the_oldest_without_a_request_goes() {
        let unproven = UnprovenConnections::new(LIMITS);
        let all: Vec<_> = (1..=4).map(|n| add(&unproven, &format!("192.0.2.{n}"))).collect();
        // The first one is being answered, the second one was.
        all[0].begin();
        all[1].begin();
        all[1].answered();
        let fifth = add(&unproven, "192.0.2.5");
        assert_eq!(ended(&all.iter().collect::<Vec<_>>()), [false, false, true, false]);
        let sixth = add(&unproven, "192.0.2.6");
        assert!(all[3].has_ended() && !fifth.has_ended());
        fifth.begin();
        sixth.begin();
        // Only connections that have made a request are left.
        add(&unproven, "192.0.2.7").begin();
        assert!(all[1].has_ended() && !all[0].has_ended(), "one that waits goes before one that is answered");
        add(&unproven, "192.0.2.8");
        assert!(all[0].has_ended() && !fifth.has_ended(), "and at last the oldest of these");
    }

    #[test]
    fn who_leaves_makes_room() {
        let unproven = UnprovenConnections::new(LIMITS);
        let first = add(&unproven, "192.0.2.1");
        let second = add(&unproven, "192.0.2.1");
        unproven.remove(&first);
        add(&unproven, "192.0.2.1");
        assert_eq!(ended(&[&first, &second]), [false, false]);
    }
}
