//! Authentication of one source. Without a key it is unusable, with the reason. This file also decides when keys are
//! exchanged (RFC 8915 §4), with a growing back-off while exchanges fail.
use std::net::IpAddr;

use crate::{
    Action, Auth, Mono,
    source::{
        association::{Association, alternate_families, lookup::Lookup},
        cause::Cause,
    },
};

/// The state of a source's authentication.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// True if keys come from an exchange, which also names the NTP server.
    pub(super) exchanges: bool,
    /// True if keys were exchanged.
    keyed: bool,
    /// The address with which keys are exchanged, if not any address of the name. Used for members of pools.
    with: Option<IpAddr>,
    /// Why replies cannot be authenticated. None if they can.
    pub(super) why: Option<String>,
    /// True if the reason is that a request could not be authenticated, not that a reply was not.
    missing: bool,
    /// The earliest time of the next exchange.
    next_exchange: Mono,
    /// Seconds between the next two exchanges.
    wait: f64,
}

/// Back-off of key exchanges, seconds. An exchange is expensive for the server, and after a server lost its keys all
/// its clients ask at once. RFC 8915 §4.2 lets the back-off grow to days; an hour is enough.
const FIRST_WAIT: f64 = 10.0;
const WAIT_GROWTH: f64 = 1.5;
const LONGEST_WAIT: f64 = 3600.0;

impl Proof {
    pub(super) fn new(auth: &Auth, first: Mono) -> Self {
        let exchanges = matches!(auth, Auth::Nts { .. });
        Self {
            exchanges,
            keyed: false,
            with: None,
            why: None,
            missing: false,
            next_exchange: first,
            wait: FIRST_WAIT,
        }
    }

    /// Returns true if a request can be authenticated, as far as it is known here.
    pub(super) fn ready(&self) -> bool {
        self.keyed || !self.exchanges
    }

    /// An exchange begins. Returns when to try again if it has no result.
    pub(super) fn begin_exchange(&mut self, now: Mono) -> Mono {
        self.next_exchange = now.plus(self.wait);
        self.wait = (WAIT_GROWTH * self.wait).min(LONGEST_WAIT);
        self.next_exchange
    }

    /// When the next exchange may begin.
    pub(super) fn earliest_exchange(&self, now: Mono) -> Mono {
        self.next_exchange.max(now)
    }

    /// The exchange failed before it reached a server, so the back-off starts again.
    pub(super) fn reset_back_off(&mut self, now: Mono) {
        (self.next_exchange, self.wait) = (now, FIRST_WAIT);
    }

    /// Returns true if a request cannot be authenticated.
    pub(super) fn is_missing(&self) -> bool {
        self.missing && self.why.is_some()
    }

    /// A request was sent. With a shared key it was authenticated, so a former problem of the key is over. With NTS it
    /// may use the keys of an earlier exchange, so a failed exchange is still a problem.
    pub(super) fn sent(&mut self) {
        if self.missing && !self.exchanges {
            self.why = None;
        }
    }

    /// A reply was authenticated.
    pub(super) fn proved(&mut self) {
        (self.why, self.wait) = (None, FIRST_WAIT);
    }
}

impl Association {
    /// Exchanges keys with another server of the pool, which has its own keys.
    pub(super) fn exchange_anew(&mut self, address: IpAddr, now: Mono) {
        self.proof = Proof { with: Some(address), ..Proof::new(&self.source.auth, now) };
        if self.proof.exchanges {
            self.lookup = Some(Lookup { at: now, wait: 0.0 });
        }
    }

    /// The address with which keys are exchanged. None if any address of the name will do.
    pub(crate) fn exchange_with(&self) -> Option<IpAddr> {
        self.proof.with
    }

    /// The address with which keys were exchanged. The exchange can name another address as the NTP server. Another
    /// exchange with the same address would lead to the same server.
    pub(crate) fn named_by(&self) -> Option<IpAddr> {
        self.proof.with.filter(|_| self.proof.exchanges)
    }

