//! A node never follows itself, by its own addresses or by a virtual address that leads back to it. It may be in its
//! own list without a disadvantage.
use std::net::IpAddr;

use crate::{
    Config, LocalClock, Reason, SourceSnapshot, SourceState, StepReason, Transition,
    sim::group::{Group, UPSTREAM, asking},
};

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// An address that leads to a member, but is on none of their interfaces.
const VIRTUAL: &str = "10.0.0.100";

/// Machines at these addresses that ask `hosts`, and serve their own clocks while no upstream is usable. Their clocks
/// are half a second apart.
fn group(numbers: &[u8], hosts: &[&str], orphan: bool, seed: u64) -> Group {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let local = Some(LocalClock { stratum: 10, orphan, activate_after: 0.0 });
    let orders = Config { local, ..asking(&hosts) };
    let member = |(index, number): (usize, &u8)| (address(*number), orders.clone(), 0.5 * index as f64);
    let mut group = Group::new(numbers.iter().enumerate().map(member).collect(), seed);
    group.upstream = vec![false; numbers.len()];
    group
}

fn source(group: &Group, index: usize, name: &str) -> SourceSnapshot {
    let address = name.parse::<IpAddr>().expect("an address").to_canonical();
    let found = group.snapshot(index).sources.into_iter().find(|source| source.address == Some(address));
    found.expect("it is in the list")
}

/// Checks that the source is not asked, and shows the reason.
fn check_not_asked(group: &Group, index: usize, name: &str) {
    let source = source(group, index, name);
    assert_eq!((source.state, source.sent), (SourceState::Unusable, 0), "{index} {name}: {source:?}");
    assert!(source.why.starts_with("It is this node itself"), "{source:?}");
}

#[test]
fn a_node_that_knows_only_itself_has_no_true_time_and_may_still_step() {
    let own = ["10.0.0.1", "127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:10.0.0.1", "127.8.8.8"];
    for orphan in [false, true] {
        for hosts in [&own[..], &own[..1], &own[2..3]] {
            let mut group = group(&[1], hosts, orphan, 1);
            group.run(60.0);
            let snapshot = group.snapshot(0);
            assert!(snapshot.start_phase && snapshot.reference.is_none(), "{snapshot:?}");
            assert_eq!((snapshot.reason, group.served(0).stratum), (Reason::LocalClock, 10), "{snapshot:?}");
            hosts.iter().for_each(|host| check_not_asked(&group, 0, host));
            assert_eq!(group.members[0].moves, 0);
        }
    }
}

#[test]
fn one_list_of_peers_serves_a_group_and_a_later_server_may_step() {
    for orphan in [false, true] {
        let hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3", UPSTREAM];
        let mut group = group(&[1, 2, 3], &hosts, orphan, 2);
        for _ in 0..30 {
            group.run(20.0);
            for (index, host) in hosts[..3].iter().enumerate() {
                assert_ne!(group.followed(index), Some(index), "{index} follows itself");
                check_not_asked(&group, index, host);
            }
        }
        assert!((0..3).all(|index| group.snapshot(index).start_phase));
        // True time is 40 s away.
        group.members.iter_mut().for_each(|member| member.offset += 40.0);
        for index in 0..3 {
            group.revive(index);
        }
        group.run(120.0);
        group.upstream = vec![true; 3];
        group.run(600.0);
        for (index, member) in group.members.iter().enumerate() {
            let steps = member.announced.iter().filter(
                |(_, announced)| matches!(announced, Transition::Stepped { by, why: StepReason::Start } if *by < -30.0),
            );
            assert_eq!(steps.count(), 1, "{index}: {:?}", member.announced);
            assert!(member.offset.abs() < 1e-3, "{index} is {} off", member.offset);
        }
    }
}

