//! A straight line through noisy points: weighted least squares, and how many of the newest points lie on one line.
//! Pure functions on slices; the caller gives the points their meaning.

/// One point. Times are relative to the newest point, so that large values lose no precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Time relative to the newest point, seconds; zero or negative.
    pub(crate) x: f64,
    /// Value, seconds.
    pub(crate) y: f64,
    /// Weight; larger than zero.
    pub(crate) weight: f64,
}

/// A fitted line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// Value at x = 0.
    pub(crate) offset: f64,
    /// Change per second.
    pub(crate) slope: f64,
    /// Standard error of `offset`.
    pub(crate) offset_error: f64,
    /// Standard error of `slope`.
    pub(crate) slope_error: f64,
    /// Standard deviation of the points around the line.
    pub(crate) deviation: f64,
    /// Weighted mean of x, and the weighted sum of squared deviations from it (`spread`).
    pub(crate) center: f64,
    pub(crate) spread: f64,
    /// Index of the oldest point used.
    pub(crate) first: usize,
    /// Points used.
    pub(crate) count: usize,
}

impl Line {
    /// Bound of the slope's error: the standard error times Student's t, so that it holds for few points too.
    pub(crate) fn skew(&self) -> f64 {
        self.slope_error * student_t(self.count - 2)
    }
}

impl Line {
    /// Combines the line with prior knowledge: slopes have the standard deviation `usual`, and a point of weight 1 has
    /// at least the standard error `noise`. With few noisy points the slope shrinks, and the offset follows, since the
    /// line rotates around the centre of the points. With many points nothing changes.
    pub(crate) fn with_prior(self, usual: f64, noise: f64) -> Self {
        let error = self.slope_error.max(noise / self.spread.sqrt());
        let trust = usual.powi(2) / (usual.powi(2) + error.powi(2));
        let slope = self.slope * trust;
        let level_error = self.offset_error.powi(2) - (self.center * self.slope_error).powi(2);
        let slope_error = error * trust.sqrt();
        let offset_error = (level_error.max(0.0) + (self.center * slope_error).powi(2)).sqrt();
        let offset = self.offset + (self.slope - slope) * self.center;
        Self { slope, offset, offset_error, ..self }
    }
}

/// Fewest points for a line with an error estimate.
pub(crate) const FEWEST: usize = 3;

/// Fewest points that the tests may leave. Fewer would follow the noise.
const FEWEST_TESTED: usize = 6;

/// Largest bend that counts as noise, in standard errors. Smaller limits shorten the window needlessly. Larger ones lag
/// behind an oscillator that follows its temperature. In simulation 2 to 2.5 were equally good.
const LARGEST_BEND: f64 = 2.3;

/// The line through as many of the newest points as lie on a line. The oldest point is dropped while the residuals have
/// too few changes of sign for noise, or a parabola fits better than noise allows. The first `older` points were
/// dropped before, and only take part in the test of signs. None with fewer than three other points, or if the numbers
/// are degenerate.
pub(crate) fn fit_newest(points: &[Point], older: usize) -> Option<Line> {
    let mut first = older;
    loop {
        let window = points.get(first..)?;
        let line = fit(window)?;
        // The same number of older points takes part in the test: with them it detects a bent line sooner.
        let witnesses = points.len().saturating_sub(2 * window.len());
        let tested = &points[witnesses..];
        let straight =
            runs(tested, &line) > critical_runs(tested.len()) && bend(window, &line) < LARGEST_BEND;
        if window.len() <= FEWEST_TESTED || straight {
            return Some(Line { first, ..line });
        }
        first += 1;
    }
}

/// Weighted least squares.
fn fit(points: &[Point]) -> Option<Line> {
    let count = points.len();
    if count < FEWEST {
        return None;
    }
    // Values are relative to the newest: otherwise offsets of years would lose the digits of microseconds.
    let base = points.last()?.y;
    let sum = |term: &dyn Fn(&Point) -> f64| points.iter().map(term).sum::<f64>();
    let weights = sum(&|p| p.weight);
    let mean_x = sum(&|p| p.weight * p.x) / weights;
    let mean_y = sum(&|p| p.weight * (p.y - base)) / weights;
    let spread = sum(&|p| p.weight * (p.x - mean_x).powi(2));
    if !(spread > 0.0 && weights > 0.0) {
        return None;
    }
    let slope = sum(&|p| p.weight * (p.x - mean_x) * (p.y - base)) / spread;
    let offset = mean_y - slope * mean_x;
    let variance = sum(&|p| p.weight * (p.y - base - offset - slope * p.x).powi(2)) / (count - 2) as f64;
    let slope_error = (variance / spread).sqrt();
    let offset_error = (variance / weights + (mean_x * slope_error).powi(2)).sqrt();
    let deviation = (variance * count as f64 / weights).sqrt();
    let line = Line {
        offset: base + offset,
        slope,
        offset_error,
        slope_error,
        deviation,
        center: mean_x,
        spread,
        first: 0,
        count,
    };
    [line.offset, slope, offset_error, slope_error, deviation].iter().all(|v| v.is_finite()).then_some(line)
}

