//! Other programs that steer the machine's clock, and the caller's reaction, as in the agent's engine loop: it checks
//! the kernel before each event, and carries out only permitted actions. So every simulation shows that changes by the
//! kernel itself are not mistaken for another program.
use super::Sim;
use crate::{Action, KernelTimex, Leap, Mode, Mono, Rival, Stance, Transition, Written};

/// The detection of other programs.
#[derive(Default)]
pub(super) struct Watch {
    rival: Rival,
    written: Written,
    /// True if another program is part of the story.
    rivalled: bool,
    /// True if a program runs that may be the other one.
    suspects: bool,
    /// True if the engine has stopped steering.
    left: bool,
    /// When actions of the engine on the clock were carried out, seconds since the beginning.
    pub(super) touched: Vec<f64>,
}

impl Sim {
    /// From now on another program may write. `suspects`: such a program is seen to run.
    pub fn beside_others(&mut self, suspects: bool) {
        (self.watch.rivalled, self.watch.suspects) = (true, suspects);
    }

    /// Checks the kernel's state.
    pub(super) fn look_for_rivals(&mut self) {
        if self.config.mode == Mode::Observe {
            return;
        }
        let (kernel, now) = (self.shown(), self.clocks().mono);
        let Watch { rival, written, rivalled, suspects, .. } = &mut self.watch;
        let stance = rival.look(kernel, written, *suspects, now);
        assert!(*rivalled || stance.is_none(), "no other process wrote: {kernel:?} after {written:?}");
        self.take_stance(stance);
    }

    fn shown(&self) -> KernelTimex {
        let timex = self.timex();
        KernelTimex {
            frequency_ppm: self.kernel_ppm,
            slew: self.kernel.slew,
            synchronized: timex.synchronized,
            leap: timex.leap != Leap::None,
            steered: self.kernel.steered,
            max_error: timex.max_error,
        }
    }

    /// The engine has reported that another program stepped the clock.
    pub(super) fn stepped_by_another(&mut self, by: f64, now: Mono) {
        if self.watch.rivalled && self.config.mode == Mode::Discipline {
            let stance = self.watch.rival.stepped(by, now);
            self.take_stance(stance);
        }
    }

    /// Returns true if the action may be carried out, and records it.
    pub(super) fn permitted(&mut self, action: &Action) -> bool {
        if !self.watch.rival.permits(action) {
            assert!(!self.watch.left, "another process steers, and the engine wants {action:?}");
            return false;
        }
        match *action {
            Action::SetFrequency { ppm } => self.watch.written.frequency_ppm = Some(ppm),
            Action::SetStatus { synchronized, leap, max_error, .. } => {
                let armed = synchronized && matches!(leap, Leap::Insert | Leap::Delete);
                self.watch.written.status = Some((synchronized, armed, max_error.min(16.0)));
            }
            Action::Step { .. } | Action::SetTai { .. } => {}
            _ => return true,
        }
        self.watch.touched.push(self.now);
        true
    }

    /// Takes over the clock, as the agent does before an engine steers.
    pub(super) fn take_over(&mut self) {
        self.watch.written = Written::default();
        if !self.observes {
            self.kernel.take_over();
        }
    }

    /// Another agent starts, or the agent no longer steers: drops what was known of other programs.
    pub(super) fn forget_rivals(&mut self) {
        if self.watch.rival.steers() {
            self.announced.push((self.now, Transition::ConflictEnded));
        }
        self.watch.rival.forget();
        self.watch.left = false;
    }

    /// Sets the engine's configuration, or makes it observe while another program steers.
    pub(super) fn carry_out(&mut self) {
        let orders = self.watch.rival.in_force(&self.config);
        let clocks = self.all_clocks();
        let actions = self.engine.reconfigure(orders, clocks.now);
        self.act(actions, clocks.raw);
    }

    fn take_stance(&mut self, stance: Option<Stance>) {
        match stance {
            None => {}
            Some(Stance::Observe(sign)) => {
                self.announced.push((self.now, Transition::Conflict(sign)));
                self.carry_out();
                self.watch.rival.left();
                self.watch.left = true;
            }
            Some(Stance::Steer) => {
                self.announced.push((self.now, Transition::ConflictEnded));
                self.watch.left = false;
                self.take_over();
                self.carry_out();
            }
        }
    }
}
