//! Changes of the clock that the engine did not make: jumps, pauses, and other programs that steer it. Observations and
//! the time go in, outcomes come out.
pub(crate) mod doubt;
pub(crate) mod jump;
pub(crate) mod recovery;
pub(crate) mod rival;
pub(crate) mod verdict;
