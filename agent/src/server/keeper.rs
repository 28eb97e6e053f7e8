//! The server's keeper: a thread that opens the port as ordered, has workers serve it, and says how it stands with it.
//! Ends when the server is dropped. Serves nothing itself.
use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use sys::{
    poll::{self, Waker},
    udp::{self, UdpSocket},
};
use tracing::{info, warn};

use super::{
    Family, ServingState, Shared,
    worker::{Whistle, Worker},
};
use crate::suspects::PortOwner;

/// A port that could not be opened is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// Room for datagrams that wait, octets per socket: at 768 of the kernel's octets for each, about ten thousand, and
/// twice as many as it is doubled: what comes within some 50 ms of a flood, while a worker waits for its processor.
const RECEIVE_ROOM: usize = 8 << 20;

/// Why nobody serves the sockets.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Call(#[from] sys::Error),
    #[error("cannot start a server thread: {0}")]
    Thread(#[source] io::Error),
}

pub(super) fn run(shared: &Arc<Shared>, waker: &Arc<Waker>) {
    let mut keeper = Keeper {
        shared,
        waker,
        wanted: None,
        sockets: Sockets::default(),
        crew: None,
        owner: PortOwner::default(),
    };
    while !shared.stop.load(Ordering::Acquire) {
        waker.clear();
        keeper.look();
        let all_is_well = !shared.states().iter().any(ServingState::is_to_be_tried_again);
        // An interrupted wait, or a failed one: look again.
        let _ = poll::readable(&[waker.as_fd()], if all_is_well { None } else { Some(RETRY) });
    }
    keeper.close();
}

/// A socket for each worker, by family; none are there of a family that is not open.
type Sockets = [Vec<Arc<UdpSocket>>; Family::ALL.len()];

struct Keeper<'a> {
    shared: &'a Arc<Shared>,
    waker: &'a Arc<Waker>,
    /// Port and number of workers.
    wanted: Option<(u16, usize)>,
    sockets: Sockets,
    crew: Option<Crew>,
    /// Who has the port instead of us.
    owner: PortOwner,
}

impl Keeper<'_> {
    /// Does what there is to do.
    fn look(&mut self) {
        let wanted = {
            let config = &self.shared.orders().config;
            config.enabled.then_some((config.port, config.workers))
        };
        let broken = Family::ALL.into_iter().any(|family| self.is_broken(family));
        if broken || wanted != self.wanted {
            // The old sockets first: they may be the ones that hold the port.
            self.close();
            self.wanted = wanted;
        }
        let Some((port, workers)) = wanted else {
            Family::ALL.into_iter().for_each(|family| set_state(self.shared, family, ServingState::Closed));
            return;
        };
        if broken {
            // Not at once again, in case that it is broken for good.
            return;
        }
        let missing = Family::ALL.into_iter().filter(|&family| self.sockets[family as usize].is_empty());
        let missing: Vec<_> = missing.collect();
        let opened: Vec<_> = missing
            .into_iter()
            .filter_map(|family| Some((family, self.open(family, port, workers)?)))
            .collect();
        if opened.is_empty() {
            return;
        }
        // What comes meanwhile waits in the sockets.
        self.crew = None;
        for (family, sockets) in opened {
            self.sockets[family as usize] = sockets;
        }
        let outcome = Crew::start(self.shared, self.waker, &self.sockets, workers);
        let outcome = outcome.map(|crew| self.crew = Some(crew)).map_err(|error| error.to_string());
        for family in Family::ALL.into_iter().filter(|&family| !self.sockets[family as usize].is_empty()) {
            let state = match &outcome {
                Ok(()) => ServingState::Open,
                Err(why) => ServingState::Failed(format!("OpenFailed: {why}")),
            };
            set_state(self.shared, family, state);
        }
    }

    /// A worker gave up on a socket of this family, or there are no workers.
    fn is_broken(&self, family: Family) -> bool {
        let open = !self.sockets[family as usize].is_empty();
        open && matches!(self.shared.states()[family as usize], ServingState::Failed(_))
    }

    fn open(&mut self, family: Family, port: u16, workers: usize) -> Option<Vec<Arc<UdpSocket>>> {
        let state = match open(family, port, workers) {
            Ok(sockets) => return Some(sockets),
            Err(error) if error.no_such_family() => ServingState::NoFamily,
            Err(error) => ServingState::Failed(self.failure(family, port, error)),
        };
        set_state(self.shared, family, state);
        None
    }

    /// One word, which users look for, and the reason.
    fn failure(&mut self, family: Family, port: u16, error: sys::Error) -> String {
        let word = match error {
            taken if taken.in_use() => "PortTaken",
            denied if denied.not_permitted() => "NotPermitted",
            _ => "OpenFailed",
        };
        let owner = if error.in_use() { self.owner.of(port) } else { None };
        let by = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
        format!("{word}: {} UDP port {port}: {error}{by}", family.as_str())
    }

    fn close(&mut self) {
        self.crew = None;
        self.sockets = Sockets::default();
    }
}

/// The first socket has the port for itself alone, so that another daemon there is noticed; the others join it.
fn open(family: Family, port: u16, workers: usize) -> Result<Vec<Arc<UdpSocket>>, sys::Error> {
    let first = UdpSocket::bind(udp::any_address(family == Family::V6, port))?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(UdpSocket::bind_beside(&sockets[0])?);
    }
    for socket in &sockets {
        let given = socket.expect_many(RECEIVE_ROOM)?;
        info!(family = family.as_str(), wanted = RECEIVE_ROOM, given, "Receive buffer");
    }
    Ok(sockets.into_iter().map(Arc::new).collect())
}

/// The workers. They end when it is dropped.
struct Crew {
    whistle: Arc<Whistle>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    fn start(
        shared: &Arc<Shared>,
        keeper: &Arc<Waker>,
        sockets: &Sockets,
        workers: usize,
    ) -> Result<Self, Error> {
        let mut crew = Self { whistle: Arc::new(Whistle::new()?), threads: Vec::new() };
        for number in 0..workers {
            let own = sockets.each_ref().map(|family| family.get(number).cloned());
            let (shared, keeper, whistle) =
                (Arc::clone(shared), Arc::clone(keeper), Arc::clone(&crew.whistle));
            let work = move || {
                let own = own.each_ref().map(Option::as_deref);
                let outcome = Worker::new(&shared, number).map_err(|error| (Family::V4, error));
                if let Err((family, error)) = outcome.and_then(|worker| worker.run(own, &whistle)) {
                    set_state(&shared, family, ServingState::Failed(format!("SocketBroken: {error}")));
                    keeper.wake();
                }
            };
            let thread =
                Builder::new().name(format!("server-{number}")).spawn(work).map_err(Error::Thread)?;
            crew.threads.push(thread);
        }
        Ok(crew)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.whistle.blow();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so on standard error; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Logs a change, once.
fn set_state(shared: &Shared, family: Family, state: ServingState) {
    let place = &mut shared.states()[family as usize];
    if *place == state {
        return;
    }
    match &state {
        ServingState::Open => info!(family = family.as_str(), "Serving time"),
        ServingState::Closed => info!(family = family.as_str(), "Server's port closed"),
        ServingState::NoFamily => info!(family = family.as_str(), "Address family not available, not served"),
        ServingState::Failed(why) => {
            warn!(family = family.as_str(), %why, "Cannot serve time, will try again")
        }
    }
    *place = state;
}
