//! The supervisor of the server's workers: a thread that opens the port as configured, lets workers serve it, and
//! reports its state. It ends when the server is dropped. It serves nothing itself.
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread::{self, Builder, JoinHandle},
    time::{Duration, Instant},
};

use contract::ServingFailure;
use ntp::OwnPorts;
use sys::{
    interface::{self, InterfaceAddress},
    poll::{self, Waker},
    udp::UdpSocket,
};
use tracing::{info, warn};

use super::{
    departures::InFlightReplies,
    port::Port,
    serving_state::{ServingState, States, failed, label},
    shared::Shared,
    worker::{StopSignal, Worker},
};
use crate::{panics::Part, suspects::PortOwner};

/// A port that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// The same for an address that the node does not have yet. A virtual IP that moves here is served after this time.
const ADDRESS_CHECK: Duration = Duration::from_secs(1);

/// Receive buffer per socket, octets. The kernel counts 768 octets for each datagram, so there is room for about ten
/// thousand, and for twice as many after the kernel has doubled it. That is the number that arrives in a flood within
/// about 50 ms, while a worker waits for a processor.
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
        ports: Vec::new(),
        pool: None,
        owner: PortOwner::default(),
    };
    while !shared.stop.load(Ordering::Acquire) {
        waker.clear();
        supervisor.reconcile();
        supervisor.publish_ports();
        let patience = next_try(&shared.states());
        // After an interrupted or failed wait, look again.
        let _ = poll::readable(&[waker.as_fd()], patience);
    }
    supervisor.close();
    shared.loop_detector.set_ports(OwnPorts::default());
}

/// The time after which ports that are not open are tried again, and single addresses are looked for; none if all ports are
/// open on all addresses.
fn next_try(states: &States) -> Option<Duration> {
    let waits = |(address, state): (&IpAddr, &ServingState)| match state {
        ServingState::Failed(..) => Some(RETRY),
        ServingState::Open | ServingState::Unavailable if !address.is_unspecified() => Some(ADDRESS_CHECK),
        ServingState::Unavailable => Some(RETRY),
        ServingState::Open => None,
    };
    states.iter().filter_map(waits).min()
}

/// Waits after a panic of [`run`], which closed the port. Returns false if the server must end.
pub(super) fn pause(shared: &Shared, waker: &Waker, time: Duration) -> bool {
    let why = format!("the server failed, and is started again within {} s", time.as_secs() + 1);
    let addresses = shared.settings().config.addresses.clone();
    for address in addresses {
        set_state(shared, address, failed(ServingFailure::Panicked, &why));
    }
    rest(waker, time, || shared.stop.load(Ordering::Acquire))
}

/// The ports that are to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DesiredPorts {
    port: u16,
    addresses: Vec<IpAddr>,
    workers: usize,
}

struct Supervisor<'a> {
    shared: &'a Arc<Shared>,
    waker: &'a Arc<Waker>,
    wanted: Option<DesiredPorts>,
    /// The open ports.
    ports: Vec<Arc<Port>>,
    pool: Option<WorkerPool>,
    /// Finds the other process that has the port.
    owner: PortOwner,
}

impl Supervisor<'_> {
    /// Brings the ports and the workers into the desired state.
    fn reconcile(&mut self) {
        let wanted = {
            let config = &self.shared.settings().config;
            config.enabled.then(|| DesiredPorts {
                port: config.port,
                addresses: config.addresses.clone(),
                workers: config.workers,
            })
        };
        let before = std::mem::replace(&mut self.wanted, wanted.clone());
        let Some(DesiredPorts { port, addresses, workers }) = wanted else {
            self.close();
            self.forget_states(&[]);
            return;
        };
        self.forget_states(&addresses);
        if self.ports.iter().any(|port| self.is_broken(port.address)) {
            // Close the old sockets first, since they have the port. The new ones are not opened at once, in case the
            // port is broken for good.
            self.close();
            return self.shared.states().retain(|_, state| matches!(state, ServingState::Failed(..)));
        }
        let present = Present::of(&addresses);
        let moved = before.is_some_and(|before| before.port != port);
        if moved {
            // The workers serve the old port until the new one is open, or is known to be in use.
            self.ports.clear();
        } else if self.ports.iter().any(|port| !addresses.contains(&port.address)) {
            // The socket for all addresses of a family and that for one of them have the same port, so the old one is closed
            // first. What the other sockets receive meanwhile waits in them.
            self.pool = None;
            self.ports.retain(|port| addresses.contains(&port.address));
        }
        let mut opened = false;
        for address in addresses {
            if self.ports.iter().any(|port| port.address == address) {
                continue;
            }
            if present.has(address) {
                let port = self.open(address, port);
                opened |= port.is_some();
                self.ports.extend(port);
            } else {
                set_state(self.shared, address, ServingState::Unavailable);
            }
        }
        // An open port stays open while the number of workers changes.
        let serving = self.pool.as_ref().map(|pool| pool.threads.len());
        if moved
            || opened
            || serving.unwrap_or(workers) != workers
            || serving.is_none() && !self.ports.is_empty()
        {
            self.start_workers(workers, &present);
        } else {
            self.report_presence(&present);
        }
    }

    /// Reports for each open port whether the node has its address. The socket of one that is gone stays: when the address
    /// is back, it is served at once.
    fn report_presence(&self, present: &Present) {
        if self.pool.is_none() {
            return;
        }
        for port in &self.ports {
            // A worker may just have reported that the socket is broken.
            if !self.is_broken(port.address) {
                set_state(self.shared, port.address, present.state(port.address));
            }
        }
    }

    /// Replaces the workers. Datagrams that come in the meantime wait in the sockets.
    fn start_workers(&mut self, workers: usize, present: &Present) {
        self.pool = None;
        if self.ports.is_empty() {
            return;
        }
        self.publish_ports();
        let outcome = WorkerPool::start(self.shared, self.waker, &self.ports, workers);
        let outcome = outcome.map(|pool| self.pool = Some(pool)).map_err(|error| error.to_string());
        for port in &self.ports {
            let state = match &outcome {
                Ok(()) => present.state(port.address),
                Err(why) => failed(ServingFailure::OpenFailed, why),
            };
            set_state(self.shared, port.address, state);
        }
    }

    /// Tells the agent's client the ports of this server, so that it does not ask there.
    fn publish_ports(&self) {
        let port = self.wanted.as_ref().map(|wanted| wanted.port);
        let open = |v6: bool| port.filter(|_| self.ports.iter().any(|port| port.address.is_ipv6() == v6));
        self.shared.loop_detector.set_ports(OwnPorts { v4: open(false), v6: open(true) });
    }

    /// Returns true if a worker gave up on the socket of this address, or if there are no workers.
    fn is_broken(&self, address: IpAddr) -> bool {
        matches!(self.shared.states().get(&address), Some(ServingState::Failed(..)))
    }

    /// Forgets the states of all addresses but these.
    fn forget_states(&self, wanted: &[IpAddr]) {
        self.shared.states().retain(|address, _| {
            let kept = wanted.contains(address);
            if !kept {
                info!(address = label(*address), "Server's port closed");
            }
            kept
        });
    }

    fn open(&mut self, address: IpAddr, port: u16) -> Option<Arc<Port>> {
        let state = match open(address, port) {
            Ok(port) => return Some(Arc::new(port)),
            Err(error) if error.no_such_family() => ServingState::Unavailable,
            Err(error) => self.failure(address, port, error),
        };
        set_state(self.shared, address, state);
        None
    }

    fn failure(&mut self, address: IpAddr, port: u16, error: sys::Error) -> ServingState {
        let failure = match error {
            taken if taken.in_use() => ServingFailure::PortTaken,
            denied if denied.not_permitted() => ServingFailure::NotPermitted,
            _ => ServingFailure::OpenFailed,
        };
        let by = match error.in_use().then(|| self.owner.of(port)) {
            Some(Some(owner)) => format!(" by {owner}"),
            Some(None) => {
                format!(
                    " by a process that cannot be seen from here: `ss -lunp 'sport = :{port}'` on the node names it"
                )
            }
            None => String::new(),
        };
        failed(failure, &format!("{} UDP port {port}: {error}{by}", label(address)))
    }

    fn close(&mut self) {
        self.pool = None;
        self.ports.clear();
    }
}

