//! A queue of objects to be written. It writes at most a given number at once, and each object only once at a time.
//! After a failure each object has its own back-off, so an object that is always refused does not delay the others.
//! Pure: time is an argument.
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Objects, by a key.
#[derive(Debug)]
pub(crate) struct WorkQueue<K> {
    width: usize,
    waiting: VecDeque<K>,
    queued: BTreeSet<K>,
    under_way: BTreeSet<K>,
    failed: BTreeMap<K, Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    next: Duration,
}

impl<K: Clone + Ord> WorkQueue<K> {
    /// A queue that writes at most `width` objects at once.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            waiting: VecDeque::new(),
            queued: BTreeSet::new(),
            under_way: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Requests a write of the object. If the object waits or is under way, nothing changes. If its pause after a
    /// failure has not ended, nothing changes either.
    pub(crate) fn add(&mut self, key: &K, now: Instant) {
        let pausing = self.failed.get(key).is_some_and(|pause| now < pause.until);
        if !pausing && !self.under_way.contains(key) && self.queued.insert(key.clone()) {
            self.waiting.push_back(key.clone());
        }
    }

    /// Records that the object is as desired: cancels a waiting write, and forgets an earlier failure.
    pub(crate) fn clear(&mut self, key: &K) {
        // Its entry in the queue is skipped later.
        self.queued.remove(key);
        self.failed.remove(key);
    }

    /// The next object, which is under way from now on; none if no object waits, or if `width` writes run.
    fn next_within(&mut self, width: usize) -> Option<K> {
        while self.under_way.len() < width {
            let key = self.waiting.pop_front()?;
            if self.queued.remove(&key) {
                self.under_way.insert(key.clone());
                return Some(key);
            }
        }
        None
    }

    /// The next object, which is under way from now on; none if no object waits, or if there is no room.
    pub(crate) fn next(&mut self) -> Option<K> {
        self.next_within(self.width)
    }

    /// The same while another queue is more urgent: at most one write at a time.
    pub(crate) fn next_alone(&mut self) -> Option<K> {
        self.next_within(1)
    }

    /// The number of objects that wait or are under way.
    pub(crate) fn len(&self) -> usize {
        self.queued.len() + self.under_way.len()
    }

    /// Returns true if no object waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued.is_empty()
    }

    /// Takes the outcome of a write. Ignores it if the object was forgotten in the meantime.
    pub(crate) fn done(&mut self, key: &K, written: bool, now: Instant) {
        if !self.under_way.remove(key) {
            return;
        }
        if written {
            self.failed.remove(key);
            return;
        }
        let next = self.failed.get(key).map_or(FIRST_PAUSE, |pause| pause.next);
        let pause = Pause { until: now + next, next: (next * 2).min(LONGEST_PAUSE) };
        self.failed.insert(key.clone(), pause);
    }

    /// Returns true if the last write of the object failed.
    pub(crate) fn fails(&self, key: &K) -> bool {
        self.failed.contains_key(key)
    }

    /// Returns true if the last write of any object failed.
    pub(crate) fn any_fails(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Returns true if the object is being written.
    pub(crate) fn is_under_way(&self, key: &K) -> bool {
        self.under_way.contains(key)
    }

    /// Objects whose pause after a failure has ended.
    pub(crate) fn due(&self, now: Instant) -> Vec<K> {
        let busy = |key: &K| self.queued.contains(key) || self.under_way.contains(key);
        let due = self.failed.iter().filter(|(key, pause)| now >= pause.until && !busy(key));
        due.map(|(key, _)| key.clone()).collect()
    }

    /// Returns true if the object waits, is under way, or failed.
    pub(crate) fn has(&self, key: &K) -> bool {
        self.queued.contains(key) || self.under_way.contains(key) || self.failed.contains_key(key)
    }

    /// Forgets an object that is gone.
    pub(crate) fn forget(&mut self, key: &K) {
        self.clear(key);
        self.under_way.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_each_once() {
        let now = Instant::now();
        let mut queue = WorkQueue::new(2);
        for key in ["a", "b", "a", "c"] {
            queue.add(&key, now);
        }
        assert_eq!((queue.next(), queue.next(), queue.next()), (Some("a"), Some("b"), None));
        queue.add(&"a", now);
        queue.done(&"b", true, now);
        assert_eq!((queue.next(), queue.next()), (Some("c"), None));
        queue.done(&"a", true, now);
        assert_eq!(
            queue.next(),
            None,
            "a was under way when it was wanted again: its end says whether it still is"
        );
        queue.add(&"d", now);
        queue.add(&"e", now);
        queue.clear(&"d");
        assert_eq!((queue.next_alone(), queue.next()), (None, Some("e")), "c is still under way");
        queue.done(&"c", true, now);
        queue.done(&"e", true, now);
        queue.add(&"f", now);
        assert_eq!((queue.is_idle(), queue.next_alone(), queue.is_idle()), (false, Some("f"), true));
    }

    #[test]
    fn one_that_fails_waits_alone_and_longer_each_time() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut queue = WorkQueue::new(2);
        let mut tried = Vec::new();
        for secs in 0..200 {
            queue.add(&"bad", at(secs));
            queue.add(&"good", at(secs));
            while let Some(key) = queue.next() {
                queue.done(&key, key == "good", at(secs));
                tried.extend((key == "bad").then_some(secs));
                assert!(key == "good" || queue.fails(&key));
            }
        }
        assert_eq!(tried, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(queue.due(at(242)), [""; 0]);
        assert_eq!(queue.due(at(243)), ["bad"], "what failed is wanted still");
        assert!(queue.any_fails());
        queue.clear(&"bad");
        assert!(!queue.has(&"bad") && !queue.any_fails() && queue.due(at(1000)).is_empty());
        queue.add(&"gone", at(1000));
        assert_eq!(queue.next(), Some("gone"));
        queue.forget(&"gone");
        queue.done(&"gone", false, at(1001));
        assert!(!queue.has(&"gone"));
    }
}
