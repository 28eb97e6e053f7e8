//! The clock that is steered: its model, leap seconds, and what the kernel is told.

pub(crate) mod slew;
pub(crate) mod leap;
pub(crate) mod leap_table;
