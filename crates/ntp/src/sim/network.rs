//! The network between the machine and its servers: delays and losses of requests and replies.
use super::Random;

/// A path: a smallest delay and an exponential one in addition, in each direction, seconds; and the fraction of lost
/// packets.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The smallest delay.
    pub delay: f64,
    /// The mean of the additional delay.
    pub jitter: f64,
    /// The fraction of packets lost, in each direction.
    pub loss: f64,
}

/// A local network.
pub const LAN: Path = Path { delay: 100e-6, jitter: 100e-6, loss: 0.0 };

/// Impairments of a path.
#[derive(Clone, Copy, Debug)]
pub struct Impairment {
    /// The additional delay of replies, seconds.
    pub longer_back: f64,
    /// The tail of the jitter falls with this power, which must exceed 1, instead of exponentially.
    pub tail: Option<f64>,
    /// A fraction of packets with an additional exponential delay, and its mean.
    pub spikes: (f64, f64),
    /// Queues that exist for some time.
    pub bursts: Option<Bursts>,
}

/// From time to time there is a queue in the direction of requests, and none in the other: an upload.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    /// Mean time from the end of one queue to the next, seconds.
    pub apart: f64,
    /// Mean duration of a queue, seconds.
    pub last: f64,
    /// Mean wait of a packet in the queue, seconds.
    pub wait: f64,
}

/// No impairment.
pub const CALM: Impairment = Impairment { longer_back: 0.0, tail: None, spikes: (0.0, 0.0), bursts: None };

/// The delays of a request and its reply, seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trip {
    pub(super) there: f64,
    pub(super) back: f64,
}

/// The random numbers of the network. Every path has its own stream.
pub(super) struct Network {
    seed: u64,
    paths: Vec<Random>,
    weather: Random,
    /// The present or next burst: begin and end.
    burst: Option<(f64, f64)>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, paths: Vec::new(), weather: Random::new(seed, 2), burst: None }
    }

    /// The delays to the server with this number and back. None if a packet is lost.
    pub(super) fn trip(
        &mut self,
        server: usize,
        now: f64,
        path: &Path,
        impairment: &Impairment,
    ) -> Option<Trip> {
        let queue = impairment.bursts.filter(|bursts| self.in_burst(bursts, now));
        while self.paths.len() <= server {
            self.paths.push(Random::new(self.seed, 16 + self.paths.len() as u64));
        }
        let random = &mut self.paths[server];
        let mut there = delay(random, path, impairment);
        let back = delay(random, path, impairment) + impairment.longer_back;
        if let Some(queue) = queue {
            there += random.exponential(queue.wait);
        }
        // Both numbers are always drawn, so that later numbers do not depend on the result.
        let lost = [random.uniform(), random.uniform()];
        lost.iter().all(|drawn| *drawn >= path.loss).then_some(Trip { there, back })
    }

    fn in_burst(&mut self, bursts: &Bursts, now: f64) -> bool {
        let (mut begin, mut end) = self.burst.unwrap_or_default();
        while end <= now {
            begin = end + self.weather.exponential(bursts.apart);
            end = begin + self.weather.exponential(bursts.last);
        }
        self.burst = Some((begin, end));
        begin <= now
    }
}

fn delay(random: &mut Random, path: &Path, impairment: &Impairment) -> f64 {
    let jitter = match impairment.tail {
        Some(shape) => random.pareto(path.jitter, shape),
        None => random.exponential(path.jitter),
    };
    let (share, mean) = impairment.spikes;
    let spike = if share > 0.0 && random.uniform() < share { random.exponential(mean) } else { 0.0 };
    path.delay + jitter + spike
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(path: &Path, impairment: &Impairment) -> Vec<Option<Trip>> {
        let mut network = Network::new(1);
        (0..20_000).map(|second| network.trip(0, f64::from(second), path, impairment)).collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn delays_and_losses_are_as_ordered() {
        let path = Path { delay: 10e-3, jitter: 1e-3, loss: 0.5 };
        let trips: Vec<_> = trips(&path, &Impairment { longer_back: 1e-3, ..CALM });
        let arrived: Vec<Trip> = trips.iter().flatten().copied().collect();
        assert!((arrived.len() as f64 / trips.len() as f64 - 0.25).abs() < 0.01, "{}", arrived.len());
        assert!((mean(arrived.iter().map(|trip| trip.there)) - 11e-3).abs() < 5e-5);
        assert!((mean(arrived.iter().map(|trip| trip.back)) - 12e-3).abs() < 5e-5);
        assert!(arrived.iter().all(|trip| trip.there >= 10e-3 && trip.back >= 11e-3));
    }

    #[test]
    fn bursts_are_on_the_way_there_and_take_their_share() {
        let bursts = Some(Bursts { apart: 90.0, last: 30.0, wait: 1.0 });
        let trips: Vec<_> = trips(&LAN, &Impairment { bursts, ..CALM });
        let there = mean(trips.iter().flatten().map(|trip| trip.there));
        assert!((there - 0.25).abs() < 0.05, "{there}");
        assert!(trips.iter().flatten().all(|trip| trip.back < 0.1));
    }

    #[test]
    fn spikes_and_tails_are_seen() {
        let spikes = trips(&LAN, &Impairment { spikes: (0.05, 0.1), ..CALM });
        let long = spikes.iter().flatten().filter(|trip| trip.there > 0.01).count() as f64 / 20_000.0;
        assert!((long - 0.045).abs() < 0.005, "{long}");
        let tail = trips(&LAN, &Impairment { tail: Some(1.5), ..CALM });
        assert!(tail.iter().flatten().any(|trip| trip.there > 10e-3), "no tail");
    }
}
