//! The server: requests on UDP 123 in, replies out, by as many threads as are wanted, each for both families.
//!
//! The threads decide nothing themselves, `ntp::respond` does. Rules, limits and what is served can be replaced at any
//! time; a port that cannot be opened is reported and tried again, and stops nothing else.
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
    itself::Itself,
    key_server::CookieKeys,
    panics::{Panics, Part},
};

mod keeper;
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
use control::{Desk, SnapshotSource};
use counters::WorkerCounters;
use departures::Departures;
use keys::ServedKeys;

pub(crate) use counters::{KeyExchange, ServerCounters};
pub(crate) use keys::KeyFiles;
pub(crate) use nts::{Nonces, Ring};
pub(crate) use socket::ServerSocket;

/// What is to be served to whom; not the time itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// Whether the port is to be open at all.
    pub(crate) enabled: bool,
    /// UDP port.
    pub(crate) port: u16,
    /// Threads that answer, 1 to [`MOST_WORKERS`].
    pub(crate) workers: usize,
    /// For addresses whose entry says `limited`.
    pub(crate) limit: RateLimit,
    /// So many addresses are remembered for it.
    pub(crate) max_clients: usize,
    /// Who may ask.
    pub(crate) rules: RestrictTable,
}

/// More processors than this are not kept busy by a node's clients.
pub(crate) const MOST_WORKERS: usize = profile::ranges::WORKERS.most as usize;

/// The running server. Its threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    /// The keeper's.
    waker: Arc<Waker>,
    keeper: Option<JoinHandle<()>>,
}

/// Why the server could not be started; has nothing to do with its port.
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
    /// Starts the threads; until the first [`Server::publish`] they say that the clock is not synchronised.
    ///
    /// # Errors
    /// When the system has no descriptor or thread left.
    pub(crate) fn start(config: ServeConfig, panics: Arc<Panics>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(config, panics)?);
        let waker = Arc::new(Waker::new().map_err(Error::Waker)?);
        let (its_shared, its_waker) = (Arc::clone(&shared), Arc::clone(&waker));
        let keeper = Builder::new()
            .name("server".to_owned())
            .spawn(move || {
                let pause = |time| keeper::pause(&its_shared, &its_waker, time);
                its_shared.panics.guard(Part::ServerKeeper, pause, || keeper::run(&its_shared, &its_waker));
            })
            .map_err(Error::Thread)?;
        Ok(Self { shared, waker, keeper: Some(keeper) })
    }

    /// What the client beside it is to know.
    pub(crate) fn itself(&self) -> Arc<Itself> {
        Arc::clone(&self.shared.itself)
    }

    /// Serves by `config` from now on; opens, closes or moves the port if need be.
    pub(crate) fn apply(&self, config: ServeConfig) {
        {
            let mut orders = self.shared.orders();
            if config.max_clients != orders.config.max_clients {
                orders.clients = Arc::new(ClientTable::new(config.max_clients));
            }
            orders.rules = Arc::new(config.rules.for_upstreams(&orders.upstreams));
            orders.config = Arc::new(config);
        }
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }

    /// Serves `served` from now on. Cheap: nobody is woken.
    pub(crate) fn publish(&self, served: Served) {
        self.shared.orders().served = served;
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// The upstreams are at these addresses from now on, for which the access list may have a template. Cheap while they
    /// stay the same.
    pub(crate) fn learn_upstreams(&self, addresses: &[IpAddr]) {
        let mut orders = self.shared.orders();
        if *orders.upstreams != *addresses {
            orders.upstreams = addresses.into();
            orders.rules = Arc::new(orders.config.rules.for_upstreams(addresses));
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Answers requests that are made with these keys from now on, with the same key; with another one none.
    pub(crate) fn sign_with(&self, keys: Arc<ServedKeys>) {
        self.shared.orders().keys = keys;
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Answers queries (mode 6) from now on with what `source` says; to be called once.
    pub(crate) fn show(&self, source: SnapshotSource) {
        self.shared.desk.ask(source);
    }

    /// Seals and opens cookies with these keys from now on; without, there is no NTS.
    pub(crate) fn seal_with(&self, keys: Option<CookieKeys>) {
        self.shared.orders().cookie_keys = keys;
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// What holds for a client.
    pub(crate) fn flags(&self, address: IpAddr, port: u16) -> RestrictFlags {
        let rules = Arc::clone(&self.shared.orders().rules);
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
            enabled: self.shared.orders().config.enabled,
            serving,
            failure,
            message,
            answered: counters.answered(),
            dropped: counters.dropped().map(|(_, count)| count).sum(),
            kod: counters.kisses(),
        }
    }

    /// What was done, in full.
    pub(crate) fn counters(&self) -> &ServerCounters {
        let clients = Arc::clone(&self.shared.orders().clients);
        self.shared.counters.set_rate_entries(clients.used());
        &self.shared.counters
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(keeper) = self.keeper.take() {
            // Panics are caught within.
            let _ = keeper.join();
        }
    }
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    orders: Mutex<Orders>,
    /// Counts changes of the orders, so that a worker need not lock for each packet.
    generation: AtomicU64,
    states: Mutex<[ServingState; Family::ALL.len()]>,
    departures: Departures,
    itself: Arc<Itself>,
    counters: ServerCounters,
    desk: Desk,
    panics: Arc<Panics>,
    stop: AtomicBool,
}

#[derive(Clone, Debug)]
struct Orders {
    config: Arc<ServeConfig>,
    /// Those of `config`, with what its template says of the upstreams.
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
            orders: Mutex::new(Orders {
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
            itself: Arc::default(),
            counters: ServerCounters::default(),
            desk: Desk::new().map_err(Error::Random)?,
            panics,
            stop: AtomicBool::new(false),
        })
    }

    // Both are whole at every moment, so a thread that panicked while it held them left nothing half done.
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// `[::]`, for IPv6 alone.
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

/// How it stands with the port of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum ServingState {
    /// Not yet tried, or not wanted.
    #[default]
    Closed,
    /// Requests are answered.
    Open,
    /// The node has no such family.
    NoFamily,
    /// It could not be opened: why, and the same with the system's reason for a reader.
    Failed(ServingFailure, String),
}

impl ServingState {
    fn is_to_be_tried_again(&self) -> bool {
        matches!(self, Self::Failed(..) | Self::NoFamily)
    }
}

/// Whether all is served that can be, and why not.
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
