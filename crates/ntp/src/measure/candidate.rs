//! One source as a candidate of the vote, and its estimate as a part of the combined estimate.
use crate::{
    Wall,
    measure::{combine::Estimated, discipline::CLOCK_ERROR, select::Candidate},
    source::{
        association::{Association, VoteOptions},
        cause::{Cause, LAST_STRATUM},
    },
};

/// Largest standard deviation of usable samples, seconds (chrony's `maxjitter`).
const MAX_JITTER: f64 = 1.0;

/// Makes a candidate of the source. None if it has no estimate, or one that is too uncertain. `limit` is the largest
/// root distance, seconds.
pub(crate) fn candidate(
    association: &mut Association,
    (reached, local): (bool, bool),
    at: Wall,
    limit: f64,
) -> Option<Candidate> {
    let (estimate, server) = association.voting_estimate()?;
    let (offset, distance) = estimate.interval_at(at);
    if let Some(cause) = too_uncertain(association, at, limit) {
        association.set_state(&cause);
        return None;
    }
    let VoteOptions { prefer, trust, require } = association.vote_options();
    Some(Candidate {
        id: association.id,
        offset,
        distance,
        stratum: server.stratum,
        prefer,
        trust,
        require,
        local,
        reached,
        fresh: association.fresh,
    })
}

/// Why the estimate of a source is too uncertain for the vote. None if it is not. `limit` is the largest root distance,
/// seconds.
pub(crate) fn too_uncertain(association: &Association, at: Wall, limit: f64) -> Option<Cause> {
    let (estimate, server) = association.voting_estimate()?;
    let (_, distance) = estimate.interval_at(at);
    if server.stratum >= LAST_STRATUM {
        Some(Cause::LastStratum)
    } else if distance > limit {
        Some(Cause::TooDistant { distance, limit })
    } else if estimate.deviation > MAX_JITTER {
        Some(Cause::Jittery { limit: MAX_JITTER })
    } else {
        None
    }
}

/// The estimate of a source at `at`. Its distance includes the difference between the estimate and the best sample. If
/// the newest sample differs from the estimate by more than its delay explains, an oscillator has changed its
/// frequency, and the best sample is outdated. Then the distance is that of the newest sample, with the difference.
pub(crate) fn estimated(association: &Association, at: Wall) -> Option<Estimated> {
    let estimate = association.history.estimate()?;
    let newest = association.history.newest()?;
    let offset = estimate.offset_at(at);
    let (best, certain) = estimate.interval_at(at);
    let late = (newest.root_distance() - estimate.best.root_distance()).max(0.0);
    let apart = (newest.offset - estimate.offset_at(newest.at)).abs();
    let distance = if apart > late + SURPRISE * estimate.offset_error {
        newest.root_distance() + apart
    } else {
        certain + (offset - best).abs()
    } + (at - newest.at).max(0.0) * CLOCK_ERROR;
    Some(Estimated {
        offset,
        offset_error: estimate.offset_error,
        frequency: estimate.usable_frequency(),
        frequency_error: estimate.frequency_error,
        skew: estimate.skew,
        distance,
    })
}

/// The newest sample may differ from the estimate by this number of standard errors before that counts as a change of
/// frequency.
const SURPRISE: f64 = 4.0;
