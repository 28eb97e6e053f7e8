//! Several machines without upstreams: which of those that serve their own clock is followed. What the sources said last
//! goes in, the orphan that goes before us comes out.
//!
//! The rule is that of chrony's `local stratum N orphan` and ntpd's `tos orphan N`, and works among all three. Members
//! ask each other and share N. A source of stratum N or more is no source of time like others: at N it serves its own
//! clock, above it may follow one that does. The orphan with the smallest reference id is followed if that is smaller
//! than ours, and only while there is nothing better; the others are never followed. Who follows has stratum N + 1, so
//! nobody follows it in turn, and no loop can form. Reference ids are compared as numbers: IPv4 addresses, or hashes of
//! IPv6 ones (RFC 5905 §7.3). Ours is made of the address that the orphan sees us at, so each member must be asked at
//! the address that it asks from, and all of them in one family.
use crate::{
    LocalClock, SourceId,
    source::{association::Association, reply::Server},
    wire::packet::reference_id_of,
};

/// Returns true if a source is an orphan, or may follow one: never a source of time like others.
pub(crate) fn is_in_orphan_group(association: &Association, local: Option<LocalClock>) -> bool {
    let stratum = association.server.map_or(0, |server| server.stratum);
    local.is_some_and(|local| local.orphan && stratum >= local.stratum)
}

/// Of the orphans that answer, the one with the smallest reference id, if that is smaller than ours.
pub(crate) fn smallest_orphan(all: &[Association], local: Option<LocalClock>) -> Option<SourceId> {
    let local = local.filter(|local| local.orphan)?;
    let orphan = |a: &&Association| {
        let serves = a.server.is_some_and(|server| server.stratum == local.stratum && serves_itself(server));
        serves && a.reach != 0 && !a.refused() && !a.source.noselect
    };
    let named = all.iter().filter(orphan).filter_map(|a| Some((a.reference_id()?, a)));
    let (smallest, parent) = named.min_by_key(|(id, _)| *id)?;
    (smallest < reference_id_of(parent.local?)).then_some(parent.id)
}

/// Returns true if its reference is the local clock: 127.127.1.1 in chrony and here, 127.0.0.1 in ntpd.
pub(crate) fn serves_itself(server: Server) -> bool {
    server.reference_id[0] == 127
}
