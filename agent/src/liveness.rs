//! Whether the engine's event loop is alive: it leaves a mark at each turn, and the health endpoint checks the mark's
//! age.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// The time of the loop's last turn.
#[derive(Debug)]
pub(crate) struct Liveness {
    start: Instant,
    /// Milliseconds after `start`.
    marked: AtomicU64,
}

/// The loop turns at least once a second. A slow disk may delay a turn by some seconds.
const LONGEST_MILLIS: u64 = 10_000;

impl Liveness {
    /// Counts as alive from now on.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), marked: AtomicU64::new(0) }
    }

    /// Records a turn of the loop.
    pub(crate) fn mark(&self) {
        self.marked.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Returns true if the loop has turned within ten seconds.
    pub(crate) fn is_alive(&self) -> bool {
        self.idle_millis() < LONGEST_MILLIS
    }

    /// Seconds since the loop's last turn.
    pub(crate) fn idle(&self) -> f64 {
        self.idle_millis() as f64 / 1e3
    }

    fn idle_millis(&self) -> u64 {
        self.elapsed().saturating_sub(self.marked.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_old_mark_is_death() {
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(11)) else { return };
        let liveness = Liveness { start, marked: AtomicU64::new(0) };
        assert!(!liveness.is_alive() && liveness.idle() >= 11.0, "{}", liveness.idle());
        liveness.mark();
        assert!(liveness.is_alive() && liveness.idle() < 9.0, "{}", liveness.idle());
    }
}
