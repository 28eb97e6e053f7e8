//! One address and port has one vote, regardless of how many names lead to it. This file decides which of several
//! sources at one server counts. It runs after every event that can change a source's address: names can lead to the
//! same server by CNAMEs, by a key exchange, or by the addresses of a pool.
//!
//! A duplicate could be asked without a vote, but then the server would get twice as many requests, and its rate limit
//! would affect the source that counts.
use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use crate::{
    Action, Auth, Mono, OwnAddresses, SourceId,
    source::association::{Association, Handover, VoteOptions},
};

/// Addresses in canonical form, without repetitions: `::ffff:192.0.2.1` becomes 192.0.2.1.
pub(crate) fn canonical(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut distinct = Vec::with_capacity(addresses.len());
    for address in addresses.iter().map(IpAddr::to_canonical) {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    distinct
}

/// A source has taken over the measurements that another source made of their server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenOver {
    pub(crate) from: SourceId,
    pub(crate) to: SourceId,
}

/// Makes exactly one of all sources at one address and port count, and none of those that are this node itself. A
/// source at the place of another one first tries its other addresses.
pub(crate) fn settle(
    associations: &mut [Association],
    own: &OwnAddresses,
    now: Mono,
    actions: &mut Vec<Action>,
) -> Vec<TakenOver> {
    let mut taken_over = Vec::new();
    for association in associations.iter_mut() {
        actions.extend(association.avoid(own, now));
    }
    if !crowded(associations) {
        return taken_over;
    }
    let mut order: Vec<usize> = (0..associations.len()).collect();
    order.sort_by_key(|index| associations.get(*index).map(|a| (rank(a, now), *index)));
    let (mut counted, mut left): (Vec<Counted>, Vec<_>) = (Vec::new(), Vec::new());
    for index in order {
        let occupied = occupied(associations, index);
        let Some(association) = associations.get_mut(index) else { continue };
        let Some(place) = association.place() else {
            association.count(now);
            continue;
        };
        let Some(first) = counted.iter_mut().find(|counted| counted.place == place) else {
            association.count(now);
            let elsewhere =
                association.free_address(&occupied, own, now).filter(|_| association.is_needed_by_another());
            if let Some(address) = elsewhere {
                // A duplicate has no other address. If this source moves, there are two votes.
                left.push((association.id, association.hand_over()));
                actions.extend(association.switch_address(address, now));
            }
            let place = association.place().unwrap_or(place);
            counted.push(Counted::new(place, index, association));
            continue;
        };
        let (id, successor, handover) = (association.id, first.index, association.hand_over());
        if let Some(address) = association.free_address(&occupied, own, now) {
            actions.extend(association.switch_address(address, now));
            counted.extend(association.place().map(|place| Counted::new(place, index, association)));
        } else {
            actions.extend(association.become_duplicate(&first.name, place, now));
            first.needed_by_another |= association.pool.is_none();
            if !association.source.noselect {
                first.lent_options = first.lent_options.and(association.own_vote_options());
            }
        }
        taken_over.extend(hand_over(associations, id, handover, successor, now));
    }
    for Counted { index, lent_options, needed_by_another, .. } in counted {
        if let Some(association) = associations.get_mut(index) {
            association.count_for(lent_options, needed_by_another);
        }
    }
    for (id, handover) in left {
        if let Some(successor) = counting(associations, handover.place) {
            taken_over.extend(hand_over(associations, id, handover, successor, now));
        }
    }
    taken_over
}

/// Gives the measurements of a server to the source that counts for that server.
fn hand_over(
    associations: &mut [Association],
    from: SourceId,
    handover: Handover,
    to: usize,
    now: Mono,
) -> Option<TakenOver> {
    let successor = associations.get_mut(to)?;
    successor.take_over(handover, now).then_some(TakenOver { from, to: successor.id })
}

/// Does the same for sources that are no longer configured.
pub(crate) fn hand_over_all(
    associations: &mut [Association],
    gone: &mut [Association],
    now: Mono,
) -> Vec<TakenOver> {
    let mut taken_over = Vec::new();
    for former in gone {
        if let Some(successor) = counting(associations, former.place()) {
            taken_over.extend(hand_over(associations, former.id, former.hand_over(), successor, now));
        }
    }
    taken_over
}

/// The source that counts for an address and port.
fn counting(associations: &[Association], place: Option<SocketAddr>) -> Option<usize> {
    let counts = |a: &Association| place.is_some() && a.place() == place && !a.is_duplicate();
    associations.iter().position(counts)
}

/// Returns true if two sources are at one address and port, or were.
fn crowded(associations: &[Association]) -> bool {
    let mut places: Vec<SocketAddr> = associations.iter().filter_map(Association::place).collect();
    places.sort_unstable();
    places.windows(2).any(|pair| pair.first() == pair.last())
        || associations.iter().any(|a| a.is_duplicate() || a.counts_for_others())
}

/// The places of all sources except one.
fn occupied(associations: &[Association], but: usize) -> Vec<SocketAddr> {
    let others = associations.iter().enumerate().filter(|(index, _)| *index != but);
    others.filter_map(|(_, association)| association.claim()).collect()
}
/// A source that counts for its server.
struct Counted {
    place: SocketAddr,
    index: usize,
    name: String,
    /// The options of its duplicates.
    lent_options: VoteOptions,
    /// True if a duplicate has no other address.
    needed_by_another: bool,
}

impl Counted {
    fn new(place: SocketAddr, index: usize, association: &Association) -> Self {
        Self {
            place,
            index,
            name: association.source.name.clone(),
            lent_options: VoteOptions::default(),
            needed_by_another: false,
        }
    }
}

/// The rank of a source. The source with the smallest rank counts; of equal ranks the first in the list. A source that
/// may be selected comes before one that is only measured. A source that got no valid reply from this server in eight
/// polls comes last; otherwise an attacker could silence a server by naming it in a key exchange. Then a source with
/// authentication comes before one without. The options of the user decide last.
fn rank(association: &Association, now: Mono) -> (bool, bool, Reverse<[bool; 4]>) {
    let source = &association.source;
    let options = [source.auth != Auth::None, source.require, source.trust, source.prefer];
    (source.noselect, association.has_failed_here(now), Reverse(options))
}
