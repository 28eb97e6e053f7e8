//! The I/O around the pure engine: one thread with one event loop on `poll`. Every clock reading, every request's
//! socket and every action is here. Commands come in by a channel; snapshots and transitions go out to a [`Sink`].
//!
//! With `--engine-only` there are no commands, and the poll set has only the sockets, so that a simulator can run the
//! loop.
use std::{
    io,
    os::fd::AsFd,
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use ntp::RestrictTable;
use sys::{poll::Waker, signal};
use tracing::warn;

use crate::{
    auth::{
        Authenticator,
        exchange::{self, Exchanger},
    },
    host_root::HostRoot,
    loop_detector::LoopDetector,
    resolve::{Resolved, Resolver},
    server::{ServeConfig, ServerSocket},
    state::State,
    suspects::Suspects,
};

mod sink;

mod clock_watch;
mod devices;
mod requests;
mod driver;

use clock_watch::ClockWatch;
use driver::Driver;
pub(crate) use sink::Sink;

/// Commands to the event loop.
#[derive(Debug)]
pub(crate) enum EngineCommand {
    /// Run this configuration from now on, and ignore the addresses that the table says to ignore.
    Run(ntp::Config, RestrictTable),
    /// Stop steering: leave the clock in a safe state, and ask no upstream.
    StopSteering,
    /// A name was looked up.
    Resolved(Resolved),
    /// A key exchange has ended.
    Exchanged(Box<exchange::ExchangeResult>),
    /// Leave the clock in a safe state, and end.
    Stop,
}

/// Sends commands to the event loop.
#[derive(Clone, Debug)]
pub(crate) struct EngineHandle {
    sender: mpsc::Sender<EngineCommand>,
    waker: Arc<Waker>,
}

impl EngineHandle {
    /// Sends a command. It is lost if the loop has ended.
    pub(crate) fn send(&self, command: EngineCommand) {
        if self.sender.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

/// Starts the event loop in a thread of its own. Keys are files in `keys`, `host` is the host's root, with its table of
/// leap seconds, and `loop_detector` belongs to the agent's own server.
///
/// # Errors
/// If there is no thread, no descriptor or no random number.
pub(crate) fn start(
    state: Arc<State>,
    keys: &Path,
    host: &HostRoot,
    suspects: Arc<Suspects>,
    loop_detector: Arc<LoopDetector>,
    sink: Box<dyn Sink>,
) -> io::Result<(EngineHandle, JoinHandle<()>)> {
    let waker = Arc::new(Waker::new().map_err(io::Error::other)?);
    let (sender, receiver) = mpsc::channel();
    let handle = EngineHandle { sender, waker: Arc::clone(&waker) };
    let back = handle.clone();
    let resolver = Resolver::new(move |answer| back.send(EngineCommand::Resolved(answer)));
    let back = handle.clone();
    let exchanged = move |answer| back.send(EngineCommand::Exchanged(Box::new(answer)));
    let authenticator = Authenticator::new(keys, Some(Exchanger::new(resolver.clone(), exchanged)));
    let mut driver =
        Driver::new(state, authenticator, host, Some(sink), Some(resolver)).map_err(io::Error::other)?;
    driver.attach_server(loop_detector);
    driver.watch_clock(ClockWatch::new());
    driver.watch_for_rivals(suspects);
    let engine = thread::Builder::new().name("engine".to_owned()).stack_size(STACK);
    let thread = engine.spawn(move || run_loop(&mut driver, &receiver, &waker))?;
    Ok((handle, thread))
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
    let mut driver = Driver::new(state, Authenticator::new(keys, None), host, None, None)?;
    if let Some(server) = &server {
        driver.attach_server(server.socket.loop_detector());
    }
    driver.run(config, rules.clone());
    while !signal::stop_requested() {
        driver.wake_up();
        let ready = driver.wait(server.as_ref().map(|server| server.socket.as_fd()), None);
        if ready.other
            && let Some(OwnServer { socket, config }) = &mut server
        {
            config.rules = rules.for_upstreams(&driver.upstreams());
            if let Err(error) = socket.serve_one(config, &driver.served()) {
                warn!(%error, "Server socket broke; time is no longer served");
                server = None;
            }
        }
        driver.receive(&ready.requests);
    }
    driver.stop_steering();
    Ok(())
}

/// Runs the loop until a command to stop.
fn run_loop(driver: &mut Driver, commands: &mpsc::Receiver<EngineCommand>, waker: &Waker) {
    loop {
        waker.clear();
        for command in commands.try_iter() {
            match command {
                EngineCommand::Run(config, rules) => driver.run(config, rules),
                EngineCommand::StopSteering => driver.stop_steering(),
                EngineCommand::Resolved(answer) => driver.resolved(answer),
                EngineCommand::Exchanged(answer) => driver.exchanged(*answer),
                EngineCommand::Stop => return driver.stop_steering(),
            }
        }
        driver.wake_up();
        let ready = driver.wait(Some(waker.as_fd()), Some(HEARTBEAT));
        driver.receive(&ready.requests);
    }
}

/// The longest pause of an idle loop. Each turn shows that the loop is alive, and publishes values that grow with time.
const HEARTBEAT: Duration = Duration::from_secs(1);
