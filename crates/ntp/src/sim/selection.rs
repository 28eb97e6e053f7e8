//! Whom the engine follows, as stories: options, pools, leap seconds.
use std::net::IpAddr;

use crate::{
    Auth, BootState, Config, Leap, LeapMode, LeapTable, Mode, Reason, SourceState, Transition, Upstream,
    sim::{Behaviour, HONEST, Path, Script, Sim, config, machine::EPOCH},
};

const STARTED: BootState = BootState { steps: 0, synchronized: true };

fn honest() -> Script {
    Box::new(|_| HONEST)
}

fn ahead(offset: f64) -> Script {
    Box::new(move |_| Behaviour { offset, ..HONEST })
}

fn silent_after(end: f64) -> Script {
    Box::new(move |now| Behaviour { silent: now > end, ..HONEST })
}

fn states(sim: &Sim) -> Vec<SourceState> {
    let sources = sim.snapshot().sources;
    for source in &sources {
        let followed = matches!(source.state, SourceState::Selected | SourceState::Combined);
        assert_eq!(source.why.is_empty(), followed, "{source:?}");
    }
    sources.iter().map(|source| source.state).collect()
}

#[test]
fn one_that_is_trusted_outvotes_two_that_are_not() {
    let mut orders = config(3);
    orders.sources[0].auth = Auth::Key("k".to_owned());
    let mut sim = Sim::new(orders, 1.0, vec![honest(), ahead(0.5), ahead(0.5)]);
    sim.run(300.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert_eq!(states(&sim), [SourceState::Selected, SourceState::Falseticker, SourceState::Falseticker]);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn without_a_required_source_nothing_moves() {
    let mut orders = config(3);
    orders.sources[0].require = true;
    let late: Script = Box::new(|now| Behaviour { silent: now < 400.0, ..HONEST });
    let mut sim = Sim::new(orders, 0.5, vec![late, honest(), honest()]);
    sim.run(400.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::RequiredMissing), "{snapshot:?}");
    assert!(sim.steps.is_empty() && sim.saved_boots.is_empty());
    assert!(snapshot.sources.iter().all(|source| !source.why.is_empty()));
    sim.run(120.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
}

#[test]
fn fewer_than_asked_for_are_not_followed() {
    let mut orders = config(3);
    orders.min_sources = 2;
    let mut sim = Sim::new(orders, 0.5, vec![honest(), silent_after(-1.0), silent_after(600.0)]);
    sim.run(600.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    // What the third said counts for a hundred polls, which come each 64 s by and by.
    sim.run(900.0);
    let snapshot = sim.snapshot();
    assert_eq!(
        (snapshot.reason, snapshot.sources[2].state),
        (Reason::Synchronized, SourceState::Unreachable)
    );
    sim.run(6400.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.synchronized, snapshot.reason), (false, Reason::TooFewSources), "{snapshot:?}");
    assert!(snapshot.sources[0].why.contains("only 1"), "{snapshot:?}");
    assert!(sim.told.iter().any(|(_, told)| *told == Transition::SynchronizationLost));
}

#[test]
fn what_is_only_measured_never_votes() {
    let mut orders = config(2);
    orders.sources[0].noselect = true;
    orders.sources[0].prefer = true;
    let mut sim = Sim::new(orders, 1.0, vec![ahead(0.5), honest()]);
    sim.run(300.0);
    assert!(sim.offset.abs() < 1e-3, "{}", sim.offset);
    assert_eq!(states(&sim), [SourceState::Noselect, SourceState::Selected]);
    let offset = sim.snapshot().sources[0].offset.expect("it is measured");
    assert!((offset + 0.5).abs() < 1e-2, "{offset}");
    let mut alone = config(1);
    alone.sources[0].noselect = true;
    let mut sim = Sim::new(alone, 1.0, vec![honest()]);
    sim.run(300.0);
    assert_eq!((sim.snapshot().reason, sim.steps.len()), (Reason::NoUpstreams, 0));
}

#[test]
fn a_silent_source_is_not_followed_while_another_answers() {
    let mut sim = Sim::new(config(3), 0.0, vec![silent_after(600.0), honest(), honest()]);
    sim.run(600.0);
    sim.run(900.0);
    let snapshot = sim.snapshot();
    assert_eq!(snapshot.sources[0].state, SourceState::Unreachable);
    assert!(snapshot.sources[0].why.contains("before agrees"), "{:?}", snapshot.sources[0]);
    let age = snapshot.at - snapshot.reference_time.expect("it is synchronised");
    assert!(age < 130.0, "{age}");
    // After a hundred polls nothing is left of it.
    sim.run(7000.0);
    assert_eq!(sim.snapshot().sources[0].why, "The last eight polls went unanswered.");
}

fn pool(host: &str, max_sources: usize) -> Upstream {
    Upstream::Pool { host: host.to_owned(), port: 123, max_sources }
}

fn addresses(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
}

fn asked(sim: &Sim) -> Vec<Option<IpAddr>> {
    sim.snapshot().sources.iter().map(|source| source.address).collect()
}

#[test]
fn a_pool_asks_several_addresses_of_a_name() {
    let mut orders = config(2);
    orders.sources[0].upstream = pool("pool.example", 3);
    let mut sim = Sim::new(orders, 1.0, (0..5).map(|_| honest()).collect());
    sim.run(10.0);
    assert_eq!(states(&sim)[0], SourceState::Unresolved);
    // 192.0.2.2 is asked as a server already.
    sim.names = addresses(&[2, 1]);
    sim.names.push("2001:db8::5".parse().expect("an address"));
    sim.run(300.0);
    let snapshot = sim.snapshot();
    let names: Vec<&str> = snapshot.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["s0#1", "s0#2", "s1"]);
    assert_eq!(asked(&sim), [Some(sim.names[1]), Some(sim.names[2]), Some(sim.names[0])]);
    assert!(snapshot.sources.iter().all(|source| source.reach == 0xff), "{snapshot:?}");
    sim.names.extend(addresses(&[3, 4]));
    sim.run(1800.0);
    assert_eq!(asked(&sim)[..3], [Some(sim.names[1]), Some(sim.names[2]), Some(sim.names[3])]);
    let resolved = sim.resolved;
    sim.run(7200.0);
    assert_eq!(sim.resolved, resolved, "a pool that is complete is not looked up");
}

#[test]
fn members_that_lie_or_are_lost_give_way() {
    let mut orders = config(1);
    orders.sources[0].upstream = pool("pool.example", 4);
    let lies: Script = Box::new(|now| Behaviour { offset: if now > 1000.0 { 0.5 } else { 0.0 }, ..HONEST });
    let servers = vec![honest(), lies, silent_after(2000.0), honest(), honest(), honest()];
    let mut sim = Sim::new(orders.clone(), 0.5, servers);
    // The last address has no route.
    sim.names = addresses(&[250, 1, 2, 3, 4, 5, 6]);
    sim.run(1000.0);
    assert_eq!(asked(&sim), [4, 1, 2, 3].map(|last| Some(IpAddr::from([192, 0, 2, last]))));
    sim.run(1000.0);
    assert_eq!(asked(&sim), [4, 1, 5, 3].map(|last| Some(IpAddr::from([192, 0, 2, last]))));
    sim.run(1000.0);
    assert_eq!(asked(&sim), [4, 1, 5, 6].map(|last| Some(IpAddr::from([192, 0, 2, last]))));
    let before = sim.snapshot().sources;
    assert!(before.iter().all(|source| source.reach == 0xff), "{before:?}");
    assert!(sim.offset.abs() < 1e-3 && sim.steps.len() == 1, "{}", sim.offset);
    // Other orders for the same pool keep its members and what they said.
    orders.sources[0].prefer = true;
    sim.reconfigure(orders);
    sim.run(1.0);
    let after = sim.snapshot();
    assert!(after.synchronized, "{after:?}");
    assert!(before.iter().zip(&after.sources).all(|(a, b)| (a.id, a.address) == (b.id, b.address)));
}

#[test]
fn a_pool_is_kept_while_the_network_is_down() {
    let mut orders = config(1);
    orders.sources[0].upstream = pool("pool.example", 2);
    let down: fn() -> Script =
        || Box::new(|now| Behaviour { silent: (600.0..3000.0).contains(&now), ..HONEST });
    let mut sim = Sim::new(orders, 0.0, vec![down(), down(), down()]);
    sim.names = addresses(&[1, 2, 3]);
    sim.run(600.0);
    let before = asked(&sim);
    sim.run(2400.0);
    assert_eq!((asked(&sim), sim.snapshot().reason), (before, Reason::Holdover));
    sim.run(100.0);
    assert_eq!(sim.snapshot().reason, Reason::Synchronized);
}

#[test]
fn a_burst_brings_more_samples_without_offending_the_server() {
    let sent_within_an_hour = |burst: bool| {
        let mut orders = config(1);
        orders.sources[0].burst = burst;
        (orders.sources[0].min_poll, orders.sources[0].max_poll) = (6, 6);
        let mut sim = Sim::new(orders, 0.0, vec![silent_after(7200.0)]);
        sim.run(3600.0);
        let before = sim.sent.len();
        sim.run(3600.0);
        let answered = sim.sent.len() - before;
        // A source that does not answer is asked no more often for it.
        sim.run(1200.0);
        let before = sim.sent.len();
        sim.run(3600.0);
        assert!(sim.sent.len() - before < 60, "{}", sim.sent.len() - before);
        answered
    };
    let (without, with) = (sent_within_an_hour(false), sent_within_an_hour(true));
    assert!((50..60).contains(&without) && (190..3600 / 8).contains(&with), "{without} {with}");
}

/// When the servers' day ends, seconds after the beginning.
const MIDNIGHT: f64 = 7200.0;

/// 2027-07-01T00:00:00Z.
const JULY: f64 = 1_814_400_000.0;

/// What is to be added to the simulation's time to end the day at that moment.
const SHIFT: f64 = JULY - MIDNIGHT - EPOCH.0 as f64 / 1e9;

/// UTC minus the simulation's time, with a leap second of this kind.
fn utc(leap: Leap, now: f64) -> f64 {
    match leap {
        Leap::Insert if now >= MIDNIGHT => SHIFT - 1.0,
        Leap::Delete if now >= MIDNIGHT - 1.0 => SHIFT + 1.0,
        _ => SHIFT,
    }
}

/// A server that follows UTC, and announces the leap second until it is done.
fn leaping(leap: Leap) -> Script {
    Box::new(move |now| {
        let offset = utc(leap, now);
        Behaviour { offset, leap: if offset == SHIFT { leap } else { Leap::None }, ..HONEST }
    })
}

fn leap_orders(mode: LeapMode) -> Config {
    Config { leap: mode, ..config(3) }
}

fn leap_sim(orders: Config, leap: Leap) -> Sim {
    let mut sim = Sim::booted(orders, SHIFT, vec![leaping(leap), leaping(leap), leaping(leap)], STARTED, 4);
    sim.run(3600.0);
    sim
}

fn leaps_told(sim: &Sim) -> Vec<f64> {
    let by = |told: &(f64, Transition)| match told.1 {
        Transition::LeapSecond { by } => Some(by),
        _ => None,
    };
    sim.told.iter().filter_map(by).collect()
}

fn jumps(sim: &Sim) -> usize {
    sim.told.iter().filter(|(_, told)| matches!(told, Transition::UnexplainedJump { .. })).count()
}

#[test]
fn a_leap_second_that_kernel_or_agent_does_is_over_at_once() {
    for (mode, leap) in [
        (LeapMode::Kernel, Leap::Insert),
        (LeapMode::Kernel, Leap::Delete),
        (LeapMode::Step, Leap::Insert),
        (LeapMode::Step, Leap::Delete),
    ] {
        let mut sim = leap_sim(leap_orders(mode), leap);
        let told = if mode == LeapMode::Kernel { leap } else { Leap::None };
        assert_eq!((sim.status.expect("it is told").1, sim.snapshot().leap), (told, leap), "{mode:?}");
        sim.run(MIDNIGHT - 10.05 - sim.now);
        while sim.now < MIDNIGHT + 1000.0 {
            sim.run(0.1);
            let (snapshot, error) = (sim.snapshot(), sim.offset - utc(leap, sim.now));
            assert!(error.abs() < 1e-3, "{mode:?} {leap:?}: {error} at {}", sim.now);
            assert!(snapshot.synchronized, "{mode:?} {leap:?}: {snapshot:?}");
            let bound = snapshot.error_bound.expect("it is synchronised");
            assert!(error.abs() <= bound, "{error} beyond {bound}");
            for source in snapshot.sources {
                assert!(source.offset.is_some_and(|offset| offset.abs() < 2e-3), "{source:?}");
                assert!(source.jitter.is_some_and(|jitter| jitter < 1e-3), "{source:?}");
            }
        }
        let by = if leap == Leap::Insert { -1.0 } else { 1.0 };
        assert_eq!((leaps_told(&sim), jumps(&sim)), (vec![by], 0), "{mode:?} {leap:?}");
        let steps = if mode == LeapMode::Step { vec![by] } else { Vec::new() };
        assert_eq!((&sim.steps, sim.snapshot().leap), (&steps, Leap::None), "{mode:?} {leap:?}");
        assert_eq!(sim.status.expect("it is told").1, Leap::None);
    }
}

#[test]
fn answers_on_their_way_through_a_leap_second_are_left_alone() {
    for leap in [Leap::Insert, Leap::Delete] {
        let mut orders = Config { error_bound_threshold: 2.0, ..leap_orders(LeapMode::Kernel) };
        for source in &mut orders.sources {
            (source.min_poll, source.max_poll) = (0, 0);
        }
        let mut sim = leap_sim(orders, leap);
        sim.path = Path { delay: 0.4, jitter: 1e-4, loss: 0.0 };
        sim.run(MIDNIGHT + 60.0 - sim.now);
        let snapshot = sim.snapshot();
        assert!(leaps_told(&sim).len() == 1 && jumps(&sim) == 0, "{:?}", sim.told);
        for source in snapshot.sources {
            assert_eq!(source.rejected, 0, "{leap:?}");
            assert!(source.jitter.is_some_and(|jitter| jitter < 1e-3), "{source:?}");
        }
    }
}

#[test]
fn a_leap_second_that_is_slewed_or_ignored_is_owned_up_to() {
    for (mode, leap) in [
        (LeapMode::Slew, Leap::Insert),
        (LeapMode::Slew, Leap::Delete),
        (LeapMode::Ignore, Leap::Insert),
        (LeapMode::Ignore, Leap::Delete),
    ] {
        let mut sim = leap_sim(Config { max_slew_rate: 5e-3, ..leap_orders(mode) }, leap);
        assert_eq!((sim.status.expect("it is told").1, sim.snapshot().leap), (Leap::None, leap));
        sim.run(MIDNIGHT - 10.05 - sim.now);
        while sim.now < MIDNIGHT + 400.0 {
            sim.run(0.1);
            let (snapshot, error) = (sim.snapshot(), sim.offset - utc(leap, sim.now));
            assert!(error.abs() < 1.001, "{mode:?} {leap:?}: {error}");
            let bound = snapshot.error_bound.expect("an estimate was used");
            assert!(error.abs() <= bound, "{mode:?} {leap:?}: {error} beyond {bound} at {}", sim.now);
            if mode == LeapMode::Slew && sim.now > MIDNIGHT + 205.0 {
                assert!(error.abs() < 1e-3, "{leap:?}: {error} at {}", sim.now);
            }
        }
        let error = sim.offset - utc(leap, sim.now);
        assert!(error.abs() < 1e-3 && sim.snapshot().synchronized, "{mode:?} {leap:?}: {error}");
        assert!(sim.steps.is_empty() && jumps(&sim) == 0);
        assert_eq!(leaps_told(&sim).len(), usize::from(mode == LeapMode::Slew));
    }
}

#[test]
fn an_observer_follows_the_leap_second_that_others_do() {
    let orders = Config { mode: Mode::Observe, leap: LeapMode::Step, ..config(3) };
    let mut sim = leap_sim(orders, Leap::Insert);
    sim.run(MIDNIGHT - sim.now);
    sim.jump(-1.0);
    sim.run(10.0);
    let offset = sim.snapshot().offset.expect("it is measured");
    assert!((offset - (sim.offset - utc(Leap::Insert, sim.now))).abs() < 1e-3, "{offset}");
    assert_eq!((leaps_told(&sim), jumps(&sim)), (vec![-1.0], 0));
}

#[test]
fn a_lone_announcement_is_not_believed_nor_one_on_another_day() {
    let calm: fn() -> Script = || Box::new(|_| Behaviour { offset: SHIFT, ..HONEST });
    let liar: Script = Box::new(|_| Behaviour { offset: SHIFT, leap: Leap::Insert, ..HONEST });
    let mut sim = Sim::booted(config(3), SHIFT, vec![liar, calm(), calm()], STARTED, 4);
    sim.run(MIDNIGHT - 100.0);
    assert_eq!((sim.snapshot().leap, sim.status.expect("it is told").1), (Leap::None, Leap::None));
    sim.run(1000.0);
    assert!((sim.offset - SHIFT).abs() < 1e-3 && leaps_told(&sim).is_empty());
    // In the middle of January.
    let announcing: fn() -> Script = || Box::new(|_| Behaviour { leap: Leap::Insert, ..HONEST });
    let mut sim = Sim::booted(config(2), 0.0, vec![announcing(), announcing()], STARTED, 4);
    sim.run(600.0);
    assert_eq!((sim.snapshot().leap, sim.status.expect("it is told").1), (Leap::None, Leap::None));
}

#[test]
fn smeared_upstreams_are_followed_and_not_mixed() {
    // A second within 2000 s, in the way of ntpd.
    let smearing: fn() -> Script = || {
        Box::new(|now| Behaviour {
            offset: SHIFT - ((now - MIDNIGHT + 1000.0) / 2000.0).clamp(0.0, 1.0),
            stratum: 2,
            reference_id: [254, 0, 1, 2],
            ..HONEST
        })
    };
    let orders = Config { smeared: true, max_slew_rate: 5e-3, ..config(3) };
    let servers = vec![smearing(), leaping(Leap::Insert), smearing()];
    let mut sim = Sim::booted(orders.clone(), SHIFT, servers, STARTED, 4);
    sim.run(MIDNIGHT);
    assert!((sim.offset - SHIFT + 0.5).abs() < 0.05, "{}", sim.offset - SHIFT);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.leap, snapshot.sources[1].state), (Leap::None, SourceState::Unusable));
    assert!(snapshot.sources[1].why.contains("Mixed: it announces"), "{snapshot:?}");
    sim.run(3000.0);
    assert!((sim.offset - SHIFT + 1.0).abs() < 1e-3, "{}", sim.offset - SHIFT);
    assert!(sim.steps.is_empty() && jumps(&sim) == 0 && leaps_told(&sim).is_empty());
    // Not declared, one that smears is refused.
    let servers = vec![smearing(), leaping(Leap::Insert), leaping(Leap::Insert)];
    let mut sim = Sim::booted(Config { smeared: false, ..orders }, SHIFT, servers, STARTED, 4);
    sim.run(600.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.leap, snapshot.sources[0].state), (Leap::Insert, SourceState::Unusable));
    assert!(snapshot.sources[0].why.contains("254.0.1.2"), "{snapshot:?}");
}

#[test]
fn the_kernel_is_told_how_far_tai_is_ahead() {
    let table = |entries: &str| LeapTable::parse(&format!("#@ 4100000000\n{entries}")).expect("a table");
    let mut sim = leap_sim(config(3), Leap::Insert);
    assert_eq!(sim.tai, None);
    // 2017-01-01 and 2027-07-01.
    sim.engine.learn_leap_table(table("3692217600 37\n4023388800 38"));
    sim.run(10.0);
    assert_eq!(sim.tai, Some(37));
    sim.run(MIDNIGHT + 10.0 - sim.now);
    assert_eq!(sim.tai, Some(38));
}
