//! The server: requests on UDP 123 in, replies out. It has as many threads as configured, each for IPv4 and IPv6.
//!
//! The threads decide nothing; `ntp::respond` does. Rules, limits and the served time can be replaced at any time. If a
//! port cannot be opened, that is reported, and tried again; it stops nothing else.
use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use contract::{ServerReport, ServingFailure};
use ntp::{RateLimit, RestrictFlags, RestrictTable, Served};
use sys::poll::Waker;

use crate::{
    key_server::CookieKeys,
    loop_detector::LoopDetector,
    panics::{Panics, Part},
};

mod supervisor;
mod worker;

mod clients;
mod departures;
mod memory;
mod nts;

mod control;
mod keys;

mod counters;
mod socket;

use clients::ClientTable;
use control::{QueryHandler, SnapshotSource};
use counters::WorkerCounters;
use departures::Departures;
use keys::ServedKeys;

pub(crate) use counters::{KeyExchange, ServerCounters};
pub(crate) use keys::KeyFiles;
pub(crate) use nts::{CookieKeyring, Nonces};
pub(crate) use socket::ServerSocket;

/// What is to be served, and to which clients; not the time itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// True if the port is to be open.
    pub(crate) enabled: bool,
    /// UDP port.
    pub(crate) port: u16,
    /// Number of threads that answer, 1 to [`MOST_WORKERS`].
    pub(crate) workers: usize,
    /// The rate limit for addresses whose entry has `limited`.
    pub(crate) limit: RateLimit,
    /// The number of addresses that are remembered for the rate limit.
    pub(crate) max_clients: usize,
    /// Which clients may ask.
    pub(crate) rules: RestrictTable,
}

/// A node's clients cannot keep more processors busy than this.
pub(crate) const MOST_WORKERS: usize = profile::ranges::WORKERS.most as usize;

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
        let shared = Arc::new(Shared::new(config, panics)?);
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
        let (serving, failure, message) = serving(self.shared.states().as_slice());
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

/// The state that the threads share.
#[derive(Debug)]
struct Shared {
    settings: Mutex<Settings>,
    /// Increases with each change of the settings, so that a worker need not take the lock for each packet.
    generation: AtomicU64,
    states: Mutex<[ServingState; Family::ALL.len()]>,
    departures: Departures,
    loop_detector: Arc<LoopDetector>,
    counters: ServerCounters,
    query_handler: QueryHandler,
    panics: Arc<Panics>,
    stop: AtomicBool,
}

#[derive(Clone, Debug)]
struct Settings {
    config: Arc<ServeConfig>,
    /// The rules of `config`, with the upstreams' addresses in place of its template.
    rules: Arc<RestrictTable>,
    upstreams: Arc<[IpAddr]>,
    served: Served,
    clients: Arc<ClientTable>,
    cookie_keys: Option<CookieKeys>,
    keys: Arc<ServedKeys>,
}

impl Shared {
    fn new(config: ServeConfig, panics: Arc<Panics>) -> Result<Self, Error> {
        Ok(Self {
            settings: Mutex::new(Settings {
                clients: Arc::new(ClientTable::new(config.max_clients)),
                rules: Arc::new(config.rules.clone()),
                upstreams: Arc::default(),
                config: Arc::new(config),
                served: Served::UNSYNCHRONIZED,
                cookie_keys: None,
                keys: Arc::default(),
            }),
            generation: AtomicU64::new(0),
            states: Mutex::default(),
            departures: Departures::new(),
            loop_detector: Arc::default(),
            counters: ServerCounters::default(),
            query_handler: QueryHandler::new().map_err(Error::Random)?,
            panics,
            stop: AtomicBool::new(false),
        })
    }

    // Both are valid at every moment, even after a thread panicked with the lock held.
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn states(&self) -> MutexGuard<'_, [ServingState; Family::ALL.len()]> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// 0.0.0.0.
    V4,
    /// `[::]`, for IPv6 only.
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The state of one family's port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum ServingState {
    /// The port was not tried yet, or is not wanted.
    #[default]
    Closed,
    /// Requests are answered.
    Open,
    /// The node does not have the family.
    NoFamily,
    /// The port could not be opened: the reason, and a text for a reader with the system's error.
    Failed(ServingFailure, String),
}

impl ServingState {
    fn is_to_be_tried_again(&self) -> bool {
        matches!(self, Self::Failed(..) | Self::NoFamily)
    }
}

/// Whether every possible port is open, and why not.
fn serving(states: &[ServingState]) -> (bool, Option<ServingFailure>, String) {
    let (failures, messages): (Vec<ServingFailure>, Vec<&str>) = states
        .iter()
        .filter_map(|state| match state {
            ServingState::Failed(failure, message) => Some((*failure, message.as_str())),
            ServingState::Closed | ServingState::Open | ServingState::NoFamily => None,
        })
        .unzip();
    let open = states.contains(&ServingState::Open) && !states.contains(&ServingState::Closed);
    (failures.is_empty() && open, failures.first().copied(), messages.join("; "))
}

#[cfg(test)]
mod tests;
