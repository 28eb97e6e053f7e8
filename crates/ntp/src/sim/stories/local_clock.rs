//! The local clock: it is served only while sources are silent, never against a source. Nodes that follow one report
//! it. If true time comes later, the clock is stepped to it.
use std::net::IpAddr;

use crate::{
    Config, Leap, LocalClock, Mode, OnExternalStep, Reason, SourceState, Transition,
    sim::{
        Behaviour, HONEST, Script, Sim, ahead, config,
        group::{Group, UPSTREAM, asking},
        honest,
        stories::{STARTED, count},
    },
};

fn local(activate_after: f64) -> Option<LocalClock> {
    Some(LocalClock { stratum: 10, orphan: false, activate_after })
}

fn served(sim: &Sim) -> Option<u8> {
    sim.engine.local_stratum(sim.clocks())
}

/// A server that changes its behaviour at `turn`.
fn turning(turn: f64, first: Behaviour, then: Behaviour) -> Script {
    Box::new(move |now| if now < turn { first } else { then })
}

const SILENT: Behaviour = Behaviour { silent: true, ..HONEST };

/// A machine that serves its own clock as soon as possible, in a boot whose start phase is over.
fn serving(change: impl FnOnce(&mut Config), servers: Vec<Script>) -> Sim {
    let mut orders = Config { local: local(0.0), ..config(servers.len()) };
    change(&mut orders);
    Sim::booted(orders, 0.0, servers, STARTED, 1)
}

/// Checks for an hour that the machine serves only the time of the sources, or LI 3.
fn never_serves(what: &str, sim: &mut Sim, reason: Reason) {
    let mut seen = false;
    for _ in 0..3600 {
        sim.run(1.0);
        assert_eq!(served(sim), None, "{what} at {}: {:?}", sim.now, sim.snapshot());
        seen |= sim.snapshot().reason == reason;
    }
    assert!(seen, "{what}: {:?}", sim.snapshot());
}

#[test]
fn a_clock_that_is_known_to_be_wrong_is_not_served() {
    let check = |what: &str, reason: Reason, change: &dyn Fn(&mut Config), servers: Vec<Script>| {
        never_serves(what, &mut serving(change, servers), reason);
    };
    let wrong = || ahead(-30.0);
    check("slewed", Reason::ErrorBound, &|_| (), vec![wrong()]);
    check("observed", Reason::ErrorBound, &|orders| orders.mode = Mode::Observe, vec![wrong()]);
    check("refused", Reason::MaxChange, &|orders| orders.max_change = 10.0, vec![wrong()]);
    check("they disagree", Reason::NoMajority, &|_| (), vec![honest(), wrong()]);
    check("too few", Reason::TooFewSources, &|orders| orders.min_sources = 2, vec![honest()]);
    check(
        "the required one is not there",
        Reason::RequiredMissing,
        &|orders| orders.sources[0].require = true,
        vec![Box::new(|_| SILENT), honest()],
    );
    check("a liar among them", Reason::Synchronized, &|_| (), vec![honest(), honest(), wrong()]);
    let report = |orders: &mut Config| orders.on_external_step = OnExternalStep::Report;
    let mut sim = serving(report, vec![turning(300.0, HONEST, SILENT)]);
    sim.run(280.0);
    sim.jump(3600.0);
    never_serves("left an hour ahead", &mut sim, Reason::ExternalStep);
}

#[test]
fn silence_takes_nothing_back() {
    let check = |what: &str, reason: Reason, change: &dyn Fn(&mut Config), servers: Vec<Script>| {
        never_serves(what, &mut serving(change, servers), reason);
    };
    let gone = |offset: f64| turning(100.0, Behaviour { offset, ..HONEST }, SILENT);
    check("a slew is under way", Reason::ErrorBound, &|_| (), vec![gone(-30.0)]);
    check("refused", Reason::MaxChange, &|orders| orders.max_change = 10.0, vec![gone(-30.0)]);
    check("they disagreed", Reason::NoMajority, &|_| (), vec![gone(0.0), gone(-30.0)]);
    check("one said so", Reason::TooFewSources, &|orders| orders.min_sources = 2, vec![gone(-30.0)]);
    // Half a second is slewed away in about twenty minutes. Then the clock is not known to be wrong.
    let mut sim = serving(|_| (), vec![gone(-0.5)]);
    sim.run(300.0);
    assert_eq!((served(&sim), sim.snapshot().reason), (None, Reason::ErrorBound));
    while served(&sim).is_none() {
        sim.run(10.0);
        assert!(sim.now < 86_400.0, "{:?}", sim.snapshot());
    }
    assert!((sim.offset + 0.5).abs() < 0.5, "{}", sim.offset);
    // Only one source agreed, where two are required, and it is silent now.
    let mut sim = serving(|orders| orders.min_sources = 2, vec![gone(0.0)]);
    sim.run(1000.0);
    assert_eq!((served(&sim), sim.snapshot().reason), (Some(10), Reason::LocalClock));
}

