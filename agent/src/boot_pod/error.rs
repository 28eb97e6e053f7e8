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
    #[error(
        "{} cannot be changed: the node's files are read-only for this agent; set agent.privileged: true in the chart's \
         values, or set agent.boot.staticPod: false and remove the file, if it exists, on the node",
        .0.display()
    )]
    ReadOnly(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Error {
    /// The error of writing or removing the manifest, which is `path` on the host.
    pub(super) fn of_manifest(self, path: PathBuf) -> Self {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly(path)
            }
            other => other,
        }
    }
}
