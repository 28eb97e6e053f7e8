//! The supervisor of the server's workers: a thread that opens the port as configured, lets workers serve it, and
//! reports its state. It ends when the server is dropped. It serves nothing itself.
use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread::{self, Builder, JoinHandle},
    time::{Duration, Instant},
};

use contract::ServingFailure;
use ntp::OwnPorts;
use sys::{
    poll::{self, Waker},
    udp::{self, UdpSocket},
};
use tracing::{info, warn};

use super::{
    config::Family,
    departures::InFlightReplies,
    port::Port,
    serving_state::ServingState,
    shared::Shared,
    worker::{StopSignal, Worker},
};
use crate::{panics::Part, suspects::PortOwner};

/// A port that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// Receive buffer per socket, octets. The kernel counts 768 octets for each datagram, so there is room for about ten
/// thousand, and for twice as many after the kernel has doubled it: what a flood brings within about 50 ms, while a
/// worker waits for a processor.
const RECEIVE_ROOM: usize = 8 << 20;

/// Why no worker serves the sockets.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Call(#[from] sys::Error),
    #[error("cannot start a server thread: {0}")]
    Thread(#[source] io::Error),
}

pub(super) fn run(shared: &Arc<Shared>, waker: &Arc<Waker>) {
    let mut supervisor = Supervisor {
        shared,
        waker,
        wanted: None,
        ports: Ports::default(),
        pool: None,
        owner: PortOwner::default(),
    };
    while !shared.stop.load(Ordering::Acquire) {
        waker.clear();
        supervisor.reconcile();
        supervisor.publish_ports();
        let all_is_well = !shared.states().iter().any(ServingState::is_to_be_tried_again);
        // After an interrupted or failed wait, look again.
        let _ = poll::readable(&[waker.as_fd()], if all_is_well { None } else { Some(RETRY) });
    }
    supervisor.close();
    shared.loop_detector.set_ports(OwnPorts::default());
}

/// Waits after a panic of [`run`], which closed the port. Returns false if the server must end.
pub(super) fn pause(shared: &Shared, waker: &Waker, time: Duration) -> bool {
    for family in Family::ALL {
        let why = format!("the server failed, and is started again within {} s", time.as_secs() + 1);
        set_state(shared, family, failed(ServingFailure::Panicked, &why));
    }
    rest(waker, time, || shared.stop.load(Ordering::Acquire))
}

/// The port of each family; none if it is not open.
type Ports = [Option<Arc<Port>>; Family::ALL.len()];

/// The ports that are to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DesiredPorts {
    port: u16,
    workers: usize,
}

struct Supervisor<'a> {
    shared: &'a Arc<Shared>,
    waker: &'a Arc<Waker>,
    wanted: Option<DesiredPorts>,
    ports: Ports,
    pool: Option<WorkerPool>,
    /// Finds the other process that has the port.
    owner: PortOwner,
}

impl Supervisor<'_> {
    /// Brings the ports and the workers into the desired state.
    fn reconcile(&mut self) {
        let wanted = {
            let config = &self.shared.settings().config;
            config.enabled.then_some(DesiredPorts { port: config.port, workers: config.workers })
        };
        let before = std::mem::replace(&mut self.wanted, wanted);
        let Some(DesiredPorts { port, workers }) = wanted else {
            self.close();
            Family::ALL.into_iter().for_each(|family| set_state(self.shared, family, ServingState::Closed));
            return;
        };
        if Family::ALL.into_iter().any(|family| self.is_broken(family)) {
            // Close the old sockets first, since they have the port. The new ones are not opened at once, in case the
            // port is broken for good.
            return self.close();
        }
        let moved = before.is_some_and(|before| before.port != port);
        if moved {
            // The workers serve the old port until the new one is open, or is known to be in use.
            self.ports = Ports::default();
        }
        let missing: Vec<_> =
            Family::ALL.into_iter().filter(|&family| self.ports[family as usize].is_none()).collect();
        let mut opened = false;
        for family in missing {
            self.ports[family as usize] = self.open(family, port);
            opened |= self.ports[family as usize].is_some();
        }
        // An open port stays open while the number of workers changes.
        if moved || opened || self.pool.as_ref().is_some_and(|pool| pool.threads.len() != workers) {
            self.start_workers(workers);
        }
    }

    /// Replaces the workers. Datagrams that come in the meantime wait in the sockets.
    fn start_workers(&mut self, workers: usize) {
        self.pool = None;
        let open = |family: &Family| self.ports[*family as usize].is_some();
        let open: Vec<_> = Family::ALL.into_iter().filter(open).collect();
        if open.is_empty() {
            return;
        }
        self.publish_ports();
        let outcome = WorkerPool::start(self.shared, self.waker, &self.ports, workers);
        let outcome = outcome.map(|pool| self.pool = Some(pool)).map_err(|error| error.to_string());
        for family in open {
            let state = match &outcome {
                Ok(()) => ServingState::Open,
                Err(why) => failed(ServingFailure::OpenFailed, why),
            };
            set_state(self.shared, family, state);
        }
    }

    /// Tells the agent's client the ports of this server, so that it does not ask there.
    fn publish_ports(&self) {
        let port = self.wanted.map(|wanted| wanted.port);
        let open = |family: Family| port.filter(|_| self.ports[family as usize].is_some());
        self.shared.loop_detector.set_ports(OwnPorts { v4: open(Family::V4), v6: open(Family::V6) });
    }

    /// Returns true if a worker gave up on a socket of this family, or if there are no workers.
    fn is_broken(&self, family: Family) -> bool {
        self.ports[family as usize].is_some()
            && matches!(self.shared.states()[family as usize], ServingState::Failed(..))
    }

    fn open(&mut self, family: Family, port: u16) -> Option<Arc<Port>> {
        let state = match open(family, port) {
            Ok(port) => return Some(Arc::new(port)),
            Err(error) if error.no_such_family() => ServingState::NoFamily,
            Err(error) => self.failure(family, port, error),
        };
        set_state(self.shared, family, state);
        None
    }

    fn failure(&mut self, family: Family, port: u16, error: sys::Error) -> ServingState {
        let failure = match error {
            taken if taken.in_use() => ServingFailure::PortTaken,
            denied if denied.not_permitted() => ServingFailure::NotPermitted,
            _ => ServingFailure::OpenFailed,
        };
        let owner = if error.in_use() { self.owner.of(port) } else { None };
        let by = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
        failed(failure, &format!("{} UDP port {port}: {error}{by}", family.as_str()))
    }

    fn close(&mut self) {
        self.pool = None;
        self.ports = Ports::default();
    }
}

