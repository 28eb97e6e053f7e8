//! What all random values are made from: numbers, choices and texts.
use fastrand::Rng;

/// The same seed always makes the same policy.
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0.usize(..most)
    }

    /// Returns true once in `most` calls on average.
    pub(super) fn rarely(&mut self, most: usize) -> bool {
        self.below(most) == 0
    }

    pub(super) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A text whose first and last characters are from `first`, and whose others are from `rest`.
    pub(super) fn text(&mut self, length: usize, first: &str, rest: &str) -> String {
        let (first, rest): (Vec<char>, Vec<char>) = (first.chars().collect(), rest.chars().collect());
        (0..length)
            .map(|n| {
                let ends = n == 0 || n + 1 == length;
                let from = if ends { &first } else { &rest };
                from[self.below(from.len())]
            })
            .collect()
    }

    /// A length up to `most`: often `most` itself, and rarely one more.
    pub(super) fn length(&mut self, most: usize) -> usize {
        match self.below(24) {
            0 => most + 1,
            1..4 => most,
            _ => 1 + self.below(most.min(12)),
        }
    }
}
