//! Reproducible random numbers from a seed. The streams are independent, so two configurations of one scenario get the
//! same oscillator. No library makes them, since its next release could draw
//! other numbers: the tables in docs/benchmarks.md must come out the same until the engine changes.

/// A stream of random numbers (xorshift64* of Vigna, 2016, seeded by splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
    /// The second number of a pair of normal numbers.
    spare: Option<f64>,
}

impl Random {
    /// The stream with this number for a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = seed.wrapping_mul(0x1_0000_0001).wrapping_add(stream << 48);
        for _ in 0..2 {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
        }
        // Zero would stay zero.
        Self { state: mixed | 1, spare: None }
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform: at least 0, less than 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential, with this mean; never negative.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }

    /// Lomax (Pareto), with this mean and a tail that falls with the power `shape`, which must exceed 1; never
    /// negative.
    pub(crate) fn pareto(&mut self, mean: f64, shape: f64) -> f64 {
        mean * (shape - 1.0) * ((1.0 - self.uniform()).powf(-1.0 / shape) - 1.0)
    }

    /// Normal, with mean 0 and variance 1 (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = self.exponential(2.0).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 200_000;

    fn check(what: &str, (mean, deviation): (f64, f64), mut draw: impl FnMut(&mut Random) -> f64) {
        let mut random = Random::new(1, 1);
        let drawn: Vec<f64> = (0..COUNT).map(|_| draw(&mut random)).collect();
        let average = drawn.iter().sum::<f64>() / COUNT as f64;
        let variance = drawn.iter().map(|x| (x - average).powi(2)).sum::<f64>() / COUNT as f64;
        assert!((average - mean).abs() < 0.01, "{what}: mean {average}");
        assert!((variance.sqrt() - deviation).abs() < 0.02, "{what}: deviation {}", variance.sqrt());
    }

    #[test]
    fn numbers_have_the_moments_they_should() {
        check("uniform", (0.5, 12_f64.sqrt().recip()), Random::uniform);
        check("exponential", (1.0, 1.0), |random| random.exponential(1.0));
        check("normal", (0.0, 1.0), Random::normal);
        // With shape 6 the variance is finite enough to measure: shape / (shape - 2) of the squared mean.
        check("pareto", (1.0, 1.5_f64.sqrt()), |random| random.pareto(1.0, 6.0));
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, stream| Random::new(seed, stream).bits();
        assert_eq!(first(1, 1), first(1, 1));
        assert_ne!(first(1, 1), first(1, 2));
        assert_ne!(first(1, 1), first(2, 1));
    }
}
