//! The driver of the pure engine: clock readings, sockets of outstanding requests, and actions carried out in their
//! order.
use std::{net::IpAddr, os::fd::BorrowedFd, sync::Arc, thread, time::Duration};

use ntp::{
    BootState, Drift, Engine, Event, Mono, RequestId, RestrictTable, SendError, Served, Snapshot, Start,
    StepReason, Transition,
};
use sys::poll;
use tracing::{debug, error, warn};

use super::{clock_watch::ClockWatch, devices::Devices, requests::Requests, sink::Sink};
use crate::{
    auth::Authenticator,
    clock::{self, SystemClock},
    floor::{self, Floor},
    host_root::HostRoot,
    leap_table,
    loop_detector::LoopDetector,
    resolve::{Resolved, Resolver},
    send_error::send_error,
    state::State,
};

mod timed_action;

mod node_addresses;
mod rivals;

mod carry_out;
mod proof;
mod rival;
mod step_guard;

use {
    node_addresses::NodeAddresses,
    rivals::Rivals,
    timed_action::{TimedAction, timed},
};

/// The state of the event loop.
pub(super) struct Driver {
    engine: Option<Engine>,
    /// Counts engines, so that an answer for a former engine is recognised.
    epoch: u64,
    disciplines: bool,
    boot: BootState,
    /// True if the count of steps cannot be saved, so that no step is made.
    unguarded: bool,
    drift: Option<Drift>,
    rules: RestrictTable,
    seed: u64,
    clock: SystemClock,
    /// The platform's reports about the clock, if they may be used.
    watch: Option<ClockWatch>,
    /// True if a process has set the clock.
    alarmed: bool,
    state: Arc<State>,
    requests: Requests,
    own: NodeAddresses,
    devices: Devices,
    authenticator: Authenticator,
    host: HostRoot,
    /// None if the engine runs alone, without threads.
    resolver: Option<Resolver>,
    announced: Vec<Transition>,
    sink: Option<Box<dyn Sink>>,
    /// The desired configuration. While another process steers the clock, the engine only observes instead.
    desired: Option<ntp::Config>,
    rivals: Option<Rivals>,
}

/// The result of `poll`.
#[derive(Default)]
pub(super) struct ReadySockets {
    /// True if `other`, the descriptor that belongs to no request, is readable.
    pub(super) other: bool,
    /// The requests whose sockets have something to read.
    pub(super) requests: Vec<(RequestId, poll::Ready)>,
}

/// Larger than any usable reply: a datagram that passes every network in one piece has at most 1232 octets, and a reply
/// is no longer than its request. A longer one is cut, and its header is still read.
const DATAGRAM: usize = 2048;

impl Driver {
    pub(super) fn new(
        state: Arc<State>,
        authenticator: Authenticator,
        host: &HostRoot,
        sink: Option<Box<dyn Sink>>,
        resolver: Option<Resolver>,
    ) -> Result<Self, sys::Error> {
        let (boot, drift) = (state.boot(), state.drift());
        let seed = sys::random::word()?;
        Ok(Self {
            engine: None,
            epoch: 0,
            disciplines: false,
            boot,
            unguarded: false,
            drift,
            rules: RestrictTable::new(&[]),
            seed,
            clock: SystemClock::default(),
            watch: None,
            alarmed: false,
            state,
            requests: Requests::default(),
            own: NodeAddresses::new(Arc::default()),
            devices: Devices::default(),
            authenticator,
            host: host.clone(),
            resolver,
            announced: Vec::new(),
            sink,
            desired: None,
            rivals: None,
        })
    }

    /// Connects the client to the agent's own server by `loop_detector`, so that the client does not follow that
    /// server.
    pub(super) fn attach_server(&mut self, loop_detector: Arc<LoopDetector>) {
        self.requests = Requests::with_loop_detector(Arc::clone(&loop_detector));
        self.own = NodeAddresses::new(loop_detector);
    }

    /// Uses the platform's reports about the clock from now on.
    pub(super) fn watch_clock(&mut self, watch: ClockWatch) {
        self.watch = Some(watch);
    }

    /// Takes a configuration. Starts an engine if none runs.
    pub(super) fn run(&mut self, config: ntp::Config, rules: RestrictTable) {
        self.rules = rules;
        if config.mode == ntp::Mode::Observe {
            self.forget_rivals();
        }
        self.desired = Some(config);
        self.apply_config();
        self.publish();
    }

