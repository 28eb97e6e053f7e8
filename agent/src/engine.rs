//! The I/O around the pure engine: one thread with one event loop on `poll`. Every clock reading, every request's
//! socket and every action is here. Orders come in by a channel; snapshots and transitions go out to a [`Sink`].
//!
//! With `--engine-only` there are no orders, and the poll set has only the sockets, so that a simulator can run the
//! loop.
use std::{
    io,
    os::fd::AsFd,
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use ntp::{RestrictTable, Served, Snapshot, Transition};
use sys::{poll::Waker, signal};
use tracing::warn;

use crate::{
    auth::{
        Proofs,
        exchange::{self, Exchanger},
    },
    host_root::HostRoot,
    loop_detector::Itself,
    resolve::{Answer, Resolver},
    server::{ServeConfig, ServerSocket},
    state::State,
    suspects::Suspects,
};

mod clock_watch;
mod devices;
mod requests;
mod driver;

use clock_watch::ClockWatch;
use driver::Rim;

/// The receiver of the engine's results.
pub(crate) trait Sink: Send {
    /// Takes the engine's present snapshot (none if no engine runs), the transitions since the last call, and what is
    /// to be served.
    fn publish(&mut self, snapshot: Option<Snapshot>, transitions: &[Transition], served: Served);
}

/// Orders to the event loop.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run this configuration from now on, and ignore the addresses that the table says to ignore.
    Run(ntp::Config, RestrictTable),
    /// Stop steering: leave the clock in a safe state, and ask no upstream.
    Rest,
    /// A name was looked up.
    Resolved(Answer),
    /// A key exchange has ended.
    Exchanged(Box<exchange::Answer>),
    /// Leave the clock in a safe state, and end.
    Stop,
}

/// Sends orders to the event loop.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    sender: mpsc::Sender<Order>,
    waker: Arc<Waker>,
}

impl Orders {
    /// Sends an order. It is lost if the loop has ended.
    pub(crate) fn give(&self, order: Order) {
        if self.sender.send(order).is_ok() {
            self.waker.wake();
        }
    }
}

/// Starts the event loop in a thread of its own. Keys are files in `keys`, `host` has its table of leap seconds, and
/// `itself` is what the agent's own server knows.
///
/// # Errors
/// If there is no thread, no descriptor or no random number.
pub(crate) fn start(
    state: Arc<State>,
    keys: &Path,
    host: &HostRoot,
    suspects: Arc<Suspects>,
    itself: Arc<Itself>,
    sink: Box<dyn Sink>,
) -> io::Result<(Orders, JoinHandle<()>)> {
    let waker = Arc::new(Waker::new().map_err(io::Error::other)?);
    let (sender, receiver) = mpsc::channel();
    let orders = Orders { sender, waker: Arc::clone(&waker) };
    let back = orders.clone();
    let resolver = Resolver::new(move |answer| back.give(Order::Resolved(answer)));
    let back = orders.clone();
    let exchanged = move |answer| back.give(Order::Exchanged(Box::new(answer)));
    let proofs = Proofs::new(keys, Some(Exchanger::new(resolver.clone(), exchanged)));
    let mut rim = Rim::new(state, proofs, host, Some(sink), Some(resolver)).map_err(io::Error::other)?;
    rim.serve_beside(itself);
    rim.watch_clock(ClockWatch::new());
    rim.watch_for_rivals(suspects);
    let engine = thread::Builder::new().name("engine".to_owned()).stack_size(STACK);
    let thread = engine.spawn(move || obey(&mut rim, &receiver, &waker))?;
    Ok((orders, thread))
}

/// Stack size, octets. The deepest call is a log line. The default would be eight times as large.
const STACK: usize = 256 * 1024;

/// A server's port that the engine's own event loop serves.
pub(crate) struct OwnServer {
    /// The port.
    pub(crate) socket: ServerSocket,
    /// Which clients may ask, and for what.
    pub(crate) config: ServeConfig,
}

/// Runs `config` in this thread until SIGTERM or SIGINT, and ignores the addresses that `rules` say to ignore. Keys are
/// files in `keys`. There is no NTS.
///
/// # Errors
/// If there is no random number.
pub(crate) fn run_alone(
    config: ntp::Config,
    rules: RestrictTable,
    state: Arc<State>,
    keys: &Path,
    host: &HostRoot,
    mut server: Option<OwnServer>,
) -> Result<(), sys::Error> {
    let mut rim = Rim::new(state, Proofs::new(keys, None), host, None, None)?;
    if let Some(server) = &server {
        rim.serve_beside(server.socket.itself());
    }
    rim.run(config, rules.clone());
    while !signal::stop_requested() {
        rim.wake_up();
        let ready = rim.wait(server.as_ref().map(|server| server.socket.as_fd()), None);
        if ready.other
            && let Some(OwnServer { socket, config }) = &mut server
        {
            config.rules = rules.for_upstreams(&rim.upstreams());
            if let Err(error) = socket.serve_one(config, &rim.served()) {
                warn!(%error, "Server socket broke; time is no longer served");
                server = None;
            }
        }
        rim.receive(&ready.requests);
    }
    rim.rest();
    Ok(())
}

/// Runs the loop until an order to stop.
fn obey(rim: &mut Rim, orders: &mpsc::Receiver<Order>, waker: &Waker) {
    loop {
        waker.clear();
        for order in orders.try_iter() {
            match order {
                Order::Run(config, rules) => rim.run(config, rules),
                Order::Rest => rim.rest(),
                Order::Resolved(answer) => rim.resolved(answer),
                Order::Exchanged(answer) => rim.exchanged(*answer),
                Order::Stop => return rim.rest(),
            }
        }
        rim.wake_up();
        let ready = rim.wait(Some(waker.as_fd()), Some(HEARTBEAT));
        rim.receive(&ready.requests);
    }
}

/// An idle loop still turns this often, to show that it is alive, and so that readers see values grow that grow with
/// time.
const HEARTBEAT: Duration = Duration::from_secs(1);
