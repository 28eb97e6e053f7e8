//! Waits for conditions, never for a fixed time. Prints the condition and how long it usually takes, fails at a
//! generous limit, and ends early on Ctrl-C.
use std::{thread, time::Duration};

use anyhow::anyhow;
use xtask::{interrupt, ticks::Ticks};

use crate::readings;

/// The shortest limit of a wait. A limit must be longer than any slow success: on a shared machine, a pod that usually
/// starts in 15 s once needed two minutes.
const LEAST: Duration = Duration::from_secs(300);

/// Calls `poll` until it returns a value. Shows `what`, with a line every 15 s. An error of `poll` ends the wait. The
/// wait fails after `limit`, or after five minutes if that is longer. Then the error contains the last readings.
pub fn until<T>(
    what: &str,
    usually: &str,
    limit: Duration,
    poll: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    within(what, usually, limit.max(LEAST), poll)
}

fn within<T>(
    what: &str,
    usually: &str,
    limit: Duration,
    mut poll: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let mut ticks = Ticks::start(what, usually);
    readings::forget();
    loop {
        interrupt::check()?;
        if let Some(found) = poll().map_err(|error| with_readings(error.context(what.to_owned())))? {
            ticks.done();
            return Ok(found);
        }
        if ticks.begun.elapsed() > limit {
            return Err(with_readings(anyhow!("{what}: not within {} s", limit.as_secs())));
        }
        ticks.tick();
        thread::sleep(Duration::from_millis(100));
    }
}

/// Checks repeatedly that a condition holds for the whole time. `poll` returns the reason if it does not.
pub fn holds_for(
    what: &str,
    span: Duration,
    mut poll: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut ticks = Ticks::start(&format!("that {what} for {} s", span.as_secs()), "");
    readings::forget();
    while ticks.begun.elapsed() < span {
        interrupt::check()?;
        poll().map_err(|error| {
            let after = ticks.begun.elapsed().as_secs_f64();
            with_readings(error.context(format!("{what}: no longer after {after:.1} s")))
        })?;
        ticks.tick();
        thread::sleep(Duration::from_millis(200));
    }
    ticks.done();
    Ok(())
}

/// The error, with the last readings in its message.
fn with_readings(error: anyhow::Error) -> anyhow::Error {
    match readings::told() {
        told if told.is_empty() => error,
        told => anyhow!("{error:#}; the last readings:{told}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_fails_says_what_was_read() {
        let result: anyhow::Result<()> = within("a right clock", "", Duration::ZERO, || {
            readings::note("machine1's clock", "+3.2 ms");
            Ok(None)
        });
        let message = format!("{:#}", result.unwrap_err());
        assert!(message.starts_with("a right clock: not within 0 s; the last readings:"), "{message}");
        assert!(message.contains("machine1's clock: +3.2 ms (0."), "{message}");
    }

    #[test]
    fn a_condition_that_ends_says_what_was_read() {
        let result = holds_for("the clock is right", Duration::from_secs(60), || {
            readings::note("machine1's clock", "+12 ms");
            anyhow::bail!("it is 12 ms off")
        });
        let message = format!("{:#}", result.unwrap_err());
        assert!(message.contains("no longer after") && message.contains("it is 12 ms off"), "{message}");
        assert!(message.contains("machine1's clock: +12 ms"), "{message}");
    }
}
