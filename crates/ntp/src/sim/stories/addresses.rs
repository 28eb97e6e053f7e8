//! Servers with several addresses, some of them silent: by name, and with NTS, with a limited number of cookies.
use std::net::{IpAddr, Ipv6Addr};

use super::named;
use crate::{
    Auth, SourceState,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

fn silent() -> Script {
    Box::new(|_| Behaviour { silent: true, ..HONEST })
}

fn silent_from(begin: f64) -> Script {
    Box::new(move |now| Behaviour { silent: now > begin, ..HONEST })
}

fn v4(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

/// One source with this authentication. Its name resolves to `names`. The servers are at .1, .2 and so on.
fn sim(auth: Auth, iburst: bool, names: &[IpAddr], servers: Vec<Script>) -> Sim {
    let mut orders = config(1);
    orders.sources[0].upstream = named("ntp.example");
    (orders.sources[0].auth, orders.sources[0].iburst) = (auth, iburst);
    let mut sim = Sim::new(orders, 0.0, servers);
    sim.names = names.to_vec();
    sim
}

const NTS: Auth = Auth::Nts { ca: None, port: 4460 };

/// Runs until the source is at `address` and has answered, and returns when that was.
fn reached(sim: &mut Sim, address: IpAddr, limit: f64) -> f64 {
    while sim.now < limit {
        sim.run(0.1);
        let source = &sim.snapshot().sources[0];
        if source.address == Some(address) && source.reach & 1 == 1 {
            return sim.now;
        }
    }
    panic!("not within {limit} s: {:?}", sim.snapshot().sources);
}

#[test]
fn silent_addresses_give_way_within_seconds_and_cost_no_exchange() {
    let names = [v6(1), v6(2), v6(3), v4(4)];
    for (auth, exchanges) in [(NTS, 1), (Auth::None, 0)] {
        for (iburst, limit) in [(true, 5.0), (false, 15.0)] {
            let servers = vec![silent(), silent(), silent(), honest()];
            let mut sim = sim(auth.clone(), iburst, &names, servers);
            let at = reached(&mut sim, v4(4), 60.0);
            assert!(at <= limit, "{auth:?}, iburst {iburst}: {at}");
            sim.run(600.0);
            assert_eq!((sim.exchanges, sim.snapshot().sources[0].address), (exchanges, Some(v4(4))));
        }
    }
}

#[test]
fn addresses_are_tried_one_after_the_other_whatever_their_families() {
    let names = [v4(1), v4(2), v4(3), v4(4), v4(5), v4(6)];
    for auth in [NTS, Auth::None] {
        let mut servers: Vec<Script> = (0..5).map(|_| silent()).collect();
        servers.push(honest());
        let mut sim = sim(auth.clone(), false, &names, servers);
        let at = reached(&mut sim, v4(6), 600.0);
        assert!(at < 60.0, "{auth:?}: {at}");
        assert!(sim.exchanges <= 1, "{}", sim.exchanges);
    }
}

#[test]
fn the_next_address_is_asked_with_the_cookies_that_are_left() {
    let mut sim = sim(NTS, true, &[v6(1), v4(2)], vec![silent_from(600.0), honest()]);
    sim.run(600.0);
    assert_eq!(sim.snapshot().sources[0].address, Some(v6(1)));
    let at = reached(&mut sim, v4(2), 1600.0);
    assert!(at < 600.0 + 8.0 * 64.0, "{at}");
    assert_eq!(sim.exchanges, 1, "an exchange was needed");
}

#[test]
fn a_new_exchange_goes_on_with_the_addresses_that_were_not_tried() {
    // More addresses than cookies.
    let names: Vec<IpAddr> = (1..=12).map(v4).collect();
    let mut servers: Vec<Script> = (0..11).map(|_| silent()).collect();
    servers.push(honest());
    let mut sim = sim(NTS, true, &names, servers);
    let at = reached(&mut sim, v4(12), 900.0);
    assert!(at < 300.0 && sim.exchanges == 2, "{at}: {}", sim.exchanges);
}

#[test]
fn addresses_that_are_all_silent_cost_few_requests_and_fewer_exchanges() {
    let names = [v6(1), v6(2), v4(3)];
    let mut sim = sim(NTS, true, &names, vec![silent(), silent(), silent()]);
    sim.run(120.0);
    let source = &sim.snapshot().sources[0];
    assert!(matches!(source.state, SourceState::Unreachable | SourceState::Unusable), "{source:?}");
    sim.run(3600.0);
    // Exchanges after 10, 15, 23 s and so on.
    assert!(sim.exchanges <= 14, "{}", sim.exchanges);
    let (requests, exchanges) = (sim.sent.len(), sim.exchanges);
    sim.run(36_000.0);
    assert!(sim.exchanges - exchanges <= 14, "{}", sim.exchanges - exchanges);
    assert!(sim.sent.len() - requests <= 8 * 14, "{}", sim.sent.len() - requests);
}

#[test]
fn one_lost_request_changes_no_source() {
    // The first two requests of each minute are lost.
    let flaky: Script = Box::new(|now| Behaviour { silent: now % 64.0 < 1.0, ..HONEST });
    let mut sim = sim(NTS, true, &[v4(1), v4(2)], vec![flaky, honest()]);
    sim.run(60.0);
    let address = sim.snapshot().sources[0].address;
    sim.run(3600.0);
    assert_eq!((sim.snapshot().sources[0].address, sim.exchanges), (address, 1));
}

#[test]
fn a_name_that_does_not_resolve_is_reported_with_the_reason_and_looked_up_soon() {
    let mut sim = sim(NTS, true, &[], vec![honest()]);
    sim.run(1800.0);
    let source = &sim.snapshot().sources[0];
    assert_eq!(
        (source.state, source.why.as_str()),
        (
            SourceState::Unresolved,
            "The name ntp.example does not resolve: no such name. Check the name, and the DNS servers of this node."
        )
    );
    assert!(sim.resolved < 40, "{}", sim.resolved);
    sim.names = vec![v4(1)];
    let at = reached(&mut sim, v4(1), 1900.0);
    assert!(at < 1800.0 + 70.0, "{at}");
}
