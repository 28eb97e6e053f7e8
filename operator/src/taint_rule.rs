//! When a policy's nodes are tainted: its field `nodeTaint`, read. Pure.
use std::time::Duration;

use contract::Span;

use crate::{
    portion::{self, Portion},
    translate::FieldError,
};

/// A policy's `nodeTaint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaintRule {
    /// NoSchedule or NoExecute.
    pub(crate) effect: &'static str,
    pub(crate) after: Duration,
    /// The largest number of nodes that may have the taint.
    pub(crate) max_nodes: Portion,
}

/// With a longer wait a node would never be tainted. The API server has the same limit (`api::rules`).
const LONGEST_AFTER: Duration = Duration::from_secs(24 * 3600);

impl TaintRule {
    /// Reads the field.
    pub(crate) fn of(field: &api::NodeTaint) -> Result<Self, FieldError> {
        let api::NodeTaint { effect, after, max_nodes } = field;
        let wrong = |field: &str, problem: &str| FieldError::new(format!("nodeTaint.{field}"), problem);
        let after: Span = after.parse().map_err(|_| wrong("after", "it must be a duration, such as 2m"))?;
        if after.as_duration() > LONGEST_AFTER {
            return Err(wrong("after", "it must be at most 24h"));
        }
        let max_nodes = Portion::of(max_nodes).ok_or_else(|| wrong("maxNodes", portion::FORM))?;
        let effect = match effect {
            api::TaintEffect::NoSchedule => "NoSchedule",
            api::TaintEffect::NoExecute => "NoExecute",
        };
        Ok(Self { effect, after: after.as_duration(), max_nodes })
    }
}
