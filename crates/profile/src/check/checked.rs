//! A profile that passed the check. The operator writes only checked profiles, and the agent runs only checked
//! profiles.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use contract::{Mode, Span};

use super::{Access, Source};
use crate::{Clock, Profile, RtcMode, Serve, Thresholds, ranges};

/// A checked profile. Only [`crate::check`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    profile: Profile,
    sources: Vec<Source>,
    access: Vec<Access>,
    local: Option<LocalClock>,
    hints: Vec<String>,
}

/// How the node's own clock is served while no upstream is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalClock {
    /// The stratum.
    pub stratum: u8,
    /// True if several nodes elect one that serves.
    pub orphan: bool,
    /// The time without usable upstreams before it is served.
    pub activate_after: Span,
}

impl Checked {
    pub(super) fn new(
        profile: Profile,
        sources: Vec<Source>,
        access: Vec<Access>,
        local: Option<LocalClock>,
        hints: Vec<String>,
    ) -> Self {
        Self { profile, sources, access, local, hints }
    }

    /// The profile as it was given.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Discipline moves the clock; Observe only measures.
    pub fn mode(&self) -> Mode {
        self.profile.mode
    }

    /// The upstreams: names are unique, places are valid, `min_poll` ≤ `max_poll`.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The access list; never empty.
    pub fn access(&self) -> &[Access] {
        &self.access
    }

    /// How the node's own clock is served, within the ranges. None if it is not served.
    pub fn local(&self) -> Option<LocalClock> {
        self.local
    }

    /// The server, with limits within their ranges.
    pub fn serve(&self) -> &Serve {
        &self.profile.serve
    }

    /// Addresses on which the port is opened: at least one, none twice, and none that the unspecified address of its family
    /// has already.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let given = &self.profile.serve.addresses;
        let addresses: Vec<IpAddr> = given.iter().filter_map(|text| text.parse().ok()).collect();
        let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        if addresses.is_empty() {
            return all.to_vec();
        }
        let covered = |address: &IpAddr| {
            all.iter()
                .any(|any| any.is_ipv4() == address.is_ipv4() && any != address && addresses.contains(any))
        };
        addresses.iter().filter(|address| !covered(address)).copied().collect()
    }

    /// The number of threads that answer requests.
    pub fn workers(&self) -> usize {
        self.profile.serve.workers.unwrap_or(ranges::DEFAULT_WORKERS).into()
    }

    /// The number of addresses in the rate table.
    pub fn max_clients(&self) -> usize {
        self.profile.serve.rate_limit.max_clients.unwrap_or(ranges::DEFAULT_MAX_CLIENTS) as usize
    }

    /// How the clock is corrected, with values within their ranges.
    pub fn clock(&self) -> &Clock {
        &self.profile.clock
    }

    /// The number of sources that must agree. With one or two sources, a single one is better than none. With more, a
    /// single remaining one may be a falseticker. Peers are not counted: they get their time from the same upstreams as
    /// this node, and have none before.
    pub fn min_sources(&self) -> usize {
        let independent = self.sources.iter().filter(|source| source.upstream.peer.is_none());
        let votes: usize = independent.map(Source::votes).sum();
        self.profile.clock.min_sources.map_or(if votes <= 2 { 1 } else { 2 }, usize::from)
    }

    /// What writes the RTC.
    pub fn rtc(&self) -> RtcMode {
        self.profile.rtc.mode
    }

    /// The name of the host's time zone. It cannot leave the folder. The host may not have this zone.
    pub fn timezone(&self) -> Option<&str> {
        self.profile.timezone.as_deref()
    }

    /// The thresholds at which a deviation counts.
    pub fn thresholds(&self) -> &Thresholds {
        &self.profile.thresholds
    }

    /// Hints for a user: settings that are valid but probably not intended.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}
