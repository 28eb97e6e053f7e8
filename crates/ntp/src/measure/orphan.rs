//! Orphan mode: several machines without upstreams, of which one serves its clock and the others follow it. The last
//! replies of the sources go in; the orphan to follow comes out.
//!
//! The rule is that of chrony's `local stratum N orphan` and ntpd's `tos orphan N`. The three programs can be mixed.
//! The members ask each other and use the same N. A source of stratum N or more is not a usual source: at N it serves
//! its own clock, and above N it may follow such a server. The orphan with the smallest reference id is selected if
//! that id is smaller than this node's, and only while no usual source is usable. The other orphans are never selected.
//! A node that follows an orphan has stratum N + 1, so no node follows it in turn, and no loop can form. Reference ids
//! are compared as numbers: IPv4 addresses, or hashes of IPv6 addresses (RFC 5905 §7.3). This node's id is made of the
//! local address that is used with the orphan. So each member must be asked at the address from which it asks, and all
//! members must use one address family.
use crate::{
    LocalClock, SourceId,
    source::{association::Association, reply::Server},
    wire::packet::reference_id_of,
};

/// Returns true if a source is an orphan, or may follow one. Such a source takes no part in the usual vote.
pub(crate) fn is_in_orphan_group(association: &Association, local: Option<LocalClock>) -> bool {
    let stratum = association.server.map_or(0, |server| server.stratum);
    local.is_some_and(|local| local.orphan && stratum >= local.stratum)
}

/// The answering orphan with the smallest reference id, if that id is smaller than this node's.
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

/// Returns true if the server's reference is its local clock: 127.127.1.1 in chrony and here, 127.0.0.1 in ntpd.
pub(crate) fn serves_itself(server: Server) -> bool {
    server.reference_id[0] == 127
}
