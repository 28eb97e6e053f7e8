//! A machine with a clock, a network with servers, and the real engine between them: virtual hours in milliseconds.
//! Only for tests. The clock drifts and wanders, delays are exponential, servers follow a script.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    Action, Auth, BootState, Config, Drift, Engine, Event, Leap, LeapMode, Mode, Mono, Now, NtpTimestamp,
    RequestId, Snapshot, Source, Start, Transition, Upstream, Wall,
    packet::{self, Header, NtpShort},
};

mod scenarios;
mod selection;

/// What a server does at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Its clock minus true time, seconds.
    pub(crate) offset: f64,
    pub(crate) stratum: u8,
    pub(crate) silent: bool,
    /// The code of a kiss instead of time.
    pub(crate) kiss: Option<[u8; 4]>,
    pub(crate) leap: Leap,
    pub(crate) reference_id: [u8; 4],
}

pub(crate) const HONEST: Behaviour = Behaviour {
    offset: 0.0,
    stratum: 1,
    silent: false,
    kiss: None,
    leap: Leap::None,
    reference_id: *b"GPS\0",
};

/// A path with a shortest delay and an exponential rest, each way, seconds; and the share of packets lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) delay: f64,
    pub(crate) jitter: f64,
    pub(crate) loss: f64,
}

pub(crate) const LAN: Path = Path { delay: 100e-6, jitter: 100e-6, loss: 0.0 };

type Script = Box<dyn Fn(f64) -> Behaviour>;

/// What is changed in a datagram on its way back, and how often it arrives.
type Tamper = Box<dyn FnMut(&mut Vec<u8>) -> Vec<Vec<u8>>>;

/// The machine, its network, and what has happened.
pub(crate) struct Sim {
    pub(crate) engine: Engine,
    pub(crate) config: Config,
    /// True time since the beginning, seconds.
    pub(crate) now: f64,
    /// This clock minus true time, seconds.
    pub(crate) offset: f64,
    /// The oscillator's own frequency error, seconds per second.
    pub(crate) oscillator: f64,
    /// Its random walk, per root of a second.
    pub(crate) wander: f64,
    pub(crate) kernel_ppm: f64,
    pub(crate) servers: Vec<Script>,
    pub(crate) path: Path,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) steps: Vec<f64>,
    pub(crate) told: Vec<(f64, Transition)>,
    pub(crate) saved_boots: Vec<BootState>,
    pub(crate) drift: Option<Drift>,
    pub(crate) status: Option<(bool, Leap, f64)>,
    /// TAI minus UTC as the kernel was told.
    pub(crate) tai: Option<i32>,
    /// Every rate that was set, parts per million.
    pub(crate) rates: Vec<f64>,
    pub(crate) sent: Vec<(f64, RequestId)>,
    pub(crate) names: Vec<IpAddr>,
    pub(crate) resolved: u32,
    /// Samples of (time, offset) at every event.
    pub(crate) track: Vec<(f64, f64)>,
    arrivals: Vec<(f64, RequestId, Vec<u8>)>,
    open: Vec<RequestId>,
    stepped: f64,
    /// The kernel did its leap second, and was not told yet that it is over.
    leapt: bool,
    random: u64,
}

/// True time at the beginning.
const EPOCH: Wall = Wall(1_800_000_000_000_000_000);

pub(crate) fn config(sources: usize) -> Config {
    let source = |index: usize| Source {
        name: format!("s{index}"),
        upstream: Upstream::Server { host: format!("192.0.2.{}", index + 1), port: 123 },
        auth: Auth::None,
        iburst: true,
        burst: false,
        prefer: false,
        trust: false,
        require: false,
        noselect: false,
        min_poll: 4,
        max_poll: 6,
    };
    Config {
        mode: Mode::Discipline,
        sources: (0..sources).map(source).collect(),
        step_threshold: 0.01,
        step_limit: 3,
        max_slew_rate: 500e-6,
        max_change: 1000.0,
        error_bound_threshold: 0.2,
        local_stratum: None,
        min_sources: 1,
        leap: LeapMode::Kernel,
        smeared: false,
    }
}

impl Sim {
    pub(crate) fn new(config: Config, offset: f64, servers: Vec<Script>) -> Self {
        Self::booted(config, offset, servers, BootState::default(), 1)
    }

