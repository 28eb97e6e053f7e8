//! The TCP port of the key exchange: accepts connections, each for a task of its own. The port is closed when dropped.
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time,
};
use tracing::{debug, info};

use crate::{
    key_server::{
        connection_limit::ConnectionLimit,
        exchange::{self, ExchangeSettings},
    },
    panics::{Panics, Part},
    server::{KeyExchange, Server},
};

/// The port, open on some addresses.
pub(super) struct Port {
    number: u16,
    settings: watch::Sender<Option<ExchangeSettings>>,
    limit: Arc<ConnectionLimit>,
    server: Arc<Server>,
    panics: Arc<Panics>,
    listening: BTreeMap<IpAddr, JoinHandle<()>>,
}

impl Port {
    /// A port that is open nowhere yet. `server` decides which clients may connect, and counts.
    pub(super) fn new(number: u16, server: Arc<Server>, panics: Arc<Panics>) -> Self {
        let limit = Arc::new(ConnectionLimit::new(MOST_CONNECTIONS, MOST_OF_ONE_CLIENT));
        let (settings, listening) = (watch::Sender::new(None), BTreeMap::new());
        Self { number, settings, limit, server, panics, listening }
    }

    /// The port's number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Opens the port on each of these addresses where it is not open, and closes it on others. Leaves out an address, or a
    /// family, that the node does not have.
    ///
    /// # Errors
    /// One word, which users can look up, and the reason, for the first address that failed. The others are open.
    pub(super) async fn open_on(&mut self, addresses: &[IpAddr]) -> Result<(), String> {
        let gone: Vec<_> =
            self.listening.keys().filter(|address| !addresses.contains(address)).copied().collect();
        for address in gone {
            self.close(address).await;
        }
        let mut outcome = Ok(());
        for &address in addresses {
            if self.listening.contains_key(&address) {
                continue;
            }
            let place = SocketAddr::new(address, self.number);
            let listener = match listen(place) {
                Ok(listener) => listener,
                Err(error) if is_unavailable(&error) => continue,
                Err(error) => {
                    outcome = outcome.and(Err(failure(place, &error)));
                    continue;
                }
            };
            info!(%address, port = self.number, "Serving NTS key exchange");
            let accept_loop = AcceptLoop {
                settings: self.settings.subscribe(),
                limit: Arc::clone(&self.limit),
                server: Arc::clone(&self.server),
                panics: Arc::clone(&self.panics),
            };
            self.listening.insert(address, tokio::spawn(accept_loop.run(listener)));
        }
        if outcome.is_ok() && self.listening.is_empty() {
            outcome = Err(format!(
                "NtsNoAddress: TCP port {}: this node has none of serve.addresses now",
                self.number
            ));
        }
        outcome
    }

    /// Closes the port everywhere. Dropping it would close the sockets some time later, and a new port could find them open.
    pub(super) async fn close_all(mut self) {
        for address in self.listening.keys().copied().collect::<Vec<_>>() {
            self.close(address).await;
        }
    }

    async fn close(&mut self, address: IpAddr) {
        let Some(task) = self.listening.remove(&address) else { return };
        task.abort();
        // Its socket is closed when the task has ended.
        let _ = task.await;
    }

    /// Returns true if a task that accepts connections has ended, as after a panic.
    pub(super) fn has_ended(&self) -> bool {
        self.listening.values().any(JoinHandle::is_finished)
    }

    /// Uses these terms for connections from now on.
    pub(super) fn serve(&self, settings: ExchangeSettings) {
        self.settings.send_replace(Some(settings));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        for task in self.listening.values() {
            task.abort();
        }
    }
}