    /// Applies the desired configuration, or only observes while another process steers. Starts an engine if none
    /// runs.
    fn apply_config(&mut self) {
        let Some(config) = self.in_force() else { return };
        let disciplines = config.mode == ntp::Mode::Discipline;
        if disciplines && !self.disciplines {
            self.clock.release();
            self.clock.take_over();
        }
        self.disciplines = disciplines;
        if self.engine.is_none() && disciplines && !self.boot.synchronized {
            self.raise_to_floor();
            self.check_guard();
        }
        let config = self.guarded(config);
        if let Some(engine) = &mut self.engine {
            let clocks = clock::clocks();
            let actions = engine.reconfigure(config, clocks.now);
            self.authenticator.retain(|source| engine.auth(source).is_some());
            if let Some(resolver) = &self.resolver {
                resolver.retain(|epoch, source| epoch == self.epoch && engine.has(source));
            }
            self.carry_out(timed(actions, clocks));
        } else {
            self.start_engine(config);
        }
    }

    /// Starts a new engine. Reads all files before the clocks, since reading files takes time: the saved state is
    /// converted to the time of that reading, and until the rate is set, an unfinished slew moves the clock.
    fn start_engine(&mut self, config: ntp::Config) {
        let table = leap_table::load(&self.host);
        let floor = ntp::Floor { saved: self.state.time(), built: floor::BUILT };
        let saved = self.state.samples();
        let clocks = clock::clocks();
        let start = Start {
            boot: self.boot,
            drift: self.drift,
            samples: saved.and_then(|saved| saved.at(clocks)),
            seed: self.seed.wrapping_add(self.epoch),
        };
        let mut engine = Engine::new(config, start, clocks.now);
        let actions = engine.begin();
        table.into_iter().for_each(|table| engine.learn_leap_table(table));
        engine.learn_floor(floor);
        self.engine = Some(engine);
        self.own.forget();
        self.carry_out(timed(actions, clocks));
    }

    /// Raises the clock to the floor before an engine reads it. Afterwards the engine would take that for a jump by
    /// another process.
    fn raise_to_floor(&mut self) {
        match floor::raise(&self.state, &mut self.clock) {
            Floor::Raised(by) => self.announce(Transition::Stepped { by, why: StepReason::Floor }),
            Floor::Behind(by) => {
                warn!(behind_s = by, "Clock is behind the last time known to be right, and cannot be set");
            }
            Floor::Held | Floor::Unknown => {}
        }
    }

    /// Leaves the clock in a safe state, and asks no upstream any more.
    pub(super) fn stop_steering(&mut self) {
        if let Some(mut engine) = self.engine.take() {
            let clocks = clock::clocks();
            let actions = engine.shut_down(clocks.now);
            self.carry_out(timed(actions, clocks));
        }
        self.requests.close_all();
        self.devices.close();
        self.authenticator.retain(|_| false);
        self.resolver.iter().for_each(|resolver| resolver.retain(|_, _| false));
        self.epoch += 1;
        self.disciplines = false;
        self.desired = None;
        self.forget_rivals();
        self.clock.release();
        self.publish();
    }

    /// Wakes the engine if its time has come.
    pub(super) fn wake_up(&mut self) {
        self.update_own_addresses();
        let now = self.clock.now();
        self.retry_guard();
        let due = self.engine.as_ref().is_some_and(|engine| engine.next_wakeup(now) <= now.mono);
        if std::mem::take(&mut self.alarmed) || due {
            self.handle(Event::Wakeup);
        }
        self.publish();
    }

    /// Informs the engine if this node's addresses, or the server's ports, have changed.
    fn update_own_addresses(&mut self) {
        if self.engine.is_none() {
            return;
        }
        let now = self.clock.now().mono;
        if let Some(addresses) = self.own.changed(now) {
            self.handle(Event::OwnAddresses(&addresses));
        }
    }

    fn publish(&mut self) {
        let transitions = std::mem::take(&mut self.announced);
        let snapshot = self.snapshot();
        let served = served(snapshot.as_ref());
        if let Some(sink) = &mut self.sink {
            sink.publish(snapshot, &transitions, served);
        }
    }

    /// The addresses of the sources.
    pub(super) fn upstreams(&self) -> Vec<IpAddr> {
        self.snapshot().map(|snapshot| snapshot.addresses().collect()).unwrap_or_default()
    }

    /// What the server is to serve now.
    pub(super) fn served(&self) -> Served {
        served(self.snapshot().as_ref())
    }

