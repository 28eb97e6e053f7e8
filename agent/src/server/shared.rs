//! The state that the server's threads share.
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
};

use ntp::{RestrictTable, Served};

use super::{
    clients::ClientTable, config::ServeConfig, control::QueryHandler, counters::ServerCounters,
    departures::Departures, keys::ServedKeys, serving_state::States,
};
use crate::{cookie_keys::CookieKeys, loop_detector::LoopDetector, panics::Panics};

/// The state that the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Mutex<Settings>,
    /// Increases with each change of the settings, so that a worker need not take the lock for each packet.
    pub(super) generation: AtomicU64,
    pub(super) states: Mutex<States>,
    pub(super) departures: Departures,
    pub(super) loop_detector: Arc<LoopDetector>,
    pub(super) counters: ServerCounters,
    pub(super) query_handler: QueryHandler,
    pub(super) panics: Arc<Panics>,
    pub(super) stop: AtomicBool,
}

/// What the server does from now on. Each worker has a copy.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: Arc<ServeConfig>,
    /// The rules of `config`, with the upstreams' addresses in place of its template.
    pub(super) rules: Arc<RestrictTable>,
    pub(super) upstreams: Arc<[IpAddr]>,
    pub(super) served: Served,
    pub(super) clients: Arc<ClientTable>,
    pub(super) cookie_keys: Option<CookieKeys>,
    pub(super) keys: Arc<ServedKeys>,
}

impl Shared {
    /// # Errors
    /// If the kernel has no random number.
    pub(super) fn new(config: ServeConfig, panics: Arc<Panics>) -> Result<Self, sys::Error> {
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
            query_handler: QueryHandler::new()?,
            panics,
            stop: AtomicBool::new(false),
        })
    }

    // Both are valid at every moment, even after a thread panicked with the lock held.
    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
