//! A name that stands for several servers: its addresses, and which of them are asked. The members are ordinary
//! associations; one that is lost, lies or is of no use gives way to another address of the name.
use std::net::{IpAddr, SocketAddr};

use crate::{
    Action, Mono, Now, OwnAddresses, Source, SourceId, SourceState, Upstream,
    engine::Engine,
    source::association::{Association, Refresh},
};

/// One pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) id: SourceId,
    source: Source,
    host: String,
    port: u16,
    max_sources: usize,
    addresses: Vec<IpAddr>,
    /// Addresses that were of no use, and until when they are not tried again.
    spoiled: Vec<(IpAddr, Mono)>,
    /// Members that answer, but cannot be followed, and since when.
    doubted: Vec<(SourceId, Mono)>,
    lookup: Mono,
    /// Seconds until the lookup after that.
    wait: f64,
    /// Lookups while no address is wanted.
    refresh: Refresh,
    /// The name was looked up for what it holds now, and the members were not held against that yet.
    review: bool,
}

/// First wait after a lookup, seconds, doubled each time: quickly at first, while there is no address at all.
const FIRST_WAIT: f64 = 2.0;

/// Longest wait while there is no address at all, and the first while more are wanted, seconds.
const UNRESOLVED_WAIT: f64 = 64.0;

/// Longest wait while more addresses are wanted, seconds (chrony asks no more often than each half hour, too).
const LONGEST_WAIT: f64 = 1800.0;

/// A member that answers and is not believed, or of no use, is replaced after so many seconds.
const LONGEST_DOUBT: f64 = 300.0;

/// An address that was given up is not tried again for so many seconds.
const SPOILED: f64 = 3600.0;

impl Pool {
    /// The pool that an upstream describes; none if it describes something else.
    pub(crate) fn new(id: SourceId, source: &Source, first: Mono) -> Option<Self> {
        let Upstream::Pool { host, port, max_sources } = &source.upstream else { return None };
        Some(Self {
            id,
            source: source.clone(),
            host: host.clone(),
            port: *port,
            max_sources: (*max_sources).max(1),
            addresses: Vec::new(),
            spoiled: Vec::new(),
            doubted: Vec::new(),
            lookup: first,
            wait: FIRST_WAIT,
            refresh: Refresh::default(),
            review: false,
        })
    }

    /// The same pool with other options.
    pub(crate) fn with(self, source: &Source) -> Self {
        Self { source: source.clone(), ..self }
    }

    /// Whether the upstream is this pool.
    pub(crate) fn serves(&self, source: &Source) -> bool {
        let own = &self.source;
        own.name == source.name && own.upstream == source.upstream && own.auth == source.auth
    }

    /// Orders for the member with this number.
    pub(crate) fn member(&self, number: usize) -> Source {
        Source { name: format!("{}#{number}", self.source.name), ..self.source.clone() }
    }

    /// The resolver's answer.
    fn resolved(&mut self, addresses: &[IpAddr]) {
        if !addresses.is_empty() {
            if self.addresses.is_empty() {
                self.wait = UNRESOLVED_WAIT;
            }
            self.addresses = addresses.to_vec();
            self.review |= self.refresh.answered();
        }
    }

    /// The address was of no use.
    fn give_up(&mut self, address: Option<IpAddr>, now: Mono) {
        let known = |address: &IpAddr| self.spoiled.iter().any(|(spoiled, _)| spoiled == address);
        if let Some(address) = address.filter(|address| !known(address)) {
            self.spoiled.push((address, now.plus(SPOILED)));
        }
    }

    /// An address that nobody asks, that was not given up of late, and that is not this node itself.
    fn free(&mut self, taken: &[SocketAddr], own: &OwnAddresses, now: Mono) -> Option<IpAddr> {
        self.spoiled.retain(|(_, until)| *until > now);
        let spoiled = |address: &IpAddr| self.spoiled.iter().any(|(spoiled, _)| spoiled == address);
        let port = self.port;
        let place = |address: IpAddr| SocketAddr::new(address, port);
        let free = |address: IpAddr| !taken.contains(&place(address)) && own.forbid(place(address)).is_none();
        self.addresses.iter().find(|address| free(**address) && !spoiled(address)).copied()
    }

    /// Whether the name was looked up again, and does not hold the member's address any more. Of members that are
    /// believed one goes at a time: of a large pool each answer holds other servers.
    fn has_lost(&mut self, member: &Association) -> bool {
        let lost = self.review && member.address().is_some_and(|address| !self.addresses.contains(&address));
        let doubted = self.doubted.iter().any(|(id, _)| *id == member.id);
        self.review &= doubted || !lost;
        lost
    }

