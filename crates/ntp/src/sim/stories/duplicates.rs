//! One server under several names has one vote, and is asked once.
use std::net::IpAddr;

use super::{STARTED, count, named};
use crate::{
    Auth, Config, LocalClock, Reason, SourceSnapshot, SourceState, Transition, Upstream,
    sim::{Behaviour, HONEST, Script, Sim, ahead, config, honest},
};

const NTS: Auth = Auth::Nts { ca: None, port: 4460 };

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn pool(host: &str, max_sources: usize) -> Upstream {
    Upstream::Pool { host: host.to_owned(), port: 123, max_sources }
}

/// A configuration with sources named a, b, c and so on, each a server with the name `a.example` and so on.
fn names(count: usize) -> Config {
    let mut orders = config(count);
    for (source, letter) in orders.sources.iter_mut().zip('a'..='z') {
        source.name = letter.to_string();
        source.upstream = named(&format!("{letter}.example"));
    }
    orders
}

/// The addresses of the names a.example, b.example and so on.
fn resolving(hosts: &[&[u8]]) -> Vec<(String, Vec<IpAddr>)> {
    let names = hosts.iter().zip('a'..='z');
    names
        .map(|(last, letter)| (format!("{letter}.example"), last.iter().map(|n| address(*n)).collect()))
        .collect()
}

fn started(orders: Config, servers: Vec<Script>, hosts: &[&[u8]]) -> Sim {
    let mut sim = Sim::booted(orders, 0.0, servers, STARTED, 1);
    sim.hosts = resolving(hosts);
    sim
}

fn source(sim: &Sim, name: &str) -> SourceSnapshot {
    sim.snapshot().sources.into_iter().find(|source| source.name == name).expect("the source is there")
}

fn asked(sim: &Sim) -> Vec<Option<IpAddr>> {
    sim.snapshot().sources.iter().map(|source| source.address).collect()
}

/// Asserts that the source is a duplicate of the other one: it has no vote and is not asked.
fn assert_duplicate(sim: &mut Sim, name: &str, of: &str) {
    let before = source(sim, name);
    sim.run(200.0);
    let after = source(sim, name);
    assert_eq!(after.state, SourceState::Unusable, "{after:?}");
    let expected = format!("Same server as {of} at {}:123, which counts already", address_of(&after));
    assert!(after.why.starts_with(&expected), "{after:?}");
    assert_eq!((after.sent, after.reach), (before.sent, 0), "it is asked: {after:?}");
    assert!(counts(sim, of), "{:?}", source(sim, of));
}

fn address_of(source: &SourceSnapshot) -> IpAddr {
    source.address.expect("it has an address")
}

/// Returns true if the source is asked and believed.
fn counts(sim: &Sim, name: &str) -> bool {
    let source = source(sim, name);
    matches!(source.state, SourceState::Selected | SourceState::Combined | SourceState::Agreeing)
        && source.reach == 0xff
}

