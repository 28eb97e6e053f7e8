//! Property tests with random scripts: a datagram that is no reply to a request changes nothing; a request is answered
//! once; the clock is never stepped beyond the policy; after jumps the clock is as the policy says.
use std::{cell::RefCell, rc::Rc};

use proptest::prelude::*;

use crate::{
    Action, BootState, Event, Mode, Mono, OnExternalStep, Reason, RequestId, Snapshot, StepReason,
    Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
};

/// The last reply of a run in which replies are held back.
type Kept = Rc<RefCell<Vec<u8>>>;

/// A simulation that gets replies for `after` seconds. Then replies are held back until a request is pending.
fn interrupted(seed: u64, after: f64, interleaved: bool) -> (Sim, RequestId, Vec<u8>) {
    let mut orders = config(2);
    for source in &mut orders.sources {
        (source.min_poll, source.max_poll, source.interleaved) = (4, 4, interleaved);
    }
    let mut sim = Sim::booted(orders, 0.02, vec![honest(), honest()], BootState::default(), seed);
    sim.run(after);
    let kept = Kept::default();
    let keep = Rc::clone(&kept);
    sim.tamper = Some(Box::new(move |datagram| {
        keep.borrow_mut().clone_from(datagram);
        Vec::new()
    }));
    sim.arrivals.clear();
    let already = sim.sent.len();
    // Until the next request. Its reply is the last one that was held back.
    while sim.sent.len() == already {
        sim.run(0.01);
    }
    let (_, request) = sim.sent[sim.sent.len() - 1];
    assert!(sim.open.contains(&request));
    let answer = kept.borrow().clone();
    (sim, request, answer)
}

/// The observable state of an engine and its next actions, without the counters of rejected datagrams.
#[derive(Debug, PartialEq)]
struct Seen {
    snapshot: Snapshot,
    wakeup: Mono,
    actions: Vec<Action>,
    inside: String,
}

/// Delivers the datagram, and returns the state.
fn after(sim: &mut Sim, request: RequestId, datagram: &[u8]) -> Seen {
    let now = sim.clocks();
    let event = Event::Received { request, datagram, at: now.wall, local: None };
    let actions = sim.engine.handle(event, now);
    let mut snapshot = sim.snapshot();
    for source in &mut snapshot.sources {
        (source.rejected, source.detail.stray) = (0, 0);
    }
    // The debug text of every field. Only the counters are removed.
    let mut inside = format!("{:?}", sim.engine);
    for counter in ["rejected: ", "stray: "] {
        let parts = inside.split(counter).enumerate();
        let digits = |c: char| c.is_ascii_digit();
        inside = parts.map(|(n, part)| if n == 0 { part } else { part.trim_start_matches(digits) }).collect();
    }
    Seen { snapshot, wakeup: sim.engine.next_wakeup(now), actions, inside }
}

