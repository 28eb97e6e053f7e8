//! Replies to clients: which clients may ask, how often, and the content of the reply.

pub(crate) mod drop_reason;
pub(crate) mod restrict;
pub(crate) mod rate_limit;
pub(crate) mod served;
pub(crate) mod control;
pub(crate) mod response;
pub mod nts;
pub(crate) mod reflection;
