//! The field `rollout` of a policy, read: numbers and times instead of texts.
use std::time::Duration;

use contract::Span;

use crate::{
    portion::{self, Portion},
    translate::FieldError,
};

/// How a policy wants its profile to go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The number of nodes that get it first.
    pub(super) canary: usize,
    batch: Portion,
    /// The time for which a node must be well before it counts as proven.
    pub(super) settle: Duration,
    /// True if the rollout pauses when a node gets worse.
    pub(super) pause_on_regression: bool,
}

impl Settings {
    /// Reads the field. Its ranges are those of the API server, which has checked them.
    pub(crate) fn of(rollout: &api::Rollout) -> Result<Self, FieldError> {
        let api::Rollout { canary, batch, settle, pause_on_regression } = rollout;
        let positive = |number: i32| usize::try_from(number).ok().filter(|number| *number > 0);
        let wrong = |field: &str, problem: &str| FieldError::new(format!("rollout.{field}"), problem);
        let settle: Span =
            settle.parse().map_err(|_| wrong("settle", "it must be a duration, such as 30s"))?;
        Ok(Self {
            canary: positive(*canary).ok_or_else(|| wrong("canary", "it must be at least 1"))?,
            batch: Portion::of(batch).ok_or_else(|| wrong("batch", portion::FORM))?,
            settle: settle.as_duration(),
            pause_on_regression: *pause_on_regression,
        })
    }

    /// The size of a batch if the policy has `total` nodes.
    pub(super) fn batch_of(&self, total: usize) -> usize {
        self.batch.of_nodes(total)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    use super::*;

    #[test]
    fn a_batch_is_a_number_or_a_percentage_rounded_up() {
        let size = |batch: IntOrString, total: usize| {
            let settings = Settings::of(&api::Rollout { batch, ..api::Rollout::default() });
            settings.map(|settings| settings.batch_of(total)).map_err(|error| error.to_string())
        };
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(size(percent("25%"), 12), Ok(3));
        assert_eq!(size(percent("25%"), 13), Ok(4));
        assert_eq!((size(percent("1%"), 3), size(IntOrString::Int(7), 3)), (Ok(1), Ok(7)));
        for wrong in [percent("0%"), percent("101%"), percent("7"), IntOrString::Int(0)] {
            assert!(size(wrong, 1).unwrap_err().starts_with("spec.rollout.batch: "));
        }
    }
}
