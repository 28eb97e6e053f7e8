//! A pool: a name that resolves to several servers, and which of them are asked. Its members are ordinary associations.
//! A member that is unreachable, a falseticker or unusable is replaced by another address of the name.
use std::net::{IpAddr, SocketAddr};

use crate::{
    Action, Mono, OwnAddresses, Source, SourceId, SourceState, Upstream,
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
    /// Addresses that failed, and until when they are not tried again.
    failed_addresses: Vec<(IpAddr, Mono)>,
    /// Members that answer but are not usable, and since when.
    doubted: Vec<(SourceId, Mono)>,
    lookup: Mono,
    /// Seconds between that lookup and the next.
    wait: f64,
    /// The lookups while no address is missing.
    refresh: Refresh,
    /// True if the name was looked up again, and the members were not compared with the result yet.
    review: bool,
}

/// First wait after a lookup while there is no address at all, seconds. It doubles each time.
const FIRST_WAIT: f64 = 2.0;

/// Longest wait while there is no address at all, and first wait while addresses are missing, seconds.
const UNRESOLVED_WAIT: f64 = 64.0;

/// Longest wait while addresses are missing, seconds (chrony also asks at most every half hour).
const LONGEST_WAIT: f64 = 1800.0;

/// A member that answers but is a falseticker or unusable is replaced after this time, seconds.
const LONGEST_DOUBT: f64 = 300.0;

/// A failed address is not tried again for this time, seconds.
const RETRY_AFTER: f64 = 3600.0;

