//! Paths: the checkout, cargo's target folder, the cache outside the checkout, the running cluster's state.
use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The checkout's root: every program that asks is of a crate two folders below it. cargo says which; a program that is
/// started by itself belongs to the checkout that it was built in.
pub fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut path = PathBuf::from(own);
    path.pop();
    path.pop();
    path
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    root().join("charts/timesync")
}

/// The files in a folder, sorted.
pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The finished images.
pub fn images() -> PathBuf {
    target().join("images")
}

/// What is built or downloaded once and outlives a checkout.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
    env::var_os("TIMESYNC_CACHE").map_or_else(
        || env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("timesync-e2e"),
        PathBuf::from,
    )
}

/// Files of the one cluster that runs at a time.
pub fn state() -> PathBuf {
    env::var_os("TIMESYNC_E2E_STATE").map_or_else(|| PathBuf::from("/tmp/timesync-e2e"), PathBuf::from)
}
