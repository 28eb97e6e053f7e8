//! Jumps of the system clock: the monotonic clock follows every slew and no step, so what parts the two was a step by
//! us, the kernel's leap second, a sleep, or somebody else. Both clocks go in; what was noticed comes out. What is
//! done about it is `aftermath`'s, sleeps and pauses are `resume`'s.
use crate::{
    Action, Mode, Mono, Now, Transition,
    disturbance::{
        aftermath::{Disturbance, Moved},
        resume::Doubt,
    },
    engine::Engine,
};

/// What is known of jumps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jumps {
    /// The system clock minus the monotonic one, nanoseconds.
    pub(crate) apart: i64,
    /// They were found apart by so much more; a second look decides.
    suspected: Option<i64>,
    /// Our own last step, nanoseconds, until a look has shown that it was done.
    ours: Option<i64>,
    /// What happened to the clock and is not settled.
    pub(crate) open: Option<Disturbance>,
    /// Sources say that we stood still; more of them are asked.
    pub(crate) doubt: Option<Doubt>,
    /// When others were last asked early because of a doubt.
    pub(crate) asked: Option<Mono>,
    /// When the clock was last stepped after a pause.
    pub(crate) resumed: Option<Mono>,
}

/// What comparing the clocks has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They go together, or it is known by how much they do not.
    Steady,
    /// They went apart as expected; stamps from before are not to be compared with later ones.
    Leapt,
    /// They seem to have parted. The time is not to be trusted before the next look.
    Suspicious,
}

/// Less than this is not worth the alarm, and may be the time between reading the two, nanoseconds.
const JUMP: u64 = 1_000_000;

impl Jumps {
    pub(crate) fn new(now: Now) -> Self {
        Self { apart: apart(now), ..Self::default() }
    }

    /// We are about to step the clock.
    pub(crate) fn stepping(&mut self, by: f64) {
        let nanos = (by * 1e9).round() as i64;
        self.apart = self.apart.saturating_add(nanos);
        self.ours = Some(nanos);
    }

    /// The system clock went on by so many seconds while the monotonic one stood still.
    pub(crate) fn slept(&mut self, seconds: f64) {
        self.apart = self.apart.saturating_add((seconds * 1e9).round() as i64);
    }

    /// Whether a second look is due.
    pub(crate) fn suspicious(&self) -> bool {
        self.suspected.is_some()
    }

    /// Whether a jump was not noticed yet.
    pub(crate) fn unnoticed(&self, now: Now) -> bool {
        apart(now).abs_diff(self.apart) > JUMP
    }
}

fn apart(now: Now) -> i64 {
    now.wall.0.saturating_sub(now.mono.0)
}

impl Engine {
    /// Compares the two clocks. A jump is believed at the second look, since they cannot be read at once.
    pub(crate) fn look(&mut self, now: Now, actions: &mut Vec<Action>) -> Look {
        let apart = apart(now);
        let moved = apart.saturating_sub(self.jumps.apart);
        if moved.unsigned_abs() <= JUMP {
            (self.jumps.suspected, self.jumps.ours, self.jumps.apart) = (None, None, apart);
            return Look::Steady;
        }
        if self.kernel_leapt(moved, now, actions) {
            (self.jumps.suspected, self.jumps.apart) = (None, apart);
            return Look::Leapt;
        }
        let same = self.jumps.suspected.is_some_and(|jump| jump.abs_diff(moved) <= JUMP);
        if !same {
            self.jumps.suspected = Some(moved);
            return Look::Suspicious;
        }
        (self.jumps.suspected, self.jumps.apart) = (None, apart);
        let ours = self.jumps.ours.take();
        self.clock.shift(moved as f64 / 1e9);
        if ours.is_some_and(|step| step.saturating_add(moved).unsigned_abs() <= JUMP) {
            // Our own step was refused. Were it taken for somebody else's, we would try again for ever.
            self.lose_time(now, actions);
        } else {
            self.external_step(moved as f64 / 1e9, now, actions);
        }
        Look::Steady
    }

    /// Somebody else has moved the clock by so many seconds. This is the one place where that becomes known.
    fn external_step(&mut self, by: f64, now: Now, actions: &mut Vec<Action>) {
        let policy = self.config.on_external_step;
        let then = Some(policy).filter(|_| self.config.mode == Mode::Discipline);
        actions.push(Action::Announce(Transition::ExternalStep { by, then }));
        let starting = self.starting(now);
        let held = self.lose_time(now, actions);
        if then.is_some() && !starting {
            let open = self.jumps.open.get_or_insert_default();
            open.held = open.held.or(held);
            open.left_alone = false;
            let Moved { by: before, jumps, .. } = open.moved.unwrap_or_default();
            open.moved = Some(Moved { by: before + by, jumps: jumps + 1, last: now.mono });
        }
    }
}
