//! The simulator: a machine with a clock, a network with servers, and the real engine. Hours are simulated in
//! milliseconds. It is for tests, and with the feature `sim` for the table of `make sim`. A run with the same seed
//! gives the same result.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    Action, BootState, Clocks, Config, Drift, Engine, Event, Leap, Mode, NtpTimestamp, RequestId, Samples,
    SendError, Snapshot, Source, Start, StepReason, Transition, Upstream,
};

mod random;

mod kernel;
mod machine;
mod rival;
mod network;
mod devices;
mod names;
mod keys;
mod servers;

mod measure;
mod scenarios;
mod table;

#[cfg(test)]
mod group;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;

pub use devices::Shown;
use kernel::Kernel;
pub use kernel::Timex;
use keys::Keys;
use machine::Oscillator;
pub use machine::Swing;
use network::Network;
pub use network::{Bursts, CALM, Impairment, LAN, Path};
use random::Random;
use rival::Watch;
pub use scenarios::{DEFAULT_POLLS, Happening, Polls, SCENARIOS, Scenario};
pub use servers::{Behaviour, HONEST, Script, ahead, honest};
pub use {
    measure::{Figures, run, summarize},
    table::{HEADING, explanation, row, summary},
};

/// Changes a reply on its way to the client. Returns the datagrams that arrive.
pub type Tamper = Box<dyn FnMut(&mut Vec<u8>) -> Vec<Vec<u8>>>;

/// The machine, its network, and a record of what has happened.
pub struct Sim {
    /// The engine under test.
    pub engine: Engine,
    /// The engine's configuration.
    pub config: Config,
    /// True time since the beginning, seconds.
    pub now: f64,
    /// This clock minus true time, seconds.
    pub offset: f64,
    /// The frequency error of the oscillator, seconds per second.
    pub oscillator: f64,
    /// Its random walk, per square root of a second.
    pub wander: f64,
    /// The effect of temperature on its frequency.
    pub swing: Option<Swing>,
    /// The rate that the engine has set.
    pub kernel_ppm: f64,
    /// The servers: the first is at all addresses that end in 1, and so on.
    pub servers: Vec<Script>,
    /// The devices by path, and their readings.
    pub devices: Vec<(&'static str, Shown)>,
    /// The network path to all servers.
    pub path: Path,
    /// The impairment of the path.
    pub impairment: Impairment,
    /// The error for requests to addresses without a server.
    pub send_error: SendError,
    /// True if the access list drops replies.
    pub drops: bool,
    /// Changes replies, if set.
    pub tamper: Option<Tamper>,
    /// True if the kernel refuses steps.
    pub stubborn: bool,
    /// Steps that were made, or tried, seconds.
    pub steps: Vec<f64>,
    /// The number of steps in the start phase.
    start_steps: u32,
    /// The reported transitions, and when.
    pub announced: Vec<(f64, Transition)>,
    /// The saved boot states.
    pub saved_boots: Vec<BootState>,
    /// The saved drift.
    pub drift: Option<Drift>,
    /// The saved samples, and the clocks to which they are relative.
    pub samples: Option<(Samples, Clocks)>,
    /// The last status set in the kernel: synchronised, leap second, largest error.
    pub status: Option<(bool, Leap, f64)>,
    /// The kernel's state.
    kernel: Kernel,
    /// TAI minus UTC as set in the kernel.
    pub tai: Option<i32>,
    /// Every rate that was set, parts per million.
    pub rates: Vec<f64>,
    /// Every request, and when it was sent.
    pub sent: Vec<(f64, RequestId)>,
    /// The addresses of every name that is not in `hosts`.
    pub names: Vec<IpAddr>,
    /// The addresses of these names.
    pub hosts: Vec<(String, Vec<IpAddr>)>,
    /// True if the resolver does not answer.
    pub no_resolver: bool,
    /// The number of lookups.
    pub resolved: u32,
    /// The number of key exchanges.
    pub exchanges: u32,
    keys: Keys,
    /// Time and offset at every event.
    pub track: Vec<(f64, f64)>,
    /// The raw monotonic clock, seconds: the count of the oscillator.
    pub raw: f64,
    /// True if the engine only observes, so that it must not touch the clock.
    observes: bool,
    /// The caller's detection of other programs that steer.
    watch: Watch,
    /// The part of the offset that steps made, which the monotonic clock does not have.
    stepped: f64,
    /// True if the kernel applied the leap second, and its status was not reset yet.
    leapt: bool,
    arrivals: Vec<(f64, RequestId, Vec<u8>)>,
    open: Vec<RequestId>,
    network: Network,
    walk: Oscillator,
    /// Random numbers for the delay of wake-ups and for cookies.
    host: Random,
}

/// A configuration with this number of servers as sources, and defaults otherwise.
pub fn config(sources: usize) -> Config {
    let server = |index: usize| Upstream::Server { host: format!("192.0.2.{}", index + 1), port: 123 };
    let source = |index: usize| Source::new(format!("s{index}"), server(index));
    Config { sources: (0..sources).map(source).collect(), ..Config::default() }
}

/// Largest delay of a wake-up, seconds.
const LATENESS: f64 = 2e-4;

impl Sim {
    /// A machine whose clock is `offset` ahead of true time, at the begin of a boot.
    pub fn new(config: Config, offset: f64, servers: Vec<Script>) -> Self {
        Self::booted(config, offset, servers, BootState::default(), 1)
    }

