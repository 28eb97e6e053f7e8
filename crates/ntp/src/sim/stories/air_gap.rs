//! Nodes without upstreams: which serves its own clock and when, which node follows which, and that upstreams take
//! precedence once they are back. Also peers that have upstreams, which fail.
use std::net::IpAddr;

use proptest::prelude::*;

use crate::{
    Config, Leap, LocalClock, Reason, SourceState,
    sim::{
        Behaviour, HONEST, Sim, config,
        group::{Group, UPSTREAM, asking},
    },
    wire::packet::reference_id_of,
};

fn orphan(activate_after: f64) -> Option<LocalClock> {
    Some(LocalClock { stratum: 10, orphan: true, activate_after })
}

fn address(number: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, number as u8])
}

/// Orphans at these addresses. Each asks all of them, itself included, as with one policy for all nodes, and the
/// upstream. Their clocks are half a second apart.
fn orphans(numbers: &[usize], activate_after: f64) -> Group {
    let mut hosts: Vec<String> = numbers.iter().map(|number| address(*number).to_string()).collect();
    hosts.push(UPSTREAM.to_owned());
    let orders = Config { local: orphan(activate_after), ..asking(&hosts) };
    let member = |(index, number): (usize, &usize)| (address(*number), orders.clone(), 0.5 * index as f64);
    let mut group = Group::new(numbers.iter().enumerate().map(member).collect(), 1);
    group.upstream = vec![false; numbers.len()];
    group
}

/// Checks that the parent serves its own clock and does not correct it, and that the others follow it, with the next
/// stratum and the same time.
fn check_family(group: &Group, parent: usize, others: &[usize]) {
    assert_eq!(group.parents(), [parent]);
    let served = group.served(parent);
    assert_eq!(
        (served.stratum, served.leap, served.root_delay, served.root_dispersion),
        (10, Leap::None, 0.0, 0.0)
    );
    let snapshot = group.snapshot(parent);
    assert_eq!(
        (snapshot.synchronized, snapshot.reason, snapshot.reference),
        (true, Reason::LocalClock, None)
    );
    assert_eq!(snapshot.stratum, 10);
    for &child in others {
        let snapshot = group.snapshot(child);
        assert_eq!((snapshot.synchronized, snapshot.reason), (true, Reason::LocalReference), "{snapshot:?}");
        assert_eq!((snapshot.stratum, group.followed(child)), (11, Some(parent)));
        assert!(snapshot.start_phase, "nobody has told it true time");
        let served = group.served(child);
        assert_eq!((served.stratum, served.leap), (11, Leap::None));
        let apart = group.members[child].offset - group.members[parent].offset;
        assert!(apart.abs() < 1e-3, "{child} is {apart} from {parent}");
        assert!(snapshot.error_bound.is_some_and(|bound| bound >= apart.abs()), "{snapshot:?}");
    }
}

#[test]
fn three_isolated_machines_elect_one_and_survive_it_and_upstreams_win() {
    // They are not in the order of their addresses.
    let mut group = orphans(&[12, 11, 13], 300.0);
    group.run(299.0);
    for index in 0..3 {
        assert_eq!(group.served(index).stratum, 16);
        assert_eq!((group.members[index].moves, group.snapshot(index).synchronized), (0, false));
    }
    group.run(600.0);
    check_family(&group, 1, &[0, 2]);
    assert_eq!(group.members[1].moves, 0, "it does not steer");
    let states: Vec<SourceState> = group.snapshot(0).sources.iter().map(|source| source.state).collect();
    assert_eq!(states[1], SourceState::Selected, "{states:?}");

    // The parent dies. The others continue until they notice it, and then elect the next one.
    group.members[1].alive = false;
    group.run(200.0);
    assert_eq!((group.served(0).stratum, group.served(2).stratum), (11, 11));
    let moves = group.members[0].moves;
    group.run(1800.0);
    check_family(&group, 0, &[2]);
    assert!(group.members[0].moves <= moves + 2, "a slew ends, and that is all");

    // The parent comes back with another time, and is followed again.
    group.revive(1);
    group.members[1].offset -= 0.2;
    group.run(1800.0);
    assert_eq!(group.parents(), [1]);
    check_family(&group, 1, &[0, 2]);

    // One member reaches the upstream. All follow true time, the parent too, although it was off by half a second.
    group.upstream[2] = true;
    group.run(600.0);
    assert_eq!(group.parents(), [0_usize; 0]);
    for index in 0..3 {
        let snapshot = group.snapshot(index);
        assert_eq!((snapshot.synchronized, snapshot.reason), (true, Reason::Synchronized), "{snapshot:?}");
        assert_eq!(snapshot.stratum, if index == 2 { 2 } else { 3 });
        let offset = group.members[index].offset;
        assert!(offset.abs() < 1e-3 && !snapshot.start_phase, "{index}: {offset}");
    }
}

