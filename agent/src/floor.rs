//! The floor: if the clock is behind the last time known to be right, it lost its time, and is set forward to that
//! time; never back. Only times that were saved while the clock was synchronised are floors. A wrong floor does no
//! lasting harm: two servers that agree may step the clock back in a boot's start phase, and the next saved time is
//! theirs.
use ntp::Wall;

use crate::{clock::SystemClock, state::State};

/// The result for the system clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Floor {
    /// No right time is known.
    Unknown,
    /// The clock is not behind the floor.
    Held,
    /// The clock was behind the floor, and was set forward by this many seconds.
    Raised(f64),
    /// The clock is behind the floor by this many seconds, and cannot be set.
    Behind(f64),
}

/// No time before the build of this program is right: SOURCE_DATE_EPOCH of the build, if that is set, but not before
/// 2026.
pub(crate) const BUILT: Wall = Wall(seconds(option_env!("SOURCE_DATE_EPOCH")) * 1_000_000_000);

/// 2026-01-01T00:00:00Z.
const EARLIEST: i64 = 1_767_225_600;

/// 2100-01-01T00:00:00Z. A later date is a mistake; a clock would never reach it.
const LATEST: i64 = 4_102_444_800;

const fn seconds(text: Option<&str>) -> i64 {
    let parsed = match text {
        Some(text) => i64::from_str_radix(text, 10),
        None => Ok(EARLIEST),
    };
    match parsed {
        Ok(seconds) if seconds > EARLIEST && seconds < LATEST => seconds,
        _ => EARLIEST,
    }
}

/// If the clock is behind the last time that the state folder knows to be right, sets it forward to that. Counts the
/// step for this boot.
pub(crate) fn raise(state: &State, clock: &mut SystemClock) -> Floor {
    let saved = state.time();
    let Some(by) = behind(saved, clock.now().wall) else {
        return if saved.is_some() { Floor::Held } else { Floor::Unknown };
    };
    clock.step(by);
    match behind(saved, clock.now().wall) {
        None => {
            state.count_raise();
            Floor::Raised(by)
        }
        Some(by) => Floor::Behind(by),
    }
}

/// How far `now` is behind `saved`, seconds; none if it is not.
pub(crate) fn behind(saved: Option<Wall>, now: Wall) -> Option<f64> {
    saved.filter(|saved| *saved > now).map(|saved| saved - now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn forward_to_the_last_known_time_and_never_back() {
        let at = |secs: i64| Wall(secs * 1_000_000_000);
        let check = |saved: Option<i64>, now: i64, expected: Option<f64>| {
            assert_eq!(behind(saved.map(at), at(now)), expected, "{saved:?} {now}");
        };
        check(None, 0, None);
        check(Some(1_800_000_000), 0, Some(1.8e9));
        check(Some(1_800_000_000), 1_799_999_999, Some(1.0));
        check(Some(1_800_000_000), 1_800_000_000, None);
        check(Some(1_800_000_000), 4_000_000_000, None);
        // A damaged file may have any number.
        assert!(behind(Some(Wall(i64::MAX)), Wall(i64::MIN)).is_some());
    }

    #[test]
    fn the_date_of_the_build_is_taken_if_it_can_be() {
        for (text, expected) in [
            (None, EARLIEST),
            (Some("1800000000"), 1_800_000_000),
            (Some("0"), EARLIEST),
            (Some("soon"), EARLIEST),
            (Some("99999999999"), EARLIEST),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_clock_that_is_not_behind_is_not_touched() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "boot");
        let mut clock = SystemClock::default();
        assert_eq!(raise(&state, &mut clock), Floor::Unknown);
        state.save_time(Wall(1));
        assert_eq!(raise(&state, &mut clock), Floor::Held);
        assert_eq!(state.raises(), 0);
    }
}
