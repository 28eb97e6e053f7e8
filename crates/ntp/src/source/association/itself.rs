//! Detects that a source is this node itself: by address and port before it is asked, or by a reply of this node's own
//! server if a virtual or translated address leads back to this node.
use std::net::{IpAddr, SocketAddr};

use super::{
    Association,
    lookup::{LONGEST_LOOKUP_WAIT, Lookup},
};
use crate::{
    Action, Mono, OwnAddresses,
    source::reply::{Rejection, Server},
};

impl Association {
    /// Leaves an address at which this node itself would answer, or which no server can have, for another address of
    /// the same name. If there is none, the source is not asked, and the name is looked up again from time to time.
    pub(crate) fn avoid(&mut self, own: &OwnAddresses, now: Mono) -> Option<Action> {
        let forbidden =
            |address: &IpAddr| own.forbid(SocketAddr::new(*address, self.port)).map(Rejection::from);
        let Some((current, why)) = self.address.and_then(|current| Some((current, forbidden(&current)?)))
        else {
            if self.is_forbidden() {
                self.rejection = None;
            }
            return None;
        };
        let place = self.addresses.iter().position(|address| *address == current).unwrap_or(0);
        let (before, after) = self.addresses.split_at(place);
        let other = after.iter().chain(before).find(|address| forbidden(address).is_none()).copied();
        if other.is_none() && self.is_forbidden() {
            self.rejection = Some(why);
            self.look_up_later(now);
            return None;
        }
        // The samples are of another server, which had the address before.
        let close = self.replace(other.unwrap_or(current));
        (self.reach, self.last_answer) = (0, None);
        if other.is_some() {
            self.schedule.ask_soon(1, now);
            return close;
        }
        self.rejection = Some(why);
        self.look_up_later(now);
        close
    }

    /// Plans a lookup of its name, or a key exchange, unless one is planned: DNS may be corrected in the meantime.
    fn look_up_later(&mut self, now: Mono) {
        if self.named && self.lookup.is_none() {
            let next = now.plus(LONGEST_LOOKUP_WAIT);
            let at = if self.proof.exchanges { self.proof.earliest_exchange(next) } else { next };
            self.lookup = Some(Lookup { at, wait: LONGEST_LOOKUP_WAIT });
        }
    }

