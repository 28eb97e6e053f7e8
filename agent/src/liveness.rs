//! Whether the engine's loop turns: it leaves a mark each time, and the health endpoint looks how old that is.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// The mark.
#[derive(Debug)]
pub(crate) struct Liveness {
    start: Instant,
    /// Milliseconds after `start`.
    marked: AtomicU64,
}

/// The loop turns at least once a second; a disk that keeps a write waiting may hold it for some.
const LONGEST_MILLIS: u64 = 10_000;

impl Liveness {
    /// Alive from now on.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), marked: AtomicU64::new(0) }
    }

    /// The loop has turned.
    pub(crate) fn mark(&self) {
        self.marked.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Whether it has turned within ten seconds.
    pub(crate) fn is_alive(&self) -> bool {
        self.elapsed().saturating_sub(self.marked.load(Ordering::Relaxed)) < LONGEST_MILLIS
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
        assert!(!liveness.is_alive());
        liveness.mark();
        assert!(liveness.is_alive());
    }
}
