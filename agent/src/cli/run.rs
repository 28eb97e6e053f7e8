//! `run`: starts the parts, runs the agent's tasks until SIGTERM, and ends the parts in order. With `--engine-only` one
//! thread does everything.
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use clap::Args;
use ntp::{Served, Snapshot, Transition, Wall};
use profile::{Agent, AgentFile};
use sys::signal;
use timesync_http::{Gate, TokenFile};
use tracing::{error, info, warn};

use super::agent_address;
use crate::{
    assemble,
    boot_pod::BootPodKeeper,
    clock,
    clock_bound::ClockBound,
    engine::{self, EngineCommand, EngineHandle, OwnServer, Sink},
    floor,
    host_root::HostRoot,
    http,
    key_server::KeyServer,
    liveness::Liveness,
    load::{self, Desired, Origin},
    metrics::Metrics,
    panics::{self, Panics, Part},
    reload::{self, Reloader},
    report::Reporter,
    rtc::{HardwareClock, RtcKeeper},
    server::{KeyFiles, Server, ServerSocket},
    state::{State, boot_id},
    suspects::Suspects,
    timezone::TimezoneKeeper,
};

mod error;
mod housekeeping;
mod lock_wait;

pub(crate) use error::Error;
use housekeeping::Housekeeping;
use lock_wait::{LockState, LockWait};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The agent's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Listen here instead of at the file's address
    #[arg(long, value_name = "ADDRESS:PORT", env = "TIMESYNC_HTTP_ADDRESS")]
    http_address: Option<String>,
    /// The node's name, which the operator knows it by; by default this machine's host name
    #[arg(long, value_name = "NAME", env = "TIMESYNC_NODE_NAME")]
    node_name: Option<String>,
    /// One thread that steers the clock and serves IPv4: no HTTP, no RTC, no reload; for a simulator
    #[arg(long)]
    engine_only: bool,
}

