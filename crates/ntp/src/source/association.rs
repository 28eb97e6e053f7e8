//! One upstream: its addresses, the one request that is on its way, its reach, and the history of its answers. Events
//! of one source in, actions for it out; it knows nothing of other sources.
use std::net::{IpAddr, SocketAddr};

use crate::{
    Action, Heard, Mono, NtpTimestamp, RequestId, Source, SourceId, SourceState, Upstream, Wall,
    clock::slew::Change,
    source::{
        cause::Cause,
        filter::{History, Sample, Verdict},
        interleave::{Interleave, Previous},
        poll::Schedule,
        reply::{Identity, Rejection, Reply, Server, judge},
        request::Request,
    },
    wire::packet,
};

mod address;
mod detail;
mod device;
mod duplicate;
mod itself;
mod former;
mod lookup;
mod obstacle;
mod proof;
mod recall;

pub use address::alternate_families;
use duplicate::Duplicate;
use former::Former;
pub(crate) use lookup::Refresh;
use lookup::{FIRST_LOOKUP_WAIT, Lookup};
use proof::Proof;
pub(crate) use {
    device::Reading,
    duplicate::{Handover, VoteOptions},
    recall::known_first,
};

/// One upstream.
#[derive(Clone, Debug)]
pub(crate) struct Association {
    pub(crate) id: SourceId,
    pub(crate) source: Source,
    /// The pool that it is a member of, and that gives it its address.
    pub(crate) pool: Option<SourceId>,
    pub(crate) schedule: Schedule,
    pub(crate) history: History,
    pub(crate) server: Option<Server>,
    /// The last eight polls, the newest in the lowest bit (RFC 5905 §9.2).
    pub(crate) reach: u8,
    pub(crate) last_answer: Option<Mono>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) rejected: u64,
    /// Of these, those that answered another request, and those whose proof failed.
    stray: u64,
    unauthentic: u64,
    /// What selection made of it, and why.
    pub(crate) state: (SourceState, String),
    /// Why it does not go with the others' way of leap seconds, if it does not.
    pub(crate) mixture: Option<String>,
    /// A sample came since the clock was last corrected.
    pub(crate) fresh: bool,
    host: String,
    port: u16,
    /// Its host is the path of a device.
    device: bool,
    /// Its host is a name, not an address.
    named: bool,
    addresses: Vec<IpAddr>,
    address: Option<IpAddr>,
    /// The address that it sees us at: where its last good answer came to.
    pub(crate) local: Option<IpAddr>,
    lookup: Option<Lookup>,
    request: Option<Request>,
    interleave: Interleave,
    proof: Proof,
    /// Polls since the last good answer.
    unanswered: u32,
    /// Polls since the last answer, good or not.
    silent: u32,
    /// Polls in a row that this address left unanswered.
    tries: u32,
    rejection: Option<Rejection>,
    denied: bool,
    /// What else stood in the way of an answer, and how many requests had been sent by then.
    failure: Option<(Cause, u64)>,
    /// How many stray datagrams had come when an answer was good last.
    strays_before: u64,
    /// What its last good answer said beside the time.
    heard: Option<Heard>,
    /// When it was reached for the first time again, or lost.
    reach_changed: Mono,
    /// Its address is of a family that this node has no route for, most likely.
    unroutable: bool,
    duplicate: Duplicate,
    former: Option<Former>,
    refresh: Refresh,
}

/// What a datagram was good for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Received {
    /// Nothing; only counters have changed.
    Nothing,
    /// The request is over, without a sample.
    Over,
    /// A sample came into the history.
    Sample,
}

/// An answer is waited for no longer than this, seconds, even if the next poll is far.
const LONGEST_WAIT: f64 = 3.0;

/// Polls without an answer after which a source counts as unreachable: the width of the reach register.
const UNREACHABLE: u32 = 8;

/// Polls without an answer after which a source is asked less and less often: it is most likely gone.
const LONG_SILENCE: u32 = 3 * UNREACHABLE;

/// A refused client gives up after this many polls without an answer (a kiss is not authenticated).
const DENIED_AFTER: u32 = 3;

/// Quick requests to find a source again that was lost.
const REGAIN: u8 = 4;