/// Forged replies of an attacker who did not see the request, or has only an old reply.
fn forge(answer: &[u8], kind: u8, value: u64, octets: &[u8]) -> Vec<u8> {
    let mut forged = answer.to_vec();
    match kind {
        // Random octets, with any origin timestamp except the cookie.
        0 => forged = octets.to_vec(),
        // Valid except for one bit of the origin timestamp.
        1 => forged[24 + (value / 8 % 8) as usize] ^= 1 << (value % 8),
        // Truncated.
        2 => forged.truncate(value as usize % 48),
        // Another mode: a client's request, a peer's, a broadcast, a control message.
        3 => forged[0] = forged[0] & !7 | [0, 1, 2, 3, 5, 6, 7][value as usize % 7],
        // A zero origin timestamp: a client that cleared its expected value would accept it (CVE-2015-8138).
        4 => forged[24..32].fill(0),
        // A kiss from an attacker who does not know the cookie (CVE-2015-7704).
        5 => {
            forged[1] = 0;
            forged[12..16].copy_from_slice(if value.is_multiple_of(2) { b"DENY" } else { b"RATE" });
            forged[24..32].copy_from_slice(&value.to_be_bytes());
        }
        // The complement of the cookie is valid only for interleaved requests.
        6 => forged[24..32].iter_mut().for_each(|octet| *octet = !*octet),
        // Valid, but longer than any request, and with a zero origin timestamp.
        _ => {
            forged.resize(1500, value as u8);
            forged[31] ^= 0x80;
        }
    }
    forged
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_datagram_that_is_no_reply_changes_nothing(
        seed in 1_u64..1000,
        begin in 0.0..120.0_f64,
        forgeries in proptest::collection::vec(
            (0_u8..8, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..80)), 1..12),
    ) {
        let (mut sim, request, answer) = interrupted(seed, begin, false);
        // A second simulation with the same calls, which gets no datagram.
        let (mut twin, same, _) = interrupted(seed, begin, false);
        prop_assert_eq!(request, same);
        for (kind, value, octets) in forgeries {
            let forged = forge(&answer, kind, value, &octets);
            let seen = after(&mut sim, request, &forged);
            let unseen = after(&mut twin, RequestId(u64::MAX), &[]);
            prop_assert_eq!(&seen, &unseen, "{} {:?}", kind, forged);
            // A reply to a request that is over, or never existed.
            let replayed = RequestId(value % request.0.max(1));
            if !sim.open.contains(&replayed) {
                prop_assert_eq!(after(&mut sim, replayed, &answer), after(&mut twin, RequestId(u64::MAX), &[]));
            }
        }
        // After all forged datagrams the genuine reply still has its effect, once.
        let count = |sim: &Sim| sim.snapshot().sources.iter().map(|source| source.received).sum::<u64>();
        let before = count(&sim);
        let taken = after(&mut sim, request, &answer);
        let over = taken.actions.contains(&Action::Close { request });
        prop_assert!(over, "{:?}", taken.actions);
        prop_assert_eq!(count(&sim), before + 1);
        let again = after(&mut sim, request, &answer);
        prop_assert_eq!(count(&sim), before + 1);
        prop_assert!(again.actions.is_empty(), "{:?}", again.actions);
    }

    #[test]
    fn a_request_is_answered_once_whatever_comes_how_often(
        seed in 1_u64..1000,
        plan in proptest::collection::vec((0_u8..6, any::<u64>()), 1..40),
        interleaved in any::<bool>(),
    ) {
        let mut orders = config(2);
        for source in &mut orders.sources {
            source.interleaved = interleaved;
        }
        let mut sim = Sim::booted(orders, 0.02, vec![honest(), honest()], BootState::default(), seed);
        let mut plan = plan.into_iter().cycle();
        let mut earlier: Vec<Vec<u8>> = Vec::new();
        sim.tamper = Some(Box::new(move |datagram| {
            let (kind, value) = plan.next().unwrap_or_default();
            earlier.push(datagram.clone());
            let replayed = earlier[value as usize % earlier.len()].clone();
            match kind {
                0 => vec![datagram.clone(); 1 + (value % 4) as usize],
                1 => vec![replayed, datagram.clone()],
                2 => vec![datagram[..(value % 49) as usize].to_vec(), datagram.clone()],
                3 => vec![[&datagram[..], &[value as u8; 1000]].concat(), datagram.clone()],
                4 => Vec::new(),
                _ => {
                    let mut bent = datagram.clone();
                    bent[value as usize % 48] ^= 1 << (value >> 32 & 7);
                    vec![bent, datagram.clone()]
                }
            }
        }));
        sim.run(400.0);
        for source in &sim.snapshot().sources {
            prop_assert!(source.received <= source.sent, "{:?}", source);
        }
        // There is never more than one pending request of each source.
        prop_assert!(sim.open.len() <= 2, "{:?}", sim.open);
    }

    #[test]
    fn the_clock_is_never_stepped_beyond_the_policy(policy in policies()) {
        let Policy { threshold, limit, max_change, boot, offset, seed, poll, acts } = policy;
        let mut orders = config(3);
        (orders.step_threshold, orders.step_limit, orders.max_change) = (threshold, limit, max_change);
        for source in &mut orders.sources {
            (source.min_poll, source.max_poll) = (poll, poll + 2);
        }
        let servers = (0..3).map(|server| script(server, acts.clone())).collect();
        let mut sim = Sim::booted(orders.clone(), offset, servers, boot, seed);
        for act in &acts {
            let before = (steps(&sim, &[StepReason::Start]).len(), sim.saved_boots.last().map_or(boot, |boot| *boot));
            sim.run(act.lasts);
            let now = sim.saved_boots.last().map_or(boot, |boot| *boot);
            // After the start phase of a boot no steps are allowed. Before, up to the limit, each for an offset beyond
            // the threshold.
            let allowed = if before.1.synchronized { 0 } else { limit.saturating_sub(before.1.steps) };
            let started = steps(&sim, &[StepReason::Start]);
            prop_assert!(started.len() <= before.0 + allowed as usize, "{:?}, {} allowed", started, allowed);
            prop_assert_eq!(now.steps as usize, boot.steps as usize + started.len());
            prop_assert!(sim.steps.iter().all(|by| by.abs() > threshold), "{:?}", sim.steps);
            prop_assert!(now.synchronized || !before.1.synchronized);
            match act.event {
                0 => sim.jump(act.size),
                1 => sim.restart(now),
                2 => {
                    orders.mode = if orders.mode == Mode::Observe { Mode::Discipline } else { Mode::Observe };
                    let steps = sim.steps.len();
                    sim.reconfigure(orders.clone());
                    prop_assert_eq!(steps, sim.steps.len());
                    sim.open.clear();
                }
                _ => {}
            }
        }
        // Outside the start phase at most one step for each jump, and one in ten minutes after pauses.
        let jumps = sim.announced.iter().filter(|(_, told)| matches!(told, Transition::ExternalStep { .. })).count();
        prop_assert!(steps(&sim, &[StepReason::ExternalStep]).len() <= jumps, "{:?}", sim.announced);
        let pauses = steps(&sim, &[StepReason::Resume]);
        // A new agent does not know the last step after a pause.
        if acts.iter().all(|act| act.event != 1) {
            prop_assert!(pauses.windows(2).all(|pair| pair[1].0 - pair[0].0 > 599.0), "{:?}", pauses);
        }
        prop_assert!(pauses.iter().all(|(_, by)| by.abs() <= max_change), "{:?}", pauses);
        // The allowed slew rate, plus the largest frequency error of a clock, plus the frequency error that
        // falsetickers can cause.
        let fastest = sim.rates.iter().fold(0.0_f64, |most, ppm| most.max(ppm.abs()));
        prop_assert!(fastest <= 100_000.1, "{}", fastest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Other programs move the clock any number of times, and the network loses datagrams.
    #[test]
    fn after_jumps_the_clock_is_what_the_policy_says(
        policy in prop_oneof![
            2 => Just(OnExternalStep::Restore), 1 => Just(OnExternalStep::Accept), 1 => Just(OnExternalStep::Report)
        ],
        jumps in proptest::collection::vec(
            (0.01..45.0_f64, prop_oneof![-0.05..0.05_f64, -3.0..3.0_f64, -1e4..1e4_f64, -1e8..1e8_f64]), 1..9),
        sources in 1_usize..4,
        silent in any::<bool>(),
        poll in 0_i8..6,
        seed in 1_u64..1000,
    ) {
        let mut orders = config(sources);
        orders.on_external_step = policy;
        for source in &mut orders.sources {
            (source.min_poll, source.max_poll) = (poll, poll + 4);
        }
        let boot = BootState { steps: 0, synchronized: true };
        let server: fn(bool) -> Script = |silent| {
            Box::new(move |now| Behaviour { silent: silent && now > 400.0, ..HONEST })
        };
        let servers = (0..sources).map(|_| server(silent)).collect();
        let mut sim = Sim::booted(orders, 0.0, servers, boot, seed);
        sim.run(400.0);
        prop_assert!(sim.snapshot().synchronized);
        for (wait, by) in &jumps {
            sim.jump(*by);
            sim.run(*wait);
        }
        sim.run(60.0);
        let sums = jumps.iter().scan(0.0, |sum, (_, by)| {
            *sum += by;
            Some(*sum)
        });
        let sums: Vec<f64> = sums.collect();
        let whole = sums[sums.len() - 1];
        // An offset that is within the threshold at some moment may be slewed.
        let far = sums.iter().all(|sum| sum.abs() > 0.011);
        match policy {
            OnExternalStep::Restore => {
                prop_assert!(sim.offset.abs() < 2e-3, "{}, {:?}", sim.offset, sim.steps);
                prop_assert!(sim.snapshot().synchronized, "{:?}", sim.snapshot());
            }
            OnExternalStep::Report if far => {
                prop_assert!((sim.offset - whole).abs() < 0.011, "{} {}", sim.offset, whole);
                prop_assert_eq!(sim.snapshot().reason, Reason::ExternalStep);
            }
            OnExternalStep::Report | OnExternalStep::Accept => {}
        }
        prop_assert!(sim.steps.is_empty() || policy == OnExternalStep::Restore, "{:?}", sim.steps);
        prop_assert_eq!(sim.snapshot().steps, 0);
        // Never two steps within a second.
        let made = steps(&sim, &[StepReason::Start, StepReason::ExternalStep, StepReason::Resume]);
        prop_assert!(made.windows(2).all(|pair| pair[1].0 - pair[0].0 > 1.0), "{:?}", made);
    }
}

/// The times and sizes of the steps with these reasons.
fn steps(sim: &Sim, reasons: &[StepReason]) -> Vec<(f64, f64)> {
    let step = |(at, told): &(f64, Transition)| match told {
        Transition::Stepped { by, why } if reasons.contains(why) => Some((*at, *by)),
        _ => None,
    };
    sim.announced.iter().filter_map(step).collect()
}

/// Events of a node, and its configuration.
#[derive(Clone, Debug)]
struct Policy {
    threshold: f64,
    limit: u32,
    max_change: f64,
    boot: BootState,
    offset: f64,
    seed: u64,
    poll: i8,
    acts: Vec<Act>,
}

/// An interval with a constant behaviour of the servers, and the event at its end.
#[derive(Clone, Debug)]
struct Act {
    lasts: f64,
    /// The offset of each server's clock.
    ahead: [f64; 3],
    silent: u8,
    event: u8,
    size: f64,
}

fn sizes() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -0.02..0.02_f64, -2.0..2.0_f64, -5e3..5e3_f64, -1e9..1e9_f64]
}

