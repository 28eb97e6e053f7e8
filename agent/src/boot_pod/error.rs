//! Why the static pod is not as it should be, as messages for users.
use std::{io, path::PathBuf};

/// Why the static pod is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "there is no folder {} on this node: agent.boot.manifestDirectory has to be kubelet's staticPodPath",
        .0.display()
    )]
    NoFolder(PathBuf),
    #[error(
        "the node would run a program from a folder that others may write, as root, at its next boot: {0}. Until then there \
         is no static pod"
    )]
    Exposed(String),
    #[error("{} is not a file of ours: left alone", .0.display())]
    Foreign(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}
