//! `run`: starts the parts, keeps house until SIGTERM, ends them in order. With `--engine-only` one thread does it all.
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use clap::Args;
use contract::{Agent, AgentFile, Mode, RtcMode, ServerReport};
use ntp::{Served, Snapshot, Transition, Wall};
use sys::signal;
use tokio::time;
use tracing::{error, info, warn};

use crate::{
    assemble, clock,
    clock_bound::ClockBound,
    engine::{self, Order, Orders, OwnServer, Sink},
    host_root::HostRoot,
    http,
    key_server::KeyServer,
    liveness::Liveness,
    load::{self, Origin, Wanted},
    metrics::Metrics,
    reload::{self, Reloader},
    report::Journal,
    rtc::{HardwareClock, RtcKeeper, RtcPolicy},
    server::{Family, KeyFiles, Server, ServerSocket},
    state::State,
    suspects::Suspects,
    timezone::TimezoneKeeper,
};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The agent's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Listen here instead of at the file's address
    #[arg(long, value_name = "ADDRESS:PORT", env = "TIMESYNC_HTTP_ADDRESS")]
    http_address: Option<String>,
    /// One thread that steers the clock and serves IPv4: no HTTP, no RTC, no reload; for a simulator
    #[arg(long)]
    engine_only: bool,
}

/// Why the agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its file, or the profile in it.
    #[error(transparent)]
    File(#[from] load::Error),
    /// An address on the command line.
    #[error("--http-address: {0}")]
    Address(String),
    /// `--engine-only` watches no folder.
    #[error("--engine-only needs a [profile] in the file")]
    NothingToRun,
    /// `--engine-only` has no thread for key exchanges.
    #[error("upstream {0}: nts needs a second thread, which --engine-only forbids")]
    NtsAlone(String),
    /// `--engine-only` has no thread for key exchanges.
    #[error("serve.nts needs a second thread, which --engine-only forbids")]
    NtsServedAlone,
    /// The system has no thread, descriptor, or random number left.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// A mistake of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A mistake of ours.
    #[error("the engine ended by itself")]
    EngineEnded,
}

