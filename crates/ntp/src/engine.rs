//! The engine: holds the order of the steps and nothing else. Events and the time go in, actions come out: association
//! → filter → select → combine → discipline → slew. `status` makes the snapshot and the announcements for the caller.
use crate::{
    Action, BootState, Config, Drift, Event, LeapTable, Mode, Mono, Now, OwnAddresses, RequestId, Samples,
    SourceId,
    clock::{leap::LeapWatch, slew::Clock},
    disturbance::recovery::Recovery,
    engine::{disturbance::Look, save::FIRST_SAVE, status::Announced},
    measure::{
        discipline::Discipline,
        floor::Floor,
        select::{Ballot, Selector},
    },
    source::{
        association::{Association, Reading, Received, known_first},
        duplicate::canonical,
        pool::Pool,
        recalled::Recalled,
    },
};

mod disturbance;
mod kernel;
mod leap;
mod local;
mod save;
mod sources;
mod status;
mod steer;

/// What the caller knows when it starts the engine.
#[derive(Clone, Debug)]
pub struct Start {
    /// The state of this boot.
    pub boot: BootState,
    /// The frequency learned earlier; used if a clock can have it (at most 500 ppm).
    pub drift: Option<Drift>,
    /// The samples of an earlier engine of this boot, converted to the present clocks. Their drift takes precedence
    /// over `drift`.
    pub samples: Option<Samples>,
    /// Spreads the polls of many nodes in time. Never used for anything secret.
    pub seed: u64,
}

/// An NTP client without clock and sockets. The caller reports [`Event`]s, and carries out the returned [`Action`]s in
/// their order.
///
/// Every verb takes `now`, both clocks read together. Read them so that a preemption between the two is noticed: a
/// difference that changes by more than 1 ms twice in a row counts as a step by another program.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    associations: Vec<Association>,
    pools: Vec<Pool>,
    /// This node's addresses and ports.
    own: OwnAddresses,
    /// Samples from before the restart, of sources that have no address yet.
    recalled: Vec<Recalled>,
    clock: Clock,
    discipline: Discipline,
    selector: Selector,
    ballot: Ballot,
    announced: Announced,
    /// The orphan that this node follows if no better source is usable.
    parent: Option<SourceId>,
    /// When this node was last synchronised, or when the engine began.
    last_synchronized: Mono,
    /// This node serves its own clock, as of the last call.
    serves_local: bool,
    leap: LeapWatch,
    leap_table: Option<LeapTable>,
    floor: Option<Floor>,
    /// When the engine last began to measure all sources anew: at the start, after a jump, after a reload.
    seeking: Mono,
    /// When the present configuration took effect.
    configured: Mono,
    /// The clock was compared with an answer that came since then.
    confirmed: bool,
    started: bool,
    recovery: Recovery,
    next_source: u32,
    next_request: u64,
    next_vote: Mono,
    next_save: Mono,
    /// The pause after the next saving, seconds.
    save_pause: f64,
    random: u64,
}

/// The interval at which the error bound is checked and the vote repeated, seconds.
const TICK: f64 = 1.0;

impl Engine {
    /// An engine that has done nothing yet. Call [`Engine::begin`] at once; the first [`Engine::handle`] sends the first
    /// requests.
    pub fn new(config: Config, start: Start, now: Now) -> Self {
        let samples = start.samples.filter(|_| config.mode == Mode::Discipline);
        let drift = samples.as_ref().map(|samples| samples.drift).or(start.drift);
        let (discipline, base) = Discipline::new(start.boot, drift);
        let recalled = samples.map(|samples| samples.recall(base, now.wall)).unwrap_or_default();
        let mut engine = Self {
            associations: Vec::new(),
            pools: Vec::new(),
            own: OwnAddresses::default(),
            recalled,
            clock: Clock::new(base, config.max_slew_rate, now),
            discipline,
            selector: Selector::default(),
            ballot: Ballot::Open,
            announced: Announced::default(),
            parent: None,
            last_synchronized: now.mono,
            serves_local: false,
            leap: LeapWatch::default(),
            leap_table: None,
            floor: None,
            seeking: now.mono,
            configured: now.mono,
            confirmed: false,
            started: false,
            recovery: Recovery::new(now),
            next_source: 0,
            next_request: 0,
            next_vote: now.mono,
            next_save: now.mono.plus(FIRST_SAVE),
            save_pause: FIRST_SAVE,
            // Zero would stay zero.
            random: start.seed | 1,
            config,
        };
        engine.associate(now);
        engine
    }

