//! Simulated chips: one that runs by this machine's clock, and one whose hours pass in milliseconds.
use std::{cell::Cell, thread, time::Instant};

use sys::{clock, udp::UdpSocket};

use super::*;

/// A chip that shows the system clock's time plus an offset in nanoseconds, and accepts a new time like an MC146818:
/// its next second begins `delay` after the write.
pub(in crate::rtc) struct FakeChip {
    pub(in crate::rtc) ahead: Cell<i64>,
    pub(in crate::rtc) delay: i64,
    pub(in crate::rtc) writes: Cell<u32>,
    /// The number of a write that the chip gets wrong, and by how much.
    pub(in crate::rtc) spoiled: (u32, i64),
    pub(in crate::rtc) begin: Instant,
}

impl FakeChip {
    pub(in crate::rtc) fn new(ahead: i64, delay: i64) -> Self {
        Self { ahead: Cell::new(ahead), delay, writes: Cell::new(0), spoiled: (0, 0), begin: Instant::now() }
    }
}

impl Chip for &FakeChip {
    fn seconds(&self) -> Result<i64, sys::Error> {
        Ok((clock::realtime_ns() + self.ahead.get()).div_euclid(1_000_000_000))
    }

    fn set_seconds(&self, seconds: i64) -> Result<(), sys::Error> {
        self.writes.set(self.writes.get() + 1);
        let spoiled = if self.spoiled.0 == self.writes.get() { self.spoiled.1 } else { 0 };
        self.ahead.set(seconds * 1_000_000_000 + self.delay - clock::realtime_ns() + spoiled);
        Ok(())
    }
}

impl<'a> Access for &'a FakeChip {
    type Chip = &'a FakeChip;

    fn open(&self) -> Result<Self::Chip, sys::Error> {
        Ok(self)
    }

    fn closed(&self, error: sys::Error) -> Error {
        Error::Open(error)
    }

    fn log_busy(&self) {}

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn wall(&self) -> Wall {
        Wall(clock::realtime_ns())
    }

    fn sleep(&self, pause: Duration) {
        thread::sleep(pause);
    }
}

#[test]
fn an_edge_is_found_where_the_second_begins() {
    let chip = FakeChip::new(-3_600_250_000_000, 0);
    let mut prediction = None;
    for _ in 0..2 {
        let edge = next(&&chip, &mut prediction).unwrap();
        let error = edge.shown as f64 - (edge.at - Wall(0)) + 3_600.25;
        // The reading can only be late, and states its lateness.
        assert!(error <= 1e-6 && error >= -edge.late.as_secs_f64() - 1e-3, "{error} {edge:?}");
    }
}

/// A chip whose time passes only when a program waits for it, or reads it. CLOCK_MONOTONIC and the system clock are
/// right.
struct Virtual {
    /// Seconds.
    now: Cell<f64>,
    /// The chip's time minus the right time, and when this was set.
    set: Cell<(f64, f64)>,
    /// The ratio by which the chip gains.
    drift: f64,
    /// For how long it was open.
    open: Cell<f64>,
    /// Another program has it open in these intervals.
    held: Vec<(f64, f64)>,
    told: Cell<u32>,
}

const LOOK: f64 = 150e-6;

impl Virtual {
    fn new(ahead: f64, drift: f64) -> Self {
        Self {
            now: Cell::new(1_000.0),
            set: Cell::new((ahead, 1_000.0)),
            drift,
            open: Cell::new(0.0),
            held: Vec::new(),
            told: Cell::new(0),
        }
    }

    fn ahead(&self) -> f64 {
        let (ahead, at) = self.set.get();
        ahead + self.drift * (self.now.get() - at)
    }

    fn pass(&self, seconds: f64) {
        self.now.set(self.now.get() + seconds);
    }
}

struct Opened<'a>(&'a Virtual, f64);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() + self.0.now.get() - self.1);
    }
}

