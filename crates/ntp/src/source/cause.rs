//! Why a source gives no time. Each cause has a state, and a text for users: what happened, why, and what to do.
use std::{fmt, io};

use crate::{
    SendError, SourceState,
    source::reply::{Rejection, complaint, runs_backwards},
    wire::packet::Header,
};

/// Why a source gives no time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// Its name is looked up.
    LookedUp { host: String },
    /// Its name does not resolve; `why` is the resolver's reason.
    Unresolved { host: String, why: String },
    /// It is a duplicate: another source counts for its server.
    Duplicate(String),
    /// Keys are being exchanged.
    Exchanging,
    /// Its replies cannot be authenticated, or their authentication failed; the reason comes from the caller.
    Unproven(String),
    /// No reply has arrived yet.
    Awaited,
    /// There are fewer samples than an estimate needs.
    Sampling { samples: usize },
    /// The last polls were unanswered.
    Silent { port: u16, keyed: bool },
    /// The last polls were unanswered, but datagrams arrived that are no reply to a request.
    Stray,
    /// Requests do not leave this node, or the network returns them.
    NotSent { error: SendError, port: u16 },
    /// The access list drops its replies (`restrict … ignore`).
    Ignored,
    /// It asks for fewer requests (kiss RATE).
    Rate,
    /// It does not serve this node (kisses DENY and RSTR).
    Denied([u8; 4]),
    /// Its reply was rejected.
    Rejected(Rejection),
    /// Its stratum is 15.
    LastStratum,
    /// Its root distance is larger than the limit, seconds.
    TooDistant { distance: f64, limit: f64 },
    /// Its samples vary by more than the limit, seconds.
    Jittery { limit: f64 },
    /// It handles leap seconds differently from the other sources.
    Mixed(String),
    /// It has the option noselect.
    MeasuredOnly,
}

/// Why the header of a reply in basic mode cannot be used, as text. None if it can.
pub fn objection(header: &Header) -> Option<String> {
    let kiss = |code: &[u8; 4]| match code {
        b"RATE" => Some(Cause::Rate),
        b"DENY" | b"RSTR" => Some(Cause::Denied(*code)),
        _ => None,
    };
    let kiss = Some(&header.reference_id).filter(|_| header.stratum == 0).and_then(kiss);
    let backwards = runs_backwards(header.receive.to_wall(), header.transmit.to_wall());
    let cause = kiss
        .or_else(|| complaint(header).map(Cause::Rejected))
        .or(backwards.then_some(Cause::Rejected(Rejection::Backwards)))
        .or((header.stratum == LAST_STRATUM).then_some(Cause::LastStratum))?;
    Some(cause.to_string())
}

/// Why a request without authentication was unanswered, as text. `stray`: datagrams arrived that are no reply to a
/// request.
pub fn silence(port: u16, stray: bool) -> String {
    if stray { Cause::Stray } else { Cause::Silent { port, keyed: false } }.to_string()
}

/// A server of this stratum cannot be used: its client would have stratum 16, which means unsynchronised.
pub(crate) const LAST_STRATUM: u8 = 15;

