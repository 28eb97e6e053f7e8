//! From estimates to a decision: selection of sources, combination of their estimates, and the correction of the clock.

pub(crate) mod candidate;
pub(crate) mod floor;
pub(crate) mod select;
pub(crate) mod combine;
pub(crate) mod discipline;
pub(crate) mod local;
pub(crate) mod orphan;
