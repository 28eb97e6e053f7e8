//! When a source is asked next: bursts, the adaptive poll interval, and the reaction to RATE kisses.
use crate::Mono;

/// The schedule of one source. Intervals are log2 seconds.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    min: i8,
    max: i8,
    poll: i8,
    /// If it exceeds one, the interval doubles; if it falls below zero, the interval halves.
    score: f64,
    /// Remaining requests of the burst.
    burst: u8,
    /// Of these, the requests with the short gap.
    quick: u8,
    /// True if the gaps of this burst grow.
    growing: bool,
    /// The shortest interval that the server allows, and the number of valid replies for which that still holds.
    floor: Option<(i8, u8)>,
    next: Mono,
}

/// Requests in a burst. A chrony server with `ratelimit` has 8 tokens for a new client, and ntpd's `limited` passes 8
/// requests at intervals of 2 s. Both would refuse a ninth.
const BURST: u8 = 8;

/// Requests of a burst with the short gap: three replies give an estimate, for which a starting node waits.
const QUICK: u8 = 4;

/// The short gap, seconds. Classic ntpd rounds intervals to whole seconds. It refuses all further requests after one
/// that rounds to 0 (`discard minimum 2`); it serves thirteen that round to 1. So the gap is 0.7 s, which leaves room
/// for the network's jitter. Chrony and NTPsec count requests only, and the gap does not change their number.
const QUICK_GAP: f64 = 0.7;

/// Seconds between the other requests of a burst (RFC 5905 §7.1, BTIME). At the start each gap is twice the one before:
/// the same number of requests then spans half a minute, and the frequency estimate is four times better.
const GAP: f64 = 2.0;

/// The largest number of requests in each poll with `burst`, as in chrony.
const LARGEST_BURST: f64 = 4.0;

/// The target number of samples in an estimate: the interval is chosen so that about as many samples lie on a line.
const TARGET: f64 = 8.0;

/// The longest interval that a RATE kiss can cause, log2 seconds. It is also limited by `max`.
const LONGEST_WISH: i8 = 10;

impl Schedule {
    pub(crate) fn new(min: i8, max: i8, iburst: bool, first: Mono) -> Self {
        let (burst, quick) = if iburst { (BURST, QUICK) } else { (0, 0) };
        Self { min, max, poll: min, score: 0.0, burst, quick, growing: iburst, floor: None, next: first }
    }

    /// When the next request is due.
    pub(crate) fn next(&self) -> Mono {
        self.next
    }

    /// The current interval, log2 seconds.
    pub(crate) fn poll(&self) -> i8 {
        self.poll
    }

    /// Applies other limits: from a new configuration, or after the schedule of another source was taken over. The source
    /// is asked soon, so that the first answer under this configuration does not wait for the end of a long interval.
    pub(crate) fn limit(&mut self, min: i8, max: i8, now: Mono) {
        (self.min, self.max) = (min, max);
        self.set(self.poll);
        let latest = now.plus(2.0_f64.powi(self.poll.into()));
        self.next = self.next.min(latest);
        self.ask_soon(1, now);
    }

    /// Begins a poll of several requests for a source with `burst`, unless a burst is running. The average is at most
    /// one request in 8 s, which rate limits of servers allow permanently. A server that asked for fewer requests gets
    /// one per poll.
    pub(crate) fn begin_burst(&mut self) {
        if self.burst == 0 && self.floor.is_none() {
            self.burst = (2.0_f64.powi(self.poll.into()) / 8.0).clamp(1.0, LARGEST_BURST) as u8;
        }
    }

    /// A request was sent. `spread` is random, -1 to 1. Returns the seconds until the next request.
    pub(crate) fn sent(&mut self, now: Mono, spread: f64) -> f64 {
        let interval = 2.0_f64.powi(self.poll.into());
        self.burst = self.burst.saturating_sub(1);
        self.quick = self.quick.saturating_sub(1);
        let wait = match (self.burst, self.quick) {
            // ±1 % at random, so that the requests of many nodes do not synchronise.
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

    /// A valid reply arrived. `samples` lie on the line. `error` is the error of the prediction, and `distance` the
    /// usual one.
    pub(crate) fn answered(&mut self, samples: usize, error: Option<f64>, distance: f64) {
        self.floor = self.floor.and_then(|(floor, left)| left.checked_sub(1).map(|left| (floor, left)));
        let change = match error {
            Some(error) if error > distance => -(error / distance).log2(),
            _ => {
                let missing = samples as f64 / TARGET - 1.0;
                // The interval is shortened twice as fast as it is lengthened.
                missing / TARGET * if missing < 0.0 { 2.0 } else { 1.0 }
            }
        };
        self.score += change.clamp(-32.0, 32.0);
        // The score stays between 0 and 1. Its whole part changes the interval.
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

    /// Sets the shortest interval: the source is no longer reached, or its history was dropped.
    pub(crate) fn restart(&mut self) {
        self.score = 0.0;
        self.set(self.min);
    }

    /// Doubles the interval: the source has not answered for a long time.
    pub(crate) fn back_off(&mut self) {
        self.set(self.poll.saturating_add(1));
    }

    /// Plans `count` requests soon: the first at `now`, or slightly later if a request was just sent.
    pub(crate) fn ask_soon(&mut self, count: u8, now: Mono) {
        if self.floor.is_none() {
            self.burst = self.burst.max(count);
            self.next = self.next.min(now.plus(GAP));
        }
    }

    /// The server asks for fewer requests (RFC 5905 §7.4): the burst ends, the interval grows, and the next request is
    /// sent after four intervals.
    pub(crate) fn slow_down(&mut self, wish: i8, now: Mono) {
        (self.burst, self.quick) = (0, 0);
        let floor = wish.min(LONGEST_WISH).max(self.poll.saturating_add(1)).clamp(self.min, self.max);
        // The limit expires; otherwise one kiss would degrade a source permanently.
        self.floor = Some((floor, 8));
        self.set(floor);
        self.next = now.plus(4.0 * 2.0_f64.powi(self.poll.into()));
    }

    /// Returns true if the server asked for fewer requests.
    pub(crate) fn limited(&self) -> bool {
        self.floor.is_some()
    }

    /// The server denies service: the next request is sent in an hour.
    pub(crate) fn give_up(&mut self, now: Mono) {
        (self.burst, self.quick) = (0, 0);
        self.next = now.plus(3600.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits after each of the first `count` requests.
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
    fn a_kiss_slows_down_within_the_limits_and_expires() {
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