/// Opens one socket that no other program shares. Another daemon on the port makes this fail, and none can join the
/// port later, since sockets share a port only if each has SO_REUSEPORT.
fn open(family: Family, port: u16) -> Result<Port, sys::Error> {
    let socket = UdpSocket::bind(udp::any_address(family == Family::V6, port))?;
    let given = socket.expect_many(RECEIVE_ROOM)?;
    info!(family = family.as_str(), wanted = RECEIVE_ROOM, given, "Receive buffer");
    Ok(Port { socket, in_flight: InFlightReplies::default() })
}

/// The workers. They end when this is dropped.
struct WorkerPool {
    stop_signal: Arc<StopSignal>,
    threads: Vec<JoinHandle<()>>,
}

impl WorkerPool {
    fn start(
        shared: &Arc<Shared>,
        supervisor: &Arc<Waker>,
        ports: &Ports,
        workers: usize,
    ) -> Result<Self, Error> {
        let mut pool = Self { stop_signal: Arc::new(StopSignal::new()?), threads: Vec::new() };
        for number in 0..workers {
            let ports = ports.clone();
            let (shared, supervisor, stop_signal) =
                (Arc::clone(shared), Arc::clone(supervisor), Arc::clone(&pool.stop_signal));
            let work = move || {
                let ports = ports.each_ref().map(Option::as_deref);
                // The other workers serve the port while this one waits after a panic.
                let pause = |time| rest(stop_signal.waker(), time, || stop_signal.is_raised());
                let outcome = shared.panics.guard(Part::ServerWorker, pause, || {
                    let worker = Worker::new(&shared, number).map_err(|error| (Family::V4, error))?;
                    worker.run(ports, &stop_signal)
                });
                if let Some(Err((family, error))) = outcome {
                    set_state(&shared, family, failed(ServingFailure::SocketBroken, &error.to_string()));
                    supervisor.wake();
                }
            };
            let thread =
                Builder::new().name(format!("server-{number}")).spawn(work).map_err(Error::Thread)?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }
}

/// Waits for `time`, or until the waker is rung and `ends` returns true. Returns false in the second case.
fn rest(waker: &Waker, time: Duration, ends: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !ends() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        // If the waker was rung for another reason, it stays readable: then look from time to time.
        let rung = poll::readable(&[waker.as_fd()], Some(left)).is_ok_and(|ready| ready[0]);
        if rung && !ends() {
            thread::sleep(left.min(RECHECK_INTERVAL));
        }
    }
    false
}

const RECHECK_INTERVAL: Duration = Duration::from_millis(20);

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.stop_signal.raise();
        for thread in self.threads.drain(..) {
            // Panics are caught inside.
            let _ = thread.join();
        }
    }
}

/// One word, which users can look up, and the reason.
fn failed(failure: ServingFailure, why: &str) -> ServingState {
    ServingState::Failed(failure, format!("{failure}: {why}"))
}

/// Logs a change once.
fn set_state(shared: &Shared, family: Family, state: ServingState) {
    let place = &mut shared.states()[family as usize];
    if *place == state {
        return;
    }
    match &state {
        ServingState::Open => info!(family = family.as_str(), "Serving time"),
        ServingState::Closed => info!(family = family.as_str(), "Server's port closed"),
        ServingState::NoFamily => info!(family = family.as_str(), "Address family not available, not served"),
        ServingState::Failed(_, why) => {
            warn!(family = family.as_str(), %why, "Cannot serve time, will try again")
        }
    }
    *place = state;
}
