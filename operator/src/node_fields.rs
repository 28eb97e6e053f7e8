//! What the operator writes to Nodes, so that the cluster itself can act on the clock: a condition, taints and a label.
//! The node's report and its Node in; the desired fields out, and the patches that lead to them. Pure.
//!
//! A Node is written on a change only. Kubelet keeps what is written here: it sends patches of its own conditions, and
//! merges nothing else (pkg/kubelet/kubelet_node_status.go, `tryUpdateNodeStatus`; k8s.io/component-helpers,
//! `PatchNodeStatus`). It sets labels and taints only when it registers a new Node.
use clap::Args;

mod bound_label;
mod brake;
mod desired;
mod pace;
mod patch;
mod verdict;

pub(crate) use bound_label::BOUND_LABEL;
pub(crate) use brake::{Brake, Candidate, Held, budget};
pub(crate) use desired::ClockFields;
pub(crate) use pace::Pace;
pub(crate) use patch::{NodePatches, WrongTaint, cleared};

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
