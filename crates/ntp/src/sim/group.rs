//! Machines that serve each other, and one server with true time. Each engine's requests are answered with what another
//! engine serves at that moment. Time advances for all machines together.
use std::net::{IpAddr, SocketAddr};

use super::{LATENESS, Random, machine, servers};
use crate::{
    Action, BootState, Config, Engine, Event, Memory, Mono, NtpTimestamp, OwnAddresses, OwnPorts, RateLimit,
    RateVerdict, Reflections, Request, RequestId, RestrictTable, Served, Serving, Snapshot, Start,
    Transition, Upstream, Verdict, respond,
    sim::{Behaviour, HONEST, config},
    wire::packet::{self, Header},
};

/// The machines.
pub(super) struct Group {
    pub(super) members: Vec<Member>,
    /// True time since the beginning, seconds.
    pub(super) now: f64,
    /// For each member: true if the server with true time answers it.
    pub(super) upstream: Vec<bool>,
    /// Addresses that lead to a member, but are on none of its interfaces.
    pub(super) virtual_addresses: Vec<(IpAddr, usize)>,
    /// Pairs of members that cannot talk to each other.
    pub(super) cut: Vec<(usize, usize)>,
    /// The fraction of exchanges that is lost.
    pub(super) loss: f64,
    /// The behaviour of the server with true time.
    pub(super) behaviour: Behaviour,
    /// The time between wake-ups of an idle machine, seconds, so that months can be simulated in seconds.
    pub(super) pause: f64,
    mail: Vec<InFlight>,
    random: Random,
}

/// One machine.
pub(super) struct Member {
    pub(super) engine: Engine,
    pub(super) config: Config,
    pub(super) address: IpAddr,
    /// True if it runs.
    pub(super) alive: bool,
    /// This clock minus true time, seconds.
    pub(super) offset: f64,
    /// The frequency error of its oscillator, seconds per second.
    pub(super) oscillator: f64,
    /// The rate that its engine set, parts per million.
    pub(super) ppm: f64,
    /// The number of changes of the rate, and of steps.
    pub(super) moves: usize,
    /// The reported transitions, and when.
    pub(super) announced: Vec<(f64, Transition)>,
    stepped: f64,
    /// The time of its last event.
    stirred: f64,
    open: Vec<(RequestId, NtpTimestamp)>,
    reflections: Reflections,
}

/// A datagram on the network.
struct InFlight {
    at: f64,
    client: usize,
    request: RequestId,
    datagram: Vec<u8>,
    /// The member that is asked. None if the datagram is a reply.
    server: Option<usize>,
}

/// The server with true time.
pub(super) const UPSTREAM: &str = "192.0.2.1";

/// The smallest delay of each direction, and the average delay in addition, seconds.
const DELAY: f64 = 100e-6;
const JITTER: f64 = 50e-6;

/// After this time, seconds, the immediate effects of a reply are over. A slew that still runs is slow, and may end
/// late.
const SETTLED: f64 = 5.0;

/// A configuration with these servers as sources, and defaults otherwise.
pub(super) fn asking(hosts: &[String]) -> Config {
    let mut orders = config(hosts.len());
    for (source, host) in orders.sources.iter_mut().zip(hosts) {
        source.upstream = Upstream::Server { host: host.clone(), port: 123 };
    }
    orders
}

impl Group {
    /// Machines with addresses, configurations, and offsets of their clocks.
    pub(super) fn new(members: Vec<(IpAddr, Config, f64)>, seed: u64) -> Self {
        let upstream = vec![true; members.len()];
        let member = |(index, (address, config, offset)): (usize, (IpAddr, Config, f64))| Member {
            engine: engine(&config, BootState::default(), seed + index as u64, (0.0, offset, offset)),
            config,
            address,
            alive: true,
            offset,
            oscillator: 10e-6 * (index as f64 - 1.0),
            ppm: 0.0,
            moves: 0,
            announced: Vec::new(),
            stepped: offset,
            stirred: 0.0,
            open: Vec::new(),
            reflections: Reflections::default(),
        };
        let members = members.into_iter().enumerate().map(member).collect();
        let (virtual_addresses, cut, mail) = (Vec::new(), Vec::new(), Vec::new());
        let random = Random::new(seed, 3);
        let (behaviour, pause) = (HONEST, 0.0);
        let mut group = Self {
            members,
            now: 0.0,
            upstream,
            virtual_addresses,
            cut,
            loss: 0.0,
            behaviour,
            pause,
            mail,
            random,
        };
        (0..group.members.len()).for_each(|index| group.introduce(index, &[]));
        group
    }

