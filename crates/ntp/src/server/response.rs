//! The response to a datagram: a reply, a kiss, or a reason for no answer.
//!
//! Modes 3 and 1 are answered (RFC 5905 §7.3, without state of an association), and never with more octets than the
//! request has. This file decides whether a query (mode 6) is answered; `control` makes its answer. The caller sets the
//! transmit time of a reply as late as possible.
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

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The whole datagram.
    pub datagram: &'a [u8],
    /// The address and port of its sender.
    pub from: SocketAddr,
    /// True if it was sent to a broadcast or multicast address.
    pub to_group: bool,
    /// The time of its arrival, read as early as possible.
    pub received: Wall,
    /// The present monotonic time, for the rate limit.
    pub now: Mono,
}

/// The decision about a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The version in the datagram, 0 to 7, for counters. None if the datagram is empty.
    pub version: Option<u8>,
    /// What to do with the datagram.
    pub verdict: Verdict,
}

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Send this reply, with its transmit time.
    Answer(UnstampedReply),
    /// Send this reply with NTS: [`nts::server::reply`](crate::server::nts::reply) makes it.
    Seal(UnstampedReply),
    /// Send this reply with a MAC, made with the key of the request, if that is valid: [`UnstampedReply::signed_at`].
    Sign(UnstampedReply),
    /// Send this kiss-o'-death (RATE), which has no time.
    Kiss([u8; HEADER_LEN]),
    /// It is a query. Answer it with [`crate::answer_query`], within the limit of [`crate::QueryLimit`].
    Query,
    /// Send nothing.
    Drop(DropReason),
}

/// A reply without its transmit time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnstampedReply {
    header: Header,
    received: Wall,
    reference_time: Option<Wall>,
    interleaved: Option<Interleaved>,
    is_traced: bool,
}

/// The fields that replace the transmit and the origin timestamp in interleaved mode.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interleaved {
    /// The transmit time of the previous reply.
    departed: NtpTimestamp,
    /// The receive timestamp of the request.
    origin: NtpTimestamp,
}

impl UnstampedReply {
    /// The octets of a reply that is sent at `transmit`. Read the clock immediately before sending. Neither the receive
    /// time nor the reference time is later than the transmit time in the reply.
    pub fn at(self, transmit: Wall) -> [u8; HEADER_LEN] {
        // If the clock is stepped back in between, the processing time must not be negative.
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

    /// The receive timestamp in this reply, if the client may ask in interleaved mode when the reply left (RFC 9769):
    /// the client's next request refers to it by that timestamp.
    pub fn traced(&self) -> Option<NtpTimestamp> {
        self.is_traced.then_some(self.header.receive)
    }

    /// A kiss instead of the reply.
    pub(crate) fn kiss(self, code: [u8; 4]) -> [u8; HEADER_LEN] {
        let Header { version, mode, poll, origin, .. } = self.header;
        let asked = Header { version, transmit: origin, ..Header::default() };
        kiss(&asked, code, mode, poll)
    }
}

/// The reply to a request with a MAC: with the same key, or none.
impl UnstampedReply {
    /// The octets of the reply to `datagram`, which has the same length. `key` finds a key by its number. `transmit`
    /// reads the clock, immediately before the MAC is made.
    ///
    /// # Errors
    /// If `datagram` is not authenticated with a known key. The server sends no crypto-NAK then: a client with the key
    /// needs none, and anybody can forge one, so a crypto-NAK can only do harm (it ended associations of ntpd,
    /// CVE-2016-1547, and began some, CVE-2015-7871).
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

/// The values and rules of the server at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Serving<'a> {
    /// The quality of the clock.
    pub served: &'a Served,
    /// The access list.
    pub rules: &'a RestrictTable,
    /// The rate limit for addresses with the flag `limited`.
    pub limit: &'a RateLimit,
}

/// The state that a server keeps between requests. The program implements it, and shares it between its threads. It is
/// used only if the answer depends on it.
pub trait Memory {
    /// Counts a request from `address` at `now`, and judges it.
    fn judge(&mut self, address: IpAddr, now: Mono, limit: &RateLimit) -> RateVerdict;

