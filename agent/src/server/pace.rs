//! The pace of replies that one system call sends: how long each takes, learned from the calls before. Pure.

/// How fast replies leave that are sent by one call, so that each one can have its own transmit time: the last of many
/// leaves some hundred microseconds after the first.
#[derive(Debug, Default)]
pub(super) struct Pace {
    each_ns: i64,
}

impl Pace {
    /// Nanoseconds from the call until the reply at this place leaves; 0 for the first.
    pub(super) fn until(&self, place: usize) -> i64 {
        self.each_ns * place as i64
    }

    /// Learns that `count` replies left in `nanos` nanoseconds. A faster pace is adopted quickly, a slower one slowly,
    /// because then another thread may have had the processor for a while. A few replies are ignored, since most of
    /// their time is that of the call itself.
    pub(super) fn learn(&mut self, count: usize, nanos: i64) {
        if count < 8 {
            return;
        }
        let each = (nanos / count as i64).clamp(0, SLOWEST);
        self.each_ns += match self.each_ns {
            0 => each,
            known if each < known => (each - known) / 2,
            known => (each - known) / 8,
        };
    }
}

/// The longest time for a reply on any known machine, nanoseconds.
const SLOWEST: i64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_learnt_and_a_pause_is_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.until(63), 0);
        pace.learn(64, 64 * 3_000);
        assert_eq!(pace.until(63), 63 * 3_000);
        // The thread lost the processor for 10 ms.
        pace.learn(64, 10_000_000);
        assert!(pace.until(1) < 5_200, "{pace:?}");
        (0..4).for_each(|_| pace.learn(64, 64 * 3_000));
        assert!(pace.until(1) < 3_200, "{pace:?}");
        // A single reply wakes its reader. A clock that is stepped back gives no information.
        pace.learn(1, 50_000);
        pace.learn(64, -1_000_000_000);
        assert_eq!(pace.until(0), 0);
        assert!((0..3_200).contains(&pace.until(1)), "{pace:?}");
    }
}