    /// Keys were exchanged for these addresses.
    pub(crate) fn keyed(&mut self, addresses: &[IpAddr], port: Option<u16>, now: Mono) -> Option<Action> {
        (self.lookup, self.refresh.failure) = (None, None);
        (self.proof.why, self.proof.keyed) = (None, true);
        self.addresses = alternate_families(addresses);
        let port = port.unwrap_or(self.usual_port());
        if self.port == port && self.address.is_some_and(|address| addresses.contains(&address)) {
            self.schedule.ask_soon(1, now);
            // An address that left eight polls unanswered is not tried again if there is another.
            return if self.unreachable() { self.next_address(now) } else { None };
        }
        self.port = port;
        (self.reach, self.unanswered, self.last_answer) = (0, 0, None);
        self.schedule.ask_soon(1, now);
        self.replace(*self.addresses.first()?)
    }

    /// The source cannot be authenticated.
    pub(crate) fn unproven(&mut self, why: &str, now: Mono) {
        (self.proof.why, self.proof.missing) = (Some(why.to_owned()), true);
        if self.proof.exchanges && self.lookup.is_none() {
            self.lookup = Some(Lookup { at: self.proof.earliest_exchange(now), wait: 0.0 });
        }
    }

    /// A reply arrived whose authentication fails. The request stays open, since an attacker must not be able to end
    /// it.
    pub(crate) fn unauthentic(&mut self, why: &str) {
        self.rejected += 1;
        self.unauthentic += 1;
        (self.proof.why, self.proof.missing) = (Some(why.to_owned()), false);
    }

    /// The cause that keeps it out of the vote, as far as authentication goes.
    pub(super) fn proof_obstacle(&self) -> Option<Cause> {
        if let Some(why) = self.proof.why.clone().filter(|_| self.reach == 0) {
            return Some(Cause::Unproven(why));
        }
        if !self.proof.ready() && self.refresh.failure.is_some() {
            return Some(self.no_address());
        }
        let to_be_exchanged = self.pool.is_none() || self.address().is_some();
        (!self.proof.ready() && to_be_exchanged).then_some(Cause::Exchanging)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{Config, Engine, Event, Mode, Now, Source, SourceId, SourceState, Start, Upstream, Wall};

    fn engine(auth: Auth) -> Engine {
        engine_of(Upstream::Server { host: "192.0.2.1".to_owned(), port: 123 }, auth)
    }

    fn engine_of(upstream: Upstream, auth: Auth) -> Engine {
        let source = Source { auth, ..Source::new("a", upstream) };
        let mode = Mode::Observe;
        let config = Config { mode, sources: vec![source], error_bound_threshold: 1.0, ..Config::default() };
        let start = Start { boot: crate::BootState::default(), drift: None, samples: None, seed: 1 };
        Engine::new(config, start, at(0.0))
    }

    fn at(seconds: f64) -> Now {
        let nanos = (seconds * 1e9) as i64;
        Now { wall: Wall(1_800_000_000_000_000_000 + nanos), mono: Mono(nanos) }
    }

    fn resolves(actions: &[Action]) -> usize {
        actions.iter().filter(|action| matches!(action, Action::Resolve { .. })).count()
    }

    fn sends(actions: &[Action]) -> Vec<(crate::RequestId, SocketAddr)> {
        let send = |action: &Action| match action {
            Action::Send { request, to, .. } => Some((*request, *to)),
            _ => None,
        };
        actions.iter().filter_map(send).collect()
    }

    fn state(engine: &Engine, now: Now) -> (SourceState, String) {
        let snapshot = engine.snapshot(now);
        (snapshot.sources[0].state, snapshot.sources[0].why.clone())
    }

    const NTS: Auth = Auth::Nts { ca: None, port: 4460 };
    const SOURCE: SourceId = SourceId(0);

    #[test]
    fn keys_are_exchanged_before_anything_is_sent_even_to_an_address() {
        let mut engine = engine(NTS);
        let actions = engine.handle(Event::Wakeup, at(0.0));
        assert_eq!((resolves(&actions), sends(&actions).len()), (1, 0));
        assert_eq!(engine.auth(SOURCE), Some(&NTS));
        assert_eq!(state(&engine, at(0.1)).1, "Keys are being exchanged.");
        let addresses = ["192.0.2.7".parse().unwrap()];
        let event = Event::Keyed { source: SOURCE, addresses: &addresses, port: Some(4123) };
        let sent = sends(&engine.handle(event, at(0.2)));
        assert_eq!(sent[0].1, "192.0.2.7:4123".parse().unwrap());
    }

    #[test]
    fn a_failed_exchange_is_reported_and_repeated_with_back_off() {
        let mut engine = engine(NTS);
        engine.handle(Event::Wakeup, at(0.0));
        engine.handle(Event::Unproven { source: SOURCE, why: "The certificate has expired." }, at(0.5));
        engine.handle(Event::Wakeup, at(1.5));
        let expected = (SourceState::Unusable, "The certificate has expired.".to_owned());
        assert_eq!(state(&engine, at(1.5)), expected);
        let mut tries = Vec::new();
        for second in 2..20_000 {
            if resolves(&engine.handle(Event::Wakeup, at(f64::from(second)))) > 0 {
                tries.push(second);
            }
        }
        assert_eq!(tries[..3], [10, 25, 48]);
        let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.last().is_some_and(|last| (3590..=3610).contains(last)), "{waits:?}");
    }