impl Association {
    /// A source that is asked from `first` on.
    pub(crate) fn new(id: SourceId, source: Source, first: Mono) -> Self {
        // Addresses in brackets are how URLs and chrony write IPv6.
        let (host, port) = match &source.upstream {
            Upstream::Server { host, port } | Upstream::Pool { host, port, .. } => (host.clone(), *port),
            Upstream::Device { path } => (path.clone(), 0),
        };
        let pool = matches!(source.upstream, Upstream::Pool { .. });
        let proof = Proof::new(&source.auth, first);
        let device = matches!(source.upstream, Upstream::Device { .. });
        // Whom to ask with keys from an exchange is said there.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let literal = literal.filter(|_| !pool && !proof.exchanges).map(|address| address.to_canonical());
        let named = literal.is_none() && !pool && !device;
        let lookup = named.then_some(Lookup { at: first, wait: FIRST_LOOKUP_WAIT });
        Self {
            id,
            schedule: Schedule::new(source.min_poll, source.max_poll, source.iburst, first),
            source,
            pool: None,
            history: History::default(),
            server: None,
            reach: 0,
            last_answer: None,
            sent: 0,
            received: 0,
            rejected: 0,
            stray: 0,
            unauthentic: 0,
            state: (Cause::Awaited.state(), Cause::Awaited.to_string()),
            mixture: None,
            fresh: false,
            host,
            port,
            device,
            named,
            addresses: literal.into_iter().collect(),
            address: literal,
            local: None,
            lookup,
            request: None,
            interleave: Interleave::default(),
            proof,
            unanswered: 0,
            silent: 0,
            tries: 0,
            rejection: None,
            denied: false,
            failure: None,
            strays_before: 0,
            heard: None,
            reach_changed: first,
            unroutable: false,
            duplicate: Duplicate::default(),
            former: None,
            refresh: Refresh::default(),
        }
    }

    /// The address that is asked.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// When `poll` has something to do.
    pub(crate) fn next_wakeup(&self) -> Mono {
        let lookup = self.lookup.map(|lookup| lookup.at);
        let poll = self.asks().then(|| self.schedule.next());
        let deadline = self.request.map(|request| request.deadline);
        [lookup, poll, deadline].into_iter().flatten().min().unwrap_or(Mono(i64::MAX))
    }

    /// Does what is due: gives up the request that stayed unanswered, looks the name up, sends the next request.
    /// `spread` is random, -1 to 1.
    pub(crate) fn poll(&mut self, now: Mono, request: RequestId, spread: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.request.is_some_and(|request| request.deadline <= now) {
            actions.extend(self.close());
            self.timed_out(now);
        }
        actions.extend(self.look_up(now, spread));
        if self.schedule.next() <= now && self.asks() {
            actions.extend(self.close());
            let previous = self.interleave.begin().filter(|_| self.source.interleaved);
            actions.extend(self.question(request, previous.as_ref()));
            self.begin(now, request, previous, spread);
        }
        actions
    }

    fn question(&self, request: RequestId, previous: Option<&Previous>) -> Option<Action> {
        if self.device {
            return Some(Action::Read { request, source: self.id, path: self.host.clone() });
        }
        let header = packet::client_header();
        self.address.filter(|_| self.proof.ready()).map(|address| Action::Send {
            request,
            source: self.id,
            to: SocketAddr::new(address, self.port),
            header: previous.map_or(header, |previous| previous.refer(header)),
        })
    }

    fn begin(&mut self, now: Mono, request: RequestId, previous: Option<Previous>, spread: f64) {
        self.sent += 1;
        if self.reach == 1 << 7 {
            self.reach_changed = now;
        }
        self.reach <<= 1;
        self.unanswered = self.unanswered.saturating_add(1);
        self.silent = self.silent.saturating_add(1);
        self.tries = self.tries.saturating_add(1);
        if self.unanswered == UNREACHABLE {
            self.schedule.restart();
            if (self.named || self.proof.exchanges) && self.lookup.is_none() {
                let at = if self.proof.exchanges { self.proof.earliest_exchange(now) } else { now };
                self.lookup = Some(Lookup { at, wait: FIRST_LOOKUP_WAIT });
            }
        }
        // Without a proof nothing leaves this node, and it can be there at any moment.
        if self.unanswered > LONG_SILENCE && !self.proof.is_missing() {
            self.schedule.back_off();
        }
        if self.source.burst && self.reach != 0 {
            self.schedule.begin_burst();
        }
        let wait = self.schedule.sent(now, spread);
        self.request = Some(Request::new(request, now.plus(wait.min(LONGEST_WAIT)), previous));
    }

    /// Ends the request, if there is one.
    pub(crate) fn close(&mut self) -> Option<Action> {
        self.request.take().map(|request| Action::Close { request: request.id })
    }