impl Run {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// If it cannot start, or a thread ended by itself.
    pub(super) fn act(self) -> Result<(), Error> {
        let mut file = load::agent_file(&self.config)?;
        if self.http_address.is_some() {
            file.agent.http_address = self.http_address;
        }
        let origin = match file.agent.watch.clone() {
            Some(watch) => Origin::Watch(watch),
            None => Origin::File(self.config),
        };
        if file.profile.is_some() {
            // At the start there is no running profile that could stay in force.
            load::evaluate(&origin, &load::observe(&origin)).wanted?;
        }
        info!(version = VERSION, "Agent starts");
        if self.engine_only {
            run_engine_only(&file.agent, &origin)?;
        } else {
            run_all(file, origin, agent_address::node_name(&self.node_name))?;
        }
        info!("Agent ends");
        Ok(())
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the engine and one server socket in this thread.
fn run_engine_only(agent: &Agent, origin: &Origin) -> Result<(), Error> {
    let Ok(Desired::Profile(candidate)) = load::evaluate(origin, &load::observe(origin)).wanted else {
        return Err(Error::NothingToRun);
    };
    if let Some(upstream) =
        candidate.checked.sources().iter().find(|upstream| upstream.upstream.nts.is_some())
    {
        return Err(Error::NtsAlone(upstream.upstream.name.clone()));
    }
    if assemble::key_serving(&candidate.checked).is_some() {
        return Err(Error::NtsServedAlone);
    }
    signal::stop_on_signals(None).map_err(io::Error::other)?;
    let state = Arc::new(State::open(&agent.state_directory, &boot_id()));
    let mut waiting = LockWait::new(&agent.state_directory);
    let _lock = loop {
        match waiting.check() {
            LockState::Ours(lock) => break lock,
            LockState::Held(_) if signal::stop_requested() => return Ok(()),
            LockState::Held(_) => thread::sleep(reload::INTERVAL),
        }
    };
    let serve = assemble::serve_config(&candidate.checked);
    let keys = KeyFiles::new(&agent.keys_directory).read(&candidate.checked.serve().keys);
    let server = serve.enabled.then(|| ServerSocket::open(&serve, keys.unwrap_or_default()));
    let server = match server.transpose() {
        Ok(socket) => socket.map(|socket| OwnServer { socket, config: serve }),
        Err(error) => {
            warn!(%error, "Cannot serve time");
            None
        }
    };
    let config = assemble::engine_config(&candidate.checked, clock::may_set());
    let rules = assemble::restrict_table(candidate.checked.access());
    let host = HostRoot::new(agent.host_root.clone());
    engine::run_alone(config, rules, state, &agent.keys_directory, &host, server)
        .map_err(io::Error::other)?;
    Ok(())
}

/// Runs all parts, each in its thread. This thread runs the other tasks.
fn run_all(file: AgentFile, origin: Origin, node: String) -> Result<(), Error> {
    signal::stop_on_signals(None).map_err(io::Error::other)?;
    let boot_id = boot_id();
    let state = Arc::new(State::open(&file.agent.state_directory, &boot_id));
    let instance = format!("{:016x}", sys::random::word().map_err(io::Error::other)?);
    let reporter = Arc::new(Reporter::new(VERSION, boot_id, instance.clone()));
    panics::log();
    let panics = Arc::new(Panics::new()?);
    let server = Server::start(assemble::serve_nothing(), Arc::clone(&panics)).map_err(io::Error::other)?;
    let server = Arc::new(server);
    let source = Arc::clone(&reporter);
    server.answer_queries_from(Box::new(move || source.snapshot()));
    let liveness = Arc::new(Liveness::new());
    let metrics = Arc::new(Metrics::new(&panics, file.agent.chrony_metrics)?);
    let http_address = file.agent.http_address.as_deref().map(agent_address::http_address);
    let http_address = http_address.transpose().map_err(Error::Address)?;
    let token = file.agent.token_file.clone().map(TokenFile::new);
    let shared = Arc::new(http::Shared {
        reporter: Arc::clone(&reporter),
        metrics: Arc::clone(&metrics),
        server: Arc::clone(&server),
        liveness: Arc::clone(&liveness),
        gate: token.map(|token| Arc::new(Gate::new(node, instance, token))),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = file.agent.socket();
    let serve = move || http::serve(http_address, socket.clone(), Arc::clone(&shared));
    runtime.spawn(Arc::clone(&panics).guard_task(Part::Http, serve));
    let lock_wait = LockWait::new(&file.agent.state_directory);
    let Some(_lock) = runtime.block_on(lock_wait.wait(&reporter, &liveness)) else { return Ok(()) };
    let parts = Parts { state, reporter, server, metrics, liveness, panics };
    let (housekeeping, handle, engine) = start_parts(file, origin, parts)?;
    let outcome = runtime.block_on(housekeeping.run(&engine));
    end(&handle, engine)?;
    outcome
}

/// The parts that exist before this process has the lock: they show that it waits.
struct Parts {
    state: Arc<State>,
    reporter: Arc<Reporter>,
    server: Arc<Server>,
    metrics: Arc<Metrics>,
    liveness: Arc<Liveness>,
    panics: Arc<Panics>,
}

/// Starts the parts that use the clock and the state folder.
fn start_parts(
    file: AgentFile,
    origin: Origin,
    parts: Parts,
) -> Result<(Housekeeping, EngineHandle, JoinHandle<()>), Error> {
    let Parts { state, reporter, server, metrics, liveness, panics } = parts;
    let boot_pod = BootPodKeeper::new(&file, Arc::clone(&state));
    let agent = file.agent;
    let may_set_clock = clock::may_set();
    if !may_set_clock {
        info!("No right to set the clock (CAP_SYS_TIME): mode Discipline is run as Observe");
    }
    if floor::behind(state.time(), clock::now().wall).is_some() {
        warn!("The clock is behind the last time known to be right: the RTC lost its time");
    }
    reporter.raised(state.raises());
    let host = HostRoot::new(agent.host_root);
    let clock = HardwareClock::new(agent.rtc_device, host.clone(), None);
    let rtc = RtcKeeper::start(clock, Arc::clone(&state), Arc::clone(&panics))?;
    let clock_bound = agent.clock_bound_segment.as_deref().map(ClockBound::open).transpose();
    let clock_bound = clock_bound.unwrap_or_else(|error| {
        error!(%error, "ClockBound segment cannot be written; the clock is steered all the same");
        None
    });
    let publisher =
        Publisher { clock_bound, reporter: Arc::clone(&reporter), server: Arc::clone(&server), liveness };
    let suspects = Arc::new(Suspects::new());
    let (handle, engine) = engine::start(
        Arc::clone(&state),
        &agent.keys_directory,
        &host,
        Arc::clone(&suspects),
        server.loop_detector(),
        Box::new(publisher),
    )?;
    let housekeeping = Housekeeping {
        reloader: Reloader {
            origin,
            may_set_clock,
            state: Arc::clone(&state),
            reporter: Arc::clone(&reporter),
            metrics,
            engine: handle.clone(),
            server: Arc::clone(&server),
            key_server: KeyServer::new(Arc::clone(&panics)),
            running: None,
            observed: None,
            error: None,
        },
        reporter,
        suspects,
        last_search: None,
        server,
        panics,
        rtc,
        timezone: TimezoneKeeper::new(host, Arc::clone(&state)),
        boot_pod,
        state,
        exposure: (None, None),
        key_files: KeyFiles::new(&agent.keys_directory),
        keys_directory: agent.keys_directory,
    };
    Ok((housekeeping, handle, engine))
}

/// Makes the engine end, and leave the clock in a safe state.
fn end(handle: &EngineHandle, engine: JoinHandle<()>) -> Result<(), Error> {
    handle.send(EngineCommand::Stop);
    engine.join().map_err(|_| Error::EngineEnded)
}

/// Passes the engine's results to the parts that show and serve them.
struct Publisher {
    clock_bound: Option<ClockBound>,
    reporter: Arc<Reporter>,
    server: Arc<Server>,
    liveness: Arc<Liveness>,
}

impl Sink for Publisher {
    fn publish(&mut self, snapshot: Option<Snapshot>, transitions: &[Transition], served: Served) {
        let now: Wall = clock::now().wall;
        self.liveness.mark();
        if let (Some(clock_bound), Some(snapshot)) = (&mut self.clock_bound, &snapshot) {
            clock_bound.publish(snapshot, now.0.saturating_sub(snapshot.at.0));
        }
        let upstreams: Vec<_> = snapshot.iter().flat_map(Snapshot::addresses).collect();
        self.server.learn_upstreams(&upstreams);
        self.server.publish(served);
        self.reporter.engine(now, snapshot, transitions);
    }
}
