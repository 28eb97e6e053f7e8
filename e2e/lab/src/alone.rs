//! A lock beside the cluster's state: only one program at a time uses the cluster. A child process of the holder may
//! use it too.
use std::{
    env,
    fs::{File, TryLockError},
};

use anyhow::{Context, bail};
use xtask::checkout;

/// Tells a child that its parent holds the lock.
pub const HELD: &str = "TIMESYNC_E2E_LOCK_HELD";

/// Whether we are such a child.
pub(crate) fn held_by_parent() -> bool {
    env::var_os(HELD).is_some()
}

/// The lock, held until it is dropped or the program ends; an error if another program has it.
pub fn lock() -> anyhow::Result<Option<File>> {
    if held_by_parent() {
        return Ok(None);
    }
    let path = checkout::state().with_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("another e2e or bench is using the cluster ({} is locked)", path.display())
        }
        Err(TryLockError::Error(error)) => Err(error).context("the lock"),
    }
}