    /// Ends the request, and the one after it will not refer to what was before.
    pub(crate) fn break_off(&mut self) -> Option<Action> {
        self.interleave.forget();
        self.close()
    }

    /// Whether this request is the one that is on its way.
    pub(crate) fn owns(&self, request: RequestId) -> bool {
        self.request.is_some_and(|own| own.id == request)
    }

    /// The request has left at corrected time `at`.
    pub(crate) fn left(&mut self, cookie: NtpTimestamp, at: Wall) {
        self.proof.sent();
        if let Some(request) = &mut self.request {
            request.left(cookie, at);
        }
    }

    /// The kernel's stamp of the request's departure, in corrected time.
    pub(crate) fn departed(&mut self, at: Wall) {
        if let Some(request) = &mut self.request {
            request.stamped(at);
        }
    }

    /// A datagram came for the request, at corrected time `at`.
    pub(crate) fn received(
        &mut self,
        datagram: &[u8],
        (at, local): (Wall, Option<IpAddr>),
        us: &Identity,
        now: Mono,
    ) -> Received {
        let Some(exchange) = self.request.and_then(|request| request.exchange(at, local)) else {
            self.rejected += 1;
            self.stray += 1;
            return Received::Nothing;
        };
        let judged = judge(datagram, &exchange, us);
        if !matches!(judged, Err(Rejection::Stray)) {
            self.tries = 0;
        }
        match judged {
            Ok(Reply::Time(_, server, _)) if self.names_us(server, &us.own) => self.record_loop(),
            Ok(Reply::Time(sample, server, over)) => {
                self.accept(server, now);
                self.local = local;
                self.hear(datagram, local);
                self.interleave.answered(exchange.previous, over);
                let Some(sample) = sample else { return Received::Over };
                self.add(sample, now);
                return Received::Sample;
            }
            Ok(Reply::Slower(wish)) => {
                self.record_failure(Cause::Rate);
                self.schedule.slow_down(wish, now);
            }
            Ok(Reply::Denied(code)) => {
                self.record_failure(Cause::Denied(code));
                if self.reach == 0 && self.unanswered >= DENIED_AFTER {
                    self.denied = true;
                    self.schedule.give_up(now);
                }
            }
            Err(rejection) => {
                self.rejected += 1;
                if rejection == Rejection::Stray {
                    self.stray += 1;
                    return Received::Nothing;
                }
                (self.rejection, self.silent) = (Some(rejection), 0);
                return Received::Over;
            }
        }
        self.rejected += 1;
        Received::Over
    }

    fn add(&mut self, sample: Sample, now: Mono) {
        let distance = sample.distance();
        match self.history.add(sample) {
            Verdict::Suspected => self.schedule.ask_soon(2, now),
            Verdict::Used { error } => {
                let samples = self.history.estimate().map_or(0, |estimate| estimate.count);
                self.schedule.answered(samples, error, distance);
                self.fresh = true;
            }
        }
        self.forget_former();
    }

    fn accept(&mut self, server: Server, now: Mono) {
        if self.reach == 0 && self.source.iburst {
            self.schedule.ask_soon(REGAIN, now);
        }
        self.received += 1;
        if self.reach == 0 {
            self.reach_changed = now;
        }
        self.reach |= 1;
        (self.unanswered, self.silent) = (0, 0);
        (self.denied, self.unroutable) = (false, false);
        (self.rejection, self.failure, self.strays_before) = (None, None, self.stray);
        self.proof.proved();
        self.lookup = None;
        self.last_answer = Some(now);
        self.server = Some(server);
    }

    /// Follows a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        self.history.transform(change.at, change.frequency, change.offset);
        self.interleave.transform(change);
        self.former.iter_mut().for_each(|former| former.transform(change));
        if let Some(request) = &mut self.request {
            request.transform(change);
        }
    }

    /// Drops all samples, after a jump of the clock, and asks again soon.
    pub(crate) fn forget(&mut self, now: Mono) -> Option<Action> {
        self.history.clear();
        (self.fresh, self.former) = (false, None);
        self.schedule.restart();
        self.schedule.ask_soon(REGAIN, now);
        self.break_off()
    }

    /// Takes over new orders for the same server.
    pub(crate) fn reconfigure(&mut self, source: Source, now: Mono) {
        self.schedule.limit(source.min_poll, source.max_poll, now);
        self.source = source;
    }
}
