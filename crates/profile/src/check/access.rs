//! Checks the access list of a profile: the addresses of each entry, flags without effect, and whether the replies of
//! every upstream would be accepted. Reads only its arguments.
use std::{collections::BTreeSet, net::IpAddr};

use super::notes::Notes;
use crate::{
    Flag, Restrict, Upstream,
    network::{Network, NetworkError},
    ranges,
};

/// One entry of the access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The addresses of the entry.
    pub source: AccessSource,
    /// The flags of these addresses.
    pub flags: BTreeSet<Flag>,
}

/// The addresses of an entry of the access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSource {
    /// `default`: all addresses of both families.
    Everybody,
    /// One network.
    Network(Network),
    /// `source`: the present addresses of the upstreams.
    Upstreams,
}

/// Records the problems of each entry. Returns the valid entries.
pub(super) fn check(restrict: &[Restrict], notes: &mut Notes) -> Vec<Access> {
    if restrict.len() > ranges::MOST_RESTRICT {
        let most = ranges::MOST_RESTRICT;
        notes.wrong("restrict", format!("has {} entries, but at most {most} are allowed", restrict.len()));
    }
    let mut access = Vec::new();
    for (n, Restrict { source, flags }) in restrict.iter().enumerate() {
        match parse_source(source) {
            Ok(source) => access.push(Access { source, flags: flags.iter().copied().collect() }),
            Err(why) => notes.wrong(format!("restrict[{n}].source"), format!("{source:?} {why}")),
        }
        let ntpport = flags.contains(&Flag::Ntpport);
        let same =
            |other: &Restrict| other.source == *source && other.flags.contains(&Flag::Ntpport) == ntpport;
        if restrict[..n].iter().any(same) {
            notes.wrong(
                format!("restrict[{n}].source"),
                format!("{source:?} is listed twice: write one entry with all flags"),
            );
        }
        if source == "source" && flags.contains(&Flag::Ignore) {
            notes.wrong(format!("restrict[{n}].flags"), "ignore would drop the replies of every upstream");
        }
        if source == "source" && flags.contains(&Flag::Ntpport) {
            notes.wrong(
                format!("restrict[{n}].flags"),
                "the entry for source applies to every port: remove ntpport",
            );
        }
        check_effect(n, flags, notes);
    }
    access
}

/// Adds hints for flags without effect, except those that distributions put into every file.
fn check_effect(n: usize, flags: &[Flag], notes: &mut Notes) {
    if flags.contains(&Flag::Kod) && !flags.contains(&Flag::Limited) {
        notes.hints.push(format!("restrict[{n}].flags: kod has no effect without limited"));
    }
    let idle = [
        (Flag::Lowpriotrap, "lowpriotrap has no effect: there are no traps"),
        (Flag::Mssntp, "mssntp has no effect: no domain controller signs requests here"),
        (Flag::Noepeer, "noepeer has no effect: a packet never creates an association"),
        (Flag::Nomrulist, "nomrulist has no effect: the list of clients cannot be queried"),
    ];
    for (_, why) in idle.iter().filter(|(flag, _)| flags.contains(flag)) {
        notes.hints.push(format!("restrict[{n}].flags: {why}"));
    }
}

/// Parses `default`, an address, a network, or `source`.
pub(super) fn parse_source(source: &str) -> Result<AccessSource, NetworkError> {
    match source {
        "default" => Ok(AccessSource::Everybody),
        "source" => Ok(AccessSource::Upstreams),
        _ => source.parse().map(AccessSource::Network),
    }
}