#[test]
fn a_falseticker_with_three_names_does_not_outvote_two_correct_servers() {
    let mut sim = started(names(5), vec![honest(), honest(), ahead(0.5)], &[&[3], &[3], &[3], &[1], &[2]]);
    sim.run(400.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert_eq!(source(&sim, "a").state, SourceState::Falseticker);
    for name in ["b", "c"] {
        let source = source(&sim, name);
        assert!(source.why.starts_with("Same server as a at 192.0.2.3:123"), "{source:?}");
        assert_eq!(
            (source.state, source.sent, source.offset),
            (SourceState::Unusable, 0, None),
            "{source:?}"
        );
    }
}

#[test]
fn a_name_is_the_same_server_as_an_address_in_any_spelling() {
    let mut orders = names(3);
    orders.sources[1].upstream = named("2001:DB8:0::0:2");
    orders.sources[2].upstream = named("::ffff:192.0.2.1");
    let mut sim = started(orders, vec![honest(), honest()], &[&[1]]);
    sim.hosts[0].1 = vec!["::ffff:192.0.2.1".parse().expect("an address")];
    sim.run(300.0);
    assert_eq!(asked(&sim), [Some(address(1)), "2001:db8::2".parse().ok(), Some(address(1))]);
    assert!(counts(&sim, "a") && counts(&sim, "b"));
    assert_duplicate(&mut sim, "c", "a");
}

#[test]
fn two_ports_of_an_address_are_two_votes() {
    let mut orders = config(2);
    orders.min_sources = 2;
    orders.sources[1].upstream = Upstream::Server { host: "192.0.2.1".to_owned(), port: 1123 };
    let mut sim = Sim::new(orders, 0.0, vec![honest()]);
    sim.run(300.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert!(counts(&sim, "s0") && counts(&sim, "s1"));
}

#[test]
fn the_later_one_first_tries_its_other_addresses() {
    let mut orders = names(3);
    orders.min_sources = 3;
    let servers = (0..3).map(|_| honest()).collect();
    let mut sim = started(orders, servers, &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]);
    sim.run(300.0);
    assert_eq!(asked(&sim), [1, 2, 3].map(|last| Some(address(last))));
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn one_with_other_addresses_leaves_the_only_one_of_another() {
    // The second address of a is silent for some time. Then only one of the two names counts, and synchronisation is
    // not lost.
    let silent: Script = Box::new(|now| Behaviour { silent: (600.0..3000.0).contains(&now), ..HONEST });
    let mut sim = started(names(3), vec![honest(), silent, honest()], &[&[1, 2], &[1], &[3]]);
    sim.run(600.0);
    assert!(["a", "b", "c"].iter().all(|name| counts(&sim, name)), "{:?}", sim.snapshot());
    assert_eq!(asked(&sim)[..2], [Some(address(2)), Some(address(1))]);
    sim.run(2400.0);
    assert!(sim.snapshot().synchronized);
    sim.run(1500.0);
    assert!(["a", "b", "c"].iter().all(|name| counts(&sim, name)), "{:?}", sim.snapshot());
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 0, "{:?}", sim.announced);
}

#[test]
fn a_duplicate_whose_other_addresses_are_silent_reports_that() {
    let silent: Script = Box::new(|now| Behaviour { silent: now < 6000.0, ..HONEST });
    // The last address has no route.
    for other in [2, 250] {
        let silent: Script = Box::new(|now| Behaviour { silent: now < 6000.0, ..HONEST });
        let mut sim = started(names(2), vec![honest(), silent], &[&[1], &[1, other]]);
        sim.run(1000.0);
        assert_duplicate(&mut sim, "b", "a");
        let b = source(&sim, "b");
        assert!(b.why.contains("Its other addresses"), "{b:?}");
        let sent = b.sent;
        sim.run(3000.0);
        assert!(source(&sim, "b").sent < sent + 30, "{:?}", source(&sim, "b"));
    }
    // It is tried again later.
    let mut sim = started(names(2), vec![honest(), silent], &[&[1], &[1, 2]]);
    sim.run(11_000.0);
    assert_eq!(source(&sim, "b").address, Some(address(2)), "{:?}", source(&sim, "b"));
    assert!(counts(&sim, "a") && counts(&sim, "b"), "{:?}", source(&sim, "b"));
}

#[test]
fn the_proven_one_counts_then_what_the_user_asked_for_then_the_first() {
    let check = |change: fn(&mut Config), first: &str, second: &str| {
        let mut orders = names(3);
        change(&mut orders);
        let mut sim = started(orders, vec![honest(), honest()], &[&[1], &[1], &[2]]);
        sim.run(300.0);
        assert_duplicate(&mut sim, second, first);
        assert!(sim.snapshot().synchronized, "{:?}", sim.snapshot());
    };
    check(|_| {}, "a", "b");
    check(|orders| orders.sources[1].auth = NTS, "b", "a");
    check(|orders| orders.sources[1].auth = Auth::Key("k".to_owned()), "b", "a");
    check(|orders| orders.sources[1].require = true, "b", "a");
    check(|orders| orders.sources[1].trust = true, "b", "a");
    check(|orders| orders.sources[1].prefer = true, "b", "a");
    check(|orders| (orders.sources[0].prefer, orders.sources[1].trust) = (true, true), "b", "a");
    check(|orders| (orders.sources[0].trust, orders.sources[1].require) = (true, true), "b", "a");
    check(|orders| (orders.sources[0].require, orders.sources[1].auth) = (true, NTS), "b", "a");
    check(|orders| (orders.sources[0].auth, orders.sources[1].auth) = (NTS, NTS), "a", "b");
    check(|orders| orders.sources[0].noselect = true, "b", "a");
}

#[test]
fn what_the_user_asked_of_a_server_holds_under_its_other_name() {
    let mut orders = names(3);
    (orders.sources[0].require, orders.sources[1].auth, orders.sources[1].trust) = (true, NTS, true);
    // The third is a falseticker, and the second is another name of the first.
    let mut sim = started(orders, vec![honest(), ahead(0.5)], &[&[1], &[1], &[2]]);
    sim.run(300.0);
    assert_duplicate(&mut sim, "a", "b");
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn what_was_asked_of_a_server_ends_with_the_name_that_asked_it() {
    let mut orders = names(3);
    (orders.sources[0].require, orders.sources[1].prefer) = (true, true);
    let mut sim = started(orders.clone(), vec![honest(), honest()], &[&[1], &[1], &[2]]);
    sim.run(300.0);
    assert_duplicate(&mut sim, "b", "a");
    assert!(source(&sim, "c").why.starts_with("A preferred source"), "{:?}", source(&sim, "c"));
    orders.sources.remove(1);
    sim.reconfigure(orders);
    sim.run(100.0);
    assert_eq!(source(&sim, "c").state, SourceState::Combined, "{:?}", source(&sim, "c"));
}

#[test]
fn min_sources_counts_votes() {
    let mut orders = names(2);
    orders.min_sources = 2;
    let mut sim = started(orders, vec![honest()], &[&[1], &[1]]);
    sim.run(300.0);
    assert_eq!(sim.snapshot().reason, Reason::TooFewSources);
}

#[test]
fn one_that_resolves_later_takes_the_vote_over_with_what_was_measured() {
    let mut orders = names(2);
    orders.min_sources = 2;
    let mut sim = started(orders, vec![honest(), honest()], &[&[], &[1]]);
    sim.config.sources.push({
        let mut third = names(3).sources.remove(2);
        third.name = "c".to_owned();
        third
    });
    sim.hosts = resolving(&[&[], &[1], &[2]]);
    sim.reconfigure(sim.config.clone());
    sim.run(300.0);
    assert!(counts(&sim, "b") && counts(&sim, "c"));
    sim.hosts = resolving(&[&[1], &[1], &[2]]);
    sim.run(300.0);
    assert_duplicate(&mut sim, "b", "a");
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 0, "{:?}", sim.announced);
}

#[test]
fn when_the_one_that_counts_moves_or_goes_the_other_takes_its_place() {
    let mut sim = started(names(2), vec![honest(), honest()], &[&[1], &[1]]);
    sim.run(300.0);
    assert_duplicate(&mut sim, "b", "a");
    sim.hosts = resolving(&[&[2], &[1]]);
    sim.run(86_500.0);
    assert_eq!(asked(&sim), [Some(address(2)), Some(address(1))]);
    assert!(counts(&sim, "a") && counts(&sim, "b"), "{:?}", sim.snapshot());
    // The source that counts is removed from the configuration.
    let mut sim = started(names(2), vec![honest()], &[&[1], &[1]]);
    sim.run(300.0);
    let mut orders = names(2);
    orders.sources.remove(0);
    sim.reconfigure(orders);
    sim.run(1.0);
    assert!(matches!(source(&sim, "b").state, SourceState::Selected), "{:?}", source(&sim, "b"));
    assert!(sim.snapshot().synchronized);
    assert_eq!(count(&sim, &Transition::SynchronizationLost), 0);
}

#[test]
fn the_duplicate_moves_to_another_server_when_its_name_does() {
    let mut sim = started(names(2), vec![honest(), honest()], &[&[1], &[1]]);
    sim.run(300.0);
    assert_duplicate(&mut sim, "b", "a");
    sim.hosts = resolving(&[&[1], &[2]]);
    sim.run(4000.0);
    assert_eq!(asked(&sim), [Some(address(1)), Some(address(2))]);
    assert!(counts(&sim, "a") && counts(&sim, "b"), "{:?}", sim.snapshot());
}

#[test]
fn a_member_of_a_pool_gives_way_to_a_server_at_its_address() {
    // The pool is first in the list, and its name resolves first.
    for pool_first in [true, false] {
        let mut orders = names(2);
        orders.sources[usize::from(!pool_first)].upstream = pool("pool.example", 2);
        let servers = (0..3).map(|_| honest()).collect();
        let mut sim = started(orders, servers, &[&[], &[]]);
        sim.names = [1, 2, 3].map(address).to_vec();
        sim.hosts.iter_mut().for_each(|(_, addresses)| *addresses = Vec::new());
        sim.run(100.0);
        sim.hosts.iter_mut().for_each(|(_, addresses)| *addresses = vec![address(2)]);
        sim.run(400.0);
        let mut asked: Vec<_> = asked(&sim);
        asked.sort();
        assert_eq!(asked, [1, 2, 3].map(|last| Some(address(last))));
        assert!(
            sim.snapshot().sources.iter().all(|source| counts(&sim, &source.name)),
            "{:?}",
            sim.snapshot()
        );
    }
}

#[test]
fn pools_share_no_members() {
    let mut orders = names(2);
    orders.sources[0].upstream = pool("one.example", 4);
    orders.sources[1].upstream = pool("two.example", 4);
    let mut sim = Sim::booted(orders.clone(), 0.0, (0..4).map(|_| honest()).collect(), STARTED, 1);
    sim.names = [1, 2, 3].map(address).to_vec();
    sim.run(400.0);
    let snapshot = sim.snapshot();
    let voting = snapshot.sources.iter().filter(|source| source.reach == 0xff);
    assert_eq!(voting.count(), 3, "{snapshot:?}");
    let b = source(&sim, "b#1");
    assert!(b.why.starts_with("Same server as a#"), "{b:?}");
    // With more addresses it gets its own.
    sim.names.push(address(4));
    sim.run(4000.0);
    assert_eq!(sim.snapshot().sources.iter().filter(|source| source.reach == 0xff).count(), 4);
    // A pool with authentication counts before one without.
    orders.sources[1].auth = NTS;
    let mut sim = Sim::booted(orders, 0.0, (0..3).map(|_| honest()).collect(), STARTED, 1);
    sim.names = [1, 2, 3].map(address).to_vec();
    sim.run(400.0);
    assert!(counts(&sim, "b#1"), "{:?}", sim.snapshot());
}

#[test]
fn a_server_is_not_outvoted_by_a_peer_that_is_the_same() {
    let mut orders = names(3);
    orders.local = Some(LocalClock { stratum: 10, orphan: true, activate_after: 300.0 });
    let mut sim = started(orders, vec![honest(), honest()], &[&[1], &[1], &[2]]);
    sim.run(300.0);
    assert_duplicate(&mut sim, "b", "a");
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn a_silent_server_with_two_names_is_not_reached() {
    let silent: Script = Box::new(|now| Behaviour { silent: now > 600.0, ..HONEST });
    let mut sim = started(names(2), vec![silent], &[&[1], &[1]]);
    sim.run(600.0);
    assert!(sim.snapshot().synchronized);
    sim.run(1000.0);
    assert_eq!(sim.snapshot().reason, Reason::Holdover);
    assert_eq!(count(&sim, &Transition::UpstreamsUnreachable), 1);
}

#[test]
fn a_duplicate_has_no_vote_by_what_was_measured_before_a_restart() {
    let mut orders = names(3);
    orders.min_sources = 2;
    let mut sim = started(orders, vec![honest(), honest()], &[&[3], &[1], &[2]]);
    sim.servers.push(honest());
    sim.run(1000.0);
    assert!(["a", "b", "c"].iter().all(|name| counts(&sim, name)));
    // The name b now resolves to a's server, and its source was there before.
    sim.hosts = resolving(&[&[1], &[1], &[2]]);
    sim.end(false);
    sim.begin();
    sim.run(2.0);
    let b = source(&sim, "b");
    assert!(b.why.starts_with("Same server as a at 192.0.2.1:123"), "{b:?}");
    assert_eq!((b.offset, b.reach), (None, 0), "{b:?}");
}

#[test]
fn a_pool_whose_exchanges_name_one_server_does_not_repeat_them() {
    let mut orders = names(2);
    orders.sources[0].auth = NTS;
    orders.sources[1].upstream = pool("pool.example", 2);
    orders.sources[1].auth = NTS;
    let mut sim = started(orders, vec![honest(), honest()], &[&[1]]);
    // Every key exchange of the pool's members names the server of a.
    sim.names = [1, 11, 12, 13].map(address).to_vec();
    sim.hosts.push(("exchanges".to_owned(), vec![address(1)]));
    sim.run(2000.0);
    assert!(counts(&sim, "a"));
    assert!(sim.resolved < 60, "{}", sim.resolved);
}
