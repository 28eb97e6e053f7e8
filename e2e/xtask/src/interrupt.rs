//! Ctrl-C and SIGTERM set a flag, which every wait checks, so that the cluster is removed before the program ends.
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use anyhow::bail;
use signal_hook::consts::{SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to watch; a second Ctrl-C ends the program at once.
pub fn watch() -> anyhow::Result<()> {
    let flag = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// An error once somebody asked us to end.
pub fn check() -> anyhow::Result<()> {
    if ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        bail!("interrupted");
    }
    Ok(())
}

/// Forgets an interruption, so that tidying up can wait for things.
pub fn forgive() {
    if let Some(flag) = ASKED.get() {
        flag.store(false, Ordering::Relaxed);
    }
}