/// The addresses that the node has now. A socket can be bound to one that it does not have (`ip_nonlocal_bind`), and stays bound
/// when the address goes.
struct Present(Option<Vec<InterfaceAddress>>);

impl Present {
    /// Asks the kernel, if one of these addresses is a single one.
    fn of(wanted: &[IpAddr]) -> Self {
        let asked = !wanted.iter().all(IpAddr::is_unspecified);
        Self(asked.then(|| interface::addresses().ok()).flatten())
    }

    /// Returns true if the node has the address. Every address of 127.0.0.0/8 is the node's, though the kernel lists one. If
    /// the kernel does not say which addresses there are, all count; then the call that binds the socket tells.
    fn has(&self, address: IpAddr) -> bool {
        let listed = |list: &Vec<InterfaceAddress>| list.iter().any(|each| each.address == address);
        address.is_unspecified() || address.is_loopback() || self.0.as_ref().is_none_or(listed)
    }

    /// The state of an open port that workers serve.
    fn state(&self, address: IpAddr) -> ServingState {
        if self.has(address) { ServingState::Open } else { ServingState::Unavailable }
    }
}

/// Opens one socket that no other program shares. Another daemon on the port makes this fail, and none can join the
/// port later, since sockets share a port only if each has SO_REUSEPORT.
fn open(address: IpAddr, port: u16) -> Result<Port, sys::Error> {
    let socket = UdpSocket::bind(SocketAddr::new(address, port))?;
    let given = socket.expect_many(RECEIVE_ROOM)?;
    info!(address = label(address), wanted = RECEIVE_ROOM, given, "Receive buffer");
    Ok(Port { address, socket, in_flight: InFlightReplies::default() })
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
        ports: &[Arc<Port>],
        workers: usize,
    ) -> Result<Self, Error> {
        let mut pool = Self { stop_signal: Arc::new(StopSignal::new()?), threads: Vec::new() };
        for number in 0..workers {
            let ports = ports.to_vec();
            let (shared, supervisor, stop_signal) =
                (Arc::clone(shared), Arc::clone(supervisor), Arc::clone(&pool.stop_signal));
            let work = move || {
                // The other workers serve the port while this one waits after a panic.
                let pause = |time| rest(stop_signal.waker(), time, || stop_signal.is_raised());
                let outcome = shared.panics.guard(Part::ServerWorker, pause, || {
                    let worker = Worker::new(&shared, number).map_err(|error| (ports[0].address, error))?;
                    worker.run(&ports, &stop_signal)
                });
                if let Some(Err((address, error))) = outcome {
                    set_state(&shared, address, failed(ServingFailure::SocketBroken, &error.to_string()));
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

/// Logs a change once.
fn set_state(shared: &Shared, address: IpAddr, state: ServingState) {
    let mut states = shared.states();
    if states.get(&address) == Some(&state) {
        return;
    }
    let label = label(address);
    match &state {
        ServingState::Open => info!(address = label, "Serving time"),
        ServingState::Unavailable => info!(address = label, "The node does not have the address, not served"),
        ServingState::Failed(_, why) => {
            warn!(address = label, %why, "Cannot serve time, will try again")
        }
    }
    states.insert(address, state);
}
