//! Histories from before a restart of the agent, kept until their sources have an address.
use crate::{
    Samples, SavedSample, SourceSamples, Wall,
    source::{
        filter::{History, Sample},
        reply::Server,
    },
};
use std::net::{IpAddr, SocketAddr};

impl Samples {
    /// The histories, for an engine that begins with the rate `base`, seconds per second, at `now`. Empty if the
    /// samples are relative to another rate: then the engine did not accept the drift.
    pub(crate) fn recall(self, base: f64, now: Wall) -> Vec<Recalled> {
        if (base * 1e6 - self.drift.frequency_ppm).abs() > 1e-6 {
            return Vec::new();
        }
        self.sources.into_iter().filter_map(|source| Recalled::of(source, now)).collect()
    }
}

/// The history of a source from before the restart.
#[derive(Clone, Debug)]
pub(crate) struct Recalled {
    name: String,
    asked: String,
    pub(crate) server: Server,
    pub(crate) history: History,
}

impl Recalled {
    /// Makes the history, if every sample is plausible before `now`.
    fn of(source: SourceSamples, now: Wall) -> Option<Self> {
        let SourceSamples { name, asked, leap, stratum, reference_id, samples } = source;
        let ordered = samples.windows(2).all(|pair| pair[0].at < pair[1].at);
        let possible = ordered && samples.iter().all(|sample| sample.possible(now));
        let history = History::restore(samples.into_iter().map(Sample::from));
        possible.then_some(Self { name, asked, server: Server { leap, stratum, reference_id }, history })
    }

    /// Returns true if it is the history of this source.
    pub(crate) fn is(&self, name: &str, asked: &str) -> bool {
        // The name of a pool's member is the pool's name and a number, which depends on the resolver's order.
        let base = |name: &str| name.split('#').next().map(str::to_owned);
        base(&self.name) == base(name) && self.asked == asked
    }

    /// Returns true if it is the history of a server at this address.
    pub(crate) fn was_at(&self, address: IpAddr) -> bool {
        let asked = self.asked.split(' ').next().and_then(|asked| asked.parse::<SocketAddr>().ok());
        asked.is_some_and(|asked| asked.ip() == address)
    }
}

impl SavedSample {
    fn possible(&self, now: Wall) -> bool {
        let Self { at, offset, delay, dispersion, root_delay, root_dispersion } = *self;
        let lengths = [delay, dispersion, root_delay, root_dispersion];
        at <= now
            && offset.is_finite()
            && lengths.iter().all(|length| (0.0..=LARGEST_LENGTH).contains(length))
    }
}

/// Largest plausible delay or dispersion of a sample, seconds.
const LARGEST_LENGTH: f64 = 32.0;

impl From<SavedSample> for Sample {
    fn from(saved: SavedSample) -> Self {
        let SavedSample { at, offset, delay, dispersion, root_delay, root_dispersion } = saved;
        Self { at, offset, delay, dispersion, root_delay, root_dispersion }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Leap;

    const NOW: Wall = Wall(1_800_000_000_000_000_000);

    fn source() -> SourceSamples {
        let sample = SavedSample {
            at: NOW.plus(-10.0),
            offset: 1e-3,
            delay: 1e-4,
            dispersion: 1e-6,
            root_delay: 0.0,
            root_dispersion: 0.0,
        };
        SourceSamples {
            name: "a".to_owned(),
            asked: "192.0.2.1:123".to_owned(),
            leap: Leap::None,
            stratum: 1,
            reference_id: *b"GPS\0",
            samples: vec![sample],
        }
    }

    #[test]
    fn impossible_samples_are_not_recalled() {
        let recalled = |change: &dyn Fn(&mut SourceSamples)| {
            let mut source = source();
            source.samples.push(SavedSample { at: NOW, ..source.samples[0] });
            change(&mut source);
            Recalled::of(source, NOW).is_some()
        };
        assert!(recalled(&|_| {}));
        assert!(!recalled(&|source| source.samples[1].at = NOW.plus(1.0)));
        assert!(!recalled(&|source| source.samples.reverse()));
        assert!(!recalled(&|source| source.samples[0].offset = f64::NAN));
        assert!(!recalled(&|source| source.samples[0].delay = -1.0));
        assert!(!recalled(&|source| source.samples[0].root_dispersion = f64::INFINITY));
    }
}