    /// Sets a table of TAI minus UTC. The engine sets the kernel's TAI offset from it while the clock is synchronised.
    /// Without a table, or after its expiry, the kernel's value is not changed.
    pub fn learn_leap_table(&mut self, table: LeapTable) {
        self.leap_table = Some(table);
    }

    /// Applies another configuration, all at once. A source with the same name, upstream and authentication keeps its
    /// samples and is asked again soon; requests to removed sources are closed. A change from Discipline to Observe ends
    /// the slew. After a change from Observe to Discipline everything is measured anew, since another program may have
    /// set the clock's rate.
    pub fn reconfigure(&mut self, config: Config, now: Now) -> Vec<Action> {
        let before = std::mem::replace(&mut self.config, config);
        (self.configured, self.confirmed) = (now.mono, false);
        let mut actions = Vec::new();
        if before.mode != self.config.mode {
            self.change_mode(now, &mut actions);
        }
        self.reconsider(before.on_external_step, now);
        self.clock.limit_slew(self.config.max_slew_rate);
        let sources: Vec<SourceId> = self.associations.iter().map(|a| a.id).collect();
        actions.extend(self.associate(now));
        self.forget_objections(&sources);
        self.vote(now);
        self.finish(now, &mut actions);
        actions
    }

    fn change_mode(&mut self, now: Now, actions: &mut Vec<Action>) {
        let change = self.clock.abandon(now);
        self.transform(&change);
        if self.config.mode == Mode::Discipline {
            actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
            self.restart(now, actions);
        } else {
            if let Some(reference) = &mut self.discipline.reference {
                // Corrected time is the system clock's again, so what was still to be slewed is an offset now.
                reference.offset -= change.offset;
            }
            self.hand_back(now, actions);
        }
        self.recovery.abandon();
    }

    /// Sets the clock's rate, unless the engine observes. The engine assumes that the clock has this rate since
    /// [`Engine::new`], but a kernel that was left in a slew continues it until the rate is set. If the caller does not
    /// call this, the first [`Engine::handle`] sets the rate.
    pub fn begin(&mut self) -> Vec<Action> {
        let begins = !std::mem::replace(&mut self.started, true) && self.config.mode == Mode::Discipline;
        Vec::from_iter(begins.then(|| Action::SetFrequency { ppm: self.clock.rate_ppm() }))
    }

    /// Takes an event, does what is due at `now`, and returns the actions for the caller. Call it for every event, and
    /// with [`Event::Wakeup`] at the time that [`Engine::next_wakeup`] returned.
    pub fn handle(&mut self, event: Event<'_>, now: Now) -> Vec<Action> {
        let mut actions = self.begin();
        if let Event::Resumed { asleep } = event {
            self.slept(asleep, now, &mut actions);
        }
        let look = self.look(now, &mut actions);
        if look == Look::Suspicious {
            // The clocks may have jumped. A second reading is due immediately. Until then this only ends requests.
            self.take(event, false, now, &mut actions);
            return actions;
        }
        let (mut now, mut steady) = (now, look == Look::Steady);
        // Only for these events. In an event that answers an action, the caller may still have actions of the former
        // call to carry out, so a step would come out of order.
        if matches!(event, Event::Wakeup | Event::Received { .. }) {
            let (later, still) = self.leap(now, &mut actions);
            (now, steady) = (later, steady && still);
        }
        if self.clock.tick(now) {
            actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        }
        let turn = matches!(event, Event::Wakeup) && self.next_vote <= now.mono;
        let sampled = self.take(event, steady, now, &mut actions);
        if sampled {
            self.doubt(now, &mut actions);
        }
        if turn {
            now = self.settle_unanswered(now, &mut actions);
        }
        if sampled || turn {
            self.next_vote = now.mono.plus(TICK);
            self.vote(now);
            now = self.steer(now, &mut actions);
        }
        if turn || matches!(event, Event::Resolved { .. }) {
            self.maintain_pools(now, &mut actions);
        }
        self.settle_duplicates(now.mono, &mut actions);
        self.restore_samples();
        for index in 0..self.associations.len() {
            let (request, spread) = (RequestId(self.next_request), self.spread());
            let association = &mut self.associations[index];
            let sent = association.sent;
            actions.extend(association.poll(now.mono, request, spread));
            self.next_request += association.sent - sent;
        }
        self.finish(now, &mut actions);
        self.save_if_due(now, &mut actions);
        actions
    }

