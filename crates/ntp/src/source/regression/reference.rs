//! Compares the fit with a slow reference. Every pair of points has a slope. The slope of the line is the mean of
//! these, weighted by the squared distance. Fit and reference share no formula.
use proptest::prelude::*;

use crate::source::regression::{FEWEST, Line, Point, fit, fit_newest};

/// The line from pairs of points, with errors from their definitions.
fn slow(points: &[Point]) -> Line {
    let mut pairs = Vec::new();
    for (index, a) in points.iter().enumerate() {
        pairs.extend(points[..index].iter().map(|b| (a.weight * b.weight, a.x - b.x, a.y - b.y)));
    }
    let weight: f64 = points.iter().map(|p| p.weight).sum();
    let distance: f64 = pairs.iter().map(|(w, dx, _)| w * dx * dx).sum();
    let slope = pairs.iter().map(|(w, dx, dy)| w * dx * dy).sum::<f64>() / distance;
    let mean =
        |value: &dyn Fn(&Point) -> f64| points.iter().map(|p| p.weight * value(p)).sum::<f64>() / weight;
    let offset = mean(&|p| p.y - slope * p.x);
    let squares: f64 = points.iter().map(|p| p.weight * (p.y - offset - slope * p.x).powi(2)).sum();
    let variance = squares / (points.len() - 2) as f64;
    // The sum of squares around the mean, also from the pairs.
    let spread = distance / weight;
    let center = mean(&|p| p.x);
    let slope_error = (variance / spread).sqrt();
    let offset_error = (variance / weight + (center * slope_error).powi(2)).sqrt();
    let deviation = (variance * points.len() as f64 / weight).sqrt();
    Line {
        offset,
        slope,
        offset_error,
        slope_error,
        deviation,
        center,
        spread,
        first: 0,
        count: points.len(),
    }
}

/// Polls of 1 to 1000 s, offsets of `scale` around a line, weights over three decades.
fn points(largest: usize) -> impl Strategy<Value = Vec<Point>> {
    let shape = (-3.0..3.0_f64, -5e-4..5e-4_f64, 1e-6..1e-2_f64);
    let rest = proptest::collection::vec((1.0..1000.0_f64, -1.0..1.0_f64, 1e-3..1.0_f64), FEWEST..largest);
    (shape, rest).prop_map(|((level, slope, scale), rest)| {
        let length: f64 = rest.iter().skip(1).map(|(gap, ..)| gap).sum();
        let mut x = -length;
        let mut points: Vec<Point> = Vec::new();
        for (index, (gap, noise, weight)) in rest.into_iter().enumerate() {
            x += if index == 0 { 0.0 } else { gap };
            points.push(Point { x, y: level + slope * x + scale * noise, weight });
        }
        points
    })
}

fn near(ours: f64, theirs: f64, scale: f64) -> Result<(), TestCaseError> {
    prop_assert!((ours - theirs).abs() <= 1e-9 * scale.abs().max(theirs.abs()), "{} and {}", ours, theirs);
    Ok(())
}

fn same(ours: &Line, theirs: &Line, points: &[Point]) -> Result<(), TestCaseError> {
    let Line { offset, slope, offset_error, slope_error, deviation, center, spread, first: _, count } = *ours;
    let length = points[points.len() - 1].x - points[0].x;
    let level = points.iter().map(|p| p.y.abs()).fold(0.0, f64::max);
    near(offset, theirs.offset, level)?;
    near(slope, theirs.slope, level / length)?;
    near(center, theirs.center, length)?;
    near(spread, theirs.spread, 0.0)?;
    // Residuals are small differences of large numbers, so both computations lose digits.
    near(deviation, theirs.deviation, 1e-3 * level)?;
    near(slope_error, theirs.slope_error, 1e-1 * level / length)?;
    near(offset_error, theirs.offset_error, 1e-1 * level)?;
    prop_assert_eq!(count, theirs.count);
    Ok(())
}

proptest! {
    #[test]
    fn the_fit_equals_a_slow_reference(points in points(80)) {
        let line = fit(&points).expect("enough points at different times");
        same(&line, &slow(&points), &points)?;
    }

    /// The line is the fit of exactly the points in the chosen window, and the window is not too short.
    #[test]
    fn the_line_is_that_of_its_window(points in points(60), older in 0_usize..20) {
        let left = points.len().saturating_sub(older);
        let Some(line) = fit_newest(&points, older) else {
            prop_assert!(left < FEWEST);
            return Ok(());
        };
        prop_assert!(line.first >= older && line.first + line.count == points.len());
        prop_assert!(line.count >= left.min(super::FEWEST_TESTED), "{:?}", line);
        let window = &points[line.first..];
        same(&line, &slow(window), window)?;
    }

    /// If all points are shifted, tilted, and weighted by a common factor, the line is shifted and tilted in the same
    /// way.
    #[test]
    fn only_differences_count(points in points(40), level in -1e6..1e6_f64, tilt in -1e-3..1e-3_f64) {
        let moved: Vec<Point> = points
            .iter()
            .map(|p| Point { x: p.x, y: p.y + level + tilt * p.x, weight: p.weight * 8.0 })
            .collect();
        let (line, other) = (fit(&points).expect("points"), fit(&moved).expect("points"));
        // At a million seconds the resolution of a double is a tenth of a nanosecond.
        prop_assert!((other.offset - line.offset - level).abs() < 1e-8, "{:?} {:?}", line, other);
        let slack = 1e-8 / -points[0].x;
        prop_assert!((other.slope - line.slope - tilt).abs() < slack, "{:?} {:?}", line, other);
    }
}