#[test]
fn unusable_sources_leave_the_local_clock() {
    let kiss = |code: [u8; 4]| Behaviour { kiss: Some(code), ..HONEST };
    let useless = [
        SILENT,
        kiss(*b"RATE"),
        kiss(*b"DENY"),
        kiss(*b"RSTR"),
        Behaviour { leap: Leap::Unknown, ..HONEST },
        Behaviour { stratum: 16, ..HONEST },
        // The dispersion of a domain controller; see below.
        Behaviour { stratum: 7, ..HONEST },
    ];
    for behaviour in useless {
        let orders = Config { local: local(64.0), ..config(1) };
        let mut sim = Sim::new(orders, 0.0, vec![turning(900.0, behaviour, HONEST)]);
        sim.tamper = Some(Box::new(|datagram: &mut Vec<u8>| {
            if datagram[1] == 7 {
                datagram[8..12].copy_from_slice(&[0, 10, 0, 0]);
            }
            vec![datagram.clone()]
        }));
        sim.run(63.0);
        assert_eq!(served(&sim), None, "{behaviour:?}: it is too soon");
        sim.run(637.0);
        let snapshot = sim.snapshot();
        assert_eq!(
            (served(&sim), snapshot.reason),
            (Some(10), Reason::LocalClock),
            "{behaviour:?} {snapshot:?}"
        );
        assert!(snapshot.synchronized && snapshot.start_phase, "{snapshot:?}");
        assert_eq!((snapshot.stratum, snapshot.leap, snapshot.reference), (10, Leap::None, None));
        assert!(!sim.timex().synchronized, "the kernel is told what is true");
        assert_eq!(count(&sim, &Transition::LocalReference), 1, "{:?}", sim.announced);
        // From its first reply on the local clock waits for it.
        while sim.snapshot().sources[0].reach == 0 || sim.now < 900.0 {
            sim.run(1.0);
            assert!(sim.now < 6000.0, "{behaviour:?} {:?}", sim.snapshot());
        }
        if behaviour.stratum != 7 {
            assert!(served(&sim).is_none() || sim.snapshot().reason == Reason::Synchronized);
        }
        sim.run(1200.0);
        assert_eq!((served(&sim), sim.snapshot().reason), (None, Reason::Synchronized), "{behaviour:?}");
        assert!(!sim.snapshot().start_phase);
    }
}

#[test]
fn while_the_first_answers_are_awaited_nothing_is_served() {
    let mut sim = serving(|_| (), vec![Box::new(|_| SILENT)]);
    while sim.sent.len() < 8 {
        assert_eq!(served(&sim), None, "at {}", sim.now);
        sim.run(0.5);
    }
    sim.run(64.0);
    assert_eq!(served(&sim), Some(10));
    // A new source changes nothing until it answers.
    let mut orders = sim.config.clone();
    orders.sources.push(config(2).sources.remove(1));
    sim.servers.push(turning(sim.now + 200.0, SILENT, HONEST));
    sim.reconfigure(orders);
    for _ in 0..190 {
        sim.run(1.0);
        assert_eq!(served(&sim), Some(10), "at {}", sim.now);
    }
    sim.run(300.0);
    assert_eq!((served(&sim), sim.snapshot().reason), (None, Reason::Synchronized));
}

