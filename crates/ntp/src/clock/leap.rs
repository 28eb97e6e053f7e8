//! Leap seconds: when an announcement is believed, what is done at the moment itself, and who must not be mixed. The
//! servers' time moves by a second then, and so does ours, at once or slowly: what was measured stays true and only
//! its stamps move along.
use crate::{Leap, Wall};

/// What is known of the day's leap second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeapWatch {
    next: Option<LeapSecond>,
    /// The day, counted from the epoch, whose leap second is over.
    done: Option<i64>,
}

/// A leap second that is to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeapSecond {
    leap: Leap,
    /// When the clock moves: at midnight, or a second before it if the last one is left out.
    pub(crate) at: Wall,
    /// By how much it moves, seconds.
    pub(crate) by: f64,
}

pub(crate) const DAY: i64 = 86_400 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// Seconds before a leap second from which on its announcement is not taken back: a server whose clock is a little ahead
/// has done it already, and announces none.
const SETTLED: f64 = 3.0;

/// By so much, nanoseconds, may a jump differ from a second: the two clocks cannot be read at once.
const NEAR: u64 = 1_000_000;

/// So late the kernel's leap second may be noticed, seconds: the process may have stood still.
const NOTICED: f64 = 60.0;

impl LeapWatch {
    /// What more than half of those that are followed announce. Leap seconds come at the end of June or December
    /// (ITU-R TF.460-6), and are announced on no other day.
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

    /// What is to come at the end of this day.
    pub(crate) fn announced(&self) -> Leap {
        self.next.map_or(Leap::None, |next| next.leap)
    }

    /// When it comes.
    pub(crate) fn at(&self) -> Option<Wall> {
        self.next.map(|next| next.at)
    }

    /// The one whose time has come.
    pub(crate) fn due(&self, now: Wall) -> Option<LeapSecond> {
        self.next.filter(|next| next.at <= now)
    }

    /// The one that explains that the clock moved by so many nanoseconds.
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

/// Whether the day, counted from 1970-01-01, is the last of June or of December.
pub(crate) fn ends_half_year(day: i64) -> bool {
    begins_half_year(day.saturating_add(1))
}

/// Whether the day is the first of July or of January.
pub(crate) fn begins_half_year(day: i64) -> bool {
    // From 0000-03-01 on, the leap day is the last of its year, and the lengths of months repeat each five: so the
    // 1st of January is day 306 of such a year, and the 1st of July day 122.
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
        // Seconds of the first of July and of January, as `date -ud` says: 1970, 2000, 2016, 2017, 2027, 2100.
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
        // Its time has come: what is said from now on is about another one.
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
