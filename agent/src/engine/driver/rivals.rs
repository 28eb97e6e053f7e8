//! What is known of other processes that write the clock.
use std::sync::Arc;

use ntp::Rival;

use crate::suspects::Suspects;

/// What is known of other processes.
pub(super) struct Rivals {
    pub(super) rival: Rival,
    pub(super) suspects: Arc<Suspects>,
}