    /// Returns the latest time to call [`Engine::handle`]. It changes with every call of a method that takes
    /// `&mut self`. It is at most one second ahead, since the error bound grows by itself.
    pub fn next_wakeup(&self, now: Now) -> Mono {
        if self.recovery.clocks().suspicious() {
            return now.mono;
        }
        let sources = self.associations.iter().map(Association::next_wakeup);
        let leap = self.leap.at().filter(|at| *at > now.wall).map(|at| now.mono.plus(at - now.wall));
        let next = sources.chain(self.clock.until()).chain(leap).chain([self.next_vote]).min();
        next.map_or(now.mono, |next| next.clamp(now.mono, now.mono.plus(TICK)))
    }

    /// Ends the engine: the slew stops, the kernel gets the true status, the drift is saved, all requests are closed.
    pub fn shut_down(&mut self, now: Now) -> Vec<Action> {
        let mut actions: Vec<Action> = self.associations.iter_mut().filter_map(Association::close).collect();
        if self.config.mode == Mode::Discipline {
            self.clock.stop(now);
            self.hand_back(now, &mut actions);
            actions.extend(self.save_samples(now));
        }
        actions
    }

    /// When the engine saves its samples next.
    #[cfg(test)]
    pub(crate) fn next_save(&self) -> Mono {
        self.next_save
    }

    /// Drops all samples, and measures anew.
    fn restart(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.seeking = now.mono;
        self.ballot = Ballot::Open;
        self.recalled.clear();
        actions.extend(self.associations.iter_mut().filter_map(|a| a.forget(now.mono)));
    }

    /// Gives the event to its association. Returns true if it produced a sample.
    fn take(&mut self, event: Event<'_>, steady: bool, now: Now, actions: &mut Vec<Action>) -> bool {
        match event {
            Event::Wakeup | Event::Resumed { .. } => {}
            Event::OwnAddresses(own) => self.own = own.clone(),
            Event::Resolved { source, addresses } => {
                let addresses = known_first(&canonical(addresses), &self.recalled);
                if !self.pool_resolved(source, &addresses) {
                    let association = self.associations.iter_mut().find(|a| a.id == source);
                    actions.extend(association.and_then(|a| a.resolved(&addresses, now.mono)));
                }
            }
            Event::Unresolved { source, why } => self.unresolved(source, why, now.mono),
            Event::Keyed { source, addresses, port } => {
                let association = self.associations.iter_mut().find(|a| a.id == source);
                actions.extend(association.and_then(|a| a.keyed(&canonical(addresses), port, now.mono)));
            }
            Event::Unproven { source, why } => {
                let association = self.associations.iter_mut().find(|a| a.id == source);
                association.into_iter().for_each(|a| a.unproven(why, now.mono));
            }
            Event::Unauthentic { request, why } => {
                self.with_request(request, |a| a.unauthentic(why));
            }
            Event::OwnAnswer { request } => {
                self.with_request(request, Association::reflected);
            }
            Event::Sent { request, cookie, at } => {
                let at = self.clock.corrected(at);
                self.with_request(request, |a| {
                    if steady {
                        a.left(cookie, at);
                    }
                });
            }
            Event::Departed { request, at } => {
                let at = self.clock.corrected(at);
                self.with_request(request, |a| {
                    if steady {
                        a.departed(at);
                    }
                });
            }
            Event::SendFailed { request, why } => {
                actions.extend(self.with_request(request, |a| a.failed(why, now.mono)).flatten());
            }
            Event::Dropped { request } => {
                self.with_request(request, Association::dropped);
            }
            Event::Received { request, datagram, at, local } => {
                let at = self.clock.corrected(at);
                let us = self.identity();
                let judged = |a: &mut Association| {
                    let received = if steady {
                        a.received(datagram, (at, local), &us, now.mono)
                    } else {
                        Received::Over
                    };
                    let close = if received == Received::Nothing { None } else { a.close() };
                    (received == Received::Sample, close)
                };
                let (sampled, close) = self.with_request(request, judged).unwrap_or_default();
                actions.extend(close);
                return sampled;
            }
            Event::Measured { request, at, offset, dispersion } => {
                let pending = self.clock.pending(at);
                let reading = Reading { at: at.plus(pending), offset: offset + pending, dispersion };
                let reading = Some(reading).filter(|_| steady);
                if self.with_request(request, |a| a.measured(reading, now.mono)) == Some(true) {
                    // This event answers an action, so the vote waits for the next call.
                    self.next_vote = now.mono;
                }
            }
        }
        false
    }

    fn with_request<T>(&mut self, request: RequestId, act: impl FnOnce(&mut Association) -> T) -> Option<T> {
        self.associations.iter_mut().find(|a| a.owns(request)).map(act)
    }

    /// Random, -1 to 1. Xorshift64 (Marsaglia, 2003) and no library: this crate has no dependency, and it only spreads
    /// polls.
    fn spread(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}
