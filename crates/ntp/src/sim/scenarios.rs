//! The rows of the table of `make sim`: machines, networks and servers, as data.
use super::{Behaviour, Bursts, CALM, HONEST, Impairment, LAN, Path, Script, Swing, ahead, honest};
use crate::Drift;

/// A scenario. It is run for many seeds and poll intervals.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// Its description in the table.
    pub about: &'static str,
    /// Makes the servers for a run.
    pub servers: fn() -> Vec<Script>,
    /// The servers that are falsetickers from the beginning.
    pub liars: &'static [usize],
    /// The network path to the servers.
    pub path: Path,
    /// The impairment of the path.
    pub impairment: Impairment,
    /// The clock's offset at the beginning, seconds.
    pub offset: f64,
    /// The oscillator's frequency error at the beginning, seconds per second.
    pub oscillator: f64,
    /// Its random walk, per square root of a second.
    pub wander: f64,
    /// The effect of temperature.
    pub swing: Option<Swing>,
    /// The saved drift.
    pub drift: Option<Drift>,
    /// An event, and when it happens.
    pub happening: Option<(f64, Happening)>,
    /// The length of a run, seconds.
    pub length: f64,
    /// When the measurement begins, seconds.
    pub settled: f64,
}

/// An event of a machine.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// The frequency of its oscillator jumps, seconds per second.
    Frequency(f64),
    /// It is paused for this time, seconds. Its system clock is set forward with this error; `None`: it stands still
    /// too.
    Pause(f64, Option<f64>),
}

/// Shortest and longest poll interval, log2 seconds.
pub type Polls = (i8, i8);

/// Poll 4, poll 6, the default here, chronyd's default.
pub const DEFAULT_POLLS: [Polls; 4] = [(4, 4), (6, 6), (4, 6), (6, 10)];

const NET: Path = Path { delay: 10e-3, jitter: 1e-3, loss: 0.0 };

/// The time of events, seconds.
const THEN: f64 = 12_000.0;

const LAN_ROW: Scenario = Scenario {
    name: "lan",
    about: "50 µs + exp(10 µs) each way",
    servers: || vec![honest()],
    liars: &[],
    path: Path { delay: 50e-6, jitter: 10e-6, loss: 0.0 },
    impairment: CALM,
    offset: 0.1,
    oscillator: 50e-6,
    wander: 1e-9,
    swing: None,
    drift: None,
    happening: None,
    length: 20_000.0,
    settled: 10_000.0,
};

const LAN100: Scenario =
    Scenario { name: "lan100", about: "100 µs + exp(100 µs) each way", path: LAN, ..LAN_ROW };

const NET_ROW: Scenario = Scenario { name: "net", about: "10 ms + exp(1 ms) each way", path: NET, ..LAN_ROW };

const PAUSE: Scenario = Scenario {
    name: "pause",
    about: "lan100; after 12000 s a sleep of 20 minutes, at whose end the clock is set on, 20 ms wrong",
    happening: Some((THEN, Happening::Pause(1200.0, Some(20e-3)))),
    ..LAN100
};

