//! The order in which nodes get a new profile. Nodes go in ranks: those that can prove the profile come first. Within a
//! rank zones are mixed, so that a bad profile never takes a whole zone at once.
use std::collections::BTreeMap;

/// Which nodes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It runs a profile whose rollout was not completed: it is to leave that one first.
    HalfWay,
    /// Its clock is right, so that a regression would show.
    Well,
    /// Its agent reports, but its clock is not right.
    Unwell,
    /// Its agent does not report.
    Silent,
}

/// A node that may get the profile next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) node: &'a str,
    /// Empty if it is not known.
    pub(super) zone: &'a str,
    pub(super) rank: Rank,
}

/// The first nodes: one of each zone, then a second one of each zone, and so on.
pub(super) fn canaries<'a>(candidates: Vec<Candidate<'a>>, count: usize) -> Vec<&'a str> {
    first(candidates, count, |index, _| index as f64)
}

/// A batch: of each zone as large a part as of the others.
pub(super) fn batch<'a>(candidates: Vec<Candidate<'a>>, count: usize) -> Vec<&'a str> {
    first(candidates, count, |index, size| (index as f64 + 0.5) / size as f64)
}

/// The first `count` nodes by rank, and within a rank by `place`, of the node's number in its zone and rank, and their
/// size.
fn first<'a>(
    mut candidates: Vec<Candidate<'a>>,
    count: usize,
    place: fn(usize, usize) -> f64,
) -> Vec<&'a str> {
    candidates.sort_by_key(|each| (each.rank, each.zone, each.node));
    let mut sizes: BTreeMap<(Rank, &str), usize> = BTreeMap::new();
    let index: Vec<usize> = candidates
        .iter()
        .map(|each| {
            let size = sizes.entry((each.rank, each.zone)).or_default();
            *size += 1;
            *size - 1
        })
        .collect();
    let mut placed: Vec<_> = candidates.iter().zip(index).collect();
    let place = |(each, index): &(&Candidate<'a>, usize)| {
        place(*index, sizes.get(&(each.rank, each.zone)).copied().unwrap_or(1))
    };
    placed.sort_by(|a, b| {
        a.0.rank.cmp(&b.0.rank).then_with(|| place(a).total_cmp(&place(b))).then(a.0.zone.cmp(b.0.zone))
    });
    placed.into_iter().take(count).map(|(each, _)| each.node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well<'a>(names: &[&'a str]) -> Vec<Candidate<'a>> {
        names.iter().map(|node| Candidate { node, zone: &node[..1], rank: Rank::Well }).collect()
    }

    #[test]
    fn canaries_are_of_different_zones() {
        let nodes = well(&["a1", "a2", "a3", "a4", "b1", "c1"]);
        assert_eq!(canaries(nodes.clone(), 3), ["a1", "b1", "c1"]);
        assert_eq!(canaries(nodes, 5), ["a1", "b1", "c1", "a2", "a3"]);
    }

    #[test]
    fn a_batch_has_the_same_part_of_each_zone() {
        let nodes = well(&["a1", "a2", "a3", "a4", "a5", "a6", "b1", "b2", "b3"]);
        assert_eq!(batch(nodes, 3), ["a1", "b1", "a2"]);
    }

    #[test]
    fn nodes_that_can_prove_it_come_first_and_half_rolled_ones_before_all() {
        let mut nodes = well(&["a1", "a2", "b1", "b2"]);
        nodes[0].rank = Rank::Silent;
        nodes[1].rank = Rank::Unwell;
        nodes[3].rank = Rank::HalfWay;
        assert_eq!(batch(nodes, 9), ["b2", "b1", "a2", "a1"]);
    }
}
