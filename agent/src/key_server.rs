//! The server of NTS key exchange (RFC 8915 §4), and the supervisor of its port and keys. The profile's settings in;
//! out: answers on its TCP port, cookie keys for the time server, and faults for the report.
//!
//! It runs beside the agent's other tasks. It checks its files every two seconds, so that a renewed certificate or a
//! new set of cookie keys is used without a restart. A file that cannot be read changes nothing that runs. What a
//! stranger can cause is logged at debug at most.
use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tracing::{info, warn};

use crate::{panics::Panics, server::Server, state::State};

mod own_keys;

mod validity;
mod credentials;
mod key_source;

mod connection_limit;
mod port;
mod exchange;

use credentials::Credentials;
use key_source::KeySource;
use port::Port;

pub(crate) use validity::CertificateValidity;

/// What is to be served. Names are those of files in the folder of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyServing {
    /// The certificate chain.
    pub(crate) certificate: String,
    /// Its private key.
    pub(crate) private_key: String,
    /// Keys for cookies that are shared with other agents; none for keys of this agent alone.
    pub(crate) cookie_keys: Option<String>,
    /// Addresses on which the port is open; an unspecified one stands for all addresses of its family.
    pub(crate) addresses: Vec<IpAddr>,
    /// TCP port.
    pub(crate) port: u16,
    /// The UDP port where time is served, if clients must know it.
    pub(crate) ntp_port: Option<u16>,
}

/// Passes the desired state to the supervisor, and its faults to others.
#[derive(Clone, Debug)]
pub(crate) struct KeyServer {
    wanted: watch::Sender<Option<KeyServing>>,
    trouble: Arc<Mutex<String>>,
    certificate: Arc<Mutex<Option<CertificateValidity>>>,
    panics: Arc<Panics>,
}

impl KeyServer {
    /// A server that serves nothing yet.
    pub(crate) fn new(panics: Arc<Panics>) -> Self {
        Self {
            wanted: watch::Sender::new(None),
            trouble: Arc::default(),
            certificate: Arc::default(),
            panics,
        }
    }

    /// Serves this from now on; nothing if none.
    pub(crate) fn apply(&self, wanted: Option<KeyServing>) {
        self.wanted.send_if_modified(|now| {
            let changed = *now != wanted;
            *now = wanted;
            changed
        });
    }

    /// The present fault: a word and the reason; empty if there is none.
    pub(crate) fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The validity of the certificate that is served; none if there is none.
    pub(crate) fn certificate(&self) -> Option<CertificateValidity> {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the port and the keys as desired, until the task is dropped. Files are in `directory`, and keys of this
    /// agent in `state`. `server` gets the keys, and decides which clients may ask.
    pub(crate) async fn run(self, directory: PathBuf, state: Arc<State>, server: Arc<Server>) {
        let mut wanted = self.wanted.subscribe();
        let panics = Arc::clone(&self.panics);
        let mut supervisor = Supervisor { directory, state, server, panics, files: None, port: None };
        let mut ticks = time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let serving = wanted.borrow_and_update().clone();
            let outcome = supervisor.reconcile(serving.as_ref()).await;
            self.set_trouble(outcome.err().unwrap_or_default());
            let validity = supervisor.files.as_ref().and_then(|files| files.credentials.validity());
            *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = validity;
            tokio::select! {
                _ = ticks.tick() => {}
                // This value has a sender itself, so the channel is never closed.
                _ = wanted.changed() => {}
            }
        }
    }

    /// Logs a change once.
    fn set_trouble(&self, trouble: String) {
        let mut before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *before != trouble {
            if !trouble.is_empty() {
                warn!(why = %trouble, "Trouble with serving NTS, will try again");
            }
            *before = trouble;
        }
    }
}

/// Interval at which files are checked, and a port is tried again.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

struct Supervisor {
    directory: PathBuf,
    state: Arc<State>,
    server: Arc<Server>,
    panics: Arc<Panics>,
    /// What was last read, and for which settings.
    files: Option<LoadedFiles>,
    port: Option<Port>,
}

/// Files that were read and are valid.
struct LoadedFiles {
    serving: KeyServing,
    credentials: Credentials,
    cookie_keys: KeySource,
}

impl Supervisor {
    /// Brings port and keys into the desired state.
    ///
    /// # Errors
    /// The fault, for a reader. What runs goes on as far as it can.
    async fn reconcile(&mut self, wanted: Option<&KeyServing>) -> Result<(), String> {
        let Some(wanted) = wanted else {
            if self.files.take().is_some() {
                self.port = None;
                self.server.seal_with(None);
                info!("NTS is no longer served");
            }
            return Ok(());
        };
        let outcome = self.read(wanted);
        let Some(files) = &self.files else { return outcome };
        if self.port.as_ref().is_none_or(|port| port.number() != wanted.port || port.has_ended()) {
            // Closes the old port first: it may be the one that holds the new number.
            if let Some(port) = self.port.take() {
                port.close_all().await;
            }
            let (server, panics) = (Arc::clone(&self.server), Arc::clone(&self.panics));
            self.port = Some(Port::new(wanted.port, server, panics));
        }
        let Some(port) = &mut self.port else { return outcome };
        let opened = port.open_on(&wanted.addresses).await;
        port.serve(exchange::ExchangeSettings {
            tls: files.credentials.acceptor(),
            cookie_keys: files.cookie_keys.keys(),
            ntp_port: wanted.ntp_port,
        });
        outcome.and(opened)
    }

    /// Reads files that changed.
    fn read(&mut self, wanted: &KeyServing) -> Result<(), String> {
        let [certificate, private_key] =
            [&wanted.certificate, &wanted.private_key].map(|name| self.directory.join(name));
        let shared = wanted.cookie_keys.as_ref().map(|name| self.directory.join(name));
        match &mut self.files {
            Some(files) if files.serving == *wanted => {
                let renewed =
                    files.credentials.refresh(&certificate, &private_key).map_err(certificate_trouble)?;
                if renewed {
                    info!("Certificate for NTS read anew");
                }
                let changed =
                    files.cookie_keys.refresh(shared.as_deref(), &self.state).map_err(keys_trouble)?;
                if changed {
                    self.server.seal_with(Some(files.cookie_keys.keys()));
                }
            }
            _ => {
                let credentials =
                    Credentials::read(&certificate, &private_key).map_err(certificate_trouble)?;
                let cookie_keys = KeySource::open(shared.as_deref(), &self.state).map_err(keys_trouble)?;
                self.server.seal_with(Some(cookie_keys.keys()));
                self.files = Some(LoadedFiles { serving: wanted.clone(), credentials, cookie_keys });
            }
        }
        Ok(())
    }
}

fn certificate_trouble(error: credentials::Error) -> String {
    format!("NtsCertificate: {error}")
}

fn keys_trouble(error: key_source::Error) -> String {
    format!("NtsCookieKeys: {error}")
}