impl Pool {
    /// Makes a pool of the upstream. None if the upstream is not a pool.
    pub(crate) fn new(id: SourceId, source: &Source, first: Mono) -> Option<Self> {
        let Upstream::Pool { host, port, max_sources } = &source.upstream else { return None };
        Some(Self {
            id,
            source: source.clone(),
            host: host.clone(),
            port: *port,
            max_sources: (*max_sources).max(1),
            addresses: Vec::new(),
            failed_addresses: Vec::new(),
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

    /// Returns true if `source` describes this pool.
    pub(crate) fn serves(&self, source: &Source) -> bool {
        let own = &self.source;
        own.name == source.name && own.upstream == source.upstream && own.auth == source.auth
    }

    /// The options of the member with this number.
    pub(crate) fn member(&self, number: usize) -> Source {
        Source { name: format!("{}#{number}", self.source.name), ..self.source.clone() }
    }

    /// Takes the resolver's result.
    pub(crate) fn resolved(&mut self, addresses: &[IpAddr]) {
        if !addresses.is_empty() {
            if self.addresses.is_empty() {
                self.wait = UNRESOLVED_WAIT;
            }
            self.addresses = addresses.to_vec();
            self.review |= self.refresh.answered();
        }
    }

    /// Notes the address as failed.
    fn give_up(&mut self, address: Option<IpAddr>, now: Mono) {
        let known = |address: &IpAddr| self.failed_addresses.iter().any(|(each, _)| each == address);
        if let Some(address) = address.filter(|address| !known(address)) {
            self.failed_addresses.push((address, now.plus(RETRY_AFTER)));
        }
    }

    /// An address that no source asks, that did not fail recently, and that is not this node itself.
    fn free(&mut self, taken: &[SocketAddr], own: &OwnAddresses, now: Mono) -> Option<IpAddr> {
        self.failed_addresses.retain(|(_, until)| *until > now);
        let failed = |address: &IpAddr| self.failed_addresses.iter().any(|(each, _)| each == address);
        let port = self.port;
        let place = |address: IpAddr| SocketAddr::new(address, port);
        let free = |address: IpAddr| !taken.contains(&place(address)) && own.forbid(place(address)).is_none();
        self.addresses.iter().find(|address| free(**address) && !failed(address)).copied()
    }

    /// Returns true if the name was looked up again, and no longer resolves to the member's address. Of the members
    /// that are believed only one is replaced at a time: a large pool resolves to other servers at each lookup.
    fn has_left_name(&mut self, member: &Association) -> bool {
        let lost = self.review && member.address().is_some_and(|address| !self.addresses.contains(&address));
        let doubted = self.doubted.iter().any(|(id, _)| *id == member.id);
        self.review &= doubted || !lost;
        lost
    }

    /// Returns true if the member should be replaced. `heard` is when any source answered last. If no other source has
    /// answered since the member did, the network is the likely cause.
    fn should_replace(&mut self, member: &Association, heard: Option<Mono>, now: Mono) -> bool {
        let alone = member.last_answer.is_none_or(|at| {
            let interval = 2.0_f64.powi(member.source.max_poll.into());
            heard.is_some_and(|heard| heard - at > 2.0 * interval)
        });
        if member.unroutable() || member.is_no_other_server() || member.unreachable() && alone {
            return true;
        }
        let doubtful = !member.is_duplicate()
            && matches!(member.state.0, SourceState::Falseticker | SourceState::Unusable);
        let since = self.doubted.iter().find(|(id, _)| *id == member.id).map(|(_, since)| *since);
        match since {
            None if doubtful => self.doubted.push((member.id, now)),
            Some(_) if !doubtful => self.doubted.retain(|(id, _)| *id != member.id),
            _ => {}
        }
        doubtful && since.is_some_and(|since| now - since >= LONGEST_DOUBT)
    }

    /// Looks up the name, if that is due: addresses are `wanted`, a member is not believed, or a day has passed.
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

/// What a pool needs to know of other parts of the engine.
pub(crate) struct Surroundings<'a> {
    /// All sources, in the order of the configuration.
    pub(crate) associations: &'a mut Vec<Association>,
    /// When any source answered last.
    pub(crate) heard: Option<Mono>,
    pub(crate) own: &'a OwnAddresses,
    /// The next source id.
    pub(crate) next_source: &'a mut u32,
    pub(crate) now: Mono,
}

impl Pool {
    /// Adds members for the addresses of the name, and replaces those that do not work. `spread` is random, -1 to 1.
    pub(crate) fn maintain(&mut self, around: &mut Surroundings<'_>, spread: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        let Surroundings { heard, own, now, .. } = *around;
        let mut taken: Vec<SocketAddr> = around.associations.iter().filter_map(Association::claim).collect();
        let mut wanted = self.addresses.is_empty();
        let (id, mut members) = (self.id, 0);
        for member in around.associations.iter_mut().filter(|a| a.pool == Some(id)) {
            members += 1;
            let replace = self.should_replace(member, heard, now) || self.has_left_name(member);
            if member.address().is_some() && !replace && !member.is_crowded() {
                continue;
            }
            if !replace {
                self.give_up(member.named_by(), now);
            }
            let Some(address) = self.free(&taken, own, now) else {
                wanted = true;
                // The member reports why it has no address of its own.
                let shared = self.addresses.first().filter(|_| member.address().is_none()).copied();
                actions.extend(shared.and_then(|address| member.switch_server(address, now)));
                continue;
            };
            if replace {
                self.give_up(member.address(), now);
            }
            self.doubted.retain(|(id, _)| *id != member.id);
            actions.extend(member.switch_server(address, now));
            taken.push(SocketAddr::new(address, self.port));
        }
        self.review = false;
        while members < self.max_sources {
            let Some(address) = self.free(&taken, own, now) else { break };
            members += 1;
            self.add_member(around, members, address);
            taken.push(SocketAddr::new(address, self.port));
        }
        wanted |= members < self.max_sources;
        actions.extend(self.look_up(wanted, now, spread));
        actions
    }

    /// Adds a member after the other members of this pool.
    fn add_member(&self, around: &mut Surroundings<'_>, number: usize, address: IpAddr) {
        let id = SourceId(*around.next_source);
        *around.next_source += 1;
        let mut member = Association::new(id, self.member(number), around.now);
        member.pool = Some(self.id);
        member.switch_server(address, around.now);
        let place = around.associations.iter().rposition(|a| a.pool == Some(self.id));
        around.associations.insert(place.map_or(around.associations.len(), |last| last + 1), member);
    }
}
