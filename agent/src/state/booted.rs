//! Which boot of the node this is, and how far the work after it came.
use std::{fs, path::Path};

/// How far `timesync-agent boot` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Booted {
    /// It began.
    Began,
    /// It has done what it could.
    Done,
}

/// The kernel's boot id.
pub(crate) fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
