//! Local references: sources that serve their own clock, or follow one that does. They agree with their group, not with
//! UTC.
use crate::{
    LocalClock,
    source::{association::Association, reply::Server},
};

/// Returns true if a source serves a local clock or follows one: nobody knows how far that is from UTC. The server
/// itself says so by its reference. Whoever follows it is known if we ask both, or by a stratum that nobody has who
/// follows true time.
pub(crate) fn is_local_reference(
    association: &Association,
    all: &[Association],
    local: Option<LocalClock>,
) -> bool {
    let voting = association.voting_estimate().map(|(_, server)| server);
    let Some(server) = voting.or(association.server) else { return false };
    let beyond = local.is_some_and(|local| server.stratum >= local.stratum);
    // Strata fall on the way to the reference, so this ends.
    let followed = |a: &&Association| {
        a.reference_id() == Some(server.reference_id)
            && a.server.is_some_and(|above| above.stratum < server.stratum)
    };
    beyond
        || serves_local_clock(server)
        || all.iter().filter(followed).any(|a| is_local_reference(a, all, local))
}

/// What a server that serves its own clock gives as its reference: ntpd's driver of the local clock, as in chrony.
pub(crate) const LOCAL_CLOCK: [u8; 4] = [127, 127, 1, 1];

/// Returns true if its reference is its own clock: 127.127.1.1 in chrony and here, 127.0.0.1 for an orphan of ntpd,
/// `LOCL` for ntpd's driver of the local clock.
fn serves_local_clock(server: Server) -> bool {
    server.reference_id[0] == 127 || server.reference_id == *b"LOCL"
}
