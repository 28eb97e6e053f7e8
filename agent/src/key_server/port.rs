//! The TCP port of the key exchange: connections in, each to a task of its own, as many as may be at once. Closed when it
//! is dropped.
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time,
};
use tracing::debug;

use crate::{
    key_server::talk::{self, Terms},
    server::{KeyExchange, Server},
};

/// An open port.
pub(super) struct Port {
    number: u16,
    terms: watch::Sender<Option<Terms>>,
    listening: Vec<JoinHandle<()>>,
}

impl Port {
    /// Opens it on all addresses of both families. `server` says who may connect, and counts.
    ///
    /// # Errors
    /// One word, which users look for, and the reason.
    pub(super) async fn open(number: u16, server: Arc<Server>) -> Result<Self, String> {
        let listeners = listen(number).await.map_err(|error| failure(number, &error))?;
        let terms = watch::Sender::new(None);
        let free = Arc::new(Semaphore::new(MOST));
        let guests = Arc::new(Guests::default());
        let listening = listeners.into_iter().map(|listener| {
            let desk = Desk {
                terms: terms.subscribe(),
                free: Arc::clone(&free),
                guests: Arc::clone(&guests),
                server: Arc::clone(&server),
            };
            tokio::spawn(desk.keep(listener))
        });
        let listening = listening.collect();
        Ok(Self { number, terms, listening })
    }

    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// These are the terms for connections from now on.
    pub(super) fn serve(&self, terms: Terms) {
        self.terms.send_replace(Some(terms));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        for task in &self.listening {
            task.abort();
        }
    }
}

/// A socket for IPv6 serves IPv4 too, unless the node was told otherwise (`bindv6only`), or has no IPv6.
async fn listen(number: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number));
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, number)).await {
        Ok(v6) => match v4.await {
            Ok(v4) => Ok(vec![v6, v4]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(vec![v6]),
            Err(error) => Err(error),
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            Err(error)
        }
        Err(_) => Ok(vec![v4.await?]),
    }
}

fn failure(number: u16, error: &io::Error) -> String {
    let word = match error.kind() {
        io::ErrorKind::AddrInUse => "NtsPortTaken",
        io::ErrorKind::PermissionDenied => "NtsNotPermitted",
        _ => "NtsOpenFailed",
    };
    format!("{word}: TCP port {number}: {error}")
}

/// So many connections at a time: a node's clients come once, and then about once a week.
const MOST: usize = 64;

/// So many of them for one client, so that none can keep all others away.
const MOST_OF_ONE: usize = 16;

/// Who takes the connections of one listener.
struct Desk {
    terms: watch::Receiver<Option<Terms>>,
    free: Arc<Semaphore>,
    guests: Arc<Guests>,
    server: Arc<Server>,
}

impl Desk {
    async fn keep(self, listener: TcpListener) {
        loop {
            let permit = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, peer)) => self.take(stream, peer, permit),
                // Out of descriptors, or gone before it was accepted: neither ends the service.
                Err(_) => time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let address = peer.ip().to_canonical();
        let flags = self.server.flags(address, peer.port());
        let guest = if flags.ignore || flags.noserve { None } else { Guest::enter(&self.guests, address) };
        let (Some(guest), Some(terms)) = (guest, self.terms.borrow().clone()) else {
            return self.server.count_key_exchange(KeyExchange::Refused);
        };
        let server = Arc::clone(&self.server);
        tokio::spawn(async move {
            let outcome = talk::serve(stream, &terms).await;
            server.count_key_exchange(match &outcome {
                Ok(()) => KeyExchange::Done,
                Err(_) => KeyExchange::Failed,
            });
            if let Err(error) = outcome {
                debug!(client = %address, %error, "Key exchange failed");
            }
            drop((permit, guest));
        });
    }
}

/// How many connections each client has. One of IPv6 has a whole network of 64 bits.
#[derive(Debug, Default)]
struct Guests(Mutex<BTreeMap<IpAddr, usize>>);

impl Guests {
    // A number is whole at every moment, so that of a thread that panicked is still sound.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place.
struct Guest {
    guests: Arc<Guests>,
    client: IpAddr,
}

impl Guest {
    /// None if the client has as many as it may.
    fn enter(guests: &Arc<Guests>, address: IpAddr) -> Option<Self> {
        let client = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        };
        let mut counts = guests.counts();
        let count = counts.entry(client).or_default();
        if *count == MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Self { guests: Arc::clone(guests), client })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_a_limited_number_of_connections() {
        let guests = Arc::new(Guests::default());
        let enter = |address: &str| Guest::enter(&guests, address.parse().unwrap());
        let held: Vec<_> = (0..MOST_OF_ONE).map(|n| enter(&format!("2001:db8::{n}")).unwrap()).collect();
        assert!(enter("2001:db8::ffff").is_none() && enter("192.0.2.1").is_some());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop(held);
        assert!(enter("2001:db8::1").is_some());
        assert!(guests.counts().is_empty());
    }
}