    /// Restarts a machine, or its agent, at the begin of a boot.
    pub(super) fn revive(&mut self, index: usize) {
        let member = &mut self.members[index];
        let now = (self.now, member.offset, member.stepped);
        member.engine = engine(&member.config, BootState::default(), 77, now);
        (member.alive, member.ppm, member.moves) = (true, 0.0, 0);
        member.open.clear();
        self.introduce(index, &[]);
    }

    /// Reports its addresses, and `more`, to a machine's engine, as the agent does at the start and when they change.
    pub(super) fn introduce(&mut self, index: usize, more: &[IpAddr]) {
        let ports = OwnPorts { v4: Some(123), v6: Some(123) };
        let own = OwnAddresses::new([&[self.members[index].address], more].concat(), ports);
        self.give(index, Event::OwnAddresses(&own));
    }

    pub(super) fn snapshot(&self, index: usize) -> Snapshot {
        let member = &self.members[index];
        member.engine.snapshot(machine::read(self.now, member.offset, member.stepped))
    }

    pub(super) fn served(&self, index: usize) -> Served {
        let member = &self.members[index];
        let now = machine::read(self.now, member.offset, member.stepped);
        Served::from_snapshot(&member.engine.snapshot(now))
    }

    /// The members that serve their own clock.
    pub(super) fn parents(&self) -> Vec<usize> {
        let local = |index: &usize| self.served(*index).reference_id == [127, 127, 1, 1];
        (0..self.members.len()).filter(|index| self.members[*index].alive).filter(local).collect()
    }

    /// The member that a member follows.
    pub(super) fn followed(&self, index: usize) -> Option<usize> {
        let snapshot = self.snapshot(index);
        let source = snapshot.sources.iter().find(|source| Some(source.id) == snapshot.reference)?;
        self.members.iter().position(|member| Some(member.address) == source.address)
    }