#[test]
fn a_follower_of_a_local_clock_reports_it_and_steps_once_more_to_true_time() {
    let check = |id: [u8; 4], stratum: u8, own: Option<u8>, is_local: bool| {
        let first = Behaviour { offset: 5.0, reference_id: id, stratum, ..HONEST };
        let own = own.map(|stratum| LocalClock { stratum, orphan: false, activate_after: 64.0 });
        let orders = Config { local: own, ..config(1) };
        let mut sim = Sim::new(orders, 0.0, vec![turning(600.0, first, HONEST)]);
        sim.run(500.0);
        let snapshot = sim.snapshot();
        let reason = if is_local { Reason::LocalReference } else { Reason::Synchronized };
        assert_eq!((snapshot.synchronized, snapshot.reason), (true, reason), "{id:?} {stratum} {snapshot:?}");
        assert_eq!((snapshot.start_phase, served(&sim)), (is_local, None), "{id:?} {stratum}");
        assert!((sim.offset - 5.0).abs() < 1e-3, "{}", sim.offset);
        let announced =
            |sim: &Sim| [Transition::LocalReference, Transition::Synchronized].map(|t| count(sim, &t));
        assert_eq!(announced(&sim), if is_local { [1, 0] } else { [0, 1] }, "{:?}", sim.announced);
        if is_local {
            // The same server changes to true time, which is 5 s away.
            sim.run(600.0);
            let snapshot = sim.snapshot();
            assert_eq!(
                (snapshot.reason, snapshot.start_phase),
                (Reason::Synchronized, false),
                "{snapshot:?}"
            );
            assert!(sim.offset.abs() < 1e-3 && sim.steps.len() == 2, "{} {:?}", sim.offset, sim.steps);
            assert_eq!(announced(&sim), [1, 1], "{:?}", sim.announced);
        }
    };
    check(*b"GPS\0", 1, None, false);
    check([192, 0, 2, 9], 10, None, false);
    check([192, 0, 2, 9], 9, Some(10), false);
    check([192, 0, 2, 9], 10, Some(10), true);
    check([192, 0, 2, 9], 11, Some(10), true);
    for own in [None, Some(10)] {
        check([127, 127, 1, 1], 10, own, true);
        check([127, 0, 0, 1], 5, own, true);
        check([127, 127, 1, 0], 1, own, true);
        check(*b"LOCL", 6, own, true);
    }
}

#[test]
fn true_time_is_followed_before_a_local_clock_that_agrees() {
    let local = |offset: f64| -> Script {
        Box::new(move |_| Behaviour { offset, stratum: 8, reference_id: *b"LOCL", ..HONEST })
    };
    let mut orders = config(3);
    orders.sources[0].prefer = true;
    let mut sim = Sim::new(orders, 4.0, vec![local(0.0), honest(), local(3.0)]);
    sim.run(600.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.start_phase), (Reason::Synchronized, false), "{snapshot:?}");
    let states = [0, 1, 2].map(|index| snapshot.sources[index].state);
    assert_eq!(states, [SourceState::Agreeing, SourceState::Selected, SourceState::Falseticker]);
    assert_eq!(snapshot.sources[0].why, "It has the time of a local clock; true time is followed.");
    // A majority of local clocks decides, too; but a node that follows it reports that.
    let mut sim = Sim::new(config(3), 0.0, vec![local(3.0), local(3.0), honest()]);
    sim.run(600.0);
    assert_eq!((sim.snapshot().reason, sim.snapshot().start_phase), (Reason::LocalReference, true));
}