    /// The same with a boot state and a seed.
    pub fn booted(config: Config, offset: f64, servers: Vec<Script>, boot: BootState, seed: u64) -> Self {
        Self::started(config, offset, servers, Start { boot, drift: None, samples: None, seed })
    }

    /// The same with all start values of the engine.
    pub fn started(config: Config, offset: f64, servers: Vec<Script>, start: Start) -> Self {
        let seed = start.seed;
        Self {
            engine: Engine::new(config.clone(), start, machine::read(0.0, offset, offset)),
            now: 0.0,
            offset,
            oscillator: 30e-6,
            wander: 1e-9,
            swing: None,
            kernel_ppm: 0.0,
            servers,
            devices: Vec::new(),
            path: LAN,
            impairment: CALM,
            send_error: SendError::NoRoute,
            drops: false,
            tamper: None,
            stubborn: false,
            steps: Vec::new(),
            start_steps: 0,
            announced: Vec::new(),
            saved_boots: Vec::new(),
            drift: None,
            samples: None,
            status: None,
            kernel: Kernel::new(),
            tai: None,
            rates: Vec::new(),
            sent: Vec::new(),
            names: Vec::new(),
            hosts: Vec::new(),
            no_resolver: false,
            resolved: 0,
            exchanges: 0,
            keys: Keys::default(),
            track: Vec::new(),
            raw: 0.0,
            observes: config.mode == Mode::Observe,
            watch: Watch::default(),
            stepped: offset,
            config,
            leapt: false,
            arrivals: Vec::new(),
            open: Vec::new(),
            network: Network::new(seed),
            walk: Oscillator::new(seed),
            host: Random::new(seed, 1),
        }
    }

    /// The engine's snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot(self.clocks())
    }

    /// Starts another agent, in the same boot or in the next one.
    pub fn restart(&mut self, boot: BootState) {
        let clocks = self.all_clocks();
        let actions = self.engine.shut_down(clocks.now);
        self.act(actions, clocks.raw);
        self.open.clear();
        self.arrivals.clear();
        self.start_engine(Start { boot, drift: self.drift, samples: None, seed: 7 });
    }

    /// Starts another engine.
    fn start_engine(&mut self, start: Start) {
        self.forget_rivals();
        self.take_over();
        let clocks = self.all_clocks();
        self.engine = Engine::new(self.config.clone(), start, clocks.now);
        let actions = self.engine.begin();
        self.act(actions, clocks.raw);
    }

    /// Changes the engine's configuration.
    pub fn reconfigure(&mut self, config: Config) {
        // An engine that changes to Observe hands back the clock.
        let observed = std::mem::replace(&mut self.observes, config.mode == Mode::Observe);
        if observed {
            self.take_over();
        }
        self.observes &= observed;
        if config.mode == Mode::Observe {
            self.forget_rivals();
        }
        self.config = config;
        self.carry_out();
        self.observes = self.config.mode == Mode::Observe;
    }

    /// The kernel's present status of its clock.
    pub fn timex(&self) -> Timex {
        self.kernel.timex(self.clocks().wall)
    }

    /// Advances true time by `seconds`, and wakes up the engine at the end.
    pub fn run(&mut self, seconds: f64) {
        self.advance(self.now + seconds);
        self.give(Event::Wakeup);
    }

    /// Advances true time until `end`.
    pub(crate) fn advance(&mut self, end: f64) {
        while self.now < end {
            let now = self.clocks();
            let wait = (self.engine.next_wakeup(now) - now.mono).max(0.0) + LATENESS * self.host.uniform();
            let arrival = self.arrivals.iter().map(|arrival| arrival.0).fold(f64::INFINITY, f64::min);
            let wakeup = self.now + wait / self.rate();
            self.pass_until(wakeup.min(arrival).min(end));
            if let Some(index) = self.arrivals.iter().position(|arrival| arrival.0 <= self.now) {
                let (_, request, datagram) = self.arrivals.swap_remove(index);
                self.receive(request, &datagram);
            } else if wakeup <= self.now {
                self.give(Event::Wakeup);
            }
        }
    }

