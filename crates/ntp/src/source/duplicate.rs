//! One address and port is one vote, under however many names: which of several sources at one server counts. Where
//! the associations ask goes in, and who of them is not asked comes out. It is looked at after whatever can move a
//! source: names may be the same server by way of CNAMEs, of an exchange of keys, or of a pool's answer.
//!
//! A duplicate could also be asked without a vote; but the server would then be asked twice as often, and its rate limit
//! would strike the source that counts.
use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use crate::{
    Action, Auth, Mono, OwnAddresses, SourceId,
    source::association::{Association, Heritage, Merits},
};

/// Addresses as they are compared: IPv4 in its own form, also where it came as `::ffff:192.0.2.1`, and each once.
pub(crate) fn canonical(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut distinct = Vec::with_capacity(addresses.len());
    for address in addresses.iter().map(IpAddr::to_canonical) {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    distinct
}

/// One source has taken over what another one measured of their server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    pub(crate) from: SourceId,
    pub(crate) to: SourceId,
}

/// Sees to it that of all sources at one address and port one counts, and none of those that are this node itself.
/// A source that meets another one first tries its other addresses.
pub(crate) fn settle(
    associations: &mut [Association],
    own: &OwnAddresses,
    now: Mono,
    actions: &mut Vec<Action>,
) -> Vec<Inherited> {
    let mut inherited = Vec::new();
    for association in associations.iter_mut() {
        actions.extend(association.avoid(own, now));
    }
    if !crowded(associations) {
        return inherited;
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
            let elsewhere = association.free_address(&occupied, own, now).filter(|_| association.is_wanted());
            if let Some(address) = elsewhere {
                // Another source has no other address than this one: together they have two votes.
                left.push((association.id, association.bequeath()));
                actions.extend(association.go_to(address, now));
            }
            let place = association.place().unwrap_or(place);
            counted.push(Counted::new(place, index, association));
            continue;
        };
        let (id, heir, heritage) = (association.id, first.index, association.bequeath());
        if let Some(address) = association.free_address(&occupied, own, now) {
            actions.extend(association.go_to(address, now));
            counted.extend(association.place().map(|place| Counted::new(place, index, association)));
        } else {
            actions.extend(association.yield_to(&first.name, place, now));
            first.wanted |= association.pool.is_none();
            if !association.source.noselect {
                first.lent = first.lent.and(association.own_merits());
            }
        }
        inherited.extend(bequeath(associations, id, heritage, heir, now));
    }
    for Counted { index, lent, wanted, .. } in counted {
        if let Some(association) = associations.get_mut(index) {
            association.stand_for(lent, wanted);
        }
    }
    for (id, heritage) in left {
        if let Some(heir) = counting(associations, heritage.place) {
            inherited.extend(bequeath(associations, id, heritage, heir, now));
        }
    }
    inherited
}

/// Gives what a source measured of a server to the one that counts for that server.
fn bequeath(
    associations: &mut [Association],
    from: SourceId,
    heritage: Heritage,
    to: usize,
    now: Mono,
) -> Option<Inherited> {
    let heir = associations.get_mut(to)?;
    heir.inherit(heritage, now).then_some(Inherited { from, to: heir.id })
}

/// The same for sources that are no longer configured.
pub(crate) fn bequeath_all(
    associations: &mut [Association],
    gone: &mut [Association],
    now: Mono,
) -> Vec<Inherited> {
    let mut inherited = Vec::new();
    for former in gone {
        if let Some(heir) = counting(associations, former.place()) {
            inherited.extend(bequeath(associations, former.id, former.bequeath(), heir, now));
        }
    }
    inherited
}

/// The source that counts for a place.
fn counting(associations: &[Association], place: Option<SocketAddr>) -> Option<usize> {
    let counts = |a: &Association| place.is_some() && a.place() == place && !a.is_duplicate();
    associations.iter().position(counts)
}

/// Whether two sources are at one place, or were.
fn crowded(associations: &[Association]) -> bool {
    let mut places: Vec<SocketAddr> = associations.iter().filter_map(Association::place).collect();
    places.sort_unstable();
    places.windows(2).any(|pair| pair.first() == pair.last())
        || associations.iter().any(|a| a.is_duplicate() || a.stands_for_others())
}

/// Where all but one are asked, or will be.
fn occupied(associations: &[Association], but: usize) -> Vec<SocketAddr> {
    let others = associations.iter().enumerate().filter(|(index, _)| *index != but);
    others.filter_map(|(_, association)| association.claim()).collect()
}
/// A source that counts for its server.
struct Counted {
    place: SocketAddr,
    index: usize,
    name: String,
    /// What the others at this server ask for.
    lent: Merits,
    /// One of them has nowhere else to ask.
    wanted: bool,
}

impl Counted {
    fn new(place: SocketAddr, index: usize, association: &Association) -> Self {
        Self { place, index, name: association.source.name.clone(), lent: Merits::default(), wanted: false }
    }
}

/// The smallest counts, and of equal ones the first in the list: one that may be followed before one that is only
/// measured; one that had its eight polls at this server and got no good answer comes last, or whoever names a server in an
/// exchange of keys, and can prove nothing there, would silence it. Then one whose answers are proven before one that
/// anybody could forge, and what the user asked for.
fn rank(association: &Association, now: Mono) -> (bool, bool, Reverse<[bool; 4]>) {
    let source = &association.source;
    let merits = [source.auth != Auth::None, source.require, source.trust, source.prefer];
    (source.noselect, association.has_failed_here(now), Reverse(merits))
}
