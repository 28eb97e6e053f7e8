//! Shows the progress of a long task on standard error: its name and usual duration, a line every 15 s, and the time
//! that it took.
use std::time::{Duration, Instant};

/// Shows that something goes on.
pub struct Ticks {
    what: String,
    usually: String,
    shown: bool,
    next: Duration,
    /// When it began.
    pub begun: Instant,
}

impl Ticks {
    /// Begins; nothing is printed before [`Self::tick`] finds that it takes more than half a second.
    pub fn start(what: &str, usually: &str) -> Self {
        let usually = if usually.is_empty() { String::new() } else { format!(" (usually {usually})") };
        Self {
            what: what.to_owned(),
            usually,
            shown: false,
            next: Duration::from_secs(15),
            begun: Instant::now(),
        }
    }

    /// Prints the first line after half a second, then one each 15 s.
    pub fn tick(&mut self) {
        let elapsed = self.begun.elapsed();
        if !self.shown && elapsed > Duration::from_millis(500) {
            eprintln!("  {}{} …", self.what, self.usually);
            self.shown = true;
        }
        if elapsed > self.next {
            eprintln!("    … {} s", elapsed.as_secs());
            self.next += Duration::from_secs(15);
        }
    }

    /// Prints how long it took.
    pub fn done(&self) {
        eprintln!("  {}: {:.1} s", self.what, self.begun.elapsed().as_secs_f64());
    }
}
