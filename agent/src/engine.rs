//! The rim around the pure engine: one thread, one loop on `poll`, in which every clock reading, every request's
//! socket and every action happens. Orders come in by a channel; snapshots and transitions go out to a [`Sink`].
//!
//! Without orders (`--engine-only`) nothing but the sockets is in the poll set, so that a simulator can carry it.
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
    itself::Itself,
    resolve::{Answer, Resolver},
    server::{ServeConfig, ServerSocket},
    state::State,
    suspects::Suspects,
};

mod clock_watch;
mod devices;
mod requests;
mod rim;

use clock_watch::ClockWatch;
use rim::Rim;

/// Where the engine's view goes.
pub(crate) trait Sink: Send {
    /// What the engine knows now (nothing if no engine runs), what happened since the last call, and what is to be
    /// served.
    fn publish(&mut self, snapshot: Option<Snapshot>, transitions: &[Transition], served: Served);
}

/// What the loop can be told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run this from now on, and do not hear those who are to be ignored.
    Run(ntp::Config, RestrictTable),
    /// Steer no more: leave a sane clock, and ask nobody.
    Rest,
    /// A name was looked up.
    Resolved(Answer),
    /// Keys were exchanged, or not.
    Exchanged(Box<exchange::Answer>),
    /// Leave a sane clock and end.
    Stop,
}

/// Gives orders to the loop.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    sender: mpsc::Sender<Order>,
    waker: Arc<Waker>,
}

impl Orders {
    /// Gives an order. One to a loop that has ended is lost.
    pub(crate) fn give(&self, order: Order) {
        if self.sender.send(order).is_ok() {
            self.waker.wake();
        }
    }
}

/// Starts the loop in a thread of its own; keys are files in `keys`, `host` has its table of leap seconds, and `itself`
/// is what the server beside it knows.
///
/// # Errors
/// When no thread, no descriptor or no random number can be had.
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

/// The deepest call is a log line; the default would be eight times as much.
const STACK: usize = 256 * 1024;

/// A server's port that the engine's own loop serves.
pub(crate) struct OwnServer {
    /// The port.
    pub(crate) socket: ServerSocket,
    /// Who may ask.
    pub(crate) config: ServeConfig,
}

/// Runs `config` in this thread, without hearing whom `rules` ignore, until SIGTERM or SIGINT; keys are files in `keys`,
/// and there is no NTS.
///
/// # Errors
/// When no random number can be had.
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

/// Turns until it is told to stop.
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

/// A loop that sits still still shows that it is alive, and lets what grows with time be seen growing.
const HEARTBEAT: Duration = Duration::from_secs(1);
