//! The state that the caller keeps on disk for the engine.

/// The measured frequency error of the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The frequency correction that keeps the clock's rate right, parts per million. Positive speeds the clock up.
    pub frequency_ppm: f64,
    /// The uncertainty of `frequency_ppm`, parts per million.
    pub skew_ppm: f64,
}

/// The state that outlives the agent, but not the boot. It decides whether steps are still allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootState {
    /// The number of steps in the start phase.
    pub steps: u32,
    /// True if the clock has been synchronised since the node's boot. Then the start phase is over.
    pub synchronized: bool,
}