    /// Whether the member should give way. `heard` is when anybody answered last: if that was when the member did, the
    /// network is to blame.
    fn tires_of(&mut self, member: &Association, heard: Option<Mono>, now: Mono) -> bool {
        let alone = member.last_answer.is_none_or(|at| {
            let interval = 2.0_f64.powi(member.source.max_poll.into());
            heard.is_some_and(|heard| heard - at > 2.0 * interval)
        });
        if member.unroutable() || member.is_nobody() || member.unreachable() && alone {
            return true;
        }
        let doubtful = !member.is_duplicate()
            && matches!(member.standing.0, SourceState::Falseticker | SourceState::Unusable);
        let since = self.doubted.iter().find(|(id, _)| *id == member.id).map(|(_, since)| *since);
        match since {
            None if doubtful => self.doubted.push((member.id, now)),
            Some(_) if !doubtful => self.doubted.retain(|(id, _)| *id != member.id),
            _ => {}
        }
        doubtful && since.is_some_and(|since| now - since >= LONGEST_DOUBT)
    }

    /// Looks the name up, if it is time to: more addresses are `wanted`, a member is not believed, or a day has passed.
    /// `spread` is random, -1 to 1.
    fn look_up(&mut self, wanted: bool, now: Mono, spread: f64) -> Option<Action> {
        if self.refresh.due(!self.doubted.is_empty(), now, spread) {
            return Some(Action::Resolve { source: self.id, host: self.host.clone() });
        }
        if !wanted {
            self.wait = UNRESOLVED_WAIT;
            self.lookup = self.lookup.min(now.plus(UNRESOLVED_WAIT));
            return None;
        }
        if self.lookup > now {
            return None;
        }
        let longest = if self.addresses.is_empty() { UNRESOLVED_WAIT } else { LONGEST_WAIT };
        self.lookup = now.plus(self.wait);
        self.wait = (2.0 * self.wait).min(longest);
        Some(Action::Resolve { source: self.id, host: self.host.clone() })
    }
}

impl Engine {
    /// The resolver's answer, if it is a pool that asked.
    pub(crate) fn pool_resolved(&mut self, id: SourceId, addresses: &[IpAddr]) -> bool {
        let Some(pool) = self.pools.iter_mut().find(|pool| pool.id == id) else { return false };
        pool.resolved(addresses);
        true
    }

    /// Whether there is such a source, or a pool of that number.
    pub fn has(&self, source: SourceId) -> bool {
        self.associations.iter().any(|a| a.id == source) || self.pools.iter().any(|pool| pool.id == source)
    }

    /// With whom keys are to be exchanged for a source, if not with anybody who has its name.
    pub fn exchange_with(&self, source: SourceId) -> Option<IpAddr> {
        self.associations.iter().find(|a| a.id == source).and_then(Association::exchange_with)
    }

    /// The resolver has no address for the source's name, or for the pool's.
    pub(crate) fn unresolved(&mut self, id: SourceId, why: &str, now: Mono) {
        let asked = |a: &&mut Association| a.id == id || a.pool == Some(id) && a.address().is_none();
        self.associations.iter_mut().filter(asked).for_each(|a| a.unresolved(why, now));
    }

    /// Gives each pool the members that its name has addresses for, and replaces those that are of no use.
    pub(crate) fn tend_pools(&mut self, now: Now, actions: &mut Vec<Action>) {
        let heard = self.associations.iter().filter_map(|a| a.last_answer).max();
        let own = self.own.clone();
        let mut pools = std::mem::take(&mut self.pools);
        for pool in &mut pools {
            let mut taken: Vec<SocketAddr> =
                self.associations.iter().filter_map(Association::claim).collect();
            let mut wanted = pool.addresses.is_empty();
            let (id, mut members) = (pool.id, 0);
            for member in self.associations.iter_mut().filter(|a| a.pool == Some(id)) {
                members += 1;
                let tired = pool.tires_of(member, heard, now.mono) || pool.has_lost(member);
                if member.address().is_some() && !tired && !member.is_crowded() {
                    continue;
                }
                if !tired {
                    pool.give_up(member.named_by(), now.mono);
                }
                let Some(address) = pool.free(&taken, &own, now.mono) else {
                    wanted = true;
                    // The member says why it has none of its own.
                    let shared = pool.addresses.first().filter(|_| member.address().is_none()).copied();
                    actions.extend(shared.and_then(|address| member.turn_to(address, now.mono)));
                    continue;
                };
                if tired {
                    pool.give_up(member.address(), now.mono);
                }
                pool.doubted.retain(|(id, _)| *id != member.id);
                actions.extend(member.turn_to(address, now.mono));
                taken.push(SocketAddr::new(address, pool.port));
            }
            pool.review = false;
            while members < pool.max_sources {
                let Some(address) = pool.free(&taken, &own, now.mono) else { break };
                members += 1;
                self.add_member(pool, members, address, now.mono);
                taken.push(SocketAddr::new(address, pool.port));
            }
            wanted |= members < pool.max_sources;
            let spread = self.spread();
            actions.extend(pool.look_up(wanted, now.mono, spread));
        }
        self.pools = pools;
    }

    /// Puts a member beside its siblings.
    fn add_member(&mut self, pool: &Pool, number: usize, address: IpAddr, now: Mono) {
        let mut member = Association::new(self.new_source(), pool.member(number), now);
        member.pool = Some(pool.id);
        member.turn_to(address, now);
        let place = self.associations.iter().rposition(|a| a.pool == Some(pool.id));
        self.associations.insert(place.map_or(self.associations.len(), |last| last + 1), member);
    }
}