    pub(crate) fn booted(
        config: Config,
        offset: f64,
        servers: Vec<Script>,
        boot: BootState,
        seed: u64,
    ) -> Self {
        let start = Start { boot, drift: None, seed };
        let now = Now { wall: EPOCH.plus(offset), mono: Mono(0).plus(1e4) };
        Self {
            engine: Engine::new(config.clone(), start, now),
            config,
            now: 0.0,
            offset,
            oscillator: 30e-6,
            wander: 1e-9,
            kernel_ppm: 0.0,
            servers,
            path: LAN,
            tamper: None,
            steps: Vec::new(),
            told: Vec::new(),
            saved_boots: Vec::new(),
            drift: None,
            status: None,
            tai: None,
            rates: Vec::new(),
            sent: Vec::new(),
            names: Vec::new(),
            resolved: 0,
            track: Vec::new(),
            arrivals: Vec::new(),
            open: Vec::new(),
            stepped: offset,
            leapt: false,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Both clocks now.
    pub(crate) fn clocks(&self) -> Now {
        let mono = self.now + self.offset - self.stepped;
        Now { wall: EPOCH.plus(self.now).plus(self.offset), mono: Mono(0).plus(1e4).plus(mono) }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.engine.snapshot(self.clocks())
    }

    /// Somebody else moves the clock.
    pub(crate) fn jump(&mut self, by: f64) {
        self.offset += by;
        self.stepped += by;
    }

    /// Another agent in the same boot, or in the next one.
    pub(crate) fn restart(&mut self, boot: BootState) {
        let actions = self.engine.shut_down(self.clocks());
        self.act(actions);
        let start = Start { boot, drift: self.drift, seed: 7 };
        self.engine = Engine::new(self.config.clone(), start, self.clocks());
        self.open.clear();
        self.arrivals.clear();
    }

    pub(crate) fn reconfigure(&mut self, config: Config) {
        self.config = config.clone();
        let actions = self.engine.reconfigure(config, self.clocks());
        self.act(actions);
    }

    /// Does what a change of mode says about the rate, though it is an observer that says it.
    pub(crate) fn act_rate(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::SetFrequency { ppm } = action {
                self.kernel_ppm = *ppm;
            }
        }
    }

    /// Lets `seconds` of true time pass.
    pub(crate) fn run(&mut self, seconds: f64) {
        let end = self.now + seconds;
        while self.now < end {
            let late = 2e-4 * self.uniform();
            let now = self.clocks();
            let wait = (self.engine.next_wakeup(now) - now.mono).max(0.0) + late;
            let arrival = self.arrivals.iter().map(|arrival| arrival.0).fold(f64::INFINITY, f64::min);
            let next = arrival.min(self.now + wait / self.rate());
            self.pass((next.min(end) - self.now).max(0.0));
            let due = self.arrivals.iter().position(|arrival| arrival.0 <= self.now);
            if let Some(index) = due {
                let (_, request, datagram) = self.arrivals.swap_remove(index);
                if self.open.contains(&request) {
                    let now = self.clocks();
                    let local = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)));
                    let event = Event::Received { request, datagram: &datagram, at: now.wall, local };
                    self.give(event);
                }
            } else {
                self.give(Event::Wakeup);
            }
        }
    }

    /// Runs, and answers the root of the mean square and the largest size of the clock's offset meanwhile.
    pub(crate) fn error_over(&mut self, seconds: f64) -> (f64, f64) {
        self.track.clear();
        self.run(seconds);
        let squares = self.track.iter().map(|(_, offset)| offset * offset).sum::<f64>();
        let largest = self.track.iter().map(|(_, offset)| offset.abs()).fold(0.0, f64::max);
        ((squares / self.track.len().max(1) as f64).sqrt(), largest)
    }

    fn rate(&self) -> f64 {
        (1.0 + self.oscillator) * (1.0 + self.kernel_ppm * 1e-6)
    }

    fn pass(&mut self, seconds: f64) {
        let mut left = seconds;
        while left > 0.0 {
            let leap = self.kernel_leap();
            let part = left.min(0.25).min(leap.map_or(0.25, |(seconds, _)| seconds));
            self.offset += part * (self.rate() - 1.0);
            self.now += part;
            let normal = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
            self.oscillator += self.wander * part.sqrt() * normal;
            left -= part;
            if let Some((_, by)) = leap.filter(|(seconds, _)| *seconds <= part) {
                self.leapt = true;
                self.jump(by);
            }
        }
        self.track.push((self.now, self.offset));
    }

    /// The leap second that the kernel was told of: in how many seconds, and by how much the clock will move.
    fn kernel_leap(&self) -> Option<(f64, f64)> {
        let (_, leap, _) = self.status.filter(|_| !self.leapt)?;
        let (early, by) = match leap {
            Leap::Insert => (0.0, -1.0),
            Leap::Delete => (1.0, 1.0),
            Leap::None | Leap::Unknown => return None,
        };
        let day = 86_400_000_000_000;
        let left = (day - self.clocks().wall.0.rem_euclid(day)) as f64 / 1e9 - early;
        Some((left.max(1e-9), by))
    }

    fn give(&mut self, event: Event<'_>) {
        let actions = self.engine.handle(event, self.clocks());
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Resolve { source, .. } => {
                    self.resolved += 1;
                    let names = self.names.clone();
                    self.give(Event::Resolved { source, addresses: &names });
                }
                Action::Send { request, to, .. } => self.send(request, to),
                Action::Close { request } => self.open.retain(|open| *open != request),
                Action::SetFrequency { ppm } => {
                    assert!(self.config.mode == Mode::Discipline, "an observer set the frequency");
                    self.kernel_ppm = ppm;
                    self.rates.push(ppm);
                }
                Action::Step { by } => {
                    assert!(self.config.mode == Mode::Discipline, "an observer stepped");
                    let saved = self.saved_boots.last().map_or(0, |boot| boot.steps);
                    let leap = self.config.leap == LeapMode::Step && by.abs() == 1.0;
                    assert!(
                        leap || saved as usize > self.steps.len(),
                        "a step was not counted before it was done"
                    );
                    self.steps.push(by);
                    self.jump(by);
                }
                Action::SetStatus { synchronized, leap, max_error, .. } => {
                    assert!(self.config.mode == Mode::Discipline, "an observer set the status");
                    self.status = Some((synchronized, leap, max_error));
                    self.leapt &= matches!(leap, Leap::Insert | Leap::Delete);
                }
                Action::SetTai { seconds } => {
                    assert!(self.config.mode == Mode::Discipline, "an observer set TAI");
                    self.tai = Some(seconds);
                }
                Action::SaveDrift(drift) => self.drift = Some(drift),
                Action::SaveBoot(boot) => self.saved_boots.push(boot),
                Action::Announce(transition) => self.told.push((self.now, transition)),
            }
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
            return self.give(Event::SendFailed { request });
        }
        let cookie = NtpTimestamp(self.bits() | 1);
        let at = self.clocks().wall;
        self.give(Event::Sent { request, cookie, at });
        let (there, back) = (self.delay(), self.delay());
        let lost = self.uniform() < self.path.loss || self.uniform() < self.path.loss;
        let processing = 20e-6;
        let behaviour = (self.servers[index])(self.now + there);
        if behaviour.silent || lost {
            return;
        }
        let stamp = |seconds: f64| NtpTimestamp::from_wall(EPOCH.plus(seconds).plus(behaviour.offset));
        let header = Header {
            leap: behaviour.leap,
            version: 4,
            mode: packet::MODE_SERVER,
            stratum: if behaviour.kiss.is_some() { 0 } else { behaviour.stratum },
            poll: 6,
            precision: -24,
            root_delay: NtpShort(0),
            root_dispersion: NtpShort(1),
            reference_id: behaviour.kiss.unwrap_or(behaviour.reference_id),
            reference_time: stamp(self.now - 3.0),
            origin: cookie,
            receive: stamp(self.now + there),
            transmit: stamp(self.now + there + processing),
        };
        let mut datagram = header.encode().to_vec();
        let datagrams = match &mut self.tamper {
            Some(tamper) => tamper(&mut datagram),
            None => vec![datagram],
        };
        for datagram in datagrams {
            self.arrivals.push((self.now + there + processing + back, request, datagram));
        }
    }

    fn delay(&mut self) -> f64 {
        self.path.delay - self.path.jitter * self.uniform().max(1e-12).ln()
    }

    fn bits(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
