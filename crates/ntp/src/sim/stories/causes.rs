//! Why a source gives no time: each cause in a simulation, and its text for users.
use super::{count, named};
use crate::{
    Auth, Event, Reason, SendError, SourceState, Transition,
    sim::{Behaviour, HONEST, Script, Sim, config, honest},
    wire::packet::NtpShort,
};

/// A change of a reply.
type Change = fn(&mut Vec<u8>);

/// A simulation in which the replies of the server are changed.
fn changed(change: Change) -> Sim {
    let mut sim = Sim::new(config(1), 0.0, vec![honest()]);
    sim.tamper = Some(Box::new(move |datagram| {
        change(datagram);
        vec![datagram.clone()]
    }));
    sim
}

fn kissing(code: [u8; 4]) -> Sim {
    Sim::new(config(1), 0.0, vec![Box::new(move |_| Behaviour { kiss: Some(code), ..HONEST })])
}

fn silent() -> Script {
    Box::new(|_| Behaviour { silent: true, ..HONEST })
}

fn unsent(error: SendError) -> Sim {
    let mut sim = Sim::new(config(1), 0.0, vec![]);
    sim.send_error = error;
    sim
}

/// Checks the state and the text of the only source of `sim` after two minutes.
fn check(mut sim: Sim, state: SourceState, reason: Reason, words: &[&str]) {
    sim.run(120.0);
    let snapshot = sim.snapshot();
    let source = &snapshot.sources[0];
    assert_eq!((source.state, snapshot.reason, snapshot.synchronized), (state, reason, false), "{source:?}");
    for word in words {
        assert!(source.why.contains(word), "{word:?} is not in {:?}", source.why);
    }
    assert!(source.why.ends_with('.'), "{:?}", source.why);
    assert_eq!(count(&sim, &Transition::UpstreamsReachable), 0, "{words:?}: none was reached");
    assert_eq!(count(&sim, &Transition::UpstreamsUnreachable), 1, "{words:?}");
}

fn unusable(sim: Sim, words: &[&str]) {
    check(sim, SourceState::Unusable, Reason::NoUsableUpstream, words);
}

fn unreachable(sim: Sim, words: &[&str]) {
    check(sim, SourceState::Unreachable, Reason::Unreachable, words);
}

/// Moves one timestamp of the reply by `seconds`: field 32 is the receive, 40 the transmit timestamp.
fn shift(datagram: &mut [u8], field: usize, seconds: i64) {
    let stamp: [u8; 8] = datagram[field..field + 8].try_into().expect("eight octets");
    let moved = u64::from_be_bytes(stamp).wrapping_add_signed(seconds << 32);
    datagram[field..field + 8].copy_from_slice(&moved.to_be_bytes());
}

#[test]
fn what_a_server_answers() {
    let not_synchronised = ["answers, but is not synchronised"];
    unusable(changed(|d| d[0] |= 0xc0), &not_synchronised);
    unusable(changed(|d| d[1] = 16), &not_synchronised);
    unusable(kissing(*b"INIT"), &not_synchronised);
    unusable(kissing([0, 0xff, b'\n', 1]), &not_synchronised);
    unusable(changed(|d| d[1] = 15), &["stratum is 15", "this node would have 16"]);
    unusable(kissing(*b"RATE"), &["RATE", "too many requests", "minPoll"]);
    unusable(kissing(*b"DENY"), &["refuses to serve this node (DENY)", "access rules"]);
    unusable(kissing(*b"RSTR"), &["refuses to serve this node (RSTR)", "access rules"]);
    unusable(kissing(*b"NKEY"), &["kiss code NKEY"]);
    unusable(
        changed(|d| d[8..12].copy_from_slice(&NtpShort::from_seconds(16.5).0.to_be_bytes())),
        &["answers, but its root distance is 16 s or more"],
    );
    unusable(changed(|d| shift(d, 40, -2)), &["stamps run backwards"]);
    unusable(changed(|d| shift(d, 40, 2)), &["stamps contradict each other"]);
    unusable(changed(|d| d[40..48].fill(0)), &["malformed"]);
}

/// A Windows domain controller, which reports a root dispersion of ten seconds.
fn domain_controller() -> Sim {
    changed(|d| d[8..12].copy_from_slice(&NtpShort::from_seconds(10.05).0.to_be_bytes()))
}

#[test]
fn the_limit_of_the_root_distance_is_the_users() {
    unusable(domain_controller(), &["up to 11s", "clock.maxDistance, 1500ms", "thresholds.errorBound"]);
    let mut sim = domain_controller();
    sim.config.max_distance = 16.0;
    sim.reconfigure(sim.config.clone());
    sim.run(120.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.sources[0].state), (Reason::ErrorBound, SourceState::Selected));
    sim.config.error_bound_threshold = 15.0;
    sim.reconfigure(sim.config.clone());
    sim.run(10.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.synchronized), (Reason::Synchronized, true));
    assert!(snapshot.error_bound.is_some_and(|bound| bound > 10.0), "{snapshot:?}");
    // And back: a source that is too distant gives no time, although it answers.
    sim.config.max_distance = 1.5;
    sim.reconfigure(sim.config.clone());
    sim.run(120.0);
    let snapshot = sim.snapshot();
    assert_eq!((snapshot.reason, snapshot.sources[0].state), (Reason::Holdover, SourceState::Unusable));
    assert_eq!(count(&sim, &Transition::UpstreamsUnreachable), 1);
}