    /// A datagram has arrived. Its timestamp is the kernel's time of arrival, regardless of how late the program reads
    /// it.
    fn receive(&mut self, request: RequestId, datagram: &[u8]) {
        if self.drops {
            self.give(Event::Dropped { request });
        } else if self.open.contains(&request) {
            let local = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)));
            let at = self.clocks().wall;
            self.refill_cookies(request);
            self.give(Event::Received { request, datagram, at, local });
        }
    }

    fn give(&mut self, event: Event<'_>) {
        self.look_for_rivals();
        let clocks = self.all_clocks();
        let actions = self.engine.handle(event, clocks.now);
        self.act(actions, clocks.raw);
    }

    /// Carries out the engine's actions. `raw` is the raw clock at the time of the call.
    fn act(&mut self, actions: Vec<Action>, raw: i64) {
        let starts = |action: &Action| {
            matches!(action, Action::Announce(Transition::Stepped { why: StepReason::Start, .. }))
        };
        let starting = actions.iter().any(starts);
        // The rate must be set soon after the clock was read, so no file is written before.
        let rated = |action: &Action| matches!(action, Action::SetFrequency { .. });
        let written = |action: &Action| matches!(action, Action::SaveDrift(_) | Action::SaveBoot(_));
        let first_written = actions.iter().position(written).unwrap_or(actions.len());
        assert!(!actions[first_written..].iter().any(rated), "the rate waits for a file: {actions:?}");
        let mut jumped = None;
        for action in actions {
            match action {
                action if !self.permitted(&action) => {}
                Action::Resolve { source, host } => self.resolve(source, &host),
                Action::Send { request, source, to, .. } => {
                    if self.spend_cookie(request, source) {
                        self.send(request, to);
                    }
                }
                Action::Read { request, path, .. } => self.read(request, &path),
                Action::Close { request } => self.open.retain(|open| *open != request),
                Action::SetFrequency { ppm } => {
                    assert!(!self.observes, "an observer set the frequency");
                    self.kernel_ppm = ppm;
                    self.rates.push(ppm);
                }
                Action::Step { by } => {
                    assert!(!self.observes, "an observer stepped");
                    self.start_steps += u32::from(starting);
                    let saved = self.saved_boots.last().map_or(0, |boot| boot.steps);
                    assert!(saved >= self.start_steps, "a step was not counted before it was done");
                    self.steps.push(by);
                    if !self.stubborn {
                        self.jump(by);
                    }
                }
                Action::SetStatus { synchronized, leap, max_error, estimated_error } => {
                    assert!(!self.observes, "an observer set the status");
                    let told = Timex { synchronized, leap, max_error, estimated_error };
                    self.kernel.tell(told, self.clocks().wall);
                    self.status = Some((synchronized, leap, max_error));
                    self.leapt &= matches!(leap, Leap::Insert | Leap::Delete);
                }
                Action::SetTai { seconds } => {
                    assert!(!self.observes, "an observer set TAI");
                    self.tai = Some(seconds);
                }
                Action::SaveDrift(drift) => self.drift = Some(drift),
                Action::SaveSamples { samples, at } => {
                    self.samples = Some((samples, Clocks { now: at, raw }))
                }
                Action::SaveBoot(boot) => self.saved_boots.push(boot),
                Action::Announce(transition) => {
                    if let Transition::ExternalStep { by, .. } = transition {
                        jumped = Some(jumped.unwrap_or(0.0) + by);
                    }
                    self.announced.push((self.now, transition));
                }
            }
        }
        if let Some(by) = jumped {
            self.stepped_by_another(by, self.clocks().mono);
        }
    }

    fn send(&mut self, request: RequestId, to: SocketAddr) {
        self.open.push(request);
        self.sent.push((self.now, request));
        let last = match to.ip() {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        let index = usize::from(last) - 1;
        if index >= self.servers.len() {
            return self.give(Event::SendFailed { request, why: self.send_error });
        }
        let cookie = NtpTimestamp(self.host.bits() | 1);
        let at = self.clocks().wall;
        self.give(Event::Sent { request, cookie, at });
        let Some(trip) = self.network.trip(index, self.now, &self.path, &self.impairment) else { return };
        let behaviour = (self.servers[index])(self.now + trip.there);
        for (at, mut datagram) in servers::answer(&behaviour, cookie, self.now, &trip) {
            let datagrams = match &mut self.tamper {
                Some(tamper) => tamper(&mut datagram),
                None => vec![datagram],
            };
            self.arrivals.extend(datagrams.into_iter().map(|datagram| (at, request, datagram)));
        }
    }
}
