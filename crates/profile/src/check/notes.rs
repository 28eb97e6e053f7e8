//! What a check finds: problems, each with its field, and hints.
use std::fmt;

use contract::Span;

use crate::ranges::{self, Range};

/// The problems of a profile: one per field, in the order of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckError(Vec<Problem>);

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    field: String,
    message: String,
}

impl CheckError {
    /// The problems: field and message of each.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|Problem { field, message }| (field.as_str(), message.as_str()))
    }

    /// Adds `table` to the names of fields, for a profile that is part of a larger file.
    pub fn within(mut self, table: &str) -> Self {
        for problem in &mut self.0 {
            problem.field = format!("{table}.{}", problem.field);
        }
        self
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            write!(f, "{}{}: {}", if n == 0 { "" } else { "; " }, problem.field, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for CheckError {}

/// The problems and hints that were found.
#[derive(Default)]
pub(super) struct Notes {
    problems: Vec<Problem>,
    pub(super) hints: Vec<String>,
}

impl Notes {
    /// The hints, if there are no problems.
    pub(super) fn finish(self) -> Result<Vec<String>, CheckError> {
        if self.problems.is_empty() { Ok(self.hints) } else { Err(CheckError(self.problems)) }
    }

    pub(super) fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { field: field.into(), message: message.into() });
    }

    pub(super) fn range<T: PartialOrd + fmt::Display>(
        &mut self,
        field: impl Into<String>,
        value: T,
        range: Range<T>,
    ) {
        if !range.contains(&value) {
            self.wrong(field, format!("{value} is not within {range}"));
        }
    }

    pub(super) fn port(&mut self, field: impl Into<String>, port: u16) {
        if port < ranges::PORT.least {
            self.wrong(field, format!("{port} is no port"));
        }
    }

    /// Checks that a span is larger than zero and not longer than a policy can express.
    pub(super) fn positive(&mut self, field: &str, span: Span) {
        if span == Span::default() {
            self.wrong(field, "must be more than 0s");
        } else if span > ranges::LONGEST_SPAN {
            self.wrong(field, LONGER_THAN_ANY);
        }
    }
}

pub(super) const LONGER_THAN_ANY: &str = "must be at most 999999h";
