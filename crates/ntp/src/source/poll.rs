//! When a source is asked next: bursts, the adaptive interval, and what a server that wants fewer requests gets.
use crate::Mono;

/// The schedule of one source. Intervals are log2 seconds.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    min: i8,
    max: i8,
    poll: i8,
    /// Above one the interval doubles, below zero it halves.
    score: f64,
    /// Requests of the burst that are still to be sent.
    burst: u8,
    /// So many of them close together.
    quick: u8,
    /// The gaps of this burst grow.
    growing: bool,
    /// The server asked for no less than this, for so many good answers more.
    floor: Option<(i8, u8)>,
    next: Mono,
}

/// Requests in a burst. A chrony server with `ratelimit` has 8 tokens for a stranger, and ntpd's `limited` passes 8
/// at 2 s; a ninth would be one too many.
const BURST: u8 = 8;

/// The first four of a burst come quicker: three answers make an estimate, which is what a starting node waits for.
const QUICK: u8 = 4;

/// Seconds between them. Classic ntpd rounds to whole seconds and refuses what rounds to 0 (`discard minimum 2`), for
/// good; what rounds to 1 it serves thirteen times. So 0.7 s, with room for the network's jitter; chrony and NTPsec
/// count requests only, and four of eight are no more at 0.7 s.
const QUICK_GAP: f64 = 0.7;

/// Seconds between the others (RFC 5905 §7.1, BTIME). At the start each gap is twice the one before: the same number
/// of requests then spans half a minute, and the frequency is known four times better.
const GAP: f64 = 2.0;

/// Requests in each poll with `burst`; as many as chrony sends.
const LARGEST_BURST: f64 = 4.0;

/// Samples that an estimate should be made of: the interval is chosen so that about so many lie on a line.
const TARGET: f64 = 8.0;

/// A server's wish for a longer interval is obeyed up to this (and never beyond `max`).
const LONGEST_WISH: i8 = 10;

impl Schedule {
    pub(crate) fn new(min: i8, max: i8, iburst: bool, first: Mono) -> Self {
        let (burst, quick) = if iburst { (BURST, QUICK) } else { (0, 0) };
        Self { min, max, poll: min, score: 0.0, burst, quick, growing: iburst, floor: None, next: first }
    }

    /// When to ask next.
    pub(crate) fn next(&self) -> Mono {
        self.next
    }

    /// The current interval, log2 seconds.
    pub(crate) fn poll(&self) -> i8 {
        self.poll
    }

    /// Other limits, from a reload.
    pub(crate) fn limit(&mut self, min: i8, max: i8, now: Mono) {
        (self.min, self.max) = (min, max);
        self.set(self.poll);
        let latest = now.plus(2.0_f64.powi(self.poll.into()));
        self.next = self.next.min(latest);
    }

    /// A poll of a source with `burst` begins, if none is under way: several requests, but no more than one in 8 s on
    /// the whole, which is what servers with a limit serve for ever, and one alone to a server that wants fewer.
    pub(crate) fn begin_burst(&mut self) {
        if self.burst == 0 && self.floor.is_none() {
            self.burst = (2.0_f64.powi(self.poll.into()) / 8.0).clamp(1.0, LARGEST_BURST) as u8;
        }
    }

    /// A request was sent; `spread` is random, -1 to 1. Answers how long until the next one, seconds.
    pub(crate) fn sent(&mut self, now: Mono, spread: f64) -> f64 {
        let interval = 2.0_f64.powi(self.poll.into());
        self.burst = self.burst.saturating_sub(1);
        self.quick = self.quick.saturating_sub(1);
        let wait = match (self.burst, self.quick) {
            // 2 % at random, so that the sources of many nodes do not fall into step.
            (0, _) => interval * (1.0 + 0.01 * spread),
            (left, 0) if self.growing => {
                interval.min(GAP * 2.0_f64.powi(i32::from(BURST - QUICK) - i32::from(left)))
            }
            (_, 0) => interval.min(GAP),
            _ => interval.min(QUICK_GAP),
        };
        self.growing &= self.burst > 0;
        self.next = now.plus(wait);
        wait
    }

    /// A good answer came. `samples` lie on the line; the prediction was off by `error` where `distance` is usual.
    pub(crate) fn answered(&mut self, samples: usize, error: Option<f64>, distance: f64) {
        self.floor = self.floor.and_then(|(floor, left)| left.checked_sub(1).map(|left| (floor, left)));
        let change = match error {
            Some(error) if error > distance => -(error / distance).log2(),
            _ => {
                let missing = samples as f64 / TARGET - 1.0;
                // Shortening is done in half the time.
                missing / TARGET * if missing < 0.0 { 2.0 } else { 1.0 }
            }
        };
        self.score += change.clamp(-32.0, 32.0);
        // The score stays between 0 and 1; what is beyond goes into the interval.
        let whole = self.score.floor();
        if whole != 0.0 {
            self.score -= whole;
            self.set(self.poll.saturating_add(whole as i8));
        }
    }

