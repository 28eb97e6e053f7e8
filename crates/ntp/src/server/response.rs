//! What to answer: a datagram in; a reply, a kiss or silence out, each way out with its reason.
//!
//! Modes 3 and 1 are answered (RFC 5905 §7.3, without any state of an association), and never with more octets than
//! were asked with; whether queries (mode 6) are, is said here, and with what, in `control`. Replies leave a slot for the transmit time, which the caller fills as late as it can.
use std::net::{IpAddr, SocketAddr};

use crate::{
    DropReason, Leap, Mono, NtpTimestamp, RateLimit, RateVerdict, RestrictTable, Served, Wall,
    server::control,
    wire::{
        mac::{self, Mac},
        packet::{self, HEADER_LEN, Header, MODE_CLIENT, MODE_SERVER, NtpShort},
    },
};

mod trailer;

use trailer::{Trailer, trailer};

const MODE_SYMMETRIC_ACTIVE: u8 = 1;
const MODE_SYMMETRIC_PASSIVE: u8 = 2;

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All of it.
    pub datagram: &'a [u8],
    /// Its sender.
    pub from: SocketAddr,
    /// It was sent to a broadcast or multicast address, not to one of ours alone.
    pub to_group: bool,
    /// When it came, as early as could be known.
    pub received: Wall,
    /// The monotonic time now, for the rate limit.
    pub now: Mono,
}

/// The decision about a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The version that it says it is of, 0 to 7; none if it is empty. For counters.
    pub version: Option<u8>,
    /// What to do.
    pub verdict: Verdict,
}

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Send this, stamped.
    Answer(UnstampedReply),
    /// Send this, stamped and sealed: what [`nts::server::reply`](crate::server::nts::reply) makes of it.
    Seal(UnstampedReply),
    /// Send this, stamped and signed with the key that the request is signed with, if it is: [`UnstampedReply::signed_at`].
    Sign(UnstampedReply),
    /// Send this kiss-o'-death (RATE), which tells no time.
    Kiss([u8; HEADER_LEN]),
    /// It is a query: answer it with [`crate::answer_query`], if it is not one too many ([`crate::QueryLimit`]).
    Query,
    /// Send nothing.
    Drop(DropReason),
}

/// A reply that still lacks its transmit time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnstampedReply {
    header: Header,
    received: Wall,
    reference_time: Option<Wall>,
    interleaved: Option<Interleaved>,
    is_traced: bool,
}

/// What an answer in interleaved mode has in the place of its own transmit time and of the request's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interleaved {
    /// When the answer before this one left.
    departed: NtpTimestamp,
    /// The request's receive time.
    origin: NtpTimestamp,
}

impl UnstampedReply {
    /// The octets, sent at `transmit`: read the clock right before sending. Neither the time of reception nor the
    /// reference time is later than the transmit time that this writes.
    pub fn at(self, transmit: Wall) -> [u8; HEADER_LEN] {
        // A clock that is stepped back meanwhile must not give a negative processing time.
        let transmit = transmit.max(self.received);
        let reference_time = self
            .reference_time
            .map_or(NtpTimestamp(0), |time| even(NtpTimestamp::from_wall(time.min(transmit))));
        let (origin, transmit) = match self.interleaved {
            None => (self.header.origin, even(NtpTimestamp::from_wall(transmit))),
            Some(Interleaved { departed, origin }) => (origin, even(departed)),
        };
        Header { reference_time, origin, transmit, ..self.header }.encode()
    }

    /// If its client may ask in interleaved mode when this answer left (RFC 9769): the time by which it will ask, which
    /// is that of its request's arrival, as this answer says it.
    pub fn traced(&self) -> Option<NtpTimestamp> {
        self.is_traced.then_some(self.header.receive)
    }

    /// A kiss in its place.
    pub(crate) fn kiss(self, code: [u8; 4]) -> [u8; HEADER_LEN] {
        let Header { version, mode, poll, origin, .. } = self.header;
        let asked = Header { version, transmit: origin, ..Header::default() };
        kiss(&asked, code, mode, poll)
    }
}

