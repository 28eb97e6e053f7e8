//! Ratios of paired runs, and their form in a row of the page. Two costs per round in; median, smallest and largest
//! ratio out.

/// The costs of two contestants, one pair per round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs(Vec<[f64; 2]>);

impl Pairs {
    /// Adds a round.
    pub(crate) fn add(&mut self, one: f64, other: f64) {
        self.0.push([one, other]);
    }

    /// The ratio of the first to the second: `0.71 (0.69, 0.74)`, with a mark if the median misses the aim.
    pub(crate) fn shown(&self, aim: Option<f64>) -> String {
        let mut ratios: Vec<_> = self.0.iter().map(|[one, other]| one / other).collect();
        let middle = median(&mut ratios);
        let (Some(least), Some(most)) = (ratios.first(), ratios.last()) else { return "–".to_owned() };
        let missed = if aim.is_some_and(|aim| middle > aim) { " **missed**" } else { "" };
        format!("{middle:.2} ({least:.2}, {most:.2}){missed}")
    }

    /// The median cost of each.
    pub(crate) fn costs(&self) -> [f64; 2] {
        [0, 1].map(|side| median(&mut self.0.iter().map(|pair| pair[side]).collect::<Vec<_>>()))
    }
}

/// Sorts the values. Returns the median: for an even count the mean of the two in the middle, for none NaN.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values {
        [] => f64::NAN,
        _ if values.len() % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_ratios() {
        let mut pairs = Pairs::default();
        assert_eq!(pairs.shown(None), "–");
        for (one, other) in [(1.0, 2.0), (8.0, 10.0), (3.0, 5.0)] {
            pairs.add(one, other);
        }
        assert_eq!(pairs.shown(Some(0.6)), "0.60 (0.50, 0.80)");
        assert_eq!(pairs.shown(Some(0.59)), "0.60 (0.50, 0.80) **missed**");
        assert_eq!(pairs.costs(), [3.0, 5.0]);
        assert_eq!(median(&mut [2.0, 1.0]), 1.5);
    }
}
