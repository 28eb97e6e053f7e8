//! All unsafe code of the project: clocks, hardware clocks, sockets with timestamps, interfaces, waiting, signals,
//! randomness.
//!
//! Each function is one system call, or a few that are useful only together, and decides nothing. Every call goes
//! through libc's symbols, none by number, so that a simulator can replace libc. Times are nanoseconds or seconds as
//! numbers. The caller knows what they mean.
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
