//! The answer to `GET /synchronized?bound=1ms`, as JSON: whether programs on this node may rely on its clock. The
//! clock's report and the largest error bound that a client accepts in, the answer out. It is open to every client.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ClockReport, Reason, Span, SpanError, approximately, limits::limit_message};

/// Whether the clock is as right as the client asks. The status code is 200 if it is, and 503 if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Synchronized {
    /// True if the clock is synchronised, and not only with a local clock, and if its error bound is at most what the
    /// client asks for.
    pub synchronized: bool,
    /// The reason, in one word.
    pub reason: Reason,
    /// The reason in detail, for a reader.
    pub message: String,
    /// This clock minus true time, such as `-412us`; none before the first estimate.
    pub offset: Option<String>,
    /// Largest error that this clock can have now, such as `3.1ms`; none before the first estimate.
    pub error_bound: Option<String>,
}

impl Synchronized {
    /// The answer about a clock, for a client that accepts `largest`, or every bound within the policy's threshold.
    pub fn new(clock: &ClockReport, largest: Option<LargestBound>) -> Self {
        let excess = largest.and_then(|largest| largest.excess(clock.error_bound));
        let (synchronized, reason, mut message) = match (clock.synchronized, clock.reason, excess) {
            (false, ..) | (true, Reason::LocalReference, _) => (false, clock.reason, clock.message.clone()),
            (true, _, Some(excess)) => (false, Reason::ErrorBound, excess),
            (true, _, None) => (true, clock.reason, clock.message.clone()),
        };
        limit_message(&mut message);
        Self {
            synchronized,
            reason,
            message,
            offset: clock.offset.map(approximately),
            error_bound: clock.error_bound.map(approximately),
        }
    }
}

/// The largest error bound that a client accepts. It is more than zero, since no clock has a smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargestBound(Span);

/// Why a text is not a [`LargestBound`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundError {
    /// It is not a duration.
    Span(SpanError),
    /// It is zero.
    Zero(String),
}

impl fmt::Display for BoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span(error) => error.fmt(f),
            Self::Zero(text) => {
                write!(f, "{text:?} is zero, and every clock has an error: write a larger bound, as in 1ms")
            }
        }
    }
}

impl std::error::Error for BoundError {}

impl FromStr for LargestBound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Self, BoundError> {
        match text.parse().map_err(BoundError::Span)? {
            span if span == Span::default() => Err(BoundError::Zero(text.to_owned())),
            span => Ok(Self(span)),
        }
    }
}

impl fmt::Display for LargestBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LargestBound {
    /// Says with both numbers that a bound, seconds, is larger than this one; none if it is not. An unknown bound is.
    pub fn excess(self, bound: Option<f64>) -> Option<String> {
        match bound {
            // Also if it is not a number.
            Some(bound) if bound <= self.0.as_secs_f64() => None,
            // Rounded up to microseconds, so that the message never shows two equal numbers.
            Some(bound) if bound.is_finite() => {
                let millis = (bound * 1e6).ceil() / 1e3;
                Some(format!("The error bound is {millis:.3}ms, and at most {self} is asked for"))
            }
            Some(_) | None => Some(format!("The error bound is unknown, and at most {self} is asked for")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A synchronised clock; other fields do not matter here.
    fn clock(reason: Reason, error_bound: Option<f64>) -> ClockReport {
        ClockReport {
            synchronized: true,
            reason,
            message: "Follows a".to_owned(),
            leap: 0,
            stratum: 3,
            reference: None,
            offset: Some(-412e-6),
            jitter: None,
            error_bound,
            root_delay: 0.0,
            root_dispersion: 0.0,
            frequency_ppm: 0.0,
            kernel_frequency_ppm: 0.0,
            last_update_age: None,
            steps: 0,
            restored: 0,
            resumed: 0,
            raised: 0,
            last_step: None,
            external_steps: 0,
            last_external_step: None,
            confirmed: true,
            start_phase: false,
        }
    }

    #[test]
    fn a_clock_is_right_within_the_bound_that_is_asked_for() {
        let check = |clock: &ClockReport, largest: Option<&str>, expected: (bool, Reason, &str)| {
            let answer = Synchronized::new(clock, largest.map(|text| text.parse().unwrap()));
            let found = (answer.synchronized, answer.reason, answer.message.as_str());
            assert_eq!(found, expected, "{largest:?} {clock:?}");
        };
        let right = clock(Reason::Synchronized, Some(1e-3));
        check(&right, None, (true, Reason::Synchronized, "Follows a"));
        check(&right, Some("1ms"), (true, Reason::Synchronized, "Follows a"));
        let small = "The error bound is 1.000ms, and at most 999us is asked for";
        check(&right, Some("999us"), (false, Reason::ErrorBound, small));
        let close = "The error bound is 1.001ms, and at most 1ms is asked for";
        check(&clock(Reason::Holdover, Some(1.0001e-3)), Some("1ms"), (false, Reason::ErrorBound, close));
        check(&clock(Reason::Holdover, Some(1e-3)), Some("1ms"), (true, Reason::Holdover, "Follows a"));
        let unknown = "The error bound is unknown, and at most 1h is asked for".replace("1h", "3600s");
        for bound in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            check(&clock(Reason::Synchronized, bound), Some("1h"), (false, Reason::ErrorBound, &unknown));
            check(&clock(Reason::Synchronized, bound), None, (true, Reason::Synchronized, "Follows a"));
        }
        // A local clock's bound says nothing about UTC.
        let local = clock(Reason::LocalReference, Some(1e-6));
        check(&local, None, (false, Reason::LocalReference, "Follows a"));
        check(&local, Some("1s"), (false, Reason::LocalReference, "Follows a"));
        let lost = ClockReport { synchronized: false, ..clock(Reason::NoMajority, Some(1e-6)) };
        check(&lost, Some("1s"), (false, Reason::NoMajority, "Follows a"));
    }

    #[test]
    fn its_json_is_what_the_pages_say() {
        let answer = Synchronized::new(&clock(Reason::Synchronized, Some(3.1e-3)), None);
        let json = r#"{"synchronized":true,"reason":"Synchronized","message":"Follows a",
            "offset":"-412us","errorBound":"3.1ms"}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), json.replace("\n            ", ""));
        let unknown = ClockReport { offset: None, ..clock(Reason::Starting, None) };
        let json = serde_json::to_string(&Synchronized::new(&unknown, None)).unwrap();
        assert!(json.ends_with(r#""offset":null,"errorBound":null}"#), "{json}");
        // An agent that is newer than its reader.
        let newer = r#"{"synchronized":false,"reason":"Whatever","message":"","more":1}"#;
        let read: Synchronized = serde_json::from_str(newer).unwrap();
        assert_eq!((read.synchronized, read.reason, read.offset), (false, Reason::Unknown, None));
    }

    #[test]
    fn an_answer_is_short() {
        let long = ClockReport { message: "x".repeat(5000), ..clock(Reason::Synchronized, None) };
        let answer = Synchronized::new(&long, None);
        assert!(answer.message.len() <= crate::limits::LONGEST_MESSAGE, "{}", answer.message.len());
    }

    #[test]
    fn what_is_no_bound_is_refused() {
        let check = |text: &str, why: &str| {
            let said = text.parse::<LargestBound>().unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        };
        check("1", "is not a duration");
        check("", "is not a duration");
        check("-1ms", "is not a duration");
        check("0s", "is zero");
        // Less than a nanosecond.
        check("0.0001us", "is zero");
    }
}
