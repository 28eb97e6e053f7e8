//! What the user is told, once: what happened to the clock or to its sources.
use crate::OnExternalStep;

/// Something worth telling, once.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// Synchronised for the first time since the engine's start.
    Synchronized,
    /// The clock has the time of a local clock from now on, our own or another machine's.
    LocalReference,
    /// Not any more.
    SynchronizationLost,
    /// Again.
    SynchronizationRegained,
    /// No source is reached.
    UpstreamsUnreachable,
    /// One is reached again.
    UpstreamsReachable,
    /// The clock was stepped by us.
    Stepped {
        /// Seconds; positive is forward.
        by: f64,
        /// Why that was allowed.
        why: StepReason,
    },
    /// A leap second was done, or its slew began.
    LeapSecond {
        /// Seconds; negative if one was inserted.
        by: f64,
    },
    /// A correction was refused.
    CorrectionRefused {
        /// This clock minus true time, seconds.
        offset: f64,
        /// What is wrong with it.
        why: CorrectionRefusal,
    },
    /// The system clock jumped: another program moved it.
    ExternalStep {
        /// Seconds; positive is forward.
        by: f64,
        /// What will be done about it; none by an observer.
        then: Option<OnExternalStep>,
    },
    /// The node was asleep or held, and its clock is measured anew.
    Resumed(Pause),
    /// Another program steers the clock, so this one has stopped. The caller announces it; see [`crate::Rival`].
    Conflict(Foreign),
    /// We are alone again, or have no business with the clock any more.
    ConflictEnded,
}

/// Why the clock was stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepReason {
    /// This boot's first synchronisation was still to come.
    Start,
    /// Another program had stepped it.
    ExternalStep,
    /// The node had stood still.
    Resume,
    /// It was behind a time that is known to have passed. Done before an engine begins, and not by it.
    Floor,
}

/// Why a correction was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorrectionRefusal {
    /// It is beyond `max_change`.
    MaxChange,
    /// It would be the second after a pause within ten minutes, which may be an attack.
    TooSoon,
}

/// How a node stood still.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pause {
    /// The platform tells.
    Asleep {
        /// For this time, seconds.
        seconds: f64,
    },
    /// The platform does not tell, and the sources that agreed with this clock all say that it is off.
    Unseen {
        /// This clock minus true time, seconds.
        offset: f64,
    },
}

/// What shows that another program writes to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Foreign {
    /// The kernel's frequency or tick is not what we set.
    Frequency,
    /// A slew that is not ours: adjtime, or the kernel's PLL.
    Slew,
    /// The kernel's status is not what we said: PLL or FLL on, a leap second armed, synchronised or not.
    Status,
    /// Its largest error became smaller without us.
    Error,
    /// The clock was stepped for the second time within ten minutes.
    Step,
}

impl Foreign {
    /// Every kind, for counters.
    pub const ALL: [Self; 5] = [Self::Frequency, Self::Slew, Self::Status, Self::Error, Self::Step];

    /// A word for it, for labels.
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