/// Runs, and checks every half minute that the error bounds of members with true time hold, and that no two members
/// follow each other for longer than the detection takes.
fn run_watched(group: &mut Group, seconds: f64) {
    let end = group.now + seconds;
    let mut mutual = 0;
    while group.now < end {
        group.run(30.0);
        let mut follows_follower = false;
        for index in 0..group.members.len() {
            let (snapshot, offset) = (group.snapshot(index), group.members[index].offset);
            let local = matches!(snapshot.reason, Reason::LocalReference | Reason::LocalClock);
            let knows = snapshot.synchronized && !local;
            let holds = snapshot.error_bound.is_some_and(|bound| bound >= offset.abs());
            assert!(!knows || holds, "at {}: {index} is off by {offset}: {snapshot:?}", group.now);
            let fresh = |index: usize| group.snapshot(index).reason == Reason::Synchronized;
            let back = group.followed(index).and_then(|other| group.followed(other));
            follows_follower |= back == Some(index) && fresh(index);
        }
        mutual = if follows_follower { mutual + 1 } else { 0 };
        // Eight polls of 64 s.
        assert!(mutual < 18, "at {}: two follow each other", group.now);
    }
}

#[test]
fn peers_follow_the_better_and_never_each_other() {
    let orders = |other: usize| asking(&[address(other).to_string(), UPSTREAM.to_owned()]);
    let members = vec![(address(1), orders(2), 0.3), (address(2), orders(1), -0.2)];
    let mut group = Group::new(members, 5);
    run_watched(&mut group, 900.0);
    for index in 0..2 {
        let snapshot = group.snapshot(index);
        assert!(snapshot.synchronized && snapshot.stratum == 2, "{snapshot:?}");
        assert!(group.members[index].offset.abs() < 1e-3);
    }
    // One loses the upstream, and gets true time from the other.
    group.upstream[0] = false;
    run_watched(&mut group, 1800.0);
    let snapshot = group.snapshot(0);
    assert_eq!((group.followed(0), snapshot.stratum, snapshot.reason), (Some(1), 3, Reason::Synchronized));
    assert_eq!((group.followed(1), group.snapshot(1).stratum), (None, 2));
    let (state, why) = (group.snapshot(1).sources[0].state, group.snapshot(1).sources[0].why.clone());
    assert_eq!((state, why.as_str()), (SourceState::Unusable, "It follows this clock."));
    // Both lose the upstream. Neither takes time from the other, and both become unsynchronised when their error bounds
    // reach the threshold.
    group.upstream[1] = false;
    run_watched(&mut group, 1800.0);
    assert_eq!((group.snapshot(1).reason, group.followed(1)), (Reason::Holdover, None));
    run_watched(&mut group, 6.0 * 3600.0);
    for index in 0..2 {
        let snapshot = group.snapshot(index);
        assert!(!snapshot.synchronized, "{snapshot:?}");
        assert_eq!((group.served(index).stratum, group.served(index).leap), (16, Leap::Unknown));
    }
    group.upstream = vec![true; 2];
    run_watched(&mut group, 300.0);
    assert!(
        (0..2).all(|index| group.snapshot(index).stratum == 2 && group.members[index].offset.abs() < 1e-3)
    );
}

#[test]
fn orphans_with_an_upstream_hold_over_before_they_elect() {
    let mut group = orphans(&[1, 2, 3], 300.0);
    group.upstream = vec![true; 3];
    run_watched(&mut group, 900.0);
    group.upstream = vec![false; 3];
    run_watched(&mut group, 1800.0);
    assert_eq!(group.parents(), [0_usize; 0]);
    assert!((0..3).all(|index| group.snapshot(index).synchronized), "it is too soon to forget true time");
    run_watched(&mut group, 10.0 * 3600.0);
    assert_eq!(group.parents(), [0]);
    let apart = (0..3).map(|index| (group.members[index].offset - group.members[0].offset).abs());
    assert!(apart.fold(0.0, f64::max) < 1e-3);
    let reasons = [0, 1, 2].map(|index| group.snapshot(index).reason);
    assert_eq!(reasons, [Reason::LocalClock, Reason::LocalReference, Reason::LocalReference]);
    group.upstream[1] = true;
    run_watched(&mut group, 600.0);
    assert!((0..3).all(|index| group.snapshot(index).reason == Reason::Synchronized));
    assert!((0..3).all(|index| group.members[index].offset.abs() < 0.2), "slewed, for it knew true time");
}

