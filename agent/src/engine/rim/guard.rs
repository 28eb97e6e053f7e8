//! The count of steps is on disk before a step is made, or no step is made: else an agent that is started again and again
//! on a full disk would step each time. What cannot be stepped is slewed, and stepped once the disk takes the count.
use ntp::{BootState, Config};
use tracing::{info, warn};

use super::Rim;

impl Rim {
    /// Before an engine looks at a clock that it could step: whether the count can be kept.
    pub(super) fn look_at_guard(&mut self) {
        let guarded = self.state.save_boot(self.boot);
        self.set_unguarded(!guarded);
    }

    /// The orders, without steps while their count cannot be kept.
    pub(super) fn guarded(&self, config: Config) -> Config {
        if self.unguarded { Config { step_limit: 0, ..config } } else { config }
    }

    /// Takes what was done to the clock, or is about to be. Returns false if the step that was counted must not be made.
    pub(super) fn count(&mut self, boot: BootState) -> bool {
        if self.state.save_boot(boot) || boot.steps <= self.boot.steps {
            self.boot = boot;
            return true;
        }
        // It waits for the disk; what waits there is the count without this step.
        self.state.save_boot(self.boot);
        self.set_unguarded(true);
        false
    }

    /// The engine counts a step that is not made, so another one takes its place and looks at the clock anew.
    pub(super) fn begin_anew(&mut self) {
        self.engine = None;
        self.requests.close_all();
        self.devices.close();
        self.proofs.keep(|_| false);
        self.epoch += 1;
        self.obey();
    }

    /// Allows steps again once their count is kept.
    pub(super) fn mind_guard(&mut self) {
        if !self.unguarded {
            return;
        }
        self.state.retry();
        if self.state.boot_is_saved() {
            self.set_unguarded(false);
            self.obey();
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
