//! Replies to clients: who may ask, how often, and what the reply says.

pub(crate) mod restrict;
pub(crate) mod rate_limit;
pub(crate) mod response;
pub(crate) mod reflection;
pub(crate) mod control;
