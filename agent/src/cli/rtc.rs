//! `rtc read` and `rtc write`: the hardware clock, once.
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::rtc::{self, Error};

/// Which clock, and what to do with it.
#[derive(Debug, Args)]
pub(crate) struct Rtc {
    /// The hardware clock
    #[arg(long, global = true, value_name = "DEVICE", default_value = "/dev/rtc0")]
    device: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Action {
    /// Show what it says at its next tick
    Read,
    /// Set it to the system clock's time, and read it back
    Write,
}

impl Rtc {
    /// Does it and prints what the clock shows; always well, or an error.
    pub(super) fn act(&self) -> Result<bool, Error> {
        let reading = match self.action {
            Action::Read => rtc::read(&self.device)?,
            Action::Write => rtc::write_now(&self.device)?,
        };
        println!("{reading}");
        Ok(true)
    }
}