/// Records each upstream whose replies the access list drops: it would never be reached. For an upstream given by name
/// this is only known if all addresses are dropped.
pub(super) fn check_reachable(upstreams: &[Upstream], access: &[Access], notes: &mut Notes) {
    for (n, upstream) in upstreams.iter().enumerate() {
        let Upstream { server, peer, pool, port, .. } = upstream;
        for (part, host) in [("server", server), ("peer", peer), ("pool", pool)] {
            let Some(host) = host else { continue };
            let message = match host.parse::<IpAddr>() {
                Ok(address) if ignores(access, address, *port) => {
                    format!(
                        "{address} is covered by a restrict entry with ignore: its replies would be dropped"
                    )
                }
                Err(_) if ignores_everybody(access, *port) => {
                    format!("every restrict entry has ignore: the replies of {host} would be dropped")
                }
                Ok(_) | Err(_) => continue,
            };
            notes.wrong(format!("upstreams[{n}].{part}"), message);
        }
    }
}

/// Returns true if the agent drops every packet from this address and port of an upstream: the entries that apply to it
/// have `ignore`. A packet that no entry contains is answered. The agent's table gives the same result faster; a test of
/// the agent compares the two.
pub fn ignores(access: &[Access], address: IpAddr, port: u16) -> bool {
    applicable(access, address, port, true).any(|each| each.flags.contains(&Flag::Ignore))
}

/// The entry and the flag for which the agent drops a time request of version 4 from this address; none if it answers.
/// The request comes from any port but 123, as those of agents do. `is_upstream`: the address is one of the agent's own
/// upstreams. `is_authenticated`: the request has proof that the agent knows. A test of the agent compares this, too.
pub fn drops_request(
    access: &[Access],
    address: IpAddr,
    is_upstream: bool,
    is_authenticated: bool,
) -> Option<(AccessSource, Flag)> {
    const RANDOM_PORT: u16 = 49_152;
    applicable(access, address, RANDOM_PORT, is_upstream).find_map(|each| {
        let drops = |flag: &&Flag| match flag {
            Flag::Ignore | Flag::Noserve => true,
            Flag::Notrust => !is_authenticated,
            _ => false,
        };
        each.flags.iter().find(drops).map(|flag| (each.source, *flag))
    })
}

/// The entries that apply to packets from this address and port: the most specific ones that contain it; their flags are
/// merged. For the address of an upstream the template counts as an entry for exactly this address, unless there is such
/// an entry.
fn applicable(
    access: &[Access],
    address: IpAddr,
    port: u16,
    is_upstream: bool,
) -> impl Iterator<Item = &Access> {
    let address = address.to_canonical();
    let of_host = |each: &Access| match each.source {
        AccessSource::Network(network) => {
            network.is_host() && network.contains(address) && !each.flags.contains(&Flag::Ntpport)
        }
        AccessSource::Everybody | AccessSource::Upstreams => false,
    };
    let template = access.iter().rposition(|each| each.source == AccessSource::Upstreams);
    let template = template.filter(|_| is_upstream && !access.iter().any(of_host));
    // How specific an entry is. None if it does not contain the address and port.
    let rank = move |each: &Access| {
        let bits = match each.source {
            AccessSource::Everybody => 0,
            AccessSource::Network(network) if network.contains(address) => network.bits(),
            AccessSource::Network(_) | AccessSource::Upstreams => return None,
        };
        let ntpport = each.flags.contains(&Flag::Ntpport);
        (!ntpport || port == ranges::NTP_PORT).then_some((bits, ntpport))
    };
    let best = access.iter().filter_map(rank).max();
    let applies = move |n: usize, each: &Access| match template {
        Some(template) => n == template,
        None => best.is_some() && rank(each) == best,
    };
    access.iter().enumerate().filter(move |(n, each)| applies(*n, each)).map(|(_, each)| each)
}

/// Returns true if packets from this port are dropped for all addresses: every entry has `ignore`, and one of them is
/// `default`.
fn ignores_everybody(access: &[Access], port: u16) -> bool {
    let holds = |each: &Access| port == ranges::NTP_PORT || !each.flags.contains(&Flag::Ntpport);
    access.iter().all(|each| each.flags.contains(&Flag::Ignore))
        && access.iter().any(|each| each.source == AccessSource::Everybody && holds(each))
}