    /// The transmit time of the reply that had the receive timestamp `arrival`, if it is known. Called at most once for
    /// each.
    fn departure(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp>;

    /// Announces a reply whose transmit time may be asked for. Returns its receive timestamp: `arrival`, or slightly
    /// less if another reply has that one. None if the transmit time cannot be kept. Receive timestamps are odd and
    /// stay odd.
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

/// Decides about a datagram. Changes only `memory`, and only for requests that would be answered.
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
        // This is before the tests for time requests: `version` and `notrust` do not apply to queries.
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
        // NTS exists only in modes 3 and 4 (RFC 8915 §5).
        Trailer::Nts if mode != MODE_SERVER => return Err(DropReason::Unauthenticated),
        Trailer::Plain if flags.notrust => return Err(DropReason::Unauthenticated),
        Trailer::Plain | Trailer::Mac | Trailer::Nts => {}
    }
    // A client that polls at this interval stays within the rate limit.
    let poll = asked.poll.max(if flags.limited { limit.interval } else { i8::MIN }).min(MAX_POLL);
    if flags.limited {
        match memory.judge(address, request.now, limit) {
            RateVerdict::Pass => {}
            RateVerdict::Kiss if flags.kod => return Ok(Verdict::Kiss(kiss(&asked, *b"RATE", mode, poll))),
            RateVerdict::Kiss | RateVerdict::Drop => return Err(DropReason::RateLimited),
        }
    }
    let answer = interleaved(&asked, answer(&asked, mode, poll, served, request.received), memory);
    // The sender verifies the authentication, since that needs keys, and more time than all of this.
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

/// The mode of the reply. None if the datagram is not a request. Version 1 had no mode field: there zero is a client's
/// request, unless it comes from port 123 (RFC 1305 appendix, ntpd).
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
        // Unsynchronised is 16 in variables, and 0 in packets (RFC 5905 §7.3).
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

/// The receive timestamp, made odd. Transmit timestamps are made even (as in chrony). So the origin timestamp of a
/// request shows which of the two it is, and a client without interleaved mode needs no memory. Both change by at most
/// half a nanosecond, and become earlier, so that no reply leaves before its request arrived.
fn arrival(received: Wall) -> NtpTimestamp {
    NtpTimestamp(even(NtpTimestamp::from_wall(received)).0.wrapping_sub(1))
}

fn even(time: NtpTimestamp) -> NtpTimestamp {
    NtpTimestamp(time.0 & !1)
}

/// The reply in interleaved mode, if the request asks for that and the previous reply is remembered (RFC 9769 §2). It
/// then has the transmit time of the previous reply, which that reply could not contain.
fn interleaved<M: Memory>(asked: &Header, answer: UnstampedReply, memory: &mut M) -> UnstampedReply {
    let age = answer.header.receive.0.wrapping_sub(asked.origin.0);
    let refers = asked.origin.0 & 1 == 1 && age < LONGEST_POLL;
    if !refers || asked.version != packet::VERSION || asked.mode != MODE_CLIENT {
        return answer;
    }
    // Equal timestamps mark a request in basic mode (RFC 9769 §2).
    let departed = (asked.receive != asked.transmit).then(|| memory.departure(asked.origin)).flatten();
    let interleaved = departed.map(|departed| Interleaved { departed, origin: asked.receive });
    let expected = memory.expect(answer.header.receive);
    let receive = expected.unwrap_or(answer.header.receive);
    let header = Header { receive, ..answer.header };
    UnstampedReply { header, interleaved, is_traced: expected.is_some(), ..answer }
}

/// The transmit time of an older reply is not looked up (RFC 5905 §7.2, MAXPOLL). So random timestamps of a flood
/// rarely cause a lookup.
const LONGEST_POLL: u64 = 1 << (MAX_POLL as u32 + 32);

/// A kiss repeats the client's timestamps, so it has no time (RFC 5905 §7.4).
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