#[test]
fn what_keeps_requests_from_their_server() {
    unreachable(unsent(SendError::NoListener), &["no program listens on UDP port 123", "ECONNREFUSED"]);
    unreachable(unsent(SendError::NotPermitted), &["may not send", "firewall", "EPERM"]);
    unreachable(unsent(SendError::NoRoute), &["no route to it"]);
    unreachable(unsent(SendError::NoIpv6), &["IPv6", "this node has none"]);
    unreachable(unsent(SendError::NoPort), &["no free UDP port"]);
    unreachable(unsent(SendError::NoDescriptor), &["no free file descriptor", "nofile"]);
    unreachable(unsent(SendError::Other(5)), &["cannot be sent: Input/output error"]);
}

#[test]
fn no_answer_and_other_datagrams() {
    let sim = || Sim::new(config(1), 0.0, vec![silent()]);
    unreachable(sim(), &["does not answer", "address", "UDP port 123"]);
    let mut keyed = config(1);
    keyed.sources[0].auth = Auth::Key("k".to_owned());
    unreachable(Sim::new(keyed, 0.0, vec![silent()]), &["does not answer", "same key"]);
    let mut ignored = Sim::new(config(1), 0.0, vec![honest()]);
    ignored.drops = true;
    unusable(ignored, &["dropped here", "restrict", "ignore"]);
    let stray: Change = |d| d[24] ^= 1;
    unreachable(changed(stray), &["none of them answers a request"]);
    let mut named_only = config(1);
    named_only.sources[0].upstream = named("ntp.example");
    check(
        Sim::new(named_only, 0.0, vec![]),
        SourceState::Unresolved,
        Reason::Unreachable,
        &["name ntp.example does not resolve", "DNS"],
    );
}

#[test]
fn a_cause_is_reported_at_once_and_ends_with_the_first_valid_reply() {
    let mut sim = unsent(SendError::NoListener);
    sim.run(3.0);
    assert!(sim.snapshot().sources[0].why.contains("no program listens"), "{:?}", sim.snapshot().sources);
    assert_eq!(sim.snapshot().reason, Reason::Starting);
    sim.run(60.0);
    assert_eq!(sim.snapshot().reason, Reason::Unreachable);
    sim.servers = vec![honest()];
    sim.run(60.0);
    assert_eq!(sim.snapshot().sources[0].why, "");
    let announced: Vec<_> = sim.announced.iter().map(|(_, announced)| announced.clone()).collect();
    let expected =
        [Transition::UpstreamsUnreachable, Transition::UpstreamsReachable, Transition::Synchronized];
    assert_eq!(announced, expected);
}

#[test]
fn a_cause_that_is_over_gives_way_to_silence() {
    let wrong: Script = Box::new(|now| Behaviour { silent: now > 60.0, stratum: 16, ..HONEST });
    let mut sim = Sim::new(config(1), 0.0, vec![wrong]);
    sim.run(60.0);
    assert!(sim.snapshot().sources[0].why.contains("not synchronised"), "{:?}", sim.snapshot().sources);
    sim.run(600.0);
    assert!(sim.snapshot().sources[0].why.contains("does not answer"), "{:?}", sim.snapshot().sources);
}

#[test]
fn a_name_that_resolves_is_not_a_server_that_is_reached() {
    let mut orders = config(1);
    orders.sources[0].upstream = named("ntp.example");
    let mut sim = Sim::new(orders, 0.0, vec![silent()]);
    sim.run(30.0);
    sim.names = vec!["192.0.2.1".parse().expect("an address")];
    sim.run(600.0);
    assert_eq!(count(&sim, &Transition::UpstreamsUnreachable), 1);
    assert_eq!(count(&sim, &Transition::UpstreamsReachable), 0, "{:?}", sim.announced);
}

#[test]
fn a_corrected_key_is_used_and_its_fault_is_no_longer_reported() {
    let mut orders = config(1);
    orders.sources[0].auth = Auth::Key("k".to_owned());
    let mut sim = Sim::new(orders, 0.0, vec![]);
    sim.send_error = SendError::Unproven;
    let source = sim.snapshot().sources[0].id;
    sim.give(Event::Unproven { source, why: "Key file k: line 1: malformed." });
    sim.run(7200.0);
    assert_eq!(sim.snapshot().reason, Reason::NoUsableUpstream);
    assert_eq!(sim.snapshot().sources[0].why, "Key file k: line 1: malformed.");
    // The key is correct now, but the server is silent: that is reported now, and soon.
    sim.servers = vec![silent()];
    sim.run(64.0);
    assert!(!sim.snapshot().sources[0].why.contains("malformed"), "{:?}", sim.snapshot().sources);
    sim.servers = vec![honest()];
    sim.run(64.0);
    assert_eq!(sim.snapshot().sources[0].reach & 1, 1, "{:?}", sim.snapshot().sources);
}
