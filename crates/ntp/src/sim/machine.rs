//! The machine: an oscillator with a random walk, the system clock and the monotonic clock that it drives, and
//! interventions of other programs. True time goes in; readings come out.
use super::{Random, Sim};
use crate::{Clocks, Event, Leap, Mono, Now, Wall};

/// True time at the beginning.
pub(crate) const EPOCH: Wall = Wall(1_800_000_000_000_000_000);

/// The age of the monotonic clock at the beginning, seconds.
const UPTIME: f64 = 1e4;

/// A day in nanoseconds, without leap seconds.
const DAY: i64 = 86_400_000_000_000;

/// The effect of temperature on the frequency: a sine wave.
#[derive(Clone, Copy, Debug)]
pub struct Swing {
    /// Largest deviation, seconds per second.
    pub size: f64,
    /// The period of the sine wave, seconds.
    pub period: f64,
}

/// The random walk of the oscillator. It has one step at each second of true time, so it does not depend on other
/// events.
pub(super) struct Oscillator {
    random: Random,
    next: f64,
}

impl Oscillator {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, 0), next: 1.0 }
    }
}

/// Both clocks at `now`, with an offset, of which `stepped` was made by steps.
pub(super) fn read(now: f64, offset: f64, stepped: f64) -> Now {
    let mono = UPTIME + now + (offset - stepped);
    Now { wall: EPOCH.plus(offset + now), mono: Mono(0).plus(mono) }
}

impl Sim {
    /// The two clocks.
    pub fn clocks(&self) -> Now {
        read(self.now, self.offset, self.stepped)
    }

    /// The two clocks, and the raw clock.
    pub(super) fn all_clocks(&self) -> Clocks {
        Clocks { now: self.clocks(), raw: (1e9 * (UPTIME + self.raw)) as i64 }
    }

    /// Another program steps the clock.
    pub fn jump(&mut self, by: f64) {
        self.leap_by(by);
        self.kernel.clear();
    }

    /// The kernel steps the clock by a leap second.
    fn leap_by(&mut self, by: f64) {
        self.offset += by;
        self.stepped += by;
    }

    /// The machine is paused for `seconds`, and its monotonic clock stands still. With `error` `None` the system clock
    /// stands still too, as in a paused virtual machine. Otherwise it is set forward with that error.
    pub fn pause(&mut self, seconds: f64, error: Option<f64>) {
        self.now += seconds;
        self.offset -= seconds;
        while self.walk.next <= self.now {
            self.wander_on();
        }
        if let Some(error) = error {
            self.jump(seconds + error);
        }
    }

    /// The machine is suspended for `seconds`. At the end the kernel sets the system clock forward by the hardware
    /// clock, with the error `error`. The platform reports the duration by the same clock.
    pub fn suspend(&mut self, seconds: f64, error: f64) {
        self.pause(seconds, Some(error));
        self.give(Event::Resumed { asleep: seconds + error });
    }

    /// The rate of the system clock, as a factor.
    pub(super) fn rate(&self) -> f64 {
        (1.0 + self.frequency()) * (1.0 + self.kernel_ppm * 1e-6)
    }

    /// The present frequency error of the oscillator, seconds per second.
    pub(super) fn frequency(&self) -> f64 {
        let swing = |swing: Swing| swing.size * (std::f64::consts::TAU * self.now / swing.period).sin();
        self.oscillator + self.swing.map_or(0.0, swing)
    }

    /// Advances true time by `seconds` without an agent.
    pub fn pass(&mut self, seconds: f64) {
        self.pass_until(self.now + seconds);
    }

    /// Advances true time until `end` without an event.
    pub(super) fn pass_until(&mut self, end: f64) {
        while self.now < end {
            let leap = self.kernel_leap();
            let next = self.walk.next.min(end).min(leap.map_or(f64::INFINITY, |(at, _)| at));
            let part = next - self.now;
            self.offset += part * (self.rate() - 1.0) + self.kernel.slews(part);
            self.raw += part * (1.0 + self.frequency());
            self.now = next;
            if let Some((_, by)) = leap.filter(|(at, _)| *at <= next) {
                self.leapt = true;
                self.leap_by(by);
            }
            if next >= self.walk.next {
                self.wander_on();
            }
        }
        self.track.push((self.now, self.offset));
    }

