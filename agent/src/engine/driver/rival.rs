//! Detects other processes that write the clock. The kernel's state is read before each call of the engine, which may
//! lead to a write and is due once a second. While another process steers, the engine only observes. Its configuration
//! does not change.
use std::sync::Arc;

use ntp::{Action, Mode, Rival, Stance, Transition};

use super::{Driver, rivals::Rivals};
use crate::{clock, suspects::Suspects};

impl Driver {
    /// From now on, looks for other processes that steer the clock; `suspects` knows whether such programs run.
    pub(in crate::engine) fn watch_for_rivals(&mut self, suspects: Arc<Suspects>) {
        self.rivals = Some(Rivals { rival: Rival::default(), suspects });
    }

    /// The configuration in force.
    pub(super) fn in_force(&self) -> Option<ntp::Config> {
        let desired = self.desired.as_ref()?;
        Some(self.rivals.as_ref().map_or_else(|| desired.clone(), |watch| watch.rival.in_force(desired)))
    }

    /// Returns true if this action may be carried out.
    pub(super) fn permits(&self, action: &Action) -> bool {
        self.rivals.as_ref().is_none_or(|watch| watch.rival.permits(action))
    }

    /// What is known of other processes, if the agent is to steer. An agent that only observes ignores them.
    fn rivals(&mut self) -> Option<&mut Rivals> {
        let ordered = self.desired.as_ref().is_some_and(|desired| desired.mode == Mode::Discipline);
        self.rivals.as_mut().filter(|_| ordered)
    }

    /// Compares the kernel's state with what the agent wrote.
    pub(super) fn look_for_rivals(&mut self) {
        let (now, written) = (self.clock.now().mono, *self.clock.written());
        let Some(watch) = self.rivals() else { return };
        let Some(kernel) = clock::kernel() else { return };
        let stance = watch.rival.look(kernel, &written, watch.suspects.steer(), now);
        self.apply_stance(stance);
    }

    /// Records a step of the clock by another process.
    pub(super) fn stepped_by_another(&mut self, by: f64) {
        let now = self.clock.now().mono;
        let stance = self.rivals().and_then(|watch| watch.rival.stepped(by, now));
        self.apply_stance(stance);
    }

    /// Forgets other processes: the agent steers no more.
    pub(super) fn forget_rivals(&mut self) {
        let Some(watch) = &mut self.rivals else { return };
        let steered = watch.rival.steers();
        watch.rival.forget();
        if steered {
            self.announce(Transition::ConflictEnded);
        }
    }

    fn apply_stance(&mut self, stance: Option<Stance>) {
        let Some(stance) = stance else { return };
        self.announce(match stance {
            Stance::Observe(foreign) => Transition::Conflict(foreign),
            Stance::Steer => Transition::ConflictEnded,
        });
        self.apply_config();
        if matches!(stance, Stance::Observe(_)) {
            self.clock.release();
            if let Some(watch) = &mut self.rivals {
                watch.rival.left();
            }
        }
    }
}