    /// Returns true if two members can reach each other.
    pub(super) fn linked(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&(one, other)) && !self.cut.contains(&(other, one))
    }

    /// Advances true time by `seconds`, and wakes up all engines at the end.
    pub(super) fn run(&mut self, seconds: f64) {
        let end = self.now + seconds;
        while self.now < end {
            let (mut next, mut whose) = (end, None);
            for index in (0..self.members.len()).filter(|index| self.members[*index].alive) {
                let member = &self.members[index];
                let now = machine::read(self.now, member.offset, member.stepped);
                let wait = (member.engine.next_wakeup(now) - now.mono).max(0.0);
                // An engine waits at most a second. If it waits that long, nothing is due.
                let idle = wait > 0.99 && self.now - member.stirred > SETTLED;
                let wait = if idle { wait.max(self.pause) } else { wait };
                let at = self.now + wait + LATENESS * self.random.uniform();
                if at < next {
                    (next, whose) = (at, Some(index));
                }
            }
            let first = self.mail.iter().map(|mail| mail.at).fold(f64::INFINITY, f64::min);
            if first < next {
                self.pass(first);
                let index = self.mail.iter().position(|mail| mail.at == first).expect("the first is there");
                let mail = self.mail.swap_remove(index);
                self.deliver(mail);
            } else {
                self.pass(next);
                if let Some(index) = whose {
                    self.give(index, Event::Wakeup);
                }
            }
        }
        for index in (0..self.members.len()).filter(|index| self.members[*index].alive).collect::<Vec<_>>() {
            self.give(index, Event::Wakeup);
        }
    }

    fn pass(&mut self, end: f64) {
        for member in &mut self.members {
            member.offset += (end - self.now) * ((1.0 + member.oscillator) * (1.0 + member.ppm * 1e-6) - 1.0);
        }
        self.now = end;
    }

    fn give(&mut self, index: usize, event: Event<'_>) {
        let member = &mut self.members[index];
        if !matches!(event, Event::Wakeup) {
            member.stirred = self.now;
        }
        let actions = member.engine.handle(event, machine::read(self.now, member.offset, member.stepped));
        for action in actions {
            let member = &mut self.members[index];
            match action {
                Action::Send { request, to, header, .. } => self.send(index, request, to, header),
                Action::Close { request } => {
                    let place = member.open.iter().position(|(open, _)| *open == request);
                    let closed = place.map(|place| member.open.swap_remove(place));
                    closed.into_iter().for_each(|(_, cookie)| member.reflections.end(cookie));
                }
                Action::SetFrequency { ppm } => {
                    member.moves += usize::from(ppm != member.ppm);
                    member.ppm = ppm;
                }
                Action::Step { by } => {
                    member.moves += 1;
                    member.offset += by;
                    member.stepped += by;
                }
                Action::Announce(transition) => member.announced.push((self.now, transition)),
                _ => {}
            }
        }
    }

    fn send(&mut self, client: usize, request: RequestId, to: SocketAddr, header: Header) {
        let cookie = NtpTimestamp(self.random.bits() | 1);
        let member = &mut self.members[client];
        member.open.push((request, cookie));
        member.reflections.begin(cookie);
        let at = machine::read(self.now, member.offset, member.stepped).wall;
        self.give(client, Event::Sent { request, cookie, at });
        let trip = super::network::Trip { there: self.delay(), back: self.delay() };
        if self.random.uniform() < self.loss {
            return;
        }
        let datagram = header.with_cookie(cookie).encode().to_vec();
        if let Some(server) = self.at(to.ip()) {
            let at = self.now + trip.there;
            self.mail.push(InFlight { at, client, request, datagram, server: Some(server) });
        } else if self.upstream[client] {
            let answers = servers::answer(&self.behaviour, cookie, self.now, &trip);
            let mail = |(at, datagram)| InFlight { at, client, request, datagram, server: None };
            self.mail.extend(answers.into_iter().map(mail));
        }
    }

    /// The member at an address.
    fn at(&self, address: IpAddr) -> Option<usize> {
        let led = self.virtual_addresses.iter().find(|(virtual_address, _)| *virtual_address == address);
        led.map(|(_, member)| *member).or(self.members.iter().position(|member| member.address == address))
    }

    fn delay(&mut self) -> f64 {
        DELAY + self.random.exponential(JITTER)
    }

    fn deliver(&mut self, mail: InFlight) {
        let InFlight { client, request, datagram, server, .. } = mail;
        if let Some(server) = server {
            let answer = self.answer(server, client, &datagram);
            let at = self.now + self.delay();
            self.mail.extend(answer.map(|datagram| InFlight { at, client, request, datagram, server: None }));
        } else if let Some((_, cookie)) = self.members[client].open.iter().find(|(open, _)| *open == request)
            && self.members[client].alive
        {
            let member = &self.members[client];
            if member.reflections.gave(*cookie, &datagram) {
                return self.give(client, Event::OwnAnswer { request });
            }
            let at = machine::read(self.now, member.offset, member.stepped).wall;
            let local = Some(member.address);
            self.give(client, Event::Received { request, datagram: &datagram, at, local });
        }
    }

    /// The reply of one member to another.
    fn answer(&mut self, server: usize, client: usize, datagram: &[u8]) -> Option<Vec<u8>> {
        let member = &self.members[server];
        if !member.alive || !self.linked(server, client) {
            return None;
        }
        let now = machine::read(self.now, member.offset, member.stepped);
        let from = SocketAddr::new(self.members[client].address, 40_000);
        let (rules, limit) = (RestrictTable::new(&[]), RateLimit { interval: 3, burst: 8, leak: 2 });
        let serving = Serving { served: &self.served(server), rules: &rules, limit: &limit };
        let request = Request { datagram, from, to_group: false, received: now.wall, now: now.mono };
        match respond(&request, &serving, &mut Unlimited).verdict {
            Verdict::Answer(answer) => {
                let answer = answer.at(now.wall.plus(20e-6)).to_vec();
                let asked = packet::decode(datagram).ok()?;
                self.members[server].reflections.give(asked.transmit, &answer).then_some(answer)
            }
            Verdict::Query | Verdict::Sign(_) | Verdict::Seal(_) | Verdict::Kiss(_) | Verdict::Drop(_) => {
                None
            }
        }
    }
}

/// A memory without rate limit: members ask far less than any limit allows.
struct Unlimited;

impl Memory for Unlimited {
    fn judge(&mut self, _: IpAddr, _: Mono, _: &RateLimit) -> RateVerdict {
        RateVerdict::Pass
    }

    fn departure(&mut self, _: NtpTimestamp) -> Option<NtpTimestamp> {
        None
    }

    fn expect(&mut self, _: NtpTimestamp) -> Option<NtpTimestamp> {
        None
    }
}

fn engine(config: &Config, boot: BootState, seed: u64, (now, offset, stepped): (f64, f64, f64)) -> Engine {
    let start = Start { boot, drift: None, samples: None, seed };
    Engine::new(config.clone(), start, machine::read(now, offset, stepped))
}
