//! From estimates to a decision: which sources are believed, what they say together, and what follows from it.

pub(crate) mod candidate;
pub(crate) mod floor;
pub(crate) mod select;
pub(crate) mod combine;
pub(crate) mod discipline;
pub(crate) mod local;
pub(crate) mod orphan;
