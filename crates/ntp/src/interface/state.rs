//! What the caller keeps on disk for the engine.

/// The clock's own frequency error, as learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The correction that keeps the clock right, parts per million; positive speeds it up.
    pub frequency_ppm: f64,
    /// How uncertain that is, parts per million.
    pub skew_ppm: f64,
}

/// What must outlive the agent, but not the boot: whether steps are still allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootState {
    /// Steps done in the start phase.
    pub steps: u32,
    /// Whether the clock was synchronised since the node's boot: the start phase is over.
    pub synchronized: bool,
}
