//! The data that the caller and the engine exchange.

pub(crate) mod config;
pub(crate) mod action;
pub(crate) mod event;
pub(crate) mod own;
pub(crate) mod snapshot;
pub(crate) mod samples;
pub(crate) mod state;
pub(crate) mod transition;