/// The bend of the points: the quadratic term in addition to the line, in units of its standard error. It detects a
/// slow change of frequency long before the test of signs.
fn bend(points: &[Point], line: &Line) -> f64 {
    let sum = |term: &dyn Fn(&Point) -> f64| points.iter().map(term).sum::<f64>();
    let weights = sum(&|p| p.weight);
    let mean_x = sum(&|p| p.weight * p.x) / weights;
    let square = |p: &Point| (p.x - mean_x).powi(2);
    let spread = sum(&|p| p.weight * square(p));
    let skewness = sum(&|p| p.weight * (p.x - mean_x) * square(p)) / spread;
    // The part of the square that is orthogonal to all lines.
    let bow = |p: &Point| square(p) - spread / weights - skewness * (p.x - mean_x);
    let residual = |p: &Point| p.y - line.offset - line.slope * p.x;
    let size = sum(&|p| p.weight * bow(p).powi(2));
    let curve = sum(&|p| p.weight * bow(p) * residual(p)) / size;
    let rest = sum(&|p| p.weight * (residual(p) - curve * bow(p)).powi(2));
    let error = (rest / (points.len().saturating_sub(3).max(1) as f64) / size).sqrt();
    // Points exactly on a line give zero divided by zero, and are not bent.
    let bend = curve.abs() / error;
    if bend.is_finite() { bend } else { 0.0 }
}

/// The number of runs of equal sign in the residuals.
fn runs(points: &[Point], line: &Line) -> usize {
    let above = |p: &Point| p.y - line.offset - line.slope * p.x > 0.0;
    1 + points.windows(2).filter(|pair| above(&pair[0]) != above(&pair[1])).count()
}

/// The critical number of runs: a straight line through `count` points with independent errors has at most this number
/// in 5 % of all cases. This is a normal approximation. Its constants were fitted to 20 000 simulated lines for each
/// count from 8 to 128. It is wrong by at most one.
fn critical_runs(count: usize) -> usize {
    let count = count as f64;
    (count / 2.0 + 0.65 - 0.8225 * count.sqrt()).max(0.0) as usize
}

/// The 0.9995 quantile of Student's t distribution.
fn student_t(degrees: usize) -> f64 {
    const FIRST: [f64; 20] = [
        636.62, 31.599, 12.924, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587, 4.437, 4.318, 4.221, 4.140,
        4.073, 4.015, 3.965, 3.922, 3.883, 3.850,
    ];
    // Beyond the table, the first terms of the expansion around the normal quantile are exact to 0.01.
    let normal = 3.2905;
    match degrees {
        0 => f64::INFINITY,
        1..=20 => FIRST[degrees - 1],
        _ => normal + (normal * normal * normal + normal) / (4.0 * degrees as f64),
    }
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// From -0.5 to 0.5.
    fn noise(random: &mut Rng) -> f64 {
        random.f64() - 0.5
    }

    fn line_with_noise(count: usize, bend_at: usize) -> Vec<Point> {
        let mut random = Rng::with_seed(42);
        (0..count)
            .map(|i| {
                let x = (i as f64 - (count - 1) as f64) * 16.0;
                let bend = (bend_at as f64 - i as f64).max(0.0) * 16.0 * 20e-6;
                Point { x, y: 3.0 + 1e-6 * x + bend + 1e-4 * noise(&mut random), weight: 1.0 }
            })
            .collect()
    }

    #[test]
    fn a_straight_line_is_used_whole() {
        let line = fit_newest(&line_with_noise(40, 0), 0).expect("40 points");
        assert!(line.count > 30, "{line:?}");
        assert!((line.slope - 1e-6).abs() < line.skew(), "{line:?}");
        assert!((line.offset - 3.0).abs() < 4.0 * line.offset_error, "{line:?}");
    }

    #[test]
    fn a_bent_line_is_used_from_the_bend_on() {
        let line = fit_newest(&line_with_noise(40, 20), 0).expect("40 points");
        assert!((12..26).contains(&line.count), "{line:?}");
    }

    #[test]
    fn a_frequency_that_changes_slowly_is_followed() {
        let mut random = Rng::with_seed(7);
        let points: Vec<_> = (0..60)
            .map(|i| {
                let x = (f64::from(i) - 59.0) * 16.0;
                Point { x, y: 2e-9 * x * x + 1e-5 * noise(&mut random), weight: 1.0 }
            })
            .collect();
        let line = fit_newest(&points, 0).expect("60 points");
        assert!((6..20).contains(&line.count), "{line:?}");
        assert!(line.offset.abs() < 2e-5 && line.slope.abs() < 0.5e-6, "{line:?}");
    }

    #[test]
    fn useless_points_give_no_line() {
        let point = |x, y| Point { x, y, weight: 1.0 };
        assert_eq!(fit_newest(&[point(-1.0, 0.0), point(0.0, 0.0)], 0), None);
        assert_eq!(fit_newest(&[point(0.0, 0.0); 4], 0), None);
        assert_eq!(fit_newest(&[point(-2.0, f64::NAN), point(-1.0, 0.0), point(0.0, 0.0)], 0), None);
        assert_eq!(fit_newest(&[point(-2.0, 0.0); 3], 5), None);
    }

    #[test]
    fn large_offsets_lose_no_digits() {
        let points: Vec<_> = (0..10)
            .map(|i| Point { x: f64::from(i - 9), y: 1.0e6 + 1e-6 * f64::from(i), weight: 1.0 })
            .collect();
        let line = fit_newest(&points, 0).expect("ten points");
        assert!((line.slope - 1e-6).abs() < 1e-9, "{line:?}");
    }
}
