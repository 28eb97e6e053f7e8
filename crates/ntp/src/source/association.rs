//! One upstream: its addresses, its pending request, its reach, and the history of its samples. Events of one source go
//! in; actions for it come out. An association knows nothing of other sources.
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
    /// The pool of which it is a member, and which gives it its address.
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
    /// Rejected datagrams: those that answered no pending request, and those whose authentication failed.
    stray: u64,
    unauthentic: u64,
    /// The result of the last selection, and the reason as text for a user.
    pub(crate) state: (SourceState, String),
    /// Why it handles leap seconds differently from the others; none if it does not.
    pub(crate) mixture: Option<String>,
    /// A sample came since the clock was last corrected.
    pub(crate) fresh: bool,
    host: String,
    port: u16,
    /// True if its host is the path of a device.
    device: bool,
    /// True if its host is a name, not an address.
    named: bool,
    addresses: Vec<IpAddr>,
    address: Option<IpAddr>,
    /// The local address at which its last valid reply arrived.
    pub(crate) local: Option<IpAddr>,
    lookup: Option<Lookup>,
    request: Option<Request>,
    interleave: Interleave,
    proof: Proof,
    /// Polls since the last valid reply.
    unanswered: u32,
    /// Polls since the last reply, valid or not.
    silent: u32,
    /// Consecutive unanswered polls of the present address.
    tries: u32,
    rejection: Option<Rejection>,
    denied: bool,
    /// The last failure other than a rejected reply, and the number of requests sent before it.
    failure: Option<(Cause, u64)>,
    /// The number of stray datagrams at the last valid reply.
    strays_before: u64,
    /// The header fields of its last valid reply.
    heard: Option<Heard>,
    /// When it became reachable or unreachable.
    reach_changed: Mono,
    /// Requests to its address do not leave this node, probably because there is no route for the address family.
    unroutable: bool,
    duplicate: Duplicate,
    former: Option<Former>,
    refresh: Refresh,
}

/// The result of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Received {
    /// The datagram was ignored. Only counters have changed.
    Nothing,
    /// The request is over, without a sample.
    Over,
    /// A sample came into the history.
    Sample,
}

/// The longest wait for a reply, seconds, if the next poll is later.
const LONGEST_WAIT: f64 = 3.0;

/// Polls without an answer after which a source counts as unreachable: the width of the reach register.
const UNREACHABLE: u32 = 8;

/// Polls without an answer after which the poll interval grows: the source is probably gone.
const LONG_SILENCE: u32 = 3 * UNREACHABLE;

/// A DENY or RSTR kiss is obeyed only after this number of unanswered polls, since a kiss is not authenticated.
const DENIED_AFTER: u32 = 3;

/// Requests that are sent in quick succession to a source that is reachable again, or whose samples were dropped.
const REGAIN: u8 = 4;

impl Association {
    /// A new source. Its first request is sent at `first`.
    pub(crate) fn new(id: SourceId, source: Source, first: Mono) -> Self {
        // URLs and chrony write IPv6 addresses in brackets.
        let (host, port) = match &source.upstream {
            Upstream::Server { host, port } | Upstream::Pool { host, port, .. } => (host.clone(), *port),
            Upstream::Device { path } => (path.clone(), 0),
        };
        let pool = matches!(source.upstream, Upstream::Pool { .. });
        let proof = Proof::new(&source.auth, first);
        let device = matches!(source.upstream, Upstream::Device { .. });
        // With NTS, the key exchange names the NTP server.
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

    /// The time at which `poll` must be called.
    pub(crate) fn next_wakeup(&self) -> Mono {
        let lookup = self.lookup.map(|lookup| lookup.at);
        let poll = self.asks().then(|| self.schedule.next());
        let deadline = self.request.map(|request| request.deadline);
        [lookup, poll, deadline].into_iter().flatten().min().unwrap_or(Mono(i64::MAX))
    }

    /// Ends an unanswered request, looks up the name, sends the next request. `spread` is random, -1 to 1.
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
        // If the source cannot be authenticated, no request leaves this node, and the key may come at any moment. So
        // the interval stays.
        if self.unanswered > LONG_SILENCE && !self.proof.is_missing() {
            self.schedule.back_off();
        }
        if self.source.burst && self.reach != 0 {
            self.schedule.begin_burst();
        }
        let wait = self.schedule.sent(now, spread);
        self.request = Some(Request::new(request, now.plus(wait.min(LONGEST_WAIT)), previous));
    }

    /// Ends the pending request, if there is one.
    pub(crate) fn close(&mut self) -> Option<Action> {
        self.request.take().map(|request| Action::Close { request: request.id })
    }

    /// Ends the pending request. The next request is in basic mode: it does not refer to a previous exchange.
    pub(crate) fn break_off(&mut self) -> Option<Action> {
        self.interleave.forget();
        self.close()
    }

    /// Returns true if `request` is the pending request of this source.
    pub(crate) fn owns(&self, request: RequestId) -> bool {
        self.request.is_some_and(|own| own.id == request)
    }

    /// The request was sent at corrected time `at`.
    pub(crate) fn left(&mut self, cookie: NtpTimestamp, at: Wall) {
        self.proof.sent();
        if let Some(request) = &mut self.request {
            request.left(cookie, at);
        }
    }

    /// The kernel's timestamp of the request's departure, in corrected time.
    pub(crate) fn departed(&mut self, at: Wall) {
        if let Some(request) = &mut self.request {
            request.stamped(at);
        }
    }

    /// A datagram arrived for the request, at corrected time `at`.
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

    /// Converts everything in corrected time after a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        self.history.transform(change.at, change.frequency, change.offset);
        self.interleave.transform(change);
        self.former.iter_mut().for_each(|former| former.transform(change));
        if let Some(request) = &mut self.request {
            request.transform(change);
        }
    }

    /// Drops all samples after a jump of the clock, and asks again soon.
    pub(crate) fn forget(&mut self, now: Mono) -> Option<Action> {
        self.history.clear();
        (self.fresh, self.former) = (false, None);
        self.schedule.restart();
        self.schedule.ask_soon(REGAIN, now);
        self.break_off()
    }

    /// Applies changed options for the same server.
    pub(crate) fn reconfigure(&mut self, source: Source, now: Mono) {
        self.schedule.limit(source.min_poll, source.max_poll, now);
        self.source = source;
    }
}
