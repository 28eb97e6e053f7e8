//! The server: requests on UDP 123 in, replies out. It has as many threads as configured, each for IPv4 and IPv6.
//!
//! The threads decide nothing; `ntp::respond` does. Rules, limits and the served time can be replaced at any time. If a
//! port cannot be opened, that is reported, and tried again; it stops nothing else.
use std::{
    io,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    thread::{Builder, JoinHandle},
};

use contract::ServerReport;
use ntp::{RestrictFlags, Served};
use sys::poll::Waker;

use crate::{
    cookie_keys::CookieKeys,
    loop_detector::LoopDetector,
    panics::{Panics, Part},
};

mod supervisor;
mod worker;

mod shared;

mod clients;
mod departures;
mod memory;
mod nts;

mod control;
mod keys;

mod counters;
mod socket;

mod port;

mod pace;

mod config;
mod serving_state;

use clients::ClientTable;
use control::SnapshotSource;
use keys::ServedKeys;
use serving_state::serving;
use shared::Shared;

pub(crate) use config::ServeConfig;
pub(crate) use counters::{KeyExchange, ServerCounters};
pub(crate) use keys::KeyFiles;
pub(crate) use nts::{CookieKeyring, Nonces};
pub(crate) use socket::ServerSocket;

/// The running server. Its threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    /// Wakes the supervisor.
    waker: Arc<Waker>,
    supervisor: Option<JoinHandle<()>>,
}

/// Why the server could not be started. A port that cannot be opened is not among the reasons.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot make a waker for the server: {0}")]
    Waker(#[source] sys::Error),
    #[error("cannot start a server thread: {0}")]
    Thread(#[source] io::Error),
    #[error("no random number for the server: {0}")]
    Random(#[source] sys::Error),
}

impl Server {
    /// Starts the threads. Until the first [`Server::publish`], their replies say that the clock is not synchronised.
    ///
    /// # Errors
    /// If the system has no descriptor or thread left.
    pub(crate) fn start(config: ServeConfig, panics: Arc<Panics>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(config, panics).map_err(Error::Random)?);
        let waker = Arc::new(Waker::new().map_err(Error::Waker)?);
        let (its_shared, its_waker) = (Arc::clone(&shared), Arc::clone(&waker));
        let supervisor = Builder::new()
            .name("server".to_owned())
            .spawn(move || {
                let pause = |time| supervisor::pause(&its_shared, &its_waker, time);
                its_shared
                    .panics
                    .guard(Part::ServerSupervisor, pause, || supervisor::run(&its_shared, &its_waker));
            })
            .map_err(Error::Thread)?;
        Ok(Self { shared, waker, supervisor: Some(supervisor) })
    }

    /// What the client in the same agent must know.
    pub(crate) fn loop_detector(&self) -> Arc<LoopDetector> {
        Arc::clone(&self.shared.loop_detector)
    }

    /// Uses `config` from now on. Opens, closes or moves the port if necessary.
    pub(crate) fn apply(&self, config: ServeConfig) {
        {
            let mut settings = self.shared.settings();
            if config.max_clients != settings.config.max_clients {
                settings.clients = Arc::new(ClientTable::new(config.max_clients));
            }
            settings.rules = Arc::new(config.rules.for_upstreams(&settings.upstreams));
            settings.config = Arc::new(config);
        }
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }

    /// Serves `served` from now on. Cheap: no thread is woken.
    pub(crate) fn publish(&self, served: Served) {
        self.shared.settings().served = served;
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Takes the present addresses of the upstreams, for which the access list may have a template. Cheap if they have
    /// not changed.
    pub(crate) fn learn_upstreams(&self, addresses: &[IpAddr]) {
        let mut settings = self.shared.settings();
        if *settings.upstreams != *addresses {
            settings.upstreams = addresses.into();
            settings.rules = Arc::new(settings.config.rules.for_upstreams(addresses));
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// From now on, signs the answer to a request that has a MAC with one of these keys, with the same key. A request
    /// with another key gets no such answer.
    pub(crate) fn sign_with(&self, keys: Arc<ServedKeys>) {
        self.shared.settings().keys = keys;
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// From now on, answers queries (mode 6) from `source`. Call this once.
    pub(crate) fn answer_queries_from(&self, source: SnapshotSource) {
        self.shared.query_handler.set_source(source);
    }

    /// Seals and opens cookies with these keys from now on. Without keys there is no NTS.
    pub(crate) fn seal_with(&self, keys: Option<CookieKeys>) {
        self.shared.settings().cookie_keys = keys;
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// The flags of the access list for a client.
    pub(crate) fn flags(&self, address: IpAddr, port: u16) -> RestrictFlags {
        let rules = Arc::clone(&self.shared.settings().rules);
        rules.flags(address, port)
    }

    /// Counts a key exchange.
    pub(crate) fn count_key_exchange(&self, outcome: KeyExchange) {
        self.shared.counters.count_key_exchange(outcome);
    }

    /// Whether the port is open, and what was done.
    pub(crate) fn report(&self) -> ServerReport {
        let (serving, failure, message) = serving(&self.shared.states());
        let counters = &self.shared.counters;
        ServerReport {
            enabled: self.shared.settings().config.enabled,
            serving,
            failure,
            message,
            answered: counters.answered(),
            dropped: counters.dropped().map(|(_, count)| count).sum(),
            kod: counters.kisses(),
        }
    }

    /// All counters of what was done.
    pub(crate) fn counters(&self) -> &ServerCounters {
        let clients = Arc::clone(&self.shared.settings().clients);
        self.shared.counters.set_rate_entries(clients.used());
        &self.shared.counters
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(supervisor) = self.supervisor.take() {
            // Panics are caught inside.
            let _ = supervisor.join();
        }
    }
}

#[cfg(test)]
mod tests;