#[test]
fn the_last_step_is_kept_for_true_time() {
    // A group whose clock is set by hand repeatedly.
    let script = |now: f64| match now {
        now if now < 2400.0 => Behaviour {
            offset: 10.0 * (now / 400.0).floor(),
            stratum: 10,
            reference_id: [127, 127, 1, 1],
            ..HONEST
        },
        _ => HONEST,
    };
    let mut sim = Sim::new(config(1), -7.0, vec![Box::new(script)]);
    sim.run(2300.0);
    assert_eq!((sim.steps.len(), sim.snapshot().start_phase), (2, true), "{:?}", sim.steps);
    sim.run(900.0);
    assert_eq!((sim.steps.len(), sim.snapshot().reason), (3, Reason::Synchronized), "{:?}", sim.steps);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// A chain of machines, each of which asks the one before. The first asks the server with true time, and serves its own
/// clock without it.
fn tiers(offsets: &[f64]) -> Group {
    let member = |(index, offset): (usize, &f64)| {
        let number = index as u8;
        let orders = match number {
            0 => Config { local: local(64.0), ..asking(&[UPSTREAM.to_owned()]) },
            _ => asking(&[address(number).to_string()]),
        };
        (address(number + 1), orders, *offset)
    };
    let mut group = Group::new(offsets.iter().enumerate().map(member).collect(), 4);
    group.upstream = vec![false; offsets.len()];
    group
}

#[test]
fn tiers_that_start_before_true_time_is_there_step_when_it_comes() {
    let mut group = tiers(&[-30.0, 2.0, 0.0]);
    group.run(60.0);
    for index in 0..3 {
        assert_eq!((group.served(index).stratum, group.snapshot(index).synchronized), (16, false));
    }
    group.run(240.0);
    let reasons = [0, 1].map(|index| group.snapshot(index).reason);
    assert_eq!(reasons, [Reason::LocalClock, Reason::LocalReference]);
    let served = group.served(0);
    assert_eq!((served.stratum, served.root_delay, served.root_dispersion), (10, 0.0, 0.0));
    // The third cannot detect it: it asks a server of stratum 11 whose reference is an address, and has no
    // stratum.local itself.
    assert_eq!((group.served(1).stratum, group.served(2).stratum), (11, 12));
    let apart = group.members[1].offset - group.members[0].offset;
    assert!(apart.abs() < 1e-3, "{apart}");
    assert!(group.snapshot(0).start_phase && group.snapshot(1).start_phase);
    group.upstream[0] = true;
    group.run(400.0);
    for index in 0..2 {
        let (snapshot, offset) = (group.snapshot(index), group.members[index].offset);
        assert_eq!((snapshot.reason, snapshot.start_phase), (Reason::Synchronized, false), "{snapshot:?}");
        assert!(offset.abs() < 1e-3, "{index}: {offset}");
    }
}

#[test]
fn a_whole_chain_is_known_by_its_strata() {
    let mut group = tiers(&[-30.0, 2.0, 0.0]);
    for member in &mut group.members {
        member.config.local = local(64.0);
    }
    (0..3).for_each(|index| group.revive(index));
    group.run(900.0);
    let reasons = [0, 1, 2].map(|index| group.snapshot(index).reason);
    assert_eq!(reasons, [Reason::LocalClock, Reason::LocalReference, Reason::LocalReference]);
    group.upstream[0] = true;
    group.run(900.0);
    assert!((0..3).all(|index| group.snapshot(index).reason == Reason::Synchronized));
    assert!((0..3).all(|index| group.members[index].offset.abs() < 1e-3));
}

#[test]
fn a_client_of_a_whole_group_knows_that_it_follows_a_local_clock() {
    let hosts: Vec<String> = (1..=3).map(|number| address(number).to_string()).collect();
    let orphan = Some(LocalClock { stratum: 10, orphan: true, activate_after: 64.0 });
    let member =
        |number: u8| (address(number), Config { local: orphan, ..asking(&hosts) }, f64::from(number));
    let worker = (address(9), asking(&hosts), 0.0);
    let mut group = Group::new((1..=3).map(member).chain([worker]).collect(), 4);
    group.upstream = vec![false; 4];
    group.run(900.0);
    assert_eq!(group.parents(), [0]);
    // The two other servers of stratum 11 have an address as their reference.
    let snapshot = group.snapshot(3);
    assert_eq!((snapshot.reason, snapshot.start_phase), (Reason::LocalReference, true), "{snapshot:?}");
    assert!(snapshot.sources.iter().all(|source| source.state != SourceState::Unusable), "{snapshot:?}");
    group.members[0].alive = false;
    for _ in 0..60 {
        group.run(30.0);
        assert!(group.snapshot(3).start_phase, "{:?}", group.snapshot(3));
    }
    assert_eq!((group.parents(), group.snapshot(3).reason), (vec![1], Reason::LocalReference));
}

#[test]
fn a_first_tier_that_knows_better_is_not_believed_before_it_is_right() {
    // Its start phase is over, so it slews for hours towards the server. In the meantime it does not serve.
    let mut group = tiers(&[0.0, 2.0]);
    group.members[0].config.step_limit = 0;
    group.revive(0);
    group.upstream[0] = true;
    group.behaviour = Behaviour { offset: -30.0, ..HONEST };
    for _ in 0..360 {
        group.run(10.0);
        assert_eq!(group.served(0).stratum, 16, "{:?}", group.snapshot(0));
        assert!(!group.snapshot(1).synchronized && group.members[1].moves == 0);
    }
}

#[test]
fn an_air_gap_of_sixty_days_leaves_a_group_within_a_millisecond() {
    let mut group = tiers(&[-30.0, 2.0]);
    let source = &mut group.members[1].config.sources[0];
    (source.min_poll, source.max_poll) = (6, 10);
    group.revive(1);
    group.run(3600.0);
    group.pause = 200.0;
    for day in 0..60 {
        for _ in 0..24 {
            group.run(3600.0);
            let apart = group.members[1].offset - group.members[0].offset;
            assert!(apart.abs() < 1e-3, "{apart} on day {day}");
        }
        let reasons = [0, 1].map(|index| group.snapshot(index).reason);
        assert_eq!(reasons, [Reason::LocalClock, Reason::LocalReference], "on day {day}");
        let served = group.served(0);
        assert_eq!((served.stratum, served.root_delay, served.root_dispersion), (10, 0.0, 0.0));
        let bound = group.snapshot(1).error_bound.expect("it follows");
        assert!(bound < 0.05, "{bound} on day {day}");
    }
    assert!(group.members[0].moves <= 1, "who serves does not steer");
}
