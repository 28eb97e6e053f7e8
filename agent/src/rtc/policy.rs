//! What the agent may do with the hardware clock, as data.

/// Whether the agent writes the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RtcPolicy {
    /// It does not: either no process does, or the kernel while it assumes that its clock is synchronised.
    #[default]
    Observe,
    /// It does, whenever the clock is off.
    Verified,
}
