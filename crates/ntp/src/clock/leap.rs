//! Leap seconds: when an announcement is believed, what is done at the moment itself, and who must not be mixed. The
//! servers' time moves by a second then, and so does ours, at once or slowly: what was measured stays true and only
//! its stamps move along.
use crate::{
    Action, Leap, LeapMode, Mode, Now, Transition, Wall,
    engine::Engine,
    source::{association::Association, reply::Server},
};

/// What is known of the day's leap second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeapWatch {
    next: Option<LeapSecond>,
    /// The day, counted from the epoch, whose leap second is over.
    done: Option<i64>,
}

/// A leap second that is to come.
#[derive(Clone, Copy, Debug)]
struct LeapSecond {
    leap: Leap,
    /// When the clock moves: at midnight, or a second before it if the last one is left out.
    at: Wall,
    /// By how much it moves, seconds.
    by: f64,
}

const DAY: i64 = 86_400 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// Seconds before a leap second from which on its announcement is not taken back: a server whose clock is a little ahead
/// has done it already, and announces none.
const SETTLED: f64 = 3.0;

/// By so much, nanoseconds, may a jump differ from a second: the two clocks cannot be read at once.
const NEAR: u64 = 1_000_000;

/// So long is waited for the kernel's leap second, seconds; it comes with a tick of the clock, not on the dot.
const PATIENCE: f64 = 2.0;

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
    fn due(&self, now: Wall) -> Option<LeapSecond> {
        self.next.filter(|next| next.at <= now)
    }

    /// The one that explains that the clock moved by so many nanoseconds.
    fn explaining(&self, moved: i64, now: Wall) -> Option<LeapSecond> {
        let explains = |next: &LeapSecond| {
            moved.abs_diff((next.by * 1e9) as i64) <= NEAR && (-1.5..=NOTICED).contains(&(now - next.at))
        };
        self.next.filter(explains)
    }

    fn finish(&mut self, second: LeapSecond) {
        self.next = None;
        self.done = Some((second.at.0 - 1).div_euclid(DAY));
    }
}

/// Whether the day, counted from 1970-01-01, is the last of June or of December.
fn ends_half_year(day: i64) -> bool {
    begins_half_year(day.saturating_add(1))
}

/// Whether the day is the first of July or of January.
fn begins_half_year(day: i64) -> bool {
    // From 0000-03-01 on, the leap day is the last of its year, and the lengths of months repeat each five: so the
    // 1st of January is day 306 of such a year, and the 1st of July day 122.
    let since = day.saturating_add(719_468);
    let of_era = since.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    of_year == 306 || of_year == 122
}

/// Why a source must not be followed beside others, if some smear leap seconds and others do not: for a day they
/// differ by up to a second.
pub(crate) fn mixture(server: &Server, smeared: bool, now: Wall) -> Option<String> {
    let announces = matches!(server.leap, Leap::Insert | Leap::Delete);
    if smeared {
        let why = "Mixed: it announces a leap second, but the upstreams are declared to smear it.";
        return announces.then(|| why.to_owned());
    }
    let day = now.0.div_euclid(DAY);
    // What ntpd shows while it smears. An IPv6 upstream's hash may look so on any other day.
    let near = ends_half_year(day) || begins_half_year(day);
    let [a, b, c, d] = server.reference_id;
    let smears = [a, b, c, d] == CHRONY_SMEARS || near && server.stratum > 1 && a == NTPD_SMEARS;
    let id = format!("{a}.{b}.{c}.{d}");
    smears.then(|| format!("Mixed: it smears a leap second (reference id {id}), which is not declared."))
}

/// The reference id of a chronyd whose served time is smoothed.
const CHRONY_SMEARS: [u8; 4] = [127, 127, 1, 255];

/// First octet of the reference id of an ntpd that smears; the others say by how much.
const NTPD_SMEARS: u8 = 254;

impl Engine {
    /// The kernel's own leap second, seen as a jump of so many nanoseconds; answers whether it was one.
    pub(crate) fn kernel_leapt(&mut self, moved: i64, now: Now, actions: &mut Vec<Action>) -> bool {
        if self.config.mode == Mode::Discipline && self.config.leap != LeapMode::Kernel {
            return false;
        }
        let Some(second) = self.leap.explaining(moved, now.wall) else { return false };
        self.clock.shift(second.by);
        self.leap_over(second, actions);
        true
    }

    /// Does at its moment what is to be done about a leap second. Answers the time by the clock afterwards, and
    /// whether stamps taken before are still good.
    pub(crate) fn leap(&mut self, now: Now, actions: &mut Vec<Action>) -> (Now, bool) {
        let Some(second) = self.leap.due(now.wall) else { return (now, true) };
        let awaited = self.config.mode == Mode::Observe || self.config.leap == LeapMode::Kernel;
        if awaited && now.wall - second.at < PATIENCE {
            return (now, true);
        }
        if awaited || self.config.leap == LeapMode::Ignore {
            // True time moved without us: so much is the clock off until somebody sets it right.
            if let Some(reference) = &mut self.discipline.reference {
                reference.offset -= second.by;
            }
            // What was heard before says nothing of it.
            for association in &mut self.associations {
                association.fresh = false;
            }
            self.leap.finish(second);
            return (now, true);
        }
        let mut now = now;
        if self.config.leap == LeapMode::Step {
            self.clock.shift(second.by);
            self.jumps.stepping(second.by);
            now.wall = now.wall.plus(second.by);
            actions.push(Action::Step { by: second.by });
        } else {
            self.clock.owe(now, second.by);
            actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        }
        self.leap_over(second, actions);
        (now, false)
    }

    /// Takes along what was measured, and tells it.
    fn leap_over(&mut self, second: LeapSecond, actions: &mut Vec<Action>) {
        for association in &mut self.associations {
            association.history.shift(second.by);
        }
        for recalled in &mut self.recalled {
            recalled.history.shift(second.by);
        }
        // Answers on their way have stamps from before and after.
        actions.extend(self.associations.iter_mut().filter_map(Association::break_off));
        if let Some(reference) = &mut self.discipline.reference {
            reference.time = reference.time.plus(second.by);
        }
        self.leap.finish(second);
        actions.push(Action::Announce(Transition::LeapSecond { by: second.by }));
    }
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

    #[test]
    fn the_smeared_and_the_others_do_not_mix() {
        let check = |leap, stratum, reference_id, smeared, at, mixed| {
            let server = Server { leap, stratum, reference_id };
            assert_eq!(mixture(&server, smeared, wall(at)).is_some(), mixed, "{server:?}");
        };
        check(Leap::Insert, 2, [192, 0, 2, 1], false, JULY - 9, false);
        check(Leap::Insert, 2, [192, 0, 2, 1], true, JULY - 9, true);
        check(Leap::None, 2, [254, 1, 2, 3], true, JULY - 9, false);
        check(Leap::None, 2, [254, 1, 2, 3], false, JULY - 9, true);
        check(Leap::None, 2, [254, 1, 2, 3], false, JULY + 9, true);
        check(Leap::None, 2, [254, 1, 2, 3], false, JULY - 10 * 86_400, false);
        check(Leap::None, 2, [127, 127, 1, 255], false, JULY - 10 * 86_400, true);
    }
}
