//! When a policy's nodes are tainted: its field `nodeTaint`, read. Pure.
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A policy's `nodeTaint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaintRule {
    /// NoSchedule or NoExecute.
    pub(crate) effect: &'static str,
    pub(crate) after: Duration,
    pub(crate) max_nodes: MaxNodes,
}

/// The largest number of nodes that may have the taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaxNodes {
    Count(usize),
    Percent(usize),
}

impl MaxNodes {
    /// Reads the field; none if it is neither a number from 1 on nor a percentage from 1% to 100%.
    pub(crate) fn of(field: &IntOrString) -> Option<Self> {
        let read = match field {
            IntOrString::Int(count) => Self::Count(usize::try_from(*count).ok()?),
            IntOrString::String(text) => match text.strip_suffix('%') {
                Some(percent) => Self::Percent(percent.parse().ok().filter(|percent| *percent <= 100)?),
                None => Self::Count(text.parse().ok()?),
            },
        };
        let allowed = !matches!(read, Self::Count(0 | 10_001..) | Self::Percent(0));
        allowed.then_some(read)
    }

    /// The number, of this many nodes in the cluster. A percentage is rounded up.
    pub(crate) fn of_nodes(self, nodes: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (nodes * percent).div_ceil(100).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_nodes_as_in_a_policy() {
        let of = |text: &str| MaxNodes::of(&IntOrString::String(text.to_owned()));
        assert_eq!(of("10%").map(|most| most.of_nodes(11)), Some(2));
        assert_eq!(of("100%").map(|most| most.of_nodes(7)), Some(7));
        assert_eq!(MaxNodes::of(&IntOrString::Int(3)).map(|most| most.of_nodes(1)), Some(3));
        assert!(["0%", "101%", "a", "", "-1", "%"].into_iter().all(|text| of(text).is_none()));
        assert!(
            MaxNodes::of(&IntOrString::Int(0)).is_none() && MaxNodes::of(&IntOrString::Int(-1)).is_none()
        );
    }
}
