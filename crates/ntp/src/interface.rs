//! What the caller gives the engine and gets from it, as data.

pub(crate) mod config;
pub(crate) mod actions;
pub(crate) mod own;
pub(crate) mod snapshot;
