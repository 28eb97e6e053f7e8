//! Changes of the clock or of its sources that are reported to the user once.
use crate::OnExternalStep;

/// A change that is reported to the user once.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// The clock is synchronised for the first time since the engine's start.
    Synchronized,
    /// From now on the clock follows a local clock, of this node or of another machine.
    LocalReference,
    /// The clock is no longer synchronised.
    SynchronizationLost,
    /// The clock is synchronised again.
    SynchronizationRegained,
    /// No source is reached any more.
    UpstreamsUnreachable,
    /// A source is reached again.
    UpstreamsReachable,
    /// The engine stepped the clock.
    Stepped {
        /// Seconds; positive is forward.
        by: f64,
        /// Why the step was allowed.
        why: StepReason,
    },
    /// A leap second was applied, or its slew began.
    LeapSecond {
        /// Seconds; negative if one was inserted.
        by: f64,
    },
    /// A correction was refused.
    CorrectionRefused {
        /// This clock minus true time, seconds.
        offset: f64,
        /// Why the correction was refused.
        why: CorrectionRefusal,
    },
    /// Another process stepped the system clock.
    ExternalStep {
        /// Seconds; positive is forward.
        by: f64,
        /// What will follow; none in Observe.
        then: Option<OnExternalStep>,
    },
    /// The node was suspended or paused, and its clock is measured anew.
    Resumed(Pause),
    /// Another program steers the clock, so the agent has stopped steering it. The caller announces this; see
    /// [`crate::Rival`].
    Conflict(Foreign),
    /// The other program has stopped, or the agent no longer steers the clock.
    ConflictEnded,
}

/// Why the clock was stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepReason {
    /// The clock was not yet synchronised in this boot.
    Start,
    /// Another process had stepped the clock.
    ExternalStep,
    /// The node had been suspended or paused.
    Resume,
    /// The clock was behind a time that has certainly passed. The agent makes this step before it starts the engine.
    Floor,
}

/// Why a correction was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorrectionRefusal {
    /// The correction is larger than `max_change`.
    MaxChange,
    /// The step would be the second after a pause within ten minutes, which may be an attack.
    TooSoon,
}

/// How a pause of the node is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pause {
    /// The platform reports the suspension.
    Asleep {
        /// The length of the suspension, seconds.
        seconds: f64,
    },
    /// The platform reports nothing, but the sources that agreed with this clock contradict it together.
    Unseen {
        /// This clock minus true time, seconds.
        offset: f64,
    },
}

/// The sign that another program writes to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Foreign {
    /// The kernel's frequency or tick is not the one that the agent set.
    Frequency,
    /// The kernel slews the clock, by adjtime or by its PLL. The agent uses neither.
    Slew,
    /// The kernel's status is not the one that the agent set: PLL or FLL, an armed leap second, or the sync bit.
    Status,
    /// The kernel's maxerror became smaller, and the agent did not set it.
    Error,
    /// The clock was stepped for the second time within ten minutes.
    Step,
}

impl Foreign {
    /// All signs, for counters.
    pub const ALL: [Self; 5] = [Self::Frequency, Self::Slew, Self::Status, Self::Error, Self::Step];

    /// Its name, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frequency => "frequency",
            Self::Slew => "slew",
            Self::Status => "status",
            Self::Error => "error",
            Self::Step => "step",
        }
    }
}