/// How a signed request is answered: with the same key, or not at all.
impl UnstampedReply {
    /// The octets for the request `datagram`, as many as that has. `key` finds a key by its number, `transmit` reads the
    /// clock, right before signing.
    ///
    /// # Errors
    /// When `datagram` is not made with a key that is known. No crypto-NAK says so: a client that has the key needs none,
    /// and anybody can forge one, so that it can only do harm (it ended associations of ntpd, CVE-2016-1547, and began
    /// some, CVE-2015-7871).
    pub fn signed_at<'a, K: Mac + 'a>(
        self,
        transmit: impl FnOnce() -> Wall,
        datagram: &[u8],
        key: impl FnOnce(u32) -> Option<&'a K>,
    ) -> Result<Vec<u8>, DropReason> {
        let number = mac::key_number(datagram).ok_or(DropReason::Unauthenticated)?;
        let key = key(number).ok_or(DropReason::Unauthenticated)?;
        mac::verify(datagram, number, key).map_err(|_| DropReason::Unauthenticated)?;
        let mut octets = self.at(transmit()).to_vec();
        mac::sign(&mut octets, number, key);
        Ok(octets)
    }
}

/// What is served to whom, at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Serving<'a> {
    /// The time's quality.
    pub served: &'a Served,
    /// Who may ask.
    pub rules: &'a RestrictTable,
    /// How much, where the rules say `limited`.
    pub limit: &'a RateLimit,
}

/// What a server remembers beside what it serves; its program keeps it, and shares it between its threads. Asked only
/// when it matters to the answer.
pub trait Memory {
    /// Counts a request from `address` at `now`, and judges it.
    fn judge(&mut self, address: IpAddr, now: Mono, limit: &RateLimit) -> RateVerdict;