impl Run {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When it cannot start, or a thread ended by itself.
    pub(super) fn act(self) -> Result<(), Error> {
        let AgentFile { mut agent, profile } = load::agent_file(&self.config)?;
        if self.http_address.is_some() {
            agent.http_address = self.http_address;
        }
        let origin = match agent.watch.clone() {
            Some(watch) => Origin::Watch(watch),
            None => Origin::File(self.config),
        };
        if profile.is_some() {
            // At the start there is no good profile yet that could go on.
            load::judge(&origin, &load::find(&origin)).wanted?;
        }
        info!(version = VERSION, "Agent starts");
        if self.engine_only {
            alone(&agent, &origin)?;
        } else {
            together(agent, origin)?;
        }
        info!("Agent ends");
        Ok(())
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Engine and one server socket in this thread.
fn alone(agent: &Agent, origin: &Origin) -> Result<(), Error> {
    let Ok(Wanted::Profile(candidate)) = load::judge(origin, &load::find(origin)).wanted else {
        return Err(Error::NothingToRun);
    };
    if let Some(upstream) =
        candidate.checked.upstreams.iter().find(|upstream| upstream.upstream.nts.is_some())
    {
        return Err(Error::NtsAlone(upstream.upstream.name.clone()));
    }
    if assemble::key_serving(&candidate.checked).is_some() {
        return Err(Error::NtsServedAlone);
    }
    signal::stop_on_signals(None).map_err(io::Error::other)?;
    let state = Arc::new(State::open(&agent.state_directory, &boot_id()));
    let serve = assemble::serve_config(&candidate.checked);
    let keys = KeyFiles::new(&agent.keys_directory).read(&candidate.checked.serve.keys);
    let server = serve.enabled.then(|| ServerSocket::open(Family::V4, &serve, keys.unwrap_or_default()));
    let server = match server.transpose() {
        Ok(socket) => socket.map(|socket| OwnServer { socket, config: serve }),
        Err(error) => {
            warn!(%error, "Cannot serve time");
            None
        }
    };
    let config = assemble::engine_config(&candidate.checked, clock::may_set());
    let rules = assemble::restrict_table(&candidate.checked.access);
    let host = HostRoot::new(agent.host_root.clone());
    engine::run_alone(config, rules, state, &agent.keys_directory, &host, server)
        .map_err(io::Error::other)?;
    Ok(())
}

/// All parts, each in its thread; this one keeps house.
fn together(agent: Agent, origin: Origin) -> Result<(), Error> {
    signal::stop_on_signals(None).map_err(io::Error::other)?;
    let boot_id = boot_id();
    let state = Arc::new(State::open(&agent.state_directory, &boot_id));
    let may_set_clock = clock::may_set();
    if !may_set_clock {
        info!("No right to set the clock (CAP_SYS_TIME): mode Discipline is run as Observe");
    }
    if state.time().is_some_and(|last| last > clock::now().wall) {
        warn!("The clock is behind the last time known to be right: the RTC lost its time");
    }
    let instance = format!("{:016x}", sys::random::word().map_err(io::Error::other)?);
    let journal = Arc::new(Journal::new(VERSION, boot_id, instance));
    let server = Arc::new(Server::start(assemble::serve_nothing()).map_err(io::Error::other)?);
    let told = Arc::clone(&journal);
    server.show(Box::new(move || told.snapshot()));
    let host = HostRoot::new(agent.host_root);
    let clock = HardwareClock::new(agent.rtc_device, host.clone(), None);
    let rtc = RtcKeeper::start(clock, Arc::clone(&state))?;
    let liveness = Arc::new(Liveness::new());
    let clock_bound = agent.clock_bound_segment.as_deref().map(ClockBound::open).transpose();
    let clock_bound = clock_bound.unwrap_or_else(|error| {
        error!(%error, "ClockBound segment cannot be written; the clock is steered all the same");
        None
    });
    let publisher = Publisher {
        clock_bound,
        journal: Arc::clone(&journal),
        server: Arc::clone(&server),
        liveness: Arc::clone(&liveness),
    };
    let suspects = Arc::new(Suspects::new());
    let (orders, engine) = engine::start(
        Arc::clone(&state),
        &agent.keys_directory,
        &host,
        Arc::clone(&suspects),
        Box::new(publisher),
    )?;
    let metrics = Arc::new(Metrics::new()?);
    let http_address = agent.http_address.map(|address| super::http_address(&address));
    let http_address = http_address.transpose().map_err(Error::Address)?;
    let shared = http::Shared {
        journal: Arc::clone(&journal),
        metrics: Arc::clone(&metrics),
        server: Arc::clone(&server),
        liveness,
        token_file: agent.token_file,
    };
    let house = House {
        reloader: Reloader {
            origin,
            may_set_clock,
            state: Arc::clone(&state),
            journal: Arc::clone(&journal),
            metrics,
            orders: orders.clone(),
            server: Arc::clone(&server),
            key_server: KeyServer::new(),
            running: None,
            found: None,
            error: None,
        },
        journal,
        suspects,
        suspected: None,
        server,
        rtc,
        timezone: TimezoneKeeper::new(host, Arc::clone(&state)),
        state,
        key_files: KeyFiles::new(&agent.keys_directory),
        keys_directory: agent.keys_directory,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(house.keep(http_address, Arc::new(shared), &engine));
    end(&orders, engine)?;
    outcome
}

/// Lets the engine leave a sane clock.
fn end(orders: &Orders, engine: JoinHandle<()>) -> Result<(), Error> {
    orders.give(Order::Stop);
    engine.join().map_err(|_| Error::EngineEnded)
}

/// What is looked after beside the engine.
struct House {
    reloader: Reloader,
    journal: Arc<Journal>,
    suspects: Arc<Suspects>,
    /// When they were looked for.
    suspected: Option<time::Instant>,
    server: Arc<Server>,
    rtc: RtcKeeper,
    timezone: TimezoneKeeper,
    state: Arc<State>,
    key_files: KeyFiles,
    keys_directory: PathBuf,
}

/// How often the time is kept on disk: what a boot without RTC is compared with.
const KEEP_TIME: Duration = Duration::from_secs(60);

/// How often those who could steer the clock are looked for while somebody does.
const LOOK_FOR_SUSPECTS: Duration = Duration::from_secs(10);

impl House {
    async fn keep(
        mut self,
        address: Option<SocketAddr>,
        shared: Arc<http::Shared>,
        engine: &JoinHandle<()>,
    ) -> Result<(), Error> {
        let http = address.map(|address| tokio::spawn(http::serve(address, shared)));
        let (state, server) = (Arc::clone(&self.state), Arc::clone(&self.server));
        let key_server = self.reloader.key_server.clone().keep(self.keys_directory.clone(), state, server);
        let key_server = tokio::spawn(key_server);
        let mut ticks = time::interval(reload::INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut kept = time::Instant::now();
        loop {
            ticks.tick().await;
            if signal::stop_requested() {
                self.keep_time();
                return Ok(());
            }
            if engine.is_finished() {
                return Err(Error::EngineEnded);
            }
            if http.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
                error!("HTTP task ended; the clock is steered on");
                return Err(Error::Start(io::Error::other("HTTP ended")));
            }
            if key_server.is_finished() {
                error!("Task of the key server ended; the clock is steered on");
                return Err(Error::Start(io::Error::other("key server ended")));
            }
            self.reloader.look();
            self.look_round();
            if kept.elapsed() >= KEEP_TIME {
                self.keep_time();
                kept = time::Instant::now();
            }
        }
    }

    /// Brings the report up to date with what is not the engine's.
    fn look_round(&mut self) {
        self.hand_over_keys();
        let now = clock::now().wall;
        self.journal.server(now, self.server_report());
        self.rtc.apply(rtc_policy(&self.reloader, self.journal.in_conflict()));
        self.rtc.follow(self.journal.synchronized_offset());
        self.journal.rtc(now, self.rtc.report());
        self.look_for_suspects();
        if let Some(looked) = self.timezone.look(self.reloader.timezone(), Instant::now()) {
            self.journal.timezone(now, looked);
        }
    }

    /// While somebody else steers the clock: who that could be. In a thread of its own, since there may be thousands of
    /// processes.
    fn look_for_suspects(&mut self) {
        if !self.journal.in_conflict() {
            self.suspected = None;
            return;
        }
        self.journal.suspects(&self.suspects);
        if self.suspected.is_none_or(|last| last.elapsed() >= LOOK_FOR_SUSPECTS) {
            self.suspected = Some(time::Instant::now());
            let suspects = Arc::clone(&self.suspects);
            // Without one the list stays as it is, and the next look is soon.
            let _ = std::thread::Builder::new().name("suspects".to_owned()).spawn(move || suspects.scan());
        }
    }

    /// Keys are read anew each time: a volume of Kubernetes changes behind its names, and a file within a clock's tick.
    fn hand_over_keys(&mut self) {
        let running = self.reloader.running.as_ref();
        let names = running.map(|running| running.checked.serve.keys.as_slice()).unwrap_or_default();
        if let Some(keys) = self.key_files.read(names) {
            self.server.sign_with(keys);
        }
    }

    /// Plain NTP goes on whatever becomes of key exchanges and files with keys; so `serving` is about the former.
    fn server_report(&self) -> ServerReport {
        let mut report = self.server.report();
        for trouble in [self.key_files.trouble(), self.reloader.key_server.trouble()] {
            if !trouble.is_empty() {
                let between = if report.message.is_empty() { "" } else { "; " };
                report.message = format!("{}{between}{trouble}", report.message);
            }
        }
        report
    }

    fn keep_time(&self) {
        if self.journal.synchronized() {
            self.state.save_time(clock::now().wall);
        }
    }
}

/// We write the RTC if the profile says so and its clock is ours to set, and nobody else steers it.
fn rtc_policy(reloader: &Reloader, in_conflict: bool) -> RtcPolicy {
    let checked = reloader.running.as_ref().map(|running| &running.checked);
    let ours = reloader.may_set_clock && !in_conflict;
    match checked {
        Some(c) if c.rtc == RtcMode::Verified && c.mode == Mode::Discipline && ours => RtcPolicy::Verified,
        _ => RtcPolicy::Observe,
    }
}

/// Hands the engine's view to those who show and serve it.
struct Publisher {
    clock_bound: Option<ClockBound>,
    journal: Arc<Journal>,
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
        self.journal.engine(now, snapshot, transitions);
    }
}

/// The kernel's name of this boot.
fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
