//! How a file of the state folder is written, and what went wrong with it.
use std::{io, path::PathBuf};

/// A file that could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct Error {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileOptions {
    /// The permission bits.
    pub(super) mode: u32,
    /// True if it must survive a crash of the node.
    pub(super) durable: bool,
    /// True if the file may be overwritten in place when no new file can be created.
    pub(super) in_place: bool,
}

impl FileOptions {
    /// Every user may read it, and it survives a crash.
    pub(super) const OPEN: Self = Self { mode: 0o644, durable: true, in_place: false };
}
