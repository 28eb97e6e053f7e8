//! The last readings of this thread: answers of clocks, agents and commands since a wait began. Each function that
//! reads one of them records the answer here. If a wait fails, it prints them, so that the failure can be understood
//! without another run of the test.
use std::{cell::RefCell, collections::VecDeque, fmt::Write, time::Instant};

thread_local! {
    static READINGS: RefCell<VecDeque<Series>> = const { RefCell::new(VecDeque::new()) };
}

/// The readings of one thing.
struct Series {
    of: String,
    last: VecDeque<(Instant, String)>,
}

/// The number of readings that are kept of one thing. They show whether it moves.
const KEPT: usize = 5;

/// The number of things whose readings are kept. A long script reads many, and the first ones are of no interest.
const SERIES: usize = 12;

/// Characters of a reading that are kept. A list of objects as JSON is longer.
const LONGEST: usize = 1_500;

/// Readings of more characters than this are kept once: the newest one.
const SHORT: usize = 200;

/// Notes what was read of something. The same answer twice in a row is kept once, with its first time.
pub fn note(of: &str, said: &str) {
    let said = said.trim();
    let mut text: String = said.chars().take(LONGEST).collect();
    if text.len() < said.len() {
        text.push('…');
    }
    READINGS.with_borrow_mut(|all| {
        let mut series = match all.iter().position(|series| series.of == of) {
            Some(index) => all.remove(index).unwrap_or_else(|| unreachable!("it was just found")),
            None => Series { of: of.to_owned(), last: VecDeque::new() },
        };
        if series.last.back().is_none_or(|(_, before)| *before != text) {
            if text.len() > SHORT {
                series.last.clear();
            }
            series.last.push_back((Instant::now(), text));
        }
        while series.last.len() > KEPT {
            series.last.pop_front();
        }
        all.push_back(series);
        while all.len() > SERIES {
            all.pop_front();
        }
    });
}

/// Drops all: a wait begins.
pub(crate) fn forget() {
    READINGS.with_borrow_mut(VecDeque::clear);
}

/// What is kept, for the message of a failure: a line per thing, each reading with its age. Empty if nothing was read.
pub(crate) fn told() -> String {
    READINGS.with_borrow(|all| {
        let mut text = String::new();
        for series in all {
            let _ = write!(text, "\n  {}:", series.of);
            for (index, (at, said)) in series.last.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(text, "{comma} {said} ({:.1} s ago)", at.elapsed().as_secs_f64());
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_readings_of_each_thing_are_told() {
        forget();
        for offset in 0..9 {
            note("clock", &format!("+{offset} ms"));
        }
        note("agent", "synchronised");
        note("agent", "synchronised");
        let told = told();
        assert!(!told.contains("+3 ms") && told.contains("+4 ms") && told.contains("+8 ms"), "{told}");
        assert_eq!(told.matches("synchronised").count(), 1, "{told}");
        assert_eq!(told.lines().count(), 3, "{told}");
    }

    #[test]
    fn a_long_reading_is_cut_and_kept_once() {
        forget();
        note("objects", &"ä".repeat(10_000));
        note("objects", &"b".repeat(300));
        let told = told();
        assert!(told.len() < 400 && told.contains("bbb") && !told.contains('ä'), "{told}");
    }

    #[test]
    fn a_new_wait_begins_without_readings() {
        note("clock", "+1 ms");
        forget();
        assert_eq!(told(), "");
    }
}
