//! The TCP port of the key exchange: accepts connections, each for a task of its own. The port is closed when dropped.
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time,
};
use tracing::debug;

use crate::{
    key_server::{
        connection_limit::ConnectionLimit,
        exchange::{self, ExchangeSettings},
    },
    panics::{Panics, Part},
    server::{KeyExchange, Server},
};

/// An open port.
pub(super) struct Port {
    number: u16,
    settings: watch::Sender<Option<ExchangeSettings>>,
    listening: Vec<JoinHandle<()>>,
}

impl Port {
    /// Opens the port on all addresses of both families. `server` decides which clients may connect, and counts.
    ///
    /// # Errors
    /// One word, which users can look up, and the reason.
    pub(super) async fn open(number: u16, server: Arc<Server>, panics: Arc<Panics>) -> Result<Self, String> {
        let listeners = listen(number).await.map_err(|error| failure(number, &error))?;
        let settings = watch::Sender::new(None);
        let limit = Arc::new(ConnectionLimit::new(MOST_CONNECTIONS, MOST_OF_ONE_CLIENT));
        let listening = listeners.into_iter().map(|listener| {
            let accept_loop = AcceptLoop {
                settings: settings.subscribe(),
                limit: Arc::clone(&limit),
                server: Arc::clone(&server),
                panics: Arc::clone(&panics),
            };
            tokio::spawn(accept_loop.run(listener))
        });
        let listening = listening.collect();
        Ok(Self { number, settings, listening })
    }

    /// The port's number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Returns true if a task that accepts connections has ended, as after a panic.
    pub(super) fn has_ended(&self) -> bool {
        self.listening.iter().any(JoinHandle::is_finished)
    }

    /// Uses these terms for connections from now on.
    pub(super) fn serve(&self, settings: ExchangeSettings) {
        self.settings.send_replace(Some(settings));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        for task in &self.listening {
            task.abort();
        }
    }
}

/// A socket for IPv6 also serves IPv4, unless the node is configured otherwise (`bindv6only`), or has no IPv6.
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