    /// The engine's present snapshot.
    fn snapshot(&self) -> Option<Snapshot> {
        let now = self.clock.now();
        let engine = self.engine.as_ref()?;
        let mut snapshot = engine.snapshot(now);
        for source in &mut snapshot.sources {
            source.detail.cookies = self.authenticator.cookies(source.id);
        }
        Some(snapshot)
    }

    /// Waits for a datagram, for `other` to become readable, for the engine's time, or for another process to set the
    /// clock, at most for `limit`.
    pub(super) fn wait(&mut self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> ReadySockets {
        let now = self.clock.now();
        let until = self.engine.as_ref().map(|engine| duration_between(now.mono, engine.next_wakeup(now)));
        let timeout = until.into_iter().chain(limit).min();
        let alarm = self.watch.as_ref().and_then(ClockWatch::descriptor);
        let before = [other, alarm].into_iter().flatten();
        let descriptors: Vec<_> = before.chain(self.requests.descriptors()).collect();
        let (has_other, has_alarm) = (other.is_some(), alarm.is_some());
        match poll::ready(&descriptors, timeout) {
            Ok(mut found) => {
                let other = has_other && found.remove(0).read;
                if has_alarm && found.remove(0).read {
                    self.alarmed = true;
                    self.watch.iter().for_each(ClockWatch::clear);
                }
                ReadySockets { other, requests: self.requests.ready(&found) }
            }
            Err(error) if error.interrupted() => ReadySockets::default(),
            Err(error) => {
                error!(%error, "Waiting failed");
                // This should not occur. If it does, the loop must not spin.
                thread::sleep(Duration::from_millis(100));
                ReadySockets::default()
            }
        }
    }

    /// Reads the sockets of these requests: first the timestamps of departures, since answers are measured by them,
    /// then one datagram each.
    pub(super) fn receive(&mut self, ready: &[(RequestId, poll::Ready)]) {
        for &(request, _) in ready.iter().filter(|(_, found)| found.queue) {
            if let Some(at) = self.requests.departure(request) {
                self.handle(Event::Departed { request, at });
            }
        }
        let mut buffer = [0; DATAGRAM];
        for &(request, _) in ready.iter().filter(|(_, found)| found.read) {
            // An action for an earlier datagram may have closed the request.
            let Some(outcome) = self.requests.receive(request, &mut buffer) else { continue };
            match outcome {
                // `ignore` also holds for replies of the agent's own upstreams.
                Ok(received) if self.rules.ignores_upstream(received.from.ip(), received.from.port()) => {
                    self.handle(Event::Dropped { request });
                }
                Ok(received) if self.requests.is_own_reply(request, &buffer[..received.len]) => {
                    self.handle(Event::OwnAnswer { request });
                }
                Ok(received) => match self.authenticator.verify(request, &buffer[..received.len]) {
                    Ok(()) => self.handle(Event::Received {
                        request,
                        datagram: &buffer[..received.len],
                        at: ntp::Wall(received.at_ns),
                        local: received.local,
                    }),
                    Err(refused) => self.reject(request, &refused),
                },
                Err(error) if error.would_block() || error.interrupted() => {}
                Err(error) => {
                    debug!(%error, request = request.0, "Request failed");
                    let asked = self.requests.asked(request);
                    let why = asked.map_or(SendError::Other(error.errno()), |asked| send_error(error, asked));
                    self.close(request);
                    self.handle(Event::SendFailed { request, why });
                }
            }
        }
    }

    pub(super) fn resolved(&mut self, answer: Resolved) {
        let Resolved { epoch, source, outcome } = answer;
        if epoch != self.epoch {
            return;
        }
        match outcome {
            Ok(addresses) => self.handle(Event::Resolved { source, addresses: &addresses }),
            Err(why) => self.handle(Event::Unresolved { source, why: &why.to_string() }),
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        self.look_for_rivals();
        let actions = self.notify_engine(event);
        self.carry_out(actions);
    }

    /// Passes an event to the engine, and before it the report that the node was suspended, if it was. Otherwise the
    /// engine would take the effect on the clock for a step by another process. Returns the actions that the engine
    /// wants.
    fn notify_engine(&mut self, event: Event<'_>) -> Vec<TimedAction> {
        let asleep = self.watch.as_mut().and_then(ClockWatch::asleep);
        let clocks = clock::clocks();
        let now = clocks.now;
        let Some(engine) = &mut self.engine else { return Vec::new() };
        let mut actions = Vec::new();
        if let Some(asleep) = asleep {
            actions.extend(engine.handle(Event::Resumed { asleep }, now));
        }
        actions.extend(engine.handle(event, now));
        timed(actions, clocks)
    }
}

fn served(snapshot: Option<&Snapshot>) -> Served {
    snapshot.map_or(Served::UNSYNCHRONIZED, Served::from_snapshot)
}

fn duration_between(now: Mono, later: Mono) -> Duration {
    Duration::from_nanos(u64::try_from(later.0.saturating_sub(now.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ntp::{Action, Clocks, Mode, Now, Pause, Samples, Source, SourceState, Upstream};

    use super::*;
    use crate::{
        engine::{clock_watch::tests::sleeper, devices::tests::Fake},
        scratch::Scratch,
    };

    fn observing(path: &str) -> ntp::Config {
        let upstream = Upstream::Device { path: path.to_owned() };
        let device = Source { min_poll: 0, max_poll: 0, ..Source::new("phc", upstream) };
        let mode = Mode::Observe;
        ntp::Config { mode, sources: vec![device], error_bound_threshold: 1.0, ..ntp::Config::default() }
    }

    /// Turns the loop until `enough` returns true, for a minute at most.
    fn run_until(driver: &mut Driver, enough: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begin = sys::clock::monotonic_ns();
        loop {
            driver.wake_up();
            let snapshot = driver.snapshot().unwrap();
            if enough(&snapshot) {
                return snapshot;
            }
            let waited = sys::clock::monotonic_ns() - begin;
            assert!(waited < 60_000_000_000, "not within a minute: {snapshot:?}");
            let ready = driver.wait(None, Some(Duration::from_millis(200)));
            driver.receive(&ready.requests);
        }
    }

    /// Keeps the transitions.
    struct RecordingSink(Arc<Mutex<Vec<Transition>>>);

    impl Sink for RecordingSink {
        fn publish(&mut self, _: Option<Snapshot>, transitions: &[Transition], _: Served) {
            self.0.lock().unwrap().extend_from_slice(transitions);
        }
    }

    #[test]
    fn a_sleep_is_told_before_anything_else_and_the_clock_measured_anew() {
        let folder = Scratch::new();
        let state = Arc::new(State::open(folder.path(), "boot"));
        let (watch, slept) = sleeper();
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Box::new(RecordingSink(Arc::clone(&told)));
        let host = HostRoot::new(folder.path().to_owned());
        let authenticator = Authenticator::new(folder.path(), None);
        let mut driver = Driver::new(state, authenticator, &host, Some(sink), None).unwrap();
        driver.watch_clock(watch);
        driver.devices = Fake::default().devices();
        driver.run(observing("/dev/ptp7"), RestrictTable::new(&[]));
        run_until(&mut driver, |snapshot| snapshot.synchronized);
        // This machine was not suspended, so its clock did not gain the time: the difference looks like a step by
        // another process.
        *slept.lock().unwrap() = Some(12_000_000_000);
        run_until(&mut driver, |snapshot| !snapshot.synchronized);
        run_until(&mut driver, |snapshot| snapshot.synchronized);
        let told = told.lock().unwrap();
        let strange: Vec<&Transition> = told
            .iter()
            .filter(|told| matches!(told, Transition::Resumed(_) | Transition::ExternalStep { .. }))
            .collect();
        assert_eq!(strange[0], &Transition::Resumed(Pause::Asleep { seconds: 5.0 }), "{told:?}");
        let [_, Transition::ExternalStep { by, then: None }] = strange[..] else { panic!("{told:?}") };
        assert!((by + 5.0).abs() < 1e-3, "{by}");
    }

    #[test]
    fn a_step_that_cannot_be_counted_is_not_made() {
        let folder = Scratch::new();
        let directory = folder.path().join("state");
        let state = Arc::new(State::open(&directory, "boot"));
        let host = HostRoot::new(folder.path().to_owned());
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Box::new(RecordingSink(Arc::clone(&told)));
        let mut driver =
            Driver::new(Arc::clone(&state), Authenticator::new(folder.path(), None), &host, Some(sink), None)
                .unwrap();
        driver.run(observing("/dev/ptp7"), RestrictTable::new(&[]));
        // The parts of a step, except the step itself, which no test makes.
        let counted = |steps| Action::SaveBoot(BootState { steps, synchronized: false });
        let done = || Action::Announce(Transition::Stepped { by: 1.0, why: StepReason::Start });
        let steps = |driver: &mut Driver| {
            driver.publish();
            told.lock().unwrap().iter().filter(|told| matches!(told, Transition::Stepped { .. })).count()
        };
        driver.carry_out(timed(vec![counted(1), done()], clock::clocks()));
        assert_eq!((steps(&mut driver), state.boot().steps), (1, 1));
        std::fs::remove_dir_all(&directory).unwrap();
        let epoch = driver.epoch;
        driver.carry_out(timed(vec![counted(2), done()], clock::clocks()));
        assert_eq!((steps(&mut driver), state.boot().steps, driver.boot.steps), (1, 1, 1));
        assert!(driver.epoch > epoch && driver.engine.is_some(), "another engine looks at the clock");
        assert_eq!(driver.guarded(observing("/dev/ptp7")).step_limit, 0);
        // The state of synchronisation is not a step: it is saved when the disk accepts it.
        let synchronized = Action::SaveBoot(BootState { steps: 1, synchronized: true });
        driver.carry_out(timed(vec![synchronized], clock::clocks()));
        assert!(driver.boot.synchronized);
        std::fs::create_dir(&directory).unwrap();
        state.save_boot(driver.boot);
        driver.wake_up();
        assert_eq!(driver.guarded(observing("/dev/ptp7")).step_limit, 3);
    }

    #[test]
    fn samples_are_kept_with_the_clocks_to_which_they_are_relative() {
        let folder = Scratch::new();
        let state = Arc::new(State::open(folder.path(), "boot"));
        let host = HostRoot::new(folder.path().to_owned());
        let authenticator = Authenticator::new(folder.path(), None);
        let mut driver = Driver::new(Arc::clone(&state), authenticator, &host, None, None).unwrap();
        let samples = Samples { drift: Drift { frequency_ppm: 0.0, skew_ppm: 0.1 }, sources: Vec::new() };
        let saved_at = |driver: &mut Driver, then: Clocks, stepped: f64| {
            let at = Now { wall: then.now.wall.plus(stepped), mono: then.now.mono };
            let save = Action::SaveSamples { samples: samples.clone(), at };
            driver.carry_out(timed(vec![Action::SaveDrift(samples.drift), save], then));
            let text = std::fs::read_to_string(folder.path().join("samples")).unwrap();
            let words: Vec<i64> = text.split(' ').skip(1).take(3).map(|word| word.parse().unwrap()).collect();
            (words, vec![at.wall.0, at.mono.0, then.raw])
        };
        // The earlier actions took time, so that all clocks have advanced.
        let then = clock::clocks();
        thread::sleep(Duration::from_millis(20));
        let (found, expected) = saved_at(&mut driver, then, 0.0);
        assert_eq!(found, expected);
        assert!(state.samples().unwrap().at(then).is_some());
        // An earlier action stepped the clock, so the samples belong to the clock before the step.
        let (found, expected) = saved_at(&mut driver, then, 3.0);
        assert_eq!(found, expected);
        assert!(state.samples().unwrap().at(then).is_none());
    }

    #[test]
    fn a_device_is_followed_while_it_can_be_read() {
        let folder = Scratch::new();
        let state = Arc::new(State::open(folder.path(), "boot"));
        let host = HostRoot::new(folder.path().to_owned());
        let mut driver =
            Driver::new(state, Authenticator::new(folder.path(), None), &host, None, None).unwrap();
        let fake = Fake { offset_ns: 1_500_000, ..Fake::default() };
        driver.devices = fake.devices();
        driver.run(observing("/dev/ptp7"), RestrictTable::new(&[]));
        let snapshot = run_until(&mut driver, |snapshot| snapshot.synchronized);
        assert_eq!((snapshot.stratum, &snapshot.reference_id), (1, b"PHC0"));
        let offset = snapshot.offset.unwrap();
        assert!((offset - 1.5e-3).abs() < 1e-4, "{offset}");
        assert_eq!(snapshot.sources[0].state, SourceState::Selected);
        assert_eq!(fake.opened.lock().unwrap()[..], [std::path::PathBuf::from("/dev/ptp7")]);

        *fake.broken.lock().unwrap() = true;
        run_until(&mut driver, |snapshot| snapshot.sources[0].reach & 1 == 0);
        *fake.broken.lock().unwrap() = false;
        run_until(&mut driver, |snapshot| snapshot.sources[0].reach & 1 == 1);
        assert_eq!(fake.opened.lock().unwrap().len(), 2);
        driver.stop_steering();
        assert!(driver.requests.descriptors().next().is_none());
    }
}
