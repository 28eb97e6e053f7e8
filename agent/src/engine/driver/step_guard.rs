//! The guard of steps: a step is made only after the count of steps is saved on disk. Otherwise an agent that is
//! restarted again and again on a full disk would step each time. If the count cannot be saved, the offset is slewed,
//! and stepped when the disk accepts the count.
use ntp::{BootState, Config};
use tracing::{info, warn};

use super::Driver;

impl Driver {
    /// Checks, before an engine reads a clock that it could step, whether the count can be saved.
    pub(super) fn check_guard(&mut self) {
        let guarded = self.state.save_boot(self.boot);
        self.set_unguarded(!guarded);
    }

    /// The configuration; without steps while their count cannot be saved.
    pub(super) fn guarded(&self, config: Config) -> Config {
        if self.unguarded { Config { step_limit: 0, ..config } } else { config }
    }

    /// Takes what was done to the clock, or is about to be done. Returns false if the counted step must not be made.
    pub(super) fn count(&mut self, boot: BootState) -> bool {
        if self.state.save_boot(boot) || boot.steps <= self.boot.steps {
            self.boot = boot;
            return true;
        }
        // The count without this step waits for the disk.
        self.state.save_boot(self.boot);
        self.set_unguarded(true);
        false
    }

    /// Starts a new engine, which reads the clock again: the former one has counted a step that is not made.
    pub(super) fn restart_engine(&mut self) {
        self.engine = None;
        self.requests.close_all();
        self.devices.close();
        self.authenticator.retain(|_| false);
        self.epoch += 1;
        self.apply_config();
    }

    /// Allows steps again when their count is saved.
    pub(super) fn retry_guard(&mut self) {
        if !self.unguarded {
            return;
        }
        self.state.retry();
        if self.state.boot_is_saved() {
            self.set_unguarded(false);
            self.apply_config();
        }
    }

    fn set_unguarded(&mut self, unguarded: bool) {
        match (self.unguarded, unguarded) {
            (false, true) => {
                warn!("The count of steps cannot be kept on disk: the clock is slewed, not stepped")
            }
            (true, false) => info!("The count of steps is kept on disk: the clock may be stepped again"),
            _ => {}
        }
        self.unguarded = unguarded;
    }
}