    /// Returns true if its address must not be asked.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self.rejection, Some(Rejection::OwnAddress | Rejection::NoServer))
    }

    /// A reply of this node's own server arrived. The request stays open: if an attacker sent that reply, the
    /// upstream's own may still arrive.
    pub(crate) fn reflected(&mut self) {
        self.rejected += 1;
        (self.rejection, self.silent) = (Some(Rejection::OwnAnswer), 0);
    }

    /// Records that a reply shows that its server follows this node.
    pub(super) fn record_loop(&mut self) {
        (self.rejection, self.silent) = (Some(Rejection::Loop), 0);
    }

    /// Returns true if its address is this node itself, or none that a server can have.
    pub(crate) fn is_no_other_server(&self) -> bool {
        self.is_forbidden() || self.rejection == Some(Rejection::OwnAnswer) && self.reach == 0
    }

    /// Returns true if its option `require` is in force. In a list for several nodes it is not in force for the address
    /// of the node itself. For a name it stays in force, since a forged DNS response must not be able to disable it.
    pub(crate) fn is_required(&self) -> bool {
        let itself = self.rejection == Some(Rejection::OwnAddress) && !self.named && self.pool.is_none();
        self.source.require && !self.source.noselect && !itself
    }

    /// Returns true if its server names one of this node's addresses as its reference. This is not tested for servers
    /// on this node, since they may follow other servers on it.
    pub(super) fn names_us(&self, server: Server, own: &OwnAddresses) -> bool {
        let elsewhere = self.address.is_some_and(|address| !own.include(address));
        elsewhere && server.stratum > 1 && own.are_named_by(server.reference_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BootState, Config, Engine, Event, Now, OwnPorts, RequestId, SourceId, SourceState, Start, Upstream,
        Wall, sim::config,
    };

    fn at(seconds: f64) -> Now {
        let nanos = (seconds * 1e9) as i64;
        Now { wall: Wall(1_800_000_000_000_000_000 + nanos), mono: Mono(nanos) }
    }

    fn own(addresses: &[&str]) -> OwnAddresses {
        let ports = OwnPorts { v4: Some(123), v6: Some(123) };
        OwnAddresses::new(addresses.iter().map(|address| address.parse().unwrap()), ports)
    }

    /// An engine with one upstream. `addresses` are the node's own.
    fn engine(upstream: Upstream, addresses: &[&str]) -> Engine {
        let mut orders: Config = config(1);
        orders.sources[0].upstream = upstream;
        let start = Start { boot: BootState::default(), drift: None, samples: None, seed: 1 };
        let mut engine = Engine::new(orders, start, at(0.0));
        let actions = engine.handle(Event::OwnAddresses(&own(addresses)), at(0.0));
        assert!(sends(&actions).is_empty(), "{actions:?}");
        engine
    }

    fn named(host: &str) -> Upstream {
        Upstream::Server { host: host.to_owned(), port: 123 }
    }

    fn sends(actions: &[Action]) -> Vec<(RequestId, SocketAddr)> {
        let send = |action: &Action| match action {
            Action::Send { request, to, .. } => Some((*request, *to)),
            _ => None,
        };
        actions.iter().filter_map(send).collect()
    }

    fn resolve(engine: &mut Engine, addresses: &[&str], seconds: f64) -> Vec<SocketAddr> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let event = Event::Resolved { source: SourceId(0), addresses: &addresses };
        let mut actions = engine.handle(event, at(seconds));
        actions.extend(engine.handle(Event::Wakeup, at(seconds + 0.1)));
        sends(&actions).into_iter().map(|(_, to)| to).collect()
    }

    /// Runs from second `from` to `to`. Returns the seconds of lookups, and the destinations of requests.
    fn watch(engine: &mut Engine, from: u32, to: u32) -> (Vec<u32>, Vec<SocketAddr>) {
        let (mut lookups, mut asked) = (Vec::new(), Vec::new());
        for second in from..to {
            let actions = engine.handle(Event::Wakeup, at(f64::from(second)));
            let looks = actions.iter().any(|action| matches!(action, Action::Resolve { .. }));
            lookups.extend(looks.then_some(second));
            asked.extend(sends(&actions).into_iter().map(|(_, to)| to));
        }
        (lookups, asked)
    }

    #[test]
    fn other_addresses_of_a_name_are_asked_instead() {
        let mut engine = engine(named("ntp.example"), &["10.0.0.7", "2001:db8::7"]);
        engine.handle(Event::Wakeup, at(0.0));
        let all = ["10.0.0.7", "2001:db8::7", "192.0.2.1", "0.0.0.0", "192.0.2.2"];
        assert_eq!(resolve(&mut engine, &all, 0.2), ["192.0.2.1:123".parse().unwrap()]);
        // That address becomes the node's own, too: its request is closed, and the next address is asked.
        let event = own(&["10.0.0.7", "2001:db8::7", "192.0.2.1"]);
        let mut actions = engine.handle(Event::OwnAddresses(&event), at(0.5));
        assert!(matches!(actions[0], Action::Close { .. }), "{actions:?}");
        actions.extend(engine.handle(Event::Wakeup, at(3.0)));
        let asked: Vec<_> = sends(&actions).into_iter().map(|(_, to)| to).collect();
        assert_eq!(asked, ["192.0.2.2:123".parse().unwrap()]);
    }

    #[test]
    fn a_name_of_only_this_node_is_looked_up_again_and_reported() {
        let mut engine = engine(named("ntp.example"), &["10.0.0.7"]);
        engine.handle(Event::Wakeup, at(0.0));
        assert!(resolve(&mut engine, &["10.0.0.7", "::1"], 0.2).is_empty());
        let (lookups, asked) = watch(&mut engine, 1, 600);
        assert!(asked.is_empty(), "{asked:?}");
        assert!((2..=12).contains(&lookups.len()), "{lookups:?}");
        let snapshot = engine.snapshot(at(600.0));
        let source = &snapshot.sources[0];
        assert_eq!((source.state, source.sent), (SourceState::Unusable, 0), "{source:?}");
        assert!(source.why.starts_with("It is this node itself"), "{source:?}");
        watch(&mut engine, 600, 700);
        assert_eq!(resolve(&mut engine, &["192.0.2.1"], 700.0), ["192.0.2.1:123".parse().unwrap()]);
    }

    #[test]
    fn a_pool_fills_its_places_with_others_and_says_if_there_are_none() {
        let pool = || Upstream::Pool { host: "pool.example".to_owned(), port: 123, max_sources: 2 };
        let mut mixed = engine(pool(), &["10.0.0.7"]);
        mixed.handle(Event::Wakeup, at(0.0));
        let asked = resolve(&mut mixed, &["10.0.0.7", "192.0.2.1", "127.0.0.1", "192.0.2.2"], 0.2);
        assert_eq!(asked, ["192.0.2.1:123", "192.0.2.2:123"].map(|to| to.parse().unwrap()));
        // One of the addresses is added to an interface.
        let event = own(&["10.0.0.7", "192.0.2.2"]);
        mixed.handle(Event::OwnAddresses(&event), at(1.0));
        let (_, asked) = watch(&mut mixed, 2, 60);
        assert!(asked.iter().all(|to| to.ip().to_string() == "192.0.2.1"), "{asked:?}");

        let mut only = engine(pool(), &["10.0.0.7"]);
        only.handle(Event::Wakeup, at(0.0));
        assert!(resolve(&mut only, &["10.0.0.7", "::"], 0.2).is_empty());
        assert!(watch(&mut only, 1, 60).1.is_empty());
        let source = &only.snapshot(at(60.0)).sources[0];
        assert!(source.why.starts_with("It is this node itself"), "{source:?}");
    }

    #[test]
    fn the_port_decides_and_what_is_no_longer_own_is_asked() {
        let server = |host: &str, port| Upstream::Server { host: host.to_owned(), port };
        let mut other = engine(server("127.0.0.1", 123), &[]);
        assert!(watch(&mut other, 1, 30).1.is_empty());
        // The node does not serve, or another daemon has the port.
        other.handle(Event::OwnAddresses(&OwnAddresses::default()), at(30.0));
        assert!(!watch(&mut other, 31, 60).1.is_empty());
        let mut other = engine_at_once(server("127.0.0.1", 1123));
        assert!(!watch(&mut other, 1, 30).1.is_empty());
    }

    fn engine_at_once(upstream: Upstream) -> Engine {
        let mut orders: Config = config(1);
        orders.sources[0].upstream = upstream;
        let start = Start { boot: BootState::default(), drift: None, samples: None, seed: 1 };
        let mut engine = Engine::new(orders, start, at(0.0));
        engine.handle(Event::OwnAddresses(&own(&[])), at(0.0));
        engine
    }

    #[test]
    fn an_answer_of_dns_that_is_no_server_is_not_asked() {
        let mut engine = engine_at_once(named("ntp.example"));
        engine.handle(Event::OwnAddresses(&OwnAddresses::default()), at(0.1));
        assert!(resolve(&mut engine, &["0.0.0.0", "::", "224.0.1.1"], 0.2).is_empty());
        assert!(watch(&mut engine, 1, 60).1.is_empty());
        let source = &engine.snapshot(at(60.0)).sources[0];
        assert!(source.why.starts_with("Its name resolves to an address that no server has"), "{source:?}");
        watch(&mut engine, 60, 70);
        assert_eq!(resolve(&mut engine, &["0.0.0.0", "192.0.2.1"], 70.0), ["192.0.2.1:123".parse().unwrap()]);
    }

    #[test]
    fn an_own_answer_ends_no_request() {
        let mut engine = engine_at_once(named("192.0.2.1"));
        let (request, _) = loop_until_sent(&mut engine);
        let actions = engine.handle(Event::OwnAnswer { request }, at(5.2));
        assert!(!actions.contains(&Action::Close { request }), "{actions:?}");
        let source = &engine.snapshot(at(5.2)).sources[0];
        assert_eq!((source.rejected, source.received, source.reach & 1), (1, 0, 0));
    }

    fn loop_until_sent(engine: &mut Engine) -> (RequestId, SocketAddr) {
        let found = (0..50).find_map(|tenth| {
            let actions = engine.handle(Event::Wakeup, at(5.0 + f64::from(tenth) / 1e3));
            sends(&actions).first().copied()
        });
        found.expect("a request")
    }
}
