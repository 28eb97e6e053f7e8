//! Every unsafe line of the project: clocks, hardware clocks, sockets with stamps, interfaces, waiting, signals, randomness.
//!
//! Thin: each function is one system call, or the few that only make sense together, and decides nothing. All go
//! through libc's symbols and none by number, so that a simulator can stand in front of libc. Times are nanoseconds or
//! seconds as numbers; what they mean is the caller's.
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod alarm;
pub mod clock;
mod error;
pub mod interface;
pub mod lock;
pub mod phc;
pub mod poll;
pub mod random;
pub mod rtc;
pub mod shared;
pub mod signal;
pub mod udp;

pub use error::Error;
