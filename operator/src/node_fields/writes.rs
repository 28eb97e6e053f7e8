//! The taints that the operator writes, and the flags that say which fields of Nodes it writes.
use clap::Args;

/// The taint with which a node may register. It is removed at the first synchronisation.
pub(crate) const STARTUP_TAINT: &str = "timesync.dev/clock-not-synchronized";
/// The taint of a node whose clock is not synchronised for a while, if its policy asks for it.
pub(crate) const WRONG_TAINT: &str = "timesync.dev/clock-wrong";

/// Which fields of Nodes the operator writes. The chart gives the rights for these alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct NodeWrites {
    /// Write the condition timesync.dev/ClockSynchronized of each Node with a policy. Needs the right to patch
    /// nodes/status.
    #[arg(long)]
    pub(crate) node_condition: bool,
    /// Remove the taint timesync.dev/clock-not-synchronized, with which a node may register, at the node's first
    /// synchronisation; and set and remove timesync.dev/clock-wrong as `nodeTaint` of the policies says. Needs the right
    /// to patch nodes.
    #[arg(long)]
    pub(crate) node_taints: bool,
    /// Write the label timesync.dev/clock-bound: le-100us, le-1ms, le-10ms, le-100ms or none. Needs the right to patch
    /// nodes.
    #[arg(long)]
    pub(crate) node_labels: bool,
}
