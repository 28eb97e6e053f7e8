//! One client and one server with exact delays, for features that the simulated servers do not have: timestamps of
//! departure, interleaved mode (RFC 9769), another era. Measurements must be exact to a microsecond.
use std::{collections::VecDeque, net::SocketAddr};

use proptest::prelude::*;

use crate::{
    Action, BootState, Config, Engine, Event, Leap, Mode, Mono, Now, NtpTimestamp, RequestId, Start, Wall,
    sim::config,
    wire::packet::{self, Header, NtpShort},
};

/// The client's machine, and the path to the server. The machine does nothing while a request is pending.
struct Pair {
    engine: Engine,
    server: Server,
    /// True time.
    now: Wall,
    /// This clock minus true time, seconds.
    offset: f64,
    /// This clock minus the monotonic one, nanoseconds.
    apart: i64,
    oscillator: f64,
    ppm: f64,
    /// True if the kernel makes timestamps of departure.
    stamps: bool,
    steps: u32,
    /// The smallest of the steps, seconds. Infinite without steps.
    smallest_step: f64,
}

struct Server {
    /// True if it supports interleaved mode.
    interleaves: bool,
    /// How long before its reply leaves the server must write the transmit timestamp, seconds.
    early: f64,
    /// The remembered exchange: the receive timestamp of the last request, and the transmit time of the reply.
    memory: Option<(NtpTimestamp, Wall)>,
    interleaved: u32,
}

/// Time from reading the clock to the departure of a request, seconds.
const LATE: f64 = 30e-6;

/// Delay in each direction and in the server, seconds.
const DELAY: f64 = 100e-6;
const PROCESSING: f64 = 60e-6;

/// 2036-02-07T06:28:16Z, second 0 of era 1 (RFC 5905 §6).
const ROLLOVER: Wall = Wall(2_085_978_496_000_000_000);

fn orders(mode: Mode, interleaved: bool) -> Config {
    let mut orders = config(1);
    orders.mode = mode;
    orders.sources[0].interleaved = interleaved;
    orders
}

impl Pair {
    fn new(orders: Config, start: Wall, offset: f64) -> Self {
        let now = Now { wall: start.plus(offset), mono: Mono(0) };
        let begin = Start { boot: BootState::default(), drift: None, samples: None, seed: 1 };
        let server = Server { interleaves: true, early: 0.0, memory: None, interleaved: 0 };
        Self {
            engine: Engine::new(orders, begin, now),
            server,
            now: start,
            offset,
            apart: now.wall.0,
            oscillator: 0.0,
            ppm: 0.0,
            stamps: true,
            steps: 0,
            smallest_step: f64::INFINITY,
        }
    }

    fn clocks(&self) -> Now {
        let wall = self.now.plus(self.offset);
        Now { wall, mono: Mono(wall.0 - self.apart) }
    }

    fn pass(&mut self, seconds: f64) {
        self.now = self.now.plus(seconds);
        self.offset += seconds * ((1.0 + self.oscillator) * (1.0 + self.ppm * 1e-6) - 1.0);
    }

    /// Advances time by `seconds`. `lose` decides for each request whether it is lost.
    fn run(&mut self, seconds: f64, mut lose: impl FnMut() -> bool) {
        let end = self.now.plus(seconds);
        while self.now < end {
            let now = self.clocks();
            self.pass((self.engine.next_wakeup(now) - now.mono).clamp(1e-6, end - self.now + 1e-6));
            self.give(Event::Wakeup, &mut lose);
        }
    }

    fn give(&mut self, event: Event<'_>, lose: &mut impl FnMut() -> bool) {
        let mut open: VecDeque<Action> = self.engine.handle(event, self.clocks()).into();
        while let Some(action) = open.pop_front() {
            match action {
                Action::Send { request, header, to, source: _ } => {
                    open.extend(self.exchange(request, to, header, lose()));
                }
                Action::SetFrequency { ppm } => self.ppm = ppm,
                Action::Step { by } => {
                    self.offset += by;
                    self.apart += (by * 1e9) as i64;
                    self.steps += 1;
                    self.smallest_step = self.smallest_step.min(by.abs());
                }
                _ => {}
            }
        }
    }

    /// Sends a request, and delivers its reply.
    fn exchange(&mut self, request: RequestId, to: SocketAddr, header: Header, lost: bool) -> Vec<Action> {
        let cookie = NtpTimestamp(0x5555_0000_0000_0000 | request.0 << 1 | 1);
        let asked = header.with_cookie(cookie);
        let at = self.clocks().wall;
        let mut actions = self.engine.handle(Event::Sent { request, cookie, at }, self.clocks());
        self.pass(LATE);
        if self.stamps {
            let at = self.clocks().wall;
            actions.extend(self.engine.handle(Event::Departed { request, at }, self.clocks()));
        }
        self.pass(DELAY);
        let arrived = self.now;
        self.pass(PROCESSING);
        let answer = self.server.answer(&asked, arrived, self.now).encode();
        self.pass(DELAY);
        if !lost {
            let at = self.clocks().wall;
            let event = Event::Received { request, datagram: &answer, at, local: Some(to.ip()) };
            actions.extend(self.engine.handle(event, self.clocks()));
        }
        actions
    }