    fn set(&mut self, poll: i8) {
        let floor = self.floor.map_or(self.min, |(floor, _)| floor.max(self.min)).min(self.max);
        if poll < floor {
            self.score = 0.0;
        } else if poll > self.max {
            self.score = 1.0;
        }
        self.poll = poll.clamp(floor, self.max);
    }

    /// The source is not reached any more, or the history is lost: the shortest interval finds it again soonest.
    pub(crate) fn restart(&mut self) {
        self.score = 0.0;
        self.set(self.min);
    }

    /// Nobody has answered for long: the interval doubles.
    pub(crate) fn back_off(&mut self) {
        self.set(self.poll.saturating_add(1));
    }

    /// Asks `count` times soon, beginning at `now` or, if the last request was just sent, a little later.
    pub(crate) fn ask_soon(&mut self, count: u8, now: Mono) {
        if self.floor.is_none() {
            self.burst = self.burst.max(count);
            self.next = self.next.min(now.plus(GAP));
        }
    }

    /// The server wants fewer requests (RFC 5905 §7.4): the burst ends, the interval grows, and four are left out.
    pub(crate) fn slow_down(&mut self, wish: i8, now: Mono) {
        (self.burst, self.quick) = (0, 0);
        let floor = wish.min(LONGEST_WISH).max(self.poll.saturating_add(1)).clamp(self.min, self.max);
        // A wish is not for ever, else one kiss would spoil a source for good.
        self.floor = Some((floor, 8));
        self.set(floor);
        self.next = now.plus(4.0 * 2.0_f64.powi(self.poll.into()));
    }

    /// Whether the server wants fewer requests.
    pub(crate) fn limited(&self) -> bool {
        self.floor.is_some()
    }

    /// The server does not want us: asked again in an hour, about.
    pub(crate) fn give_up(&mut self, now: Mono) {
        (self.burst, self.quick) = (0, 0);
        self.next = now.plus(3600.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits after the first `count` requests.
    fn waits(schedule: &mut Schedule, count: usize) -> Vec<f64> {
        let mut now = schedule.next();
        (0..count)
            .map(|_| {
                let wait = schedule.sent(now, 0.0);
                now = now.plus(wait);
                wait
            })
            .collect()
    }

    #[test]
    fn a_burst_is_eight_requests_that_limited_servers_serve() {
        let mut schedule = Schedule::new(4, 6, true, Mono(0));
        assert_eq!(waits(&mut schedule, 9), [0.7, 0.7, 0.7, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]);
        let mut schedule = Schedule::new(0, 0, false, Mono(0));
        assert_eq!(waits(&mut schedule, 2), [1.0, 1.0]);
    }

    #[test]
    fn a_burst_at_each_poll_is_no_more_than_a_request_in_eight_seconds() {
        let check = |poll: i8, expected: &[f64]| {
            let mut schedule = Schedule::new(poll, poll, false, Mono(0));
            let mut now = Mono(0);
            let waits: Vec<f64> = (0..expected.len())
                .map(|_| {
                    schedule.begin_burst();
                    let wait = schedule.sent(now, 0.0);
                    now = now.plus(wait);
                    wait
                })
                .collect();
            assert_eq!(waits, expected);
        };
        check(3, &[8.0, 8.0]);
        check(4, &[2.0, 16.0, 2.0, 16.0]);
        check(6, &[2.0, 2.0, 2.0, 64.0, 2.0]);
        let mut limited = Schedule::new(4, 10, false, Mono(0));
        limited.slow_down(6, Mono(0));
        limited.begin_burst();
        assert_eq!(limited.sent(Mono(0), 0.0), 64.0);
    }

    #[test]
    fn the_interval_follows_the_samples_within_its_limits() {
        let mut schedule = Schedule::new(4, 6, false, Mono(0));
        for _ in 0..100 {
            schedule.answered(64, Some(1e-6), 1e-4);
        }
        assert_eq!(schedule.poll(), 6);
        schedule.answered(64, Some(0.1), 1e-4);
        assert_eq!(schedule.poll(), 4);
        schedule.answered(3, Some(f64::INFINITY), 1e-4);
        schedule.answered(3, None, 0.0);
        assert_eq!(schedule.poll(), 4);
    }

    #[test]
    fn a_kiss_slows_down_within_the_limits_and_not_for_ever() {
        let mut schedule = Schedule::new(0, 6, true, Mono(0));
        schedule.slow_down(127, Mono(0));
        assert_eq!(schedule.poll(), 6);
        assert_eq!(schedule.next(), Mono(0).plus(256.0));
        for _ in 0..60 {
            schedule.answered(3, None, 1e-4);
        }
        assert_eq!(schedule.poll(), 0);
    }
}