const START: Scenario = Scenario {
    name: "start",
    about: "net, 0.1 s and 100 ppm off, no drift file; measured from 60 s to 30 minutes",
    oscillator: 100e-6,
    length: 1800.0,
    settled: 60.0,
    ..NET_ROW
};

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    LAN_ROW,
    NET_ROW,
    Scenario {
        name: "bad",
        about: "30 ms + exp(10 ms) each way, 5 % of packets exp(100 ms) more",
        path: Path { delay: 30e-3, jitter: 10e-3, loss: 0.0 },
        impairment: Impairment { spikes: (0.05, 0.1), ..CALM },
        ..LAN_ROW
    },
    Scenario {
        name: "loss50",
        about: "net, half of all packets lost each way",
        path: Path { loss: 0.5, ..NET },
        ..LAN_ROW
    },
    Scenario {
        name: "falsetick",
        about: "net, four servers, one 0.5 s ahead",
        servers: || vec![honest(), honest(), honest(), ahead(0.5)],
        liars: &[3],
        ..NET_ROW
    },
    LAN100,
    Scenario {
        name: "bursts",
        about: "net; for a minute in ten a queue of exp(20 ms) on the way there",
        impairment: Impairment { bursts: Some(Bursts { apart: 540.0, last: 60.0, wait: 20e-3 }), ..CALM },
        ..NET_ROW
    },
    Scenario {
        name: "heavytail",
        about: "10 ms + a Pareto tail (shape 1.5) with a mean of 1 ms each way",
        impairment: Impairment { tail: Some(1.5), ..CALM },
        ..NET_ROW
    },
    Scenario {
        name: "asymmetry",
        about: "net, the way back 2 ms longer (1 ms of error cannot be seen)",
        impairment: Impairment { longer_back: 2e-3, ..CALM },
        ..NET_ROW
    },
    Scenario {
        name: "outage",
        about: "net, no answers for 30 minutes after 12000 s",
        servers: || vec![until_then(|| HONEST, || Behaviour { silent: true, ..HONEST }, 1800.0)],
        ..NET_ROW
    },
    Scenario {
        name: "jump10ppm",
        about: "lan100, the oscillator's frequency jumps by 10 ppm after 12000 s",
        happening: Some((THEN, Happening::Frequency(10e-6))),
        ..LAN100
    },
    Scenario { name: "wander", about: "lan100, a random walk of 1e-8 per √s", wander: 1e-8, ..LAN100 },
    Scenario { name: "wander-net", about: "net, a random walk of 1e-8 per √s", wander: 1e-8, ..NET_ROW },
    Scenario {
        name: "swing",
        about: "lan100, the temperature moves the frequency by ±3 ppm in an hour",
        swing: Some(Swing { size: 3e-6, period: 3600.0 }),
        ..LAN100
    },
    Scenario {
        name: "liar1of5",
        about: "net, five servers, one 0.5 s ahead",
        servers: || vec![ahead(0.5), honest(), honest(), honest(), honest()],
        liars: &[0],
        ..NET_ROW
    },
    Scenario {
        name: "liars2of5",
        about: "net, five servers, two 0.5 s ahead",
        servers: || vec![ahead(0.5), ahead(0.5), honest(), honest(), honest()],
        liars: &[0, 1],
        ..NET_ROW
    },
    START,
    Scenario {
        name: "start-drift",
        about: "the same with a drift file that is wrong by 0.1 ppm",
        drift: Some(Drift { frequency_ppm: -99.9, skew_ppm: 0.2 }),
        ..START
    },
    PAUSE,
    Scenario {
        name: "pause-vm",
        about: "the same, and nobody sets the clock on, as in a virtual machine that is held (beyond clock.maxChange: \
                told, and not corrected)",
        happening: Some((THEN, Happening::Pause(1200.0, None))),
        ..PAUSE
    },
    Scenario {
        name: "lie",
        about: "net, three servers; one is 50 ms ahead after 12000 s",
        servers: || three(until_then(|| HONEST, || Behaviour { offset: 0.05, ..HONEST }, f64::INFINITY)),
        ..NET_ROW
    },
    Scenario {
        name: "server-jump",
        about: "net, three servers; one is 3 s ahead for 10 minutes after 12000 s",
        servers: || three(until_then(|| HONEST, || Behaviour { offset: 3.0, ..HONEST }, 600.0)),
        ..NET_ROW
    },
    Scenario {
        name: "silent",
        about: "net, three servers; one is silent after 12000 s",
        servers: || three(until_then(|| HONEST, || Behaviour { silent: true, ..HONEST }, f64::INFINITY)),
        ..NET_ROW
    },
    Scenario {
        name: "late",
        about: "net; a tenth of the answers leaves 0.1 s later than it says",
        servers: || {
            let late = |now: f64| if (now * 997.0).fract() < 0.1 { 0.1 } else { 0.0 };
            vec![Box::new(move |now| Behaviour { late: late(now), ..HONEST })]
        },
        ..NET_ROW
    },
    Scenario {
        name: "twice",
        about: "net; each answer comes once more after 50 ms",
        servers: || vec![Box::new(|_| Behaviour { again: Some(0.05), ..HONEST })],
        ..NET_ROW
    },
];

fn three(first: Script) -> Vec<Script> {
    vec![first, honest(), honest()]
}

/// A server that changes its behaviour at the time of events, for `seconds`.
fn until_then(before: fn() -> Behaviour, after: fn() -> Behaviour, seconds: f64) -> Script {
    Box::new(move |now| if (THEN..THEN + seconds).contains(&now) { after() } else { before() })
}