    /// When the answer left that said that its request arrived at `arrival`, if that is known; asked once for each.
    fn departure(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp>;

    /// An answer is to say `arrival`, or a little less if another one says that, and its departure may be asked for. None
    /// if it cannot be known. Times of arrival are odd and stay so.
    fn expect(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp>;
}

#[cfg(test)]
impl Memory for crate::server::rate_limit::RateTable {
    fn judge(&mut self, address: IpAddr, now: Mono, limit: &RateLimit) -> RateVerdict {
        crate::server::rate_limit::RateTable::judge(self, address, now, limit)
    }

    fn departure(&mut self, _: NtpTimestamp) -> Option<NtpTimestamp> {
        None
    }

    fn expect(&mut self, _: NtpTimestamp) -> Option<NtpTimestamp> {
        None
    }
}

/// Decides about a datagram. Changes nothing but `memory`, and that only for requests that would be answered.
pub fn respond<M: Memory>(request: &Request<'_>, serving: &Serving<'_>, memory: &mut M) -> Decision {
    let version = request.datagram.first().map(|octet| octet >> 3 & 7);
    let verdict = decide(request, serving, memory).unwrap_or_else(Verdict::Drop);
    Decision { version, verdict }
}

fn decide<M: Memory>(
    request: &Request<'_>,
    serving: &Serving<'_>,
    memory: &mut M,
) -> Result<Verdict, DropReason> {
    let Serving { served, rules, limit } = *serving;
    if request.to_group {
        return Err(DropReason::Destination);
    }
    let (address, port) = (request.from.ip(), request.from.port());
    if port == 0 || !is_one_host(address) {
        return Err(DropReason::Source);
    }
    let flags = rules.flags(address, port);
    if flags.ignore {
        return Err(DropReason::Ignore);
    }
    if control::is_query(request.datagram) {
        // Before anything that is about time alone: `version` and `notrust` do not hold for queries.
        control::examine(request.datagram)?;
        return if flags.noquery { Err(DropReason::Noquery) } else { Ok(Verdict::Query) };
    }
    let asked = packet::decode(request.datagram).map_err(|_| DropReason::Malformed)?;
    if !(1..=4).contains(&asked.version) {
        return Err(DropReason::UnknownVersion);
    }
    let mode = reply_mode(&asked, port).ok_or(DropReason::Mode)?;
    if flags.noserve {
        return Err(DropReason::Noserve);
    }
    if flags.version && asked.version != packet::VERSION {
        return Err(DropReason::Version);
    }
    let proof = trailer(asked.version, &request.datagram[HEADER_LEN..]);
    match proof {
        Trailer::Unreadable => return Err(DropReason::Malformed),
        Trailer::Authentication => return Err(DropReason::Unauthenticated),
        // It has no other modes (RFC 8915 §5).
        Trailer::Nts if mode != MODE_SERVER => return Err(DropReason::Unauthenticated),
        Trailer::Plain if flags.notrust => return Err(DropReason::Unauthenticated),
        Trailer::Plain | Trailer::Mac | Trailer::Nts => {}
    }
    // A client told to poll no faster than the limit allows is never limited.
    let poll = asked.poll.max(if flags.limited { limit.interval } else { i8::MIN }).min(MAX_POLL);
    if flags.limited {
        match memory.judge(address, request.now, limit) {
            RateVerdict::Pass => {}
            RateVerdict::Kiss if flags.kod => return Ok(Verdict::Kiss(kiss(&asked, *b"RATE", mode, poll))),
            RateVerdict::Kiss | RateVerdict::Drop => return Err(DropReason::RateLimited),
        }
    }
    let answer = interleaved(&asked, answer(&asked, mode, poll, served, request.received), memory);
    // What proves it is looked at by who sends: it takes keys, and more time than all of this.
    Ok(match proof {
        Trailer::Mac => Verdict::Sign(answer),
        Trailer::Nts => Verdict::Seal(answer),
        Trailer::Plain | Trailer::Authentication | Trailer::Unreadable => Verdict::Answer(answer),
    })
}

/// Largest poll exponent (RFC 5905 §7.2, MAXPOLL).
const MAX_POLL: i8 = 17;

fn is_one_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::from([255; 4])
}

/// The reply's mode; none for what is not to be answered. Version 1 had no mode field: zero there is a client's
/// request, unless it comes from another daemon's port (RFC 1305 appendix, ntpd).
fn reply_mode(asked: &Header, port: u16) -> Option<u8> {
    match (asked.version, asked.mode) {
        (_, MODE_CLIENT) => Some(MODE_SERVER),
        (_, MODE_SYMMETRIC_ACTIVE) => Some(MODE_SYMMETRIC_PASSIVE),
        (1, 0) if port != 123 => Some(MODE_SERVER),
        _ => None,
    }
}

fn answer(asked: &Header, mode: u8, poll: i8, served: &Served, received: Wall) -> UnstampedReply {
    let synchronized = served.indicator() != Leap::Unknown;
    let header = Header {
        leap: if synchronized { served.leap } else { Leap::Unknown },
        version: asked.version,
        mode,
        // 16 is "unsynchronised" inside a program, and 0 on the wire (RFC 5905 §7.3).
        stratum: if synchronized { served.stratum } else { 0 },
        poll,
        precision: served.precision,
        root_delay: NtpShort::from_seconds(served.root_delay),
        root_dispersion: NtpShort::from_seconds(served.dispersion_at(received)),
        reference_id: served.reference_id,
        origin: asked.transmit,
        receive: arrival(received),
        ..Header::default()
    };
    let reference_time = served.reference_time;
    UnstampedReply { header, received, reference_time, interleaved: None, is_traced: false }
}

/// When a request came, by an odd number, and when an answer left, by an even one: so a request tells which of the two its
/// origin is, and a client that does not interleave costs nothing (chrony's idea). That is half a nanosecond at most, and
/// early for both: an answer does not leave before its request came.
fn arrival(received: Wall) -> NtpTimestamp {
    NtpTimestamp(even(NtpTimestamp::from_wall(received)).0.wrapping_sub(1))
}

fn even(time: NtpTimestamp) -> NtpTimestamp {
    NtpTimestamp(time.0 & !1)
}

/// The same answer, in interleaved mode if the request asks for that and we remember the answer that it refers to
/// (RFC 9769 §2): it then says when that one left, which it could not say itself.
fn interleaved<M: Memory>(asked: &Header, answer: UnstampedReply, memory: &mut M) -> UnstampedReply {
    let age = answer.header.receive.0.wrapping_sub(asked.origin.0);
    let refers = asked.origin.0 & 1 == 1 && age < LONGEST_POLL;
    if !refers || asked.version != packet::VERSION || asked.mode != MODE_CLIENT {
        return answer;
    }
    // Equal times would be a basic request's (RFC 9769 §2).
    let departed = (asked.receive != asked.transmit).then(|| memory.departure(asked.origin)).flatten();
    let interleaved = departed.map(|departed| Interleaved { departed, origin: asked.receive });
    let expected = memory.expect(answer.header.receive);
    let receive = expected.unwrap_or(answer.header.receive);
    let header = Header { receive, ..answer.header };
    UnstampedReply { header, interleaved, is_traced: expected.is_some(), ..answer }
}

/// Of what is older the departure is not asked for (RFC 5905 §7.2, MAXPOLL); nor does any number that a flood makes up
/// cost a stamp.
const LONGEST_POLL: u64 = 1 << (MAX_POLL as u32 + 32);

/// Only what the client said itself comes back, so a kiss tells no time (RFC 5905 §7.4).
fn kiss(asked: &Header, code: [u8; 4], mode: u8, poll: i8) -> [u8; HEADER_LEN] {
    let kiss = Header {
        leap: Leap::Unknown,
        mode,
        stratum: 0,
        poll,
        reference_id: code,
        origin: asked.transmit,
        receive: asked.transmit,
        ..*asked
    };
    kiss.encode()
}

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod tests;
