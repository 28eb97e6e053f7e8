//! The hardware clock: reads it at the edge of its tick, sets it so that its tick coincides with the system clock's,
//! and reads it back.
//!
//! [`HardwareClock`] does this once, for the command line. [`RtcKeeper`] does it while the agent runs. The host's
//! /etc/adjtime, which is only read, says whether the clock shows UTC or local time. Nothing here changes the system
//! clock.
mod holder;

mod error;

mod tick;

mod adjtime;

mod write;

mod hardware_clock;

mod reading;

mod drift;

mod monitor;

mod policy;

mod health;

mod keeper;

#[cfg(test)]
pub(crate) use adjtime::{KernelAssumption, tests::tzif};
pub(crate) use adjtime::{RtcConvention, RtcTimebase};
pub(crate) use error::Error;
pub(crate) use hardware_clock::HardwareClock;
pub(crate) use keeper::RtcKeeper;
pub(crate) use policy::RtcPolicy;
pub(crate) use reading::RtcReading;
