//! Upstreams: when and at which address each is asked, how its replies are checked, and what is estimated from them.

pub(crate) mod poll;
pub(crate) mod request;
pub(crate) mod reply;
pub(crate) mod interleave;
pub(crate) mod cause;
pub(crate) mod filter;
pub(crate) mod regression;
pub(crate) mod recalled;
pub(crate) mod smear;
pub(crate) mod association;
pub(crate) mod duplicate;
pub(crate) mod pool;