impl Cause {
    /// The state of a source with this cause.
    pub(crate) fn state(&self) -> SourceState {
        match self {
            Self::LookedUp { .. } | Self::Unresolved { .. } => SourceState::Unresolved,
            Self::Exchanging | Self::Awaited | Self::Sampling { .. } => SourceState::Measuring,
            // Anybody can send stray datagrams, so they change only the text, not the state.
            Self::Silent { .. } | Self::Stray | Self::NotSent { .. } => SourceState::Unreachable,
            Self::MeasuredOnly => SourceState::Noselect,
            Self::Duplicate(_)
            | Self::Unproven(_)
            | Self::Ignored
            | Self::Rate
            | Self::Denied(_)
            | Self::Rejected(_)
            | Self::LastStratum
            | Self::TooDistant { .. }
            | Self::Jittery { .. }
            | Self::Mixed(_) => SourceState::Unusable,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookedUp { host } => write!(f, "The name {host} is being looked up."),
            Self::Unresolved { host, why } => write!(
                f,
                "The name {host} does not resolve: {why}. Check the name, and the DNS servers of this node."
            ),
            Self::Exchanging => f.write_str("Keys are being exchanged."),
            Self::Duplicate(why) | Self::Unproven(why) | Self::Mixed(why) => f.write_str(why),
            Self::Awaited => f.write_str("No answer yet."),
            Self::Sampling { samples } => write!(f, "{samples} of 3 samples yet."),
            Self::Silent { port, keyed } => {
                let key = if *keyed { ", that the server has the same key" } else { "" };
                write!(
                    f,
                    "It does not answer: check the address{key}, and that firewalls let UDP port {port} through."
                )
            }
            Self::Stray => f.write_str(
                "Datagrams come from its address, but none of them answers a request of this node: they are forged, \
                 repeated or changed on the way.",
            ),
            Self::NotSent { error, port } => f.write_str(&error.words(*port)),
            Self::Ignored => f.write_str(
                "Its answers are dropped here: an entry of restrict with the flag ignore covers its address. Add an \
                 entry without ignore for that address, or for source.",
            ),
            Self::Rate => f.write_str(
                "It answers RATE instead of the time: it gets too many requests from this address. Raise minPoll, or \
                 ask another server.",
            ),
            Self::Denied(code) => write!(
                f,
                "It refuses to serve this node ({}): its access rules must allow the address of this node.",
                code.escape_ascii()
            ),
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::LastStratum => f.write_str(
                "Its stratum is 15, so this node would have 16, which means unsynchronised: ask a server nearer to a \
                 reference clock.",
            ),
            Self::TooDistant { distance, limit } => write!(
                f,
                "Its root distance, up to {}, is larger than clock.maxDistance, {}: ask a better server, or raise \
                 clock.maxDistance above that, and thresholds.errorBound too.",
                Rounded(*distance),
                Rounded(*limit)
            ),
            Self::Jittery { limit } => write!(
                f,
                "Its samples vary by more than {}: check the network to it, or ask another server.",
                Rounded(*limit)
            ),
            Self::MeasuredOnly => f.write_str("It is measured only: the option noselect."),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Stray => return Cause::Stray.fmt(f),
            Self::Malformed => "Its answers are malformed.",
            Self::Unsynchronized => {
                "It answers, but is not synchronised: find out why on that server, or ask another one."
            }
            Self::Kiss(code) => {
                return write!(f, "It answers the kiss code {} instead of the time.", code.escape_ascii());
            }
            Self::TooFar => "It answers, but its root distance is 16 s or more, which means unsynchronised.",
            Self::Backwards => {
                "Its stamps run backwards: it says that its answer left before the request came. The clock of that \
                 server is broken, or is being set."
            }
            Self::Impossible => {
                "Its stamps contradict each other: it says that it kept the request for longer than request and \
                 answer took together."
            }
            Self::TooSlow => "Its answers take too long: more than 3 s on the way, or 4 s in the server.",
            Self::Loop => "It follows this clock.",
            Self::OwnAddress => {
                "It is this node itself, which serves time at this address and port: it is not asked."
            }
            Self::NoServer => {
                "Its name resolves to an address that no server has (unspecified, broadcast or multicast): it is not asked. \
                 Look at what the DNS server answers for it."
            }
            Self::OwnAnswer => {
                "Requests to it come back to this node: its answers are this node's own, and do not count."
            }
            Self::Unreadable => "It cannot be read; the agent's log says why.",
            Self::Unset => "It shows a time before the year 2000, so it was never set.",
        };
        f.write_str(text)
    }
}

impl SendError {
    /// The error as text for a user. `port` is the UDP port that was asked.
    pub fn words(self, port: u16) -> String {
        let text = match self {
            Self::Unproven => "There is nothing to prove a request with.",
            Self::NoListener => {
                return format!(
                    "Its host refuses the requests: no program listens on UDP port {port} there, or a firewall \
                     rejects them (ECONNREFUSED)."
                );
            }
            Self::NotPermitted => {
                return format!(
                    "This node may not send to it: a firewall of the node or a network policy forbids UDP port {port} \
                     (EPERM)."
                );
            }
            Self::NoRoute => "This node has no route to it: check the address, and the routes of the node.",
            Self::NoIpv6 => {
                "Its address is an IPv6 one, and this node has none: name a server with IPv4, or give the node IPv6."
            }
            Self::NoPort => {
                "This node has no free UDP port to ask from: see net.ipv4.ip_local_port_range, and which program \
                 holds the ports."
            }
            Self::NoDescriptor => "The agent has no free file descriptor: raise the limit (nofile).",
            Self::Other(errno) => {
                return format!("Requests cannot be sent: {}.", io::Error::from_raw_os_error(errno));
            }
        };
        text.to_owned()
    }
}

/// Seconds in the form that users write, rounded up to two digits so that a message does not change all the time.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = 1e3 * self.0;
        let step = 10.0_f64.powf((millis.max(1.0).log10() - 1.0).floor().max(0.0));
        // Without the small subtraction, rounding errors would raise a whole number of steps to the next one.
        let rounded = step * (millis / step - 1e-9).ceil();
        if rounded >= 1e3 && rounded % 1e3 == 0.0 {
            write!(f, "{}s", rounded / 1e3)
        } else {
            write!(f, "{rounded}ms")
        }
    }
}

#[cfg(test)]
mod tests;
