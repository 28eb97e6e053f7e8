//! The clock that is steered: its model, leap seconds, and the table of TAI for the kernel.

pub(crate) mod slew;
pub(crate) mod leap;
pub(crate) mod leap_table;