    /// The error of the engine's offset. None if it has no offset.
    fn mistake(&self) -> Option<f64> {
        self.engine.snapshot(self.clocks()).offset.map(|offset| offset - self.offset)
    }
}

impl Server {
    fn answer(&mut self, asked: &Header, arrived: Wall, left: Wall) -> Header {
        let receive = NtpTimestamp::from_wall(arrived);
        let known = self.memory.replace((receive, left));
        let before = known.filter(|(receive, _)| {
            self.interleaves && asked.origin == *receive && asked.receive != asked.transmit
        });
        self.interleaved += u32::from(before.is_some());
        let (origin, departure) = match before {
            Some((_, left)) => (asked.receive, left),
            None => (asked.transmit, left.plus(-self.early)),
        };
        Header {
            leap: Leap::None,
            version: 4,
            mode: packet::MODE_SERVER,
            stratum: 1,
            precision: -30,
            root_dispersion: NtpShort(1),
            reference_id: *b"GPS\0",
            reference_time: receive,
            origin,
            receive,
            transmit: NtpTimestamp::from_wall(departure),
            ..Header::default()
        }
    }
}

#[test]
fn the_clock_is_steered_across_the_end_of_an_era() {
    for interleaved in [false, true] {
        let mut pair = Pair::new(orders(Mode::Discipline, interleaved), ROLLOVER.plus(-600.0), 0.05);
        pair.oscillator = 40e-6;
        pair.run(300.0, || false);
        for _ in 0..60 {
            pair.run(10.0, || false);
            let snapshot = pair.engine.snapshot(pair.clocks());
            assert!(snapshot.synchronized && pair.offset.abs() < 3e-6, "{} {snapshot:?}", pair.offset);
            let source = &snapshot.sources[0];
            assert_eq!((source.received, source.rejected, source.reach), (source.sent, 0, 0xff));
        }
        assert!(pair.now > ROLLOVER && pair.steps == 1);
        assert_eq!(pair.server.interleaved > 20, interleaved, "{}", pair.server.interleaved);
    }
}

#[test]
fn a_stamp_of_departure_and_an_interleaved_answer_remove_an_error_each() {
    let mistake = |stamps: bool, interleaved: bool, early: f64| {
        let mut pair = Pair::new(orders(Mode::Observe, interleaved), ROLLOVER.plus(-1e8), 0.003);
        (pair.stamps, pair.server.early) = (stamps, early);
        pair.run(900.0, || false);
        1e6 * pair.mistake().expect("fifty answers")
    };
    // Half of the unknown delay, in microseconds. The resolution of the double is 0.1.
    for (stamps, interleaved, early, expected) in [
        (true, false, 0.0, 0.0),
        (false, false, 0.0, -15.0),
        (true, false, 40e-6, 20.0),
        (true, true, 40e-6, 0.0),
        (false, true, 40e-6, -15.0),
    ] {
        let got = mistake(stamps, interleaved, early);
        assert!((got - expected).abs() < 0.5, "{stamps} {interleaved} {early}: {got}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Two exchanges are never confused: with random losses, with a server that forgets the client or starts to support
    /// interleaved mode, and during slews.
    #[test]
    fn exchanges_are_never_mixed_up(
        losses in proptest::collection::vec(proptest::bool::weighted(0.12), 60..200),
        moods in proptest::collection::vec(any::<bool>(), 12),
        offset in -9e-3..9e-3_f64,
        oscillator in -1e-4..1e-4_f64,
        observe in any::<bool>(),
    ) {
        let mode = if observe { Mode::Observe } else { Mode::Discipline };
        let mut pair = Pair::new(orders(mode, true), ROLLOVER.plus(-1500.0), offset);
        pair.oscillator = oscillator;
        pair.server.early = 40e-6;
        let mut losses = losses.iter().copied().cycle();
        for interleaves in moods {
            pair.server.interleaves = interleaves;
            pair.server.memory = None;
            pair.run(250.0, || losses.next().unwrap_or(false));
            let Some(mistake) = pair.mistake() else { continue };
            // 20 us for replies in basic mode, and the uncertainty of the frequency with few replies.
            prop_assert!(mistake.abs() < 60e-6, "{} at {:?}", mistake, pair.now);
        }
        // While the first replies are lost, the oscillator can move the clock beyond the threshold. Then a step is
        // correct.
        prop_assert!(pair.steps <= 1 && pair.smallest_step > 9.9e-3, "{} {}", pair.steps, pair.smallest_step);
    }
}
