//! What the operator writes to Nodes, so that the cluster itself can act on the clock: a condition, taints and a label.
//! The node's report and its Node in; the desired fields out, and the patches that lead to them. Pure.
//!
//! A Node is written on a change only. Kubelet keeps what is written here: it sends patches of its own conditions, and
//! merges nothing else (pkg/kubelet/kubelet_node_status.go, `tryUpdateNodeStatus`; k8s.io/component-helpers,
//! `PatchNodeStatus`). It sets labels and taints only when it registers a new Node.
mod bound_label;
mod brake;
mod desired;
mod pace;
mod patch;
mod verdict;
mod writes;

pub(crate) use brake::{Brake, Candidate, Held, budget};
pub(crate) use desired::ClockFields;
pub(crate) use pace::Pace;
pub(crate) use patch::{NodePatches, WrongTaint, cleared};
pub(crate) use writes::{NodeWrites, WRONG_TAINT};
