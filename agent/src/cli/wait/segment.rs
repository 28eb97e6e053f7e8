//! Reads from the shared memory that the agent writes whether the clock is right. It has less to say than the agent: no
//! reason, only whether the bound can be trusted.
use std::{io, path::Path};

use contract::{LargestBound, approximately};

use super::not_right::NotRight;
use crate::clock_bound::{self, ReadError, Reading, Status};

/// The agent writes each second. Readers of ClockBound's protocol trust what is written for 5 s.
const LONGEST_SILENCE: f64 = 5.0;

/// Looks once.
pub(super) fn look(path: &Path, largest: Option<LargestBound>) -> Result<String, NotRight> {
    let reading = clock_bound::read(path).map_err(|error| unread(path, &error))?;
    judge(path, reading, largest)
}

fn unread(path: &Path, error: &ReadError) -> NotRight {
    let path = path.display();
    match error {
        ReadError::File(source) if source.kind() == io::ErrorKind::NotFound => NotRight::new(
            "SegmentMissing",
            format!(
                "{path} does not exist: the agent writes it if it runs with agent.clockBoundSegment (in the chart: \
                 agent.clockBound.enabled), and in a pod its folder must be mounted"
            ),
        ),
        ReadError::File(source) => {
            NotRight::new("SegmentUnreadable", format!("{path} cannot be read: {source}"))
        }
        ReadError::Foreign(why) => NotRight::new("NoSegment", format!("{path} cannot be used: {why}")),
        ReadError::Empty | ReadError::Unfinished => {
            NotRight::new("Starting", format!("{path} has no result: {error}"))
        }
    }
}

fn judge(path: &Path, reading: Reading, largest: Option<LargestBound>) -> Result<String, NotRight> {
    let Reading { status, bound, age } = reading;
    let path = path.display();
    if age < 0.0 {
        return Err(NotRight::new("AgentSilent", format!("{path} is from a former boot: no agent runs yet")));
    }
    if age > LONGEST_SILENCE {
        // The bound still grows as it must, but the agent would not detect that another process moves the clock.
        let message =
            format!("the agent has not written {path} for {age:.0} s: it does not run, or runs no profile");
        return Err(NotRight::new("AgentSilent", message));
    }
    let (reason, message) = match status {
        Status::Unknown => {
            let message = "the clock is not synchronised, or only with a local clock: `timesync-agent status` on the \
                           node, or its NodeClock, has the reason";
            return Err(NotRight::new("Unsynchronized", message));
        }
        Status::Synchronized => ("Synchronized", "the clock is synchronised"),
        Status::FreeRunning => ("Holdover", "no upstream is reached, and the error bound still holds"),
    };
    match largest.and_then(|largest| largest.excess(Some(bound))) {
        Some(excess) => Err(NotRight::new("ErrorBound", excess)),
        None => Ok(format!("{reason}: {message} (error bound {})", approximately(bound))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_right_or_says_why_not() {
        let check = |status, bound: f64, age: f64, largest: Option<&str>, expected: Result<&str, &str>| {
            let reading = Reading { status, bound, age };
            let found = judge(Path::new("/shm0"), reading, largest.map(|text| text.parse().unwrap()));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert!(found.contains(expected), "{found}"),
                (Err(not_right), Err(expected)) => assert_eq!(not_right.reason, expected),
                _ => panic!("{reading:?}: {found:?}"),
            }
        };
        check(
            Status::Synchronized,
            1e-3,
            1.0,
            None,
            Ok("Synchronized: the clock is synchronised (error bound 1.0ms)"),
        );
        check(Status::Synchronized, 1e-3, 1.0, Some("1ms"), Ok("Synchronized"));
        check(Status::Synchronized, 1.01e-3, 1.0, Some("1ms"), Err("ErrorBound"));
        check(Status::FreeRunning, 1e-3, 1.0, Some("1ms"), Ok("Holdover"));
        check(Status::FreeRunning, 2e-3, 1.0, Some("1ms"), Err("ErrorBound"));
        check(Status::Unknown, 1e-6, 1.0, Some("1ms"), Err("Unsynchronized"));
        check(Status::Unknown, 1e-6, 1.0, None, Err("Unsynchronized"));
        check(Status::Synchronized, 1e-6, 5.1, Some("1ms"), Err("AgentSilent"));
        check(Status::Synchronized, 1e-6, -0.1, Some("1ms"), Err("AgentSilent"));
    }

    #[test]
    fn a_missing_segment_says_what_to_do() {
        let not_right = look(Path::new("/no/such/segment"), None).unwrap_err();
        assert_eq!(not_right.reason, "SegmentMissing");
        assert!(not_right.message.contains("agent.clockBound.enabled"), "{not_right}");
    }
}
