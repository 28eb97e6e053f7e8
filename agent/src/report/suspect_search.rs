//! What a search for programs that could steer the clock has found.
use crate::suspects::Suspect;

/// The programs that could have done it.
#[derive(Debug)]
pub(super) struct SuspectSearch {
    pub(super) suspects: Vec<Suspect>,
    /// True if the node's processes can be seen.
    pub(super) sees_node: bool,
}