    #[test]
    fn lost_cookies_lead_to_one_exchange_and_not_to_many() {
        let mut engine = engine(NTS);
        engine.handle(Event::Wakeup, at(0.0));
        let addresses = ["192.0.2.7".parse().unwrap()];
        engine.handle(Event::Keyed { source: SOURCE, addresses: &addresses, port: None }, at(0.2));
        let mut exchanges = 0;
        for tenth in 3..90 {
            engine.handle(Event::Unproven { source: SOURCE, why: "NTSN." }, at(f64::from(tenth) / 10.0));
            exchanges += resolves(&engine.handle(Event::Wakeup, at(f64::from(tenth) / 10.0)));
        }
        assert_eq!(exchanges, 0, "the last one is not ten seconds old");
        assert_eq!(resolves(&engine.handle(Event::Wakeup, at(10.1))), 1);
    }

    #[test]
    fn each_member_of_a_pool_exchanges_keys_of_its_own() {
        let pool = Upstream::Pool { host: "pool.example".to_owned(), port: 123, max_sources: 2 };
        let mut engine = engine_of(pool, NTS);
        let actions = engine.handle(Event::Wakeup, at(0.0));
        let Some(Action::Resolve { source: pool, .. }) = actions.first() else { panic!("{actions:?}") };
        assert_eq!(engine.auth(*pool), None, "a pool's name is looked up as any other");
        let addresses = ["192.0.2.7", "192.0.2.8"].map(|address| address.parse().unwrap());
        let mut actions = engine.handle(Event::Resolved { source: *pool, addresses: &addresses }, at(0.1));
        actions.extend(engine.handle(Event::Wakeup, at(0.2)));
        assert!(sends(&actions).is_empty(), "{actions:?}");
        let members = actions.iter().filter_map(|action| match action {
            Action::Resolve { source, host } => Some((*source, host.as_str())),
            _ => None,
        });
        let members: Vec<_> = members.collect();
        assert_eq!(members.len(), 2, "{actions:?}");
        for (member, host) in members {
            assert_eq!((engine.auth(member), host), (Some(&NTS), "pool.example"));
            let with = engine.exchange_with(member).unwrap();
            assert!(addresses.contains(&with));
            let event = Event::Keyed { source: member, addresses: &[with], port: None };
            let sent = sends(&engine.handle(event, at(0.3)));
            assert_eq!(sent.iter().map(|(_, to)| to.ip()).collect::<Vec<_>>(), [with]);
        }
    }

    #[test]
    fn an_unauthentic_answer_is_counted_and_ends_nothing() {
        let mut engine = engine(Auth::Key("k".to_owned()));
        let (request, _) = sends(&engine.handle(Event::Wakeup, at(0.0)))[0];
        let actions = engine.handle(Event::Unauthentic { request, why: "Forged." }, at(0.1));
        assert!(actions.is_empty(), "{actions:?}");
        assert_eq!(engine.snapshot(at(0.1)).sources[0].rejected, 1);
        engine.handle(Event::Wakeup, at(1.1));
        assert_eq!(state(&engine, at(1.1)), (SourceState::Unusable, "Forged.".to_owned()));
    }
}
