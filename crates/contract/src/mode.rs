//! Whether a clock may be moved: what a profile asks for, and what a report says of it.
use serde::{Deserialize, Serialize};

/// Whether the clock may be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Measure, report, and steer the clock.
    #[default]
    Discipline,
    /// Measure and report; move nothing.
    Observe,
}
