//! A straight line through noisy points: weighted least squares, and how far back the line is straight. Pure
//! functions on slices; what the points mean is the caller's affair.

/// One point; times are relative to the newest, so that no precision is lost on large ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Seconds before the newest point, so zero or negative.
    pub(crate) x: f64,
    /// Value, seconds.
    pub(crate) y: f64,
    /// Weight, above zero.
    pub(crate) weight: f64,
}

/// The line found.
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
    /// Weighted mean of the points' x, and the weighted sum of squares around it.
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
    /// The line for one who knows beforehand that slopes are `usual` (standard deviation), and that a point of weight 1
    /// is no better than `noise`: what few noisy points say of the slope is taken back, and the offset turns with it
    /// around the points' centre. With many points nothing changes.
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

/// Fewest points for a line whose error can be told.
pub(crate) const FEWEST: usize = 3;

/// Fewest points that the runs test may leave. Fewer would follow the noise.
const FEWEST_TESTED: usize = 6;

/// A bend so many standard errors large is none of the noise. Smaller limits shorten the window for nothing, larger
/// ones lag behind an oscillator that follows its temperature: 2 to 2.5 were equally good in simulation.
const LARGEST_BEND: f64 = 2.3;

/// The line through the newest points, as many as lie on one: while the residuals change sign too rarely for noise, or
/// a parabola fits them better than noise allows, the oldest point is dropped. The first `older` points serve only as witnesses in that test: they were dropped
/// before. None below three other points, or if the numbers are no use.
pub(crate) fn fit_newest(points: &[Point], older: usize) -> Option<Line> {
    let mut first = older;
    loop {
        let window = points.get(first..)?;
        let line = fit(window)?;
        // As many older points again take part in the test: they show that a line is bent sooner.
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

/// Weighted least squares (reference: any text; symbols as usual: U is the weighted mean of x).
fn fit(points: &[Point]) -> Option<Line> {
    let count = points.len();
    if count < FEWEST {
        return None;
    }
    // Values relative to the newest: offsets of years would otherwise eat the digits of microseconds.
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

/// How bent the points are: the quadratic term beyond the line, in its own standard errors. It notices a frequency
/// that changes slowly long before the signs of the residuals do.
fn bend(points: &[Point], line: &Line) -> f64 {
    let sum = |term: &dyn Fn(&Point) -> f64| points.iter().map(term).sum::<f64>();
    let weights = sum(&|p| p.weight);
    let mean_x = sum(&|p| p.weight * p.x) / weights;
    let square = |p: &Point| (p.x - mean_x).powi(2);
    let spread = sum(&|p| p.weight * square(p));
    let skewness = sum(&|p| p.weight * (p.x - mean_x) * square(p)) / spread;
    // The part of the square that no line explains.
    let bow = |p: &Point| square(p) - spread / weights - skewness * (p.x - mean_x);
    let residual = |p: &Point| p.y - line.offset - line.slope * p.x;
    let size = sum(&|p| p.weight * bow(p).powi(2));
    let curve = sum(&|p| p.weight * bow(p) * residual(p)) / size;
    let rest = sum(&|p| p.weight * (residual(p) - curve * bow(p)).powi(2));
    let error = (rest / (points.len().saturating_sub(3).max(1) as f64) / size).sqrt();
    // Points on one line to the last digit are not bent, whatever the quotient of two zeros is.
    let bend = curve.abs() / error;
    if bend.is_finite() { bend } else { 0.0 }
}

/// How many runs of equal sign the residuals have.
fn runs(points: &[Point], line: &Line) -> usize {
    let above = |p: &Point| p.y - line.offset - line.slope * p.x > 0.0;
    1 + points.windows(2).filter(|pair| above(&pair[0]) != above(&pair[1])).count()
}

/// So many runs, or fewer, have the residuals of a straight line through `count` independent errors in 5 % of all
/// cases. A normal approximation; its constants were fitted to 20 000 simulated lines for each count from 8 to 128,
/// and it is off by one at most.
fn critical_runs(count: usize) -> usize {
    let count = count as f64;
    (count / 2.0 + 0.65 - 0.8225 * count.sqrt()).max(0.0) as usize
}

/// Student's t for a probability of 0.9995 that the value is not larger.
fn student_t(degrees: usize) -> f64 {
    const FIRST: [f64; 20] = [
        636.62, 31.599, 12.924, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587, 4.437, 4.318, 4.221, 4.140,
        4.073, 4.015, 3.965, 3.922, 3.883, 3.850,
    ];
    // Beyond the table the first terms of the expansion around the normal quantile are good to 0.01.
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
