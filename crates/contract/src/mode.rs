//! The mode: whether the clock may be moved, as a profile asks for it, and as a report states it.
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
