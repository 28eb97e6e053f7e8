//! A second writer of the clock: the kernel is looked at once a second, and while somebody else steers the engine
//! observes. What the engine is ordered to do stays its orders.
use std::sync::Arc;

use ntp::{Foreign, Mode, Mono, Rival, Stance, Transition};

use super::Rim;
use crate::{clock, suspects::Suspects};

/// What is known of others.
pub(super) struct Rivals {
    rival: Rival,
    suspects: Arc<Suspects>,
    /// When to look again.
    next: Mono,
    /// Nothing that touches the clock is carried out.
    pub(super) hands_off: bool,
}

/// Seconds from one look to the next.
const INTERVAL: f64 = 1.0;

impl Rivals {
    /// Nobody is known of; whether suspects run is asked of `suspects`.
    fn new(suspects: Arc<Suspects>) -> Self {
        Self { rival: Rival::default(), suspects, next: Mono(0), hands_off: false }
    }
}

impl Rim {
    /// From now on looks for others who steer the clock; `suspects` knows whether some run.
    pub(in crate::engine) fn watch_for_rivals(&mut self, suspects: Arc<Suspects>) {
        self.rivals = Some(Rivals::new(suspects));
    }

    /// Whether somebody else steers.
    pub(super) fn rival_steers(&self) -> bool {
        self.rivals.as_ref().is_some_and(|watch| watch.rival.steers())
    }

    /// Whether nothing that touches the clock is to be carried out.
    pub(super) fn hands_off(&self) -> bool {
        self.rivals.as_ref().is_some_and(|watch| watch.hands_off)
    }

    /// Looks what the kernel shows, before anything is written.
    pub(super) fn look_for_rivals(&mut self) {
        let now = self.clock.now().mono;
        let ordered = self.orders.as_ref().is_some_and(|orders| orders.mode == Mode::Discipline);
        let Some(watch) = self.rivals.as_mut().filter(|watch| ordered && watch.next <= now) else { return };
        watch.next = now.plus(INTERVAL);
        let Some(kernel) = clock::kernel() else { return };
        let stance = watch.rival.look(kernel, self.clock.written(), watch.suspects.steer(), now);
        self.take_stance(stance);
    }

    /// Somebody else has stepped the clock.
    pub(super) fn stepped_by_another(&mut self, by: f64) {
        let now = self.clock.now().mono;
        let ordered = self.orders.as_ref().is_some_and(|orders| orders.mode == Mode::Discipline);
        if let Some(watch) = self.rivals.as_mut().filter(|_| ordered) {
            let stance = watch.rival.stepped(by, now);
            self.take_stance(stance);
        }
    }

    /// We steer no more, whoever else does.
    pub(super) fn forget_rivals(&mut self) {
        if self.rival_steers() {
            self.announce(Transition::ConflictEnded);
        }
        if let Some(watch) = &mut self.rivals {
            watch.rival.forget();
            watch.hands_off = false;
        }
    }

    fn take_stance(&mut self, stance: Option<Stance>) {
        let (Some(stance), Some(watch)) = (stance, &mut self.rivals) else { return };
        match stance {
            Stance::Back(foreign) => {
                // Who steps leaves the rate alone: so our slew is ended. All else is the other one's by now.
                watch.hands_off = foreign != Foreign::Step;
                self.announce(Transition::Conflict(foreign));
                self.obey();
                self.clock.let_go();
                if let Some(watch) = &mut self.rivals {
                    watch.hands_off = true;
                }
            }
            Stance::Alone => {
                watch.hands_off = false;
                self.announce(Transition::ConflictEnded);
                self.obey();
            }
        }
    }
}
