//! Tests as stories: each runs the real engine in the simulation and asserts bounds. A file per theme.
use crate::{BootState, Transition, Upstream, sim::Sim};

mod start;

mod addresses;
mod air_gap;
mod itself;
mod local_clock;
mod names;
mod causes;
mod upstreams;

mod choice;
mod duplicates;
mod liars;

mod accuracy;
mod devices;
mod jumps;
mod kernel;
mod leap_seconds;
mod pauses;
mod restarts;
mod rivals;

mod orders;
mod strangers;

/// A boot whose start phase is over.
const STARTED: BootState = BootState { steps: 0, synchronized: true };

fn named(host: &str) -> Upstream {
    Upstream::Server { host: host.to_owned(), port: 123 }
}

fn count(sim: &Sim, wanted: &Transition) -> usize {
    sim.announced.iter().filter(|(_, told)| told == wanted).count()
}

impl Sim {
    /// Runs, and returns the root mean square and the largest size of the clock's offset.
    fn error_over(&mut self, seconds: f64) -> (f64, f64) {
        self.track.clear();
        self.run(seconds);
        let squares = self.track.iter().map(|(_, offset)| offset * offset).sum::<f64>();
        let largest = self.track.iter().map(|(_, offset)| offset.abs()).fold(0.0, f64::max);
        ((squares / self.track.len().max(1) as f64).sqrt(), largest)
    }
}
