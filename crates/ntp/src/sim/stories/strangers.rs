//! Datagrams from attackers, and random events from caller and network: no panic, and no rate or step beyond the
//! limits.
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::named;
use crate::{
    Action, BootState, Engine, Event, Leap, Mono, Now, NtpTimestamp, RequestId, SendError, SourceId, Start,
    Transition, Wall,
    sim::{Sim, config, honest},
    wire::packet::{self, Header},
};

#[test]
fn strangers_datagrams_change_nothing_but_counters() {
    let mut sim = Sim::new(config(1), 0.02, vec![honest()]);
    let mut earlier: Option<Vec<u8>> = None;
    sim.tamper = Some(Box::new(move |datagram| {
        let genuine = datagram.clone();
        let mut spoofed = genuine.clone();
        // Everything except the cookie is valid, and the time is a day ahead.
        spoofed[24..32].copy_from_slice(&[0; 8]);
        spoofed[33] ^= 1;
        spoofed[41] ^= 1;
        let replayed = earlier.replace(genuine.clone()).unwrap_or_else(|| spoofed.clone());
        let truncated = genuine[..47].to_vec();
        vec![spoofed, replayed, truncated, Vec::new(), genuine.clone(), genuine]
    }));
    sim.run(10.0);
    let (_, largest) = sim.error_over(900.0);
    assert!(largest < 1e-3, "{largest}");
    let source = &sim.snapshot().sources[0];
    assert_eq!(source.received, source.sent, "{source:?}");
    assert!(source.rejected >= source.sent, "{source:?}");
    assert_eq!(source.reach, 0xff);
}

proptest! {
    /// Random events in random order at random times: no panic, no rate beyond the limits, and no step after the start
    /// phase.
    #[test]
    fn nothing_that_comes_can_upset_the_engine(
        events in proptest::collection::vec((0_u8..16, any::<u64>(), any::<[u8; 48]>()), 1..200),
        started in any::<bool>(),
    ) {
        let boot = BootState { steps: 0, synchronized: started };
        let mut orders = config(3);
        orders.sources[2].upstream = named("name.example");
        let now = Now { wall: Wall(1_800_000_000_000_000_000), mono: Mono(0) };
        let engine = Engine::new(orders, Start { boot, drift: None, samples: None, seed: 1 }, now);
        let mut stranger = Stranger { engine, now, requests: Vec::new(), steps: 0, jumps: 0 };
        for (kind, value, octets) in events {
            stranger.act(kind, value, octets)?;
            let snapshot = stranger.engine.snapshot(stranger.now);
            prop_assert!(!snapshot.error_bound.is_some_and(f64::is_nan));
            prop_assert!(stranger.engine.next_wakeup(stranger.now) <= stranger.now.mono.plus(1.0));
        }
        let allowed = if started { 0 } else { 3 };
        prop_assert!(stranger.steps <= allowed + stranger.jumps);
        stranger.engine.shut_down(stranger.now);
    }
}

/// A caller and a network with random events.
struct Stranger {
    engine: Engine,
    now: Now,
    requests: Vec<RequestId>,
    steps: u32,
    /// Jumps by other programs that allow a step of the engine.
    jumps: u32,
}

const COOKIE: NtpTimestamp = NtpTimestamp(7);

impl Stranger {
    fn act(&mut self, kind: u8, value: u64, mut octets: [u8; 48]) -> Result<(), TestCaseError> {
        let passed = (value % 900_000_000) as i64;
        let wall = Wall(self.now.wall.0.saturating_add(passed));
        self.now = Now { wall, mono: Mono(self.now.mono.0 + passed) };
        let newest = self.requests.len().checked_sub(1 + value as usize % 3);
        let request = newest.map_or(RequestId(value), |index| self.requests[index]);
        let sent = Event::Sent { request, cookie: COOKIE, at: wall };
        match kind {
            0 => self.give(sent),
            1 => self.give(Event::SendFailed { request, why: SendError::NoListener }),
            2 => {
                self.give(sent)?;
                octets[24..32].copy_from_slice(&COOKIE.0.to_be_bytes());
                octets[0] = 0x24;
                self.give(Event::Received { request, datagram: &octets, at: Wall(value as i64), local: None })
            }
            3 => self
                .give(Event::Resolved { source: SourceId(2), addresses: &[IpAddr::V4(Ipv4Addr::LOCALHOST)] }),
            4 if value.is_multiple_of(5) => {
                self.now.wall = Wall((value >> 3) as i64);
                self.give(Event::Wakeup)
            }
            _ => {
                self.give(sent)?;
                // A server that is ahead by a random time, sometimes a long one.
                let ahead = if value.is_multiple_of(7) { value as f64 / 1e15 } else { 0.02 };
                let stamp = NtpTimestamp::from_wall(wall.plus(ahead));
                let header = Header {
                    leap: Leap::None,
                    version: 4,
                    mode: packet::MODE_SERVER,
                    stratum: 1 + (value % 3) as u8,
                    origin: COOKIE,
                    receive: stamp,
                    transmit: stamp,
                    ..Header::default()
                };
                let datagram = header.encode();
                self.give(Event::Received {
                    request,
                    datagram: &datagram,
                    at: wall.plus(1e-4),
                    local: None,
                })?;
                self.give(Event::Wakeup)
            }
        }
    }

    fn give(&mut self, event: Event<'_>) -> Result<(), TestCaseError> {
        for action in self.engine.handle(event, self.now) {
            match action {
                Action::Send { request, .. } => self.requests.push(request),
                Action::SetFrequency { ppm } => prop_assert!(ppm.abs() <= 100_000.1, "{}", ppm),
                Action::Step { by } => {
                    prop_assert!(by.is_finite());
                    self.steps += 1;
                    self.now.wall = self.now.wall.plus(by);
                }
                Action::Announce(Transition::ExternalStep { .. }) => self.jumps += 1,
                Action::SetStatus { max_error, estimated_error, .. } => {
                    prop_assert!(max_error >= 0.0 && estimated_error >= 0.0);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