#[test]
fn one_that_knows_true_time_is_no_orphans_child() {
    // The orphan, which has the smaller address, asks no server that answers.
    let lonely = Config { local: orphan(0.0), ..asking(&[UPSTREAM.to_owned()]) };
    let hosts = [address(1).to_string(), UPSTREAM.to_owned()];
    let knowing = Config { local: orphan(0.0), ..asking(&hosts) };
    let mut group = Group::new(vec![(address(1), lonely, 0.7), (address(2), knowing, 0.0)], 3);
    group.upstream = vec![false, true];
    group.run(900.0);
    let snapshot = group.snapshot(1);
    assert_eq!((group.parents(), snapshot.reason), (vec![0], Reason::Synchronized));
    assert_eq!(snapshot.sources[0].why, "It serves its own clock. A better source is usable.");
    group.upstream[1] = false;
    group.run(1800.0);
    assert!(group.snapshot(1).synchronized && group.followed(1).is_none());
    assert!(group.members[1].offset.abs() < 2e-3, "{}", group.members[1].offset);
    // Until it no longer has true time.
    while group.snapshot(1).reason != Reason::LocalReference {
        group.run(60.0);
        assert!(group.now < 1e5, "{:?}", group.snapshot(1));
    }
    assert_eq!(group.followed(1), Some(0));
}

#[test]
fn an_orphan_that_hears_of_a_parent_stops_serving_before_it_follows() {
    let mut group = orphans(&[1, 2], 0.0);
    group.run(600.0);
    check_family(&group, 0, &[1]);
    group.revive(1);
    // One reply. It needs three to follow, which take 1.4 s.
    group.run(1.0);
    assert!(group.followed(1).is_none() && !group.snapshot(1).synchronized);
    assert_eq!((group.served(1).stratum, group.parents()), (16, vec![0]));
    group.run(600.0);
    check_family(&group, 0, &[1]);
}

#[test]
fn among_ipv6_addresses_the_smallest_hash_wins() {
    let addresses: Vec<IpAddr> = (1..=4).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])).collect();
    let hosts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let orders = Config { local: orphan(10.0), ..asking(&hosts) };
    let member = |address: &IpAddr| (*address, orders.clone(), 0.0);
    let mut group = Group::new(addresses.iter().map(member).collect(), 9);
    group.run(600.0);
    let parent = (0..4).min_by_key(|index| reference_id_of(addresses[*index])).expect("there are four");
    assert_ne!(parent, 0, "or it would be the smallest address that wins");
    let others: Vec<usize> = (0..4).filter(|index| *index != parent).collect();
    check_family(&group, parent, &others);
}

#[test]
fn parts_of_a_divided_group_have_a_parent_each_until_they_meet() {
    let mut group = orphans(&[1, 2, 3, 4], 30.0);
    group.cut = vec![(0, 2), (0, 3), (1, 2), (1, 3)];
    group.run(900.0);
    assert_eq!(group.parents(), [0, 2]);
    assert_eq!([group.followed(1), group.followed(3)], [Some(0), Some(2)]);
    group.cut.clear();
    group.run(1800.0);
    check_family(&group, 0, &[1, 2, 3]);
}

#[test]
fn the_local_clock_waits_for_activate_after() {
    let mut orders = config(1);
    orders.local = Some(LocalClock { stratum: 12, orphan: false, activate_after: 120.0 });
    let script = |now: f64| Behaviour { silent: !(1000.0..2000.0).contains(&now), ..HONEST };
    let mut sim = Sim::new(orders, 0.0, vec![Box::new(script)]);
    let stratum = |sim: &Sim| sim.engine.local_stratum(sim.clocks());
    sim.run(119.0);
    assert_eq!(stratum(&sim), None);
    sim.run(2.0);
    assert_eq!(stratum(&sim), Some(12));
    sim.run(979.0);
    assert_eq!((stratum(&sim), sim.snapshot().reason), (None, Reason::Synchronized));
    // In holdover the clock is still synchronised.
    sim.run(2000.0);
    assert_eq!((stratum(&sim), sim.snapshot().reason), (None, Reason::Holdover));
    while sim.snapshot().synchronized {
        sim.run(1.0);
    }
    sim.run(118.0);
    assert_eq!(stratum(&sim), None);
    sim.run(3.0);
    assert_eq!((stratum(&sim), sim.snapshot().reason), (Some(12), Reason::LocalClock));
}