    /// The leap second that is armed in the kernel: the true time at which the clock will move, and by how much.
    fn kernel_leap(&self) -> Option<(f64, f64)> {
        let (_, leap, _) = self.status.filter(|_| !self.leapt)?;
        let (early, by) = match leap {
            Leap::Insert => (0.0, -1.0),
            Leap::Delete => (1.0, 1.0),
            Leap::None | Leap::Unknown => return None,
        };
        let left = (DAY - self.clocks().wall.0.rem_euclid(DAY)) as f64 / 1e9 - early;
        Some((self.now + left.max(1e-9), by))
    }

    fn wander_on(&mut self) {
        self.walk.next += 1.0;
        self.oscillator += self.wander * self.walk.random.normal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootState, sim::config};

    /// A machine without servers, so that nothing is corrected.
    fn alone(seed: u64) -> Sim {
        let mut sim = Sim::booted(config(0), 0.5, Vec::new(), BootState::default(), seed);
        (sim.oscillator, sim.wander) = (50e-6, 0.0);
        sim
    }

    #[test]
    fn a_fast_oscillator_gains_on_both_clocks() {
        let mut sim = alone(1);
        let before = sim.clocks();
        sim.run(1000.0);
        let after = sim.clocks();
        assert!((sim.offset - 0.55).abs() < 1e-9, "{}", sim.offset);
        assert!((after.wall - before.wall - 1000.05).abs() < 3e-9);
        assert!((after.mono - before.mono - 1000.05).abs() < 3e-9);
    }

    #[test]
    fn only_a_jump_parts_the_clocks() {
        for (error, wall, offset) in [(Some(0.02), 1200.02, 0.52), (None, 0.0, -1199.5)] {
            let mut sim = alone(1);
            let before = sim.clocks();
            sim.pause(1200.0, error);
            let after = sim.clocks();
            assert!((after.mono - before.mono).abs() < 3e-9, "it stood still");
            assert!((after.wall - before.wall - wall).abs() < 3e-9);
            assert!((sim.offset - offset).abs() < 1e-9, "{}", sim.offset);
        }
    }

    #[test]
    fn the_walk_is_the_same_whatever_happens_and_as_long_as_ordered() {
        let walked = |seed: u64, part: f64| {
            let mut sim = alone(seed);
            sim.wander = 1e-8;
            while sim.now < 1000.0 {
                sim.pass(part);
            }
            sim.oscillator - 50e-6
        };
        assert_eq!(walked(1, 0.125), walked(1, 50.0));
        let squares: f64 = (0..200).map(|seed| walked(seed, 50.0).powi(2)).sum();
        let deviation = (squares / 200.0).sqrt();
        assert!((deviation / (1e-8 * 1000_f64.sqrt()) - 1.0).abs() < 0.15, "{deviation}");
    }

    #[test]
    fn the_kernel_does_its_leap_second_once_at_midnight() {
        for (leap, by) in [(Leap::Insert, -1.0), (Leap::Delete, 1.0), (Leap::None, 0.0)] {
            let mut sim = alone(1);
            sim.oscillator = 0.0;
            sim.pass((DAY - EPOCH.0 % DAY) as f64 / 1e9 - 2.0);
            sim.status = Some((true, leap, 0.0));
            assert!((sim.offset - 0.5).abs() < 1e-9);
            sim.pass(10.0);
            assert!((sim.offset - 0.5 - by).abs() < 1e-9, "{leap:?}: {}", sim.offset);
        }
    }

    #[test]
    fn the_temperature_comes_back() {
        let mut sim = alone(1);
        sim.oscillator = 0.0;
        sim.swing = Some(Swing { size: 3e-6, period: 3600.0 });
        sim.pass(900.0);
        assert!((sim.frequency() - 3e-6).abs() < 1e-12);
        sim.pass(2700.0);
        assert!((sim.offset - 0.5).abs() < 1e-7, "{}", sim.offset);
    }
}