/// One socket for each address. That for all IPv6 addresses takes no IPv4 connections, which have a socket of their own.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    // Connections of a former run that are in TIME_WAIT must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// Returns true if the node does not have the address, or the family (EAFNOSUPPORT).
fn is_unavailable(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn failure(place: SocketAddr, error: &io::Error) -> String {
    let word = match error.kind() {
        io::ErrorKind::AddrInUse => "NtsPortTaken",
        io::ErrorKind::PermissionDenied => "NtsNotPermitted",
        _ => "NtsOpenFailed",
    };
    let address = place.ip();
    let on = if address.is_unspecified() { String::new() } else { format!(" on {address}") };
    format!("{word}: TCP port {}{on}: {error}", place.port())
}

/// The largest number of connections at a time. A node's clients come once, and then about once a week, but after a
/// restart all clients of a cluster may come at once. Each connection takes about 30 KiB.
const MOST_CONNECTIONS: usize = 256;

/// The largest number of these from one client.
const MOST_OF_ONE_CLIENT: usize = 16;

/// Accepts the connections of one listener.
struct AcceptLoop {
    settings: watch::Receiver<Option<ExchangeSettings>>,
    limit: Arc<ConnectionLimit>,
    server: Arc<Server>,
    panics: Arc<Panics>,
}

impl AcceptLoop {
    async fn run(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.take(stream, peer),
                // No descriptor is left, or the client closed before it was accepted. Neither ends the service.
                Err(_) => time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        let flags = self.server.flags(address, peer.port());
        let settings = if flags.ignore || flags.noserve { None } else { self.settings.borrow().clone() };
        let Some(settings) = settings else {
            return self.server.count_key_exchange(KeyExchange::Refused);
        };
        let (slot, eviction) = self.limit.admit(address);
        let (server, panic_guard) = (Arc::clone(&self.server), self.panics.count_panics(Part::KeyExchange));
        tokio::spawn(async move {
            let _panic_guard = panic_guard;
            let outcome = tokio::select! {
                outcome = exchange::serve(stream, &settings, &slot) => outcome,
                _ = eviction => Err(exchange::Error::Evicted),
            };
            server.count_key_exchange(match &outcome {
                Ok(()) => KeyExchange::Done,
                Err(exchange::Error::Evicted) => KeyExchange::Evicted,
                Err(_) => KeyExchange::Failed,
            });
            if let Err(error) = outcome {
                debug!(client = %address, %error, "Key exchange failed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(v6: bool, port: u16) -> SocketAddr {
        SocketAddr::new(if v6 { "::".parse().unwrap() } else { "0.0.0.0".parse().unwrap() }, port)
    }

    #[tokio::test]
    async fn each_address_has_a_socket_of_its_own() {
        let first = listen("127.0.0.2:0".parse().unwrap()).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen(SocketAddr::new("127.0.0.3".parse().unwrap(), port)).unwrap();
        TcpStream::connect(second.local_addr().unwrap()).await.unwrap();
        assert!(TcpStream::connect(("127.0.0.4", port)).await.is_err());
        assert_eq!(listen(all(false, port)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // An address that no machine has (RFC 5737).
        let error = listen(SocketAddr::new("192.0.2.7".parse().unwrap(), port)).unwrap_err();
        assert!(is_unavailable(&error), "{error}");
    }

    /// `bindv6only` of the node has no influence: each family has a socket of its own.
    #[tokio::test]
    async fn both_families_have_the_port() {
        let v4 = listen(all(false, 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        match listen(all(true, port)) {
            Ok(v6) => assert_eq!(v6.local_addr().unwrap().port(), port),
            Err(error) => assert!(is_unavailable(&error), "{error}"),
        }
    }

    #[tokio::test]
    async fn one_address_that_is_taken_costs_only_itself() {
        let panics = Arc::new(Panics::new().unwrap());
        let server = Arc::new(Server::start(crate::assemble::serve_nothing(), Arc::clone(&panics)).unwrap());
        let list =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let other = listen("127.0.0.2:0".parse().unwrap()).unwrap();
        let number = other.local_addr().unwrap().port();
        let mut port = Port::new(number, Arc::clone(&server), Arc::clone(&panics));
        let wanted = list(&["127.0.0.2", "127.0.0.3", "192.0.2.7"]);
        let why = port.open_on(&wanted).await.unwrap_err();
        assert!(why.starts_with(&format!("NtsPortTaken: TCP port {number} on 127.0.0.2: ")), "{why}");
        TcpStream::connect(("127.0.0.3", number)).await.unwrap();
        drop(other);
        assert_eq!(port.open_on(&wanted).await, Ok(()));
        TcpStream::connect(("127.0.0.2", number)).await.unwrap();

        // Another list: what was open is closed before the rest is opened.
        for texts in [["127.0.0.3", "127.0.0.4"].as_slice(), &["0.0.0.0"], &["127.0.0.5"]] {
            assert_eq!(port.open_on(&list(texts)).await, Ok(()), "{texts:?}");
        }
        assert!(TcpStream::connect(("127.0.0.3", number)).await.is_err());
        let why = port.open_on(&list(&["192.0.2.7"])).await.unwrap_err();
        assert!(why.starts_with("NtsNoAddress"), "{why}");

        assert_eq!(port.open_on(&list(&["127.0.0.5"])).await, Ok(()));
        port.close_all().await;
        let mut again = Port::new(number, server, panics);
        assert_eq!(again.open_on(&list(&["127.0.0.5"])).await, Ok(()));
    }
}
