//! Local references: sources that serve their own clock, or follow such a server. They agree with their group, not with
//! UTC.
use crate::{
    LocalClock,
    source::{association::Association, reply::Server},
};

/// Returns true if a source serves a local clock or follows one, so that its distance from UTC is not known. The server
/// of a local clock shows it by its reference id. A source that follows such a server is recognised if that server is a
/// source, too, or by its stratum, which is not below that of the local clock.
pub(crate) fn is_local_reference(
    association: &Association,
    all: &[Association],
    local: Option<LocalClock>,
) -> bool {
    let voting = association.voting_estimate().map(|(_, server)| server);
    let Some(server) = voting.or(association.server) else { return false };
    let beyond = local.is_some_and(|local| server.stratum >= local.stratum);
    // The recursion ends, since strata fall towards the reference.
    let followed = |a: &&Association| {
        a.reference_id() == Some(server.reference_id)
            && a.server.is_some_and(|above| above.stratum < server.stratum)
    };
    beyond
        || serves_local_clock(server)
        || all.iter().filter(followed).any(|a| is_local_reference(a, all, local))
}

/// The reference id of a server that serves its own clock: ntpd's address of the local clock driver, as in chrony.
pub(crate) const LOCAL_CLOCK: [u8; 4] = [127, 127, 1, 1];

/// Returns true if the server's reference is its own clock: 127.127.1.1 in chrony and here, 127.0.0.1 for an orphan of
/// ntpd, `LOCL` for ntpd's local clock driver.
fn serves_local_clock(server: Server) -> bool {
    server.reference_id[0] == 127 || server.reference_id == *b"LOCL"
}