fn policies() -> impl Strategy<Value = Policy> {
    let act = (2.0..90.0_f64, [sizes(), sizes(), sizes()], 0_u8..16, 0_u8..6, sizes(), any::<bool>());
    let act = act.prop_map(|(lasts, own, silent, event, size, agree)| Act {
        lasts,
        // Three servers that contradict each other have no effect, so mostly they have the same offset.
        ahead: if agree { [own[0]; 3] } else { own },
        silent: if silent > 7 { 0 } else { silent },
        event,
        size,
    });
    let acts = proptest::collection::vec(act, 1..8);
    let orders = (1e-3..2.0_f64, 0_u32..4, prop_oneof![1e-2..10.0_f64, Just(1000.0)]);
    let state = (any::<bool>(), 0_u32..4, sizes(), 1_u64..1000, 0_i8..5);
    (orders, state, acts).prop_map(
        |((threshold, limit, max_change), (synchronized, steps, offset, seed, poll), acts)| {
            let boot = BootState { steps, synchronized };
            Policy { threshold, limit, max_change, boot, offset, seed, poll, acts }
        },
    )
}

/// The script of one server.
fn script(server: usize, acts: Vec<Act>) -> Script {
    Box::new(move |now| {
        let mut end = 0.0;
        for act in &acts {
            end += act.lasts;
            if now < end {
                return Behaviour {
                    offset: act.ahead[server],
                    silent: act.silent >> server & 1 == 1,
                    ..HONEST
                };
            }
        }
        HONEST
    })
}
