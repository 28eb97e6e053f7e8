//! Runs a scenario for a seed, measures the true error every second, and summarises it. A scenario goes in; figures
//! come out.
use super::{Happening, Polls, Scenario, Sim, config};
use crate::{BootState, SourceState, Start};

/// The results of one seed, or of many together. Times are in seconds, frequencies in seconds per second. Errors are of
/// the settled part of a run.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Root mean square of the error.
    pub rms: f64,
    /// The 95 % quantile of the error.
    pub most: f64,
    /// Largest error.
    pub largest: f64,
    /// Root mean square of the frequency error, without slews.
    pub frequency: f64,
    /// When the error first fell below 1 ms for a minute.
    pub right_after: Option<f64>,
    /// Requests per hour.
    pub packets: f64,
    /// Seconds with an error bound, from the beginning.
    pub bounded: u32,
    /// Of these, seconds in which the bound contained the true error.
    pub held: u32,
    /// Mean of the bound, divided by the 99 % quantile of the error.
    pub looseness: f64,
    /// Seconds in which a falseticker was selected.
    pub misled: u32,
}

/// The error must stay below 1 ms for this time, seconds.
const STAY: f64 = 60.0;

/// In this time, seconds, the error is measured more often than every second, to find when it falls below 1 ms.
const BEGINNING: f64 = 120.0;

/// Runs a scenario.
pub fn run(scenario: &Scenario, polls: Polls, seed: u64) -> Figures {
    let mut sim = prepare(scenario, polls, seed);
    let mut watch = Watch::default();
    let mut happening = scenario.happening;
    while sim.now < scenario.length {
        sim.advance(sim.now + if sim.now < BEGINNING { 0.125 } else { 1.0 });
        sim.track.clear();
        if sim.now == scenario.settled {
            watch.sent_before = sim.sent.len();
        }
        watch.look(&sim, scenario);
        if let Some((_, happening)) = happening.take_if(|(at, _)| *at <= sim.now) {
            match happening {
                Happening::Frequency(by) => sim.oscillator += by,
                Happening::Pause(seconds, error) => sim.pause(seconds, error),
            }
        }
    }
    watch.sum_up(&sim, scenario)
}

fn prepare(scenario: &Scenario, (min_poll, max_poll): Polls, seed: u64) -> Sim {
    let servers = (scenario.servers)();
    let mut orders = config(servers.len());
    for source in &mut orders.sources {
        (source.min_poll, source.max_poll) = (min_poll, max_poll);
    }
    let start = Start { boot: BootState::default(), drift: scenario.drift, samples: None, seed };
    let mut sim = Sim::started(orders, scenario.offset, servers, start);
    sim.path = scenario.path;
    sim.impairment = scenario.impairment;
    sim.oscillator = scenario.oscillator;
    sim.wander = scenario.wander;
    sim.swing = scenario.swing;
    sim
}

/// The measurements of a run.
#[derive(Default)]
struct Watch {
    errors: Vec<f64>,
    frequencies: f64,
    bounds: Vec<f64>,
    under_since: Option<f64>,
    right_after: Option<f64>,
    bounded: u32,
    held: u32,
    misled: u32,
    sent_before: usize,
}

impl Watch {
    fn look(&mut self, sim: &Sim, scenario: &Scenario) {
        let error = sim.offset.abs();
        self.under_since = if error < 1e-3 { self.under_since.or(Some(sim.now)) } else { None };
        if let Some(since) = self.under_since.filter(|since| sim.now - since >= STAY) {
            self.right_after.get_or_insert(since);
        }
        if sim.now.fract() != 0.0 {
            return;
        }
        let snapshot = sim.snapshot();
        let settled = sim.now > scenario.settled;
        if let Some(bound) = snapshot.error_bound {
            self.bounded += 1;
            self.held += u32::from(error <= bound);
            if settled {
                self.bounds.push(bound);
            }
        }
        let followed = |index: usize| {
            let state = snapshot.sources[index].state;
            matches!(state, SourceState::Selected | SourceState::Combined)
        };
        self.misled += u32::from(scenario.liars.iter().any(|index| followed(*index)));
        if settled {
            self.errors.push(error);
            let rate = (1.0 + sim.frequency()) * (1.0 + snapshot.frequency_ppm * 1e-6) - 1.0;
            self.frequencies += rate * rate;
        }
    }

    fn sum_up(mut self, sim: &Sim, scenario: &Scenario) -> Figures {
        let count = self.errors.len() as f64;
        let mean_square = self.errors.iter().map(|error| error * error).sum::<f64>() / count;
        self.errors.sort_by(f64::total_cmp);
        let part = |share: f64| self.errors[((self.errors.len() - 1) as f64 * share) as usize];
        let mean_bound = self.bounds.iter().sum::<f64>() / self.bounds.len() as f64;
        Figures {
            rms: mean_square.sqrt(),
            most: part(0.95),
            largest: part(1.0),
            frequency: (self.frequencies / count).sqrt(),
            right_after: self.right_after,
            packets: (sim.sent.len() - self.sent_before) as f64 * 3600.0 / (sim.now - scenario.settled),
            bounded: self.bounded,
            held: self.held,
            looseness: mean_bound / part(0.99),
            misled: self.misled,
        }
    }
}

/// Summarises the runs of many seeds: medians, but the largest error of all, and the sums of counts. There must be at
/// least one run.
pub fn summarize(runs: &[Figures]) -> Figures {
    let median = |figure: fn(&Figures) -> f64| {
        let mut sorted: Vec<f64> = runs.iter().map(figure).collect();
        sorted.sort_by(f64::total_cmp);
        (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
    };
    let right_after = median(|run| run.right_after.unwrap_or(f64::INFINITY));
    Figures {
        rms: median(|run| run.rms),
        most: median(|run| run.most),
        largest: runs.iter().map(|run| run.largest).fold(0.0, f64::max),
        frequency: median(|run| run.frequency),
        right_after: Some(right_after).filter(|seconds| seconds.is_finite()),
        packets: median(|run| run.packets),
        bounded: runs.iter().map(|run| run.bounded).sum(),
        held: runs.iter().map(|run| run.held).sum(),
        looseness: median(|run| run.looseness),
        misled: runs.iter().map(|run| run.misled).sum(),
    }
}
