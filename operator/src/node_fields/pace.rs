//! How many writes may begin: a limit for any second. Pure: time is an argument.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// At most `most` writes begin in any second.
#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    /// When the last `most` writes began, the oldest first.
    begun: VecDeque<Instant>,
}

impl Pace {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, begun: VecDeque::new() }
    }

    /// Returns true if `count` writes may begin now.
    pub(crate) fn has_room(&mut self, count: usize, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < Duration::from_secs(1);
        while self.begun.front().is_some_and(|at| !recent(at)) {
            self.begun.pop_front();
        }
        self.begun.len() + count <= self.most
    }

    /// Counts `count` writes that begin now.
    pub(crate) fn count(&mut self, count: usize, now: Instant) {
        self.begun.extend(std::iter::repeat_n(now, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_the_limit() {
        let start = Instant::now();
        let mut pace = Pace::new(20);
        let mut begun = Vec::new();
        for tenth in 0..100 {
            let now = start + Duration::from_millis(tenth * 100);
            while pace.has_room(2, now) {
                pace.count(2, now);
                begun.push(now);
            }
        }
        for at in &begun {
            let window =
                begun.iter().filter(|other| **other >= *at && **other < *at + Duration::from_secs(1));
            assert!(window.count() * 2 <= 20);
        }
        assert_eq!(begun.len() * 2, 200, "the limit is used");
    }
}