impl Chip for Opened<'_> {
    fn seconds(&self) -> Result<i64, sys::Error> {
        self.0.pass(LOOK);
        Ok((self.0.now.get() + self.0.ahead()).floor() as i64)
    }

    fn set_seconds(&self, _: i64) -> Result<(), sys::Error> {
        Ok(())
    }
}

/// The kernel's error for a device that another program has open.
fn busy() -> sys::Error {
    let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    UdpSocket::bind(first.local_address().unwrap()).unwrap_err()
}

impl<'a> Access for &'a Virtual {
    type Chip = Opened<'a>;

    fn open(&self) -> Result<Self::Chip, sys::Error> {
        self.pass(20e-6);
        let now = self.now.get();
        if self.held.iter().any(|(from, until)| (*from..*until).contains(&now)) {
            return Err(busy());
        }
        Ok(Opened(self, now))
    }

    fn closed(&self, error: sys::Error) -> Error {
        if error.in_use() { Error::InUse(None) } else { Error::Open(error) }
    }

    fn log_busy(&self) {
        self.told.set(self.told.get() + 1);
    }

    fn now(&self) -> Duration {
        Duration::from_secs_f64(self.now.get())
    }

    fn wall(&self) -> Wall {
        Wall((self.now.get() * 1e9) as i64)
    }

    fn sleep(&self, pause: Duration) {
        // A thread wakes up late, here by 60 us.
        self.pass(pause.as_secs_f64() + 60e-6);
    }
}

#[track_caller]
fn read(device: &Virtual, prediction: &mut Option<EdgePrediction>) {
    let edge = next(&device, prediction).unwrap();
    let error = edge.shown as f64 - (edge.at - Wall(0)) - device.ahead();
    assert!((-1.5e-3..=1e-6).contains(&error), "{error} {edge:?}");
}

/// The fraction of an hour in which the chip is open, if it is read every minute.
fn share(drift: f64, kernel_writes: bool) -> f64 {
    let device = Virtual::new(0.3, drift);
    let mut prediction = None;
    read(&device, &mut prediction);
    let first = device.open.replace(0.0);
    assert!(first < 0.060, "found in {first} s");
    let (begin, mut written) = (device.now.get(), device.now.get());
    while device.now.get() < begin + 3_600.0 {
        device.pass(60.0);
        if kernel_writes && device.now.get() > written + 660.0 {
            written = device.now.get();
            device.set.set((0.0, written));
        }
        read(&device, &mut prediction);
    }
    device.open.get() / (device.now.get() - begin)
}

#[test]
fn the_chip_is_open_for_less_than_a_thousandth_of_the_time() {
    for drift in [0.0, -20e-6, 50e-6, 150e-6] {
        for kernel_writes in [false, true] {
            let share = share(drift, kernel_writes);
            assert!(share < 0.001, "{drift}: {share}");
        }
    }
}

#[test]
fn who_has_it_is_waited_for_and_not_for_ever() {
    let mut device = Virtual::new(0.3, 10e-6);
    let mut prediction = None;
    device.held = vec![(999.0, 1_004.0)];
    read(&device, &mut prediction);
    assert_eq!(device.told.get(), 1);
    // The other program has it while the edge is due.
    device.held = vec![(1_000.0, device.now.get() + 61.5)];
    device.pass(60.0);
    read(&device, &mut prediction);
    // From time to time, like a program that reads it in a loop.
    let begin = device.now.get();
    device.held = (0..200).map(|n| (begin + f64::from(n) * 0.1, begin + f64::from(n) * 0.1 + 0.03)).collect();
    read(&device, &mut prediction);
    device.held = vec![(0.0, 1e9)];
    let begin = device.now.get();
    assert!(matches!(next(&&device, &mut None), Err(Error::InUse(None))));
    assert!((10.0..11.0).contains(&(device.now.get() - begin)));
}

#[test]
fn a_chip_that_stands_still_does_not_tick() {
    let device = Virtual::new(0.3, -1.0);
    assert!(matches!(next(&&device, &mut None), Err(Error::NoTick)));
}
