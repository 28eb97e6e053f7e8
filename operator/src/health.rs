//! What keeps this replica from its work, such as a watch that fails or a missing right. Shown at /readyz, and counted.
//! The part that notices a trouble logs it.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::IntCounterVec;

/// The present troubles, shared by all parts of the operator.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    troubles: Arc<Mutex<BTreeMap<&'static str, String>>>,
    errors: IntCounterVec,
}

impl Health {
    /// Without troubles. `errors` counts each one by what it is about.
    pub(crate) fn new(errors: IntCounterVec) -> Self {
        Self { troubles: Arc::default(), errors }
    }

    /// Records that `what` works, or why it does not.
    pub(crate) fn set(&self, what: &'static str, result: Result<(), String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => troubles.remove(what),
            Err(why) => {
                self.errors.with_label_values(&[what]).inc();
                troubles.insert(what, why)
            }
        };
    }

    /// A line for each trouble; empty if there is none.
    pub(crate) fn troubles(&self) -> String {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().map(|(what, why)| format!("{what}: {why}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_stand_until_they_end() {
        let errors = crate::metrics::Metrics::new().unwrap().api_errors();
        let health = Health::new(errors.clone());
        let same = health.clone();
        same.set("Nodes", Err("forbidden".to_owned()));
        same.set("agent pods", Ok(()));
        assert_eq!(health.troubles(), "Nodes: forbidden\n");
        same.set("Nodes", Ok(()));
        assert_eq!((health.troubles().as_str(), errors.with_label_values(&["Nodes"]).get()), ("", 1));
    }
}
