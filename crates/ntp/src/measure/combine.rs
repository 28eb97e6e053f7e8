//! Combines the estimates of the agreeing sources. Better sources have larger weights. Sources that are much worse than
//! the selected one, or run at another rate, are left out.

/// The estimate of one source at the present time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimated {
    pub(crate) offset: f64,
    pub(crate) offset_error: f64,
    /// How fast this clock gains, seconds per second.
    pub(crate) frequency: f64,
    pub(crate) frequency_error: f64,
    /// Bound of the frequency's error.
    pub(crate) skew: f64,
    /// Root distance.
    pub(crate) distance: f64,
}

/// Returns true if `other` is good enough to be combined with `selected`.
pub(crate) fn combinable(selected: &Estimated, other: &Estimated) -> bool {
    let near = other.distance <= COMBINE_LIMIT * (selected.distance + RESELECT_DISTANCE);
    let apart = (selected.frequency - other.frequency).abs();
    near && apart <= COMBINE_LIMIT * (selected.skew + other.skew + CLOCK_ERROR)
}

/// Sources whose distance or skew exceeds this multiple of the selected source's would only add noise.
const COMBINE_LIMIT: f64 = 3.0;

/// A distance may be larger by this, seconds, without a disadvantage.
const RESELECT_DISTANCE: f64 = 1e-4;

/// Frequency error that any clock may have, seconds per second.
const CLOCK_ERROR: f64 = 1e-6;

/// The combined estimate: offsets weighted by the inverse distance, frequencies by the inverse squared error. The
/// distance is that of the selected source, plus the change of the offset by combining. None without sources.
pub(crate) fn combine(estimates: &[Estimated]) -> Option<Estimated> {
    let selected = estimates.first()?;
    if estimates.len() == 1 {
        return Some(*selected);
    }
    let sum = |term: &dyn Fn(&Estimated) -> f64| estimates.iter().map(term).sum::<f64>();
    let near = |e: &Estimated| 1.0 / e.distance.max(SMALLEST);
    let steady = |e: &Estimated| 1.0 / e.frequency_error.max(SMALLEST).powi(2);
    let offset = sum(&|e| near(e) * e.offset) / sum(&near);
    // The differences between the sources are part of the error, too.
    let variance = sum(&|e| near(e) * (e.offset_error.powi(2) + (e.offset - offset).powi(2))) / sum(&near);
    Some(Estimated {
        offset,
        offset_error: variance.sqrt(),
        frequency: sum(&|e| steady(e) * e.frequency) / sum(&steady),
        frequency_error: 1.0 / sum(&steady).sqrt(),
        skew: 1.0 / sum(&|e| 1.0 / e.skew.max(SMALLEST).powi(2)).sqrt(),
        distance: selected.distance + (offset - selected.offset).abs(),
    })
}

/// Avoids divisions by zero. No error is this small.
const SMALLEST: f64 = 1e-15;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Estimated = Estimated {
        offset: 1e-3,
        offset_error: 1e-5,
        frequency: 1e-6,
        frequency_error: 1e-7,
        skew: 1e-6,
        distance: 1e-3,
    };

    #[test]
    fn the_better_source_counts_more() {
        let other = Estimated { offset: 5e-3, distance: 3e-3, frequency: 2e-6, frequency_error: 2e-7, ..ONE };
        let both = combine(&[ONE, other]).expect("two estimates");
        assert!((both.offset - 2e-3).abs() < 1e-12, "{both:?}");
        assert!((both.frequency - 1.2e-6).abs() < 1e-12, "{both:?}");
        assert!(both.frequency_error < ONE.frequency_error);
        assert!(both.distance >= 2e-3);
        assert!(combine(&[]).is_none());
    }

    #[test]
    fn distant_or_differently_running_sources_are_left_out() {
        assert!(combinable(&ONE, &ONE));
        assert!(!combinable(&ONE, &Estimated { distance: 4e-3, ..ONE }));
        assert!(!combinable(&ONE, &Estimated { frequency: 20e-6, ..ONE }));
    }
}