#[test]
fn beside_a_real_server_its_own_address_does_not_count() {
    for own in ["10.0.0.1", "127.0.0.1", VIRTUAL] {
        let mut group = group(&[1], &[own, UPSTREAM], false, 3);
        group.virtual_addresses = vec![(VIRTUAL.parse().expect("an address"), 0)];
        group.members[0].offset = 0.02;
        group.upstream = vec![true];
        for _ in 0..60 {
            group.run(1.0);
            assert_ne!(group.snapshot(0).reason, Reason::NoMajority, "{own} at {}", group.now);
        }
        let snapshot = group.snapshot(0);
        assert_eq!((snapshot.reason, snapshot.stratum), (Reason::Synchronized, 2), "{own}: {snapshot:?}");
        assert!(group.members[0].offset.abs() < 1e-3, "{own}: {}", group.members[0].offset);
    }
}

#[test]
fn a_list_with_itself_required_holds_for_the_others() {
    let mut group = group(&[1], &["10.0.0.1", UPSTREAM], false, 7);
    group.members[0].config.sources[0].require = true;
    group.revive(0);
    group.upstream = vec![true];
    group.run(60.0);
    assert_eq!(group.snapshot(0).reason, Reason::Synchronized);
}

#[test]
fn behind_a_virtual_address_it_knows_its_own_answers() {
    let mut group = group(&[1, 2], &[VIRTUAL], false, 4);
    group.virtual_addresses = vec![(VIRTUAL.parse().expect("an address"), 0)];
    group.run(300.0);
    let snapshot = group.snapshot(0);
    assert!(snapshot.start_phase && snapshot.reference.is_none(), "{snapshot:?}");
    assert_eq!((snapshot.reason, group.served(0).stratum), (Reason::LocalClock, 10), "{snapshot:?}");
    let itself = source(&group, 0, VIRTUAL);
    assert_eq!((itself.state, itself.reach), (SourceState::Unusable, 0), "{itself:?}");
    assert!(itself.sent > 0 && itself.why.contains("come back to this node"), "{itself:?}");
    // For the other machine it is a usual server.
    let other = source(&group, 1, VIRTUAL);
    assert_eq!(other.state, SourceState::Selected, "{other:?}");
}

#[test]
fn a_virtual_address_is_a_server_while_another_machine_has_it() {
    let address: IpAddr = VIRTUAL.parse().expect("an address");
    for added in [false, true] {
        let mut group = group(&[1, 2], &[VIRTUAL, UPSTREAM], false, 5);
        group.upstream = vec![false, true];
        group.virtual_addresses = vec![(address, 1)];
        group.members[0].offset = 0.0;
        group.run(300.0);
        assert_eq!(group.snapshot(0).reason, Reason::Synchronized);
        // It moves to this node: by address translation, or as an address of an interface.
        group.virtual_addresses = vec![(address, 0)];
        if added {
            group.introduce(0, &[address]);
        }
        let sent = source(&group, 0, VIRTUAL).sent;
        for _ in 0..20 {
            group.run(60.0);
            let itself = source(&group, 0, VIRTUAL);
            assert!(!added || itself.sent == sent && itself.state == SourceState::Unusable, "{itself:?}");
            assert!(group.members[0].offset.abs() < 10e-3, "{}", group.members[0].offset);
        }
        assert_eq!(group.snapshot(0).reason, Reason::Holdover);
        group.virtual_addresses = vec![(address, 1)];
        group.introduce(0, &[]);
        group.run(150.0);
        assert_eq!((group.snapshot(0).reason, group.snapshot(0).stratum), (Reason::Synchronized, 3));
    }
}

#[test]
fn a_follower_of_another_own_address_follows_this_node() {
    // Each asks the other at an address from which the other does not ask.
    let outer = ["10.9.0.1", "10.9.0.2"];
    let mut group = group(&[1, 2], &outer, false, 6);
    let addresses: Vec<IpAddr> = outer.iter().map(|address| address.parse().expect("an address")).collect();
    group.virtual_addresses = addresses.iter().copied().zip(0..).collect();
    (0..2).for_each(|index| group.introduce(index, &addresses[index..=index]));
    group.run(10.0);
    for _ in 0..120 {
        group.run(10.0);
        let strata = [0, 1].map(|index| group.served(index).stratum);
        assert!(
            strata.iter().all(|stratum| [10, 11, 16].contains(stratum)),
            "{strata:?}: they follow each other"
        );
    }
    assert!(!group.parents().is_empty(), "one of them serves the other");
}