/// An event of a group: a member dies or comes back, a link between two fails or returns, an upstream comes or goes.
#[derive(Clone, Debug)]
struct Turn {
    lasts: f64,
    what: u8,
    one: usize,
    other: usize,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (1.0..400.0_f64, 0_u8..6, 0_usize..5, 0_usize..5);
    let turn = turn.prop_map(|(lasts, what, one, other)| Turn { lasts, what, one, other });
    proptest::collection::vec(turn, 1..12)
}

/// Checks that each member that follows an orphan follows one with a smaller address, so that there is no loop.
fn check_order(group: &Group, numbers: &[usize]) -> Result<(), TestCaseError> {
    for index in 0..numbers.len() {
        let orphan = group.snapshot(index).reason == Reason::LocalReference;
        if let Some(parent) = group.followed(index).filter(|_| orphan && group.members[index].alive) {
            prop_assert!(numbers[parent] < numbers[index], "{index} follows {parent} of {numbers:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// With any sequence of events, orphans follow only smaller ones. After the events, no two members that reach each
    /// other both serve their own clock, and each member that reaches an orphan has time.
    #[test]
    fn an_election_has_one_winner_and_no_loop(
        numbers in Just((1..=40_usize).collect::<Vec<_>>()).prop_shuffle(),
        size in 2_usize..6,
        wait in prop_oneof![Just(0.0), 1.0..120.0_f64],
        loss in prop_oneof![Just(0.0), 0.0..0.3_f64],
        seed in 0_u64..1000,
        turns in turns(),
    ) {
        let numbers = &numbers[..size];
        let mut group = orphans(numbers, wait);
        group.loss = loss;
        group.members[0].offset += seed as f64 / 1e4;
        for Turn { lasts, what, one, other } in turns {
            let (one, other) = (one % size, other % size);
            match what {
                0 => group.members[one].alive = false,
                1 if !group.members[one].alive => group.revive(one),
                2 | 3 if one != other => {
                    let known = group.cut.iter().position(|cut| *cut == (one, other));
                    match known {
                        Some(index) => drop(group.cut.swap_remove(index)),
                        None => group.cut.push((one, other)),
                    }
                }
                _ => {}
            }
            for _ in 0..10 {
                group.run(lasts / 10.0);
                check_order(&group, numbers)?;
            }
        }
        // Eight polls of 64 s, the wait, and the same again for a member two levels below.
        group.loss = 0.0;
        group.run(3.0 * (8.0 * 64.0 + wait) + 600.0);
        check_order(&group, numbers)?;
        let parents = group.parents();
        for &one in &parents {
            for &other in parents.iter().filter(|other| **other != one) {
                prop_assert!(!group.linked(one, other), "{} and {} of {:?}", one, other, parents);
            }
        }
        for index in (0..size).filter(|index| group.members[*index].alive && !parents.contains(index)) {
            let followed = group.followed(index);
            prop_assert!(followed.is_some_and(|parent| parents.contains(&parent)), "{}: {:?}", index, followed);
            prop_assert!(group.snapshot(index).synchronized);
        }
    }
}

#[test]
fn a_loop_of_more_than_two_is_noticed_at_once() {
    for seed in 0..4 {
        let hosts: Vec<String> = (1..=4).map(|number| address(number).to_string()).collect();
        let orders = asking(&[&hosts[..], &[UPSTREAM.to_owned()]].concat());
        let members = (1..=4).map(|number| (address(number), orders.clone(), 0.1)).collect();
        let mut group = Group::new(members, seed);
        group.run(900.0 + 7.0 * seed as f64);
        group.upstream = vec![false; 4];
        // Eight polls until it counts as unreachable, and some more until the members see what the others follow.
        group.run(1200.0);
        for _ in 0..60 {
            group.run(60.0);
            for index in 0..4 {
                let snapshot = group.snapshot(index);
                // There used to be a loop, up to stratum 16.
                assert!(snapshot.stratum <= 6, "{} {index}: {snapshot:?}", group.now);
            }
        }
        let held = (0..4).filter(|index| group.snapshot(*index).reason == Reason::Holdover).count();
        assert!(held >= 1, "somebody knows that there is nothing to follow");
        group.upstream[2] = true;
        group.run(300.0);
        assert!((0..4).all(|index| group.snapshot(index).reason == Reason::Synchronized));
        assert!((0..4).all(|index| group.snapshot(index).stratum <= 3));
    }
}
