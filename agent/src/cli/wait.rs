//! `wait`: waits until the clock of this node is right, then ends with 0; for init containers and systemd units. It
//! asks the agent over HTTP (`agent`), or reads the shared memory that the agent writes (`segment`). It needs no rights,
//! and changes nothing.
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use contract::{LargestBound, Span};
use sys::{poll, signal};

mod not_right;

mod agent;
mod segment;

use not_right::NotRight;

pub(super) const EXAMPLES: &str = "\
Examples:
  timesync-agent wait                               until the clock is synchronised
  timesync-agent wait --bound 1ms --timeout 10m     until the clock is right within 1 ms
  timesync-agent wait --segment /var/run/clockbound/shm0

In a pod, as an init container with the agents' image. The agent listens on the node's address:
  initContainers:
  - name: wait-for-clock
    image: registry.example.com/team/timesync-agent:0.1.0
    args: [wait, --bound, 10ms, --timeout, 5m]
    env:
    - name: TIMESYNC_ADDRESS
      valueFrom: {fieldRef: {fieldPath: status.hostIP}}

As a part of a systemd unit:
  ExecStartPre=/usr/bin/timesync-agent wait --bound 10ms --timeout 80s

A clock that follows a local clock (LocalReference) is not right: its distance from UTC is unknown.

Exit codes:
  0  the clock is right
  1  it was not within the timeout, or a signal ended the wait; the reason is on standard error
  2  an argument is wrong";

/// What is awaited.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The largest error bound that is right, such as 1ms; without it, the policy's thresholds.errorBound decides
    #[arg(long, value_name = "DURATION")]
    bound: Option<LargestBound>,
    /// Give up after that time; 0s asks once
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Span,
    /// The agent's address, with a port if it is not 9817: 192.0.2.1, 192.0.2.1:9900, 2001:db8::1, [2001:db8::1]:9900
    #[arg(long, value_name = "ADDRESS", env = "TIMESYNC_ADDRESS", default_value = "127.0.0.1",
          value_parser = agent::address)]
    address: SocketAddr,
    /// Read this file, which the agent writes (agent.clockBoundSegment), instead of asking the agent
    #[arg(long, value_name = "PATH")]
    segment: Option<PathBuf>,
}

/// Why the wait ended before the clock was right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The time is over.
    #[error("the clock was not right within {timeout}: {reason}")]
    TimedOut {
        /// The limit.
        timeout: Span,
        /// Why it was not right in the end.
        reason: NotRight,
    },
    /// SIGTERM or SIGINT.
    #[error("a signal ended the wait before the clock was right: {0}")]
    Stopped(NotRight),
    /// The handlers of signals cannot be set.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// The mean time between two questions. All pods of a node may wait at the same time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest time for one question. An agent answers within milliseconds.
const LONGEST_QUESTION: Duration = Duration::from_secs(3);

/// The shortest time for one question. Less may be left at the end of the wait, but an agent must be able to answer the
/// last question.
const SHORTEST_QUESTION: Duration = Duration::from_secs(1);

impl Wait {
    /// Waits. Prints a line whenever the reason changes.
    ///
    /// # Errors
    /// If the clock is not right in time, or a signal comes.
    pub(super) fn act(self) -> Result<(), Error> {
        // The first process of a container ignores signals for which it has no handler.
        signal::stop_on_signals(None).map_err(io::Error::other)?;
        let begin = Instant::now();
        let timeout = self.timeout.as_duration();
        let mut printed = None;
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            let not_right = match self.look(left.clamp(SHORTEST_QUESTION, LONGEST_QUESTION)) {
                Ok(right) => {
                    eprintln!("timesync-agent: the clock is right: {right}");
                    return Ok(());
                }
                Err(not_right) => not_right,
            };
            if printed.as_ref() != Some(&not_right.reason) {
                eprintln!("timesync-agent: waiting for the clock: {not_right}");
                printed = Some(not_right.reason.clone());
            }
            let left = timeout.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(Error::TimedOut { timeout: self.timeout, reason: not_right });
            }
            if !signal::stop_requested() {
                // A signal ends it early.
                let _ = poll::readable(&[], Some(interval().min(left)));
            }
            if signal::stop_requested() {
                return Err(Error::Stopped(not_right));
            }
        }
    }

    /// Looks once whether the clock is right. Returns what is known of it, for a reader.
    fn look(&self, limit: Duration) -> Result<String, NotRight> {
        match &self.segment {
            Some(path) => segment::look(path, self.bound),
            None => agent::look(self.address, self.bound, limit),
        }
    }
}

/// The time until the next question: [`INTERVAL`], or up to a quarter more or less, so that pods that started together
/// do not ask together.
fn interval() -> Duration {
    let quarter = INTERVAL / 4;
    // If there is no random number, all pods use the mean interval. Agents can answer them at the same time.
    let share = sys::random::word().map_or(0.5, |word| word as f64 / u64::MAX as f64);
    INTERVAL - quarter + quarter.mul_f64(2.0 * share)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use clap::Parser;
    use serde_norway::Value;

    use crate::cli::{Cli, Command};

    fn parse(arguments: &[&str]) -> Result<super::Wait, String> {
        let all = ["timesync-agent", "wait"].iter().chain(arguments);
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Wait(wait) => Ok(wait),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions_are_about_a_second_apart() {
        let (shortest, longest) = (Duration::from_millis(750), Duration::from_millis(1250));
        let intervals: Vec<_> = (0..100).map(|_| super::interval()).collect();
        assert!(intervals.iter().all(|each| (shortest..=longest).contains(each)), "{intervals:?}");
        let spread = *intervals.iter().max().unwrap() - *intervals.iter().min().unwrap();
        assert!(spread > Duration::from_millis(100), "{spread:?}");
    }

    #[test]
    fn arguments_are_read_or_refused() {
        let check = |arguments: &[&str], expected: &str| {
            let said = parse(arguments).map(|wait| wait.address.to_string()).unwrap_or_else(|error| error);
            assert!(said.contains(expected), "{arguments:?}: {said}");
        };
        check(&["--bound", "1ms"], "127.0.0.1:9817");
        check(&["--address", "192.0.2.1"], "192.0.2.1:9817");
        check(&["--address", "192.0.2.1:9900"], "192.0.2.1:9900");
        check(&["--address", "2001:db8::1"], "[2001:db8::1]:9817");
        check(&["--address", "[2001:db8::1]:9900"], "[2001:db8::1]:9900");
        check(&["--address", "node1"], "write an address, such as 192.0.2.1");
        check(&["--address", "fe80::1"], "write an address, such as 192.0.2.1");
        check(&["--address", "192.0.2.1:x"], "192.0.2.1:x");
        check(&["--address", ""], "neither an IP address nor a host name");
        check(&["--bound", "1"], "is not a duration");
        check(&["--bound", "0s"], "is zero");
        check(&["--timeout", "5"], "is not a duration");
    }

    /// The example, and what `--help` shows of it.
    #[test]
    fn the_example_is_right() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wait-init-container.yaml");
        let pod: Value = serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let container = &pod["spec"]["initContainers"][0];
        let arguments: Vec<_> =
            container["args"].as_sequence().unwrap().iter().map(|each| each.as_str().unwrap()).collect();
        assert_eq!(arguments[0], "wait");
        assert!(super::EXAMPLES.contains(&format!("args: [{}]", arguments.join(", "))));
        assert_eq!(container["env"][0]["name"].as_str(), Some("TIMESYNC_ADDRESS"));
        parse(&arguments[1..]).unwrap();
    }
}
