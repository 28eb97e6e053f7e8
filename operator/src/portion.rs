//! A part of the nodes, as a user gives it: a number or a percentage, as in Kubernetes' maxUnavailable. Pure.
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number of nodes, or a percentage of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portion {
    Count(usize),
    Percent(usize),
}

/// What a field must be, for messages.
pub(crate) const FORM: &str = "it must be a number of nodes, 1 to 5000, or a percentage, 1% to 100%";

/// The number of nodes that Kubernetes supports. The API server has the same limit (`api::LARGEST_PORTION`).
const MOST: usize = api::LARGEST_PORTION as usize;

impl Portion {
    /// Reads a field; none if it is neither a number from 1 to 5000 nor a percentage from 1% to 100%.
    pub(crate) fn of(field: &IntOrString) -> Option<Self> {
        let read = match field {
            IntOrString::Int(count) => Self::Count(usize::try_from(*count).ok()?),
            IntOrString::String(text) => Self::Percent(text.strip_suffix('%')?.parse().ok()?),
        };
        let allowed = matches!(read, Self::Count(1..=MOST) | Self::Percent(1..=100));
        allowed.then_some(read)
    }

    /// The number, of this many nodes. A percentage is rounded up, and is at least one node.
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
    fn numbers_and_percentages() {
        let of = |text: &str| Portion::of(&IntOrString::String(text.to_owned()));
        assert_eq!(of("10%").map(|most| most.of_nodes(11)), Some(2));
        assert_eq!(of("100%").map(|most| most.of_nodes(7)), Some(7));
        assert_eq!(of("1%").map(|most| most.of_nodes(0)), Some(1));
        assert_eq!(Portion::of(&IntOrString::Int(3)).map(|most| most.of_nodes(1)), Some(3));
        assert!(["0%", "101%", "a", "", "-1", "%", "7"].into_iter().all(|text| of(text).is_none()));
        assert!([0, -1, 5001].into_iter().all(|count| Portion::of(&IntOrString::Int(count)).is_none()));
    }
}
