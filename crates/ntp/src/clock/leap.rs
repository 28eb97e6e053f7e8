//! Leap seconds: which announcement is believed, and which leap second is due. At a leap second the servers' time moves
//! by a second, and so does this clock, at once or slowly. So the measured offsets stay valid, and only the times of
//! the samples are moved.
use crate::{Leap, Wall};

/// The leap second of the present day.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeapWatch {
    next: Option<LeapSecond>,
    /// The day, counted from the epoch, whose leap second was already applied.
    done: Option<i64>,
}

/// An announced leap second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeapSecond {
    leap: Leap,
    /// When the clock moves: at midnight, or one second earlier if the last second is deleted.
    pub(crate) at: Wall,
    /// By how much it moves, seconds.
    pub(crate) by: f64,
}

pub(crate) const DAY: i64 = 86_400 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// In this time before a leap second, seconds, its announcement is no longer withdrawn: a server whose clock is
/// slightly ahead has applied it already, and no longer announces it.
const SETTLED: f64 = 3.0;

/// A leap second's jump may differ from one second by this much, nanoseconds: the two clocks cannot be read at the same
/// moment.
const NEAR: u64 = 1_000_000;

/// The kernel's leap second may be noticed this late, seconds: the process may have been stopped.
const NOTICED: f64 = 60.0;

impl LeapWatch {
    /// Takes the announcement of more than half of the agreeing sources. It is believed only on the last day of June or
    /// December, when leap seconds occur (ITU-R TF.460-6).
    pub(crate) fn hear(&mut self, announced: Leap, now: Wall) {
        if self.next.is_some_and(|next| next.at - now <= SETTLED) {
            return;
        }
        let day = now.0.div_euclid(DAY);
        let midnight = Wall((day + 1).saturating_mul(DAY));
        self.next = match announced {
            _ if !ends_half_year(day) || self.done == Some(day) => None,
            Leap::Insert => Some(LeapSecond { leap: announced, at: midnight, by: -1.0 }),
            Leap::Delete => Some(LeapSecond { leap: announced, at: midnight.plus(-1.0), by: 1.0 }),
            Leap::None | Leap::Unknown => None,
        };
    }

    /// The leap second that is announced for the end of this day.
    pub(crate) fn announced(&self) -> Leap {
        self.next.map_or(Leap::None, |next| next.leap)
    }

    /// The time of the announced leap second.
    pub(crate) fn at(&self) -> Option<Wall> {
        self.next.map(|next| next.at)
    }

    /// The announced leap second, if its time has come.
    pub(crate) fn due(&self, now: Wall) -> Option<LeapSecond> {
        self.next.filter(|next| next.at <= now)
    }

    /// The announced leap second, if it explains a jump of `moved` nanoseconds.
    pub(crate) fn explaining(&self, moved: i64, now: Wall) -> Option<LeapSecond> {
        let explains = |next: &LeapSecond| {
            moved.abs_diff((next.by * 1e9) as i64) <= NEAR && (-1.5..=NOTICED).contains(&(now - next.at))
        };
        self.next.filter(explains)
    }

    pub(crate) fn finish(&mut self, second: LeapSecond) {
        self.next = None;
        self.done = Some((second.at.0 - 1).div_euclid(DAY));
    }
}

/// Returns true if the day, counted from 1970-01-01, is the last of June or of December.
pub(crate) fn ends_half_year(day: i64) -> bool {
    begins_half_year(day.saturating_add(1))
}

/// Returns true if the day is the first of July or of January.
pub(crate) fn begins_half_year(day: i64) -> bool {
    // Years are counted from 1 March 0000, so that the leap day is the last day of a year, and the lengths of months
    // repeat every five months. In such a year 1 January is day 306, and 1 July is day 122.
    let since = day.saturating_add(719_468);
    let of_era = since.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    of_year == 306 || of_year == 122
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: i64) -> Wall {
        Wall(seconds * SECOND)
    }

    /// 2027-07-01T00:00:00Z.
    const JULY: i64 = 1_814_400_000;

    #[test]
    fn the_ends_of_june_and_december() {
        // First seconds of January or July, computed with `date -ud`: 1970, 2000, 2016, 2017, 2027, 2100.
        for first in
            [0, 15_638_400, 946_684_800, 962_409_600, 1_467_331_200, 1_483_228_800, JULY, 4_102_444_800]
        {
            let day = first / 86_400;
            assert!(ends_half_year(day - 1) && begins_half_year(day), "{first}");
        }
        let ends = (0..36_525).filter(|day| ends_half_year(*day)).count();
        assert_eq!(ends, 200, "two a year from 1970 to 2069");
        assert!(!ends_half_year(i64::MAX) || !ends_half_year(i64::MIN));
    }

    #[test]
    fn it_is_believed_on_its_day_alone_and_comes_once() {
        let mut watch = LeapWatch::default();
        watch.hear(Leap::Insert, wall(JULY - 86_401));
        assert_eq!(watch.announced(), Leap::None);
        watch.hear(Leap::Delete, wall(JULY - 86_400));
        assert_eq!((watch.announced(), watch.at()), (Leap::Delete, Some(wall(JULY - 1))));
        watch.hear(Leap::Insert, wall(JULY - 3600));
        assert_eq!((watch.announced(), watch.at()), (Leap::Insert, Some(wall(JULY))));
        // Its time has come. Later announcements are about another leap second.
        watch.hear(Leap::None, wall(JULY));
        let second = watch.due(wall(JULY)).expect("it is due");
        watch.finish(second);
        watch.hear(Leap::Insert, wall(JULY - 1));
        assert_eq!(watch.announced(), Leap::None);
    }

    #[test]
    fn only_a_jump_of_a_second_at_midnight_is_a_leap_second() {
        let mut watch = LeapWatch::default();
        watch.hear(Leap::Insert, wall(JULY - 3600));
        assert!(watch.explaining(-SECOND, wall(JULY - 1)).is_some());
        assert!(watch.explaining(-SECOND, wall(JULY - 5)).is_none());
        assert!(watch.explaining(SECOND, wall(JULY - 1)).is_none());
        assert!(watch.explaining(-SECOND + 2_000_000, wall(JULY - 1)).is_none());
    }
}
