//! Changes of the clock that the engine did not make: jumps, pauses, and other programs.

pub(crate) mod jump;
pub(crate) mod resume;
pub(crate) mod aftermath;
pub(crate) mod rival;
