//! Queries (mode 6, RFC 9327), read-only. A datagram and the values that can be shown go in; the datagrams of the
//! answer come out.
//!
//! The order: `examine` (is it a valid query?), `answer` (the command), `status` (the status words), `system` and
//! `peer` (the variables), `text` (their format), fragments. A query cannot change anything. An answer never contains
//! the origin timestamp or the cookie of a pending request. `limit` limits the queries of each remote address.
use crate::{DropReason, Served, Snapshot, SourceId, SourceSnapshot, Wall};

mod limit;
mod peer;
mod status;
mod system;
mod text;

pub use limit::QueryLimit;
pub use system::{KernelClock, KernelPps, ServerCounts};

/// The values that answers to queries can show.
#[derive(Clone, Copy, Debug)]
pub struct ControlView<'a> {
    /// The time of the query.
    pub now: Wall,
    /// The state of the engine. None while no engine runs.
    pub snapshot: Option<&'a Snapshot>,
    /// The values in replies to clients.
    pub served: &'a Served,
    /// The association ids of sources.
    pub ids: AssociationIds,
    /// The counters of the server.
    pub counts: &'a ServerCounts,
    /// The kernel's state of its clock. None if it cannot be read.
    pub kernel: Option<&'a KernelClock>,
    /// The program and its version.
    pub version: &'a str,
    /// The operating system.
    pub system: &'a str,
    /// The machine's architecture.
    pub processor: &'a str,
}

/// The association ids of sources. An id is not zero, stays the same for a source, and ascends in the order in which
/// sources were made. The first id is random, so that an attacker cannot guess ids.
#[derive(Clone, Copy, Debug)]
pub struct AssociationIds {
    start: u16,
}

impl AssociationIds {
    /// Chooses the first id in the lower half of 65535 numbers, so the ids wrap only after at least 32768 sources.
    pub fn new(random: u64) -> Self {
        Self { start: (random >> 49) as u16 }
    }

    fn of(self, source: SourceId) -> u16 {
        // Below 2^17, and the remainder below 65535.
        (1 + (u32::from(self.start) + source.0 % 65_535) % 65_535) as u16
    }
}

const MODE_CONTROL: u8 = 6;

/// Octets of a query's header.
const HEADER_LEN: usize = 12;

/// Most octets of data in one datagram (RFC 9327 §2).
const LARGEST_DATA: usize = 468;

/// The largest number of datagrams of an answer to a client on this host. Older clients accept no more.
const FRAGMENTS: usize = 24;

/// The same for other clients, since their address may be forged: twice the size of one source's variables.
const FRAGMENTS_AFAR: usize = 4;

/// Returns true if a datagram has the mode of queries.
pub(crate) fn is_query(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|octet| octet & 7 == MODE_CONTROL)
}

/// Checks that a query can be answered, possibly with an error.
///
/// # Errors
/// Why it gets no answer. Answers to answers would make two servers exchange datagrams forever.
pub(crate) fn examine(datagram: &[u8]) -> Result<(), DropReason> {
    let Some(header) = datagram.first_chunk::<HEADER_LEN>() else { return Err(DropReason::Malformed) };
    if !(1..=4).contains(&(header[0] >> 3 & 7)) {
        return Err(DropReason::UnknownVersion);
    }
    if header[1] & !OPCODE != 0 {
        return Err(DropReason::Mode);
    }
    if header[8..10] != [0, 0] {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

/// The opcode in the second octet; the other bits are response, error and more.
const OPCODE: u8 = 0x1f;
const RESPONSE: u8 = 0x80;
const ERROR: u8 = 0x40;
const MORE: u8 = 0x20;

/// Why a query is answered with an error (RFC 9327 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryError {
    /// Queries must not change anything.
    Permission = 1,
    Format = 2,
    Opcode = 3,
    Association = 4,
    Variable = 5,
}

/// The datagrams of the answer to a query for which `respond` returned [`crate::Verdict::Query`]. Empty if the datagram
/// is not a query. `afar`: the sender is not on this host.
pub fn answer(datagram: &[u8], afar: bool, view: &ControlView<'_>) -> Vec<Vec<u8>> {
    let Some((header, rest)) = datagram.split_first_chunk::<HEADER_LEN>() else { return Vec::new() };
    if examine(datagram).is_err() {
        return Vec::new();
    }
    let mut reply = *header;
    reply[0] = (view.served.indicator() as u8) << 6 | header[0] & 0x3f;
    reply[1] |= RESPONSE;
    let room = LARGEST_DATA * if afar { FRAGMENTS_AFAR } else { FRAGMENTS };
    match tell(header, rest, room, view) {
        Ok((status, data)) => {
            reply[4..6].copy_from_slice(&status.to_be_bytes());
            fragments(&reply, &data)
        }
        Err(error) => {
            reply[1] |= ERROR;
            reply[4..6].copy_from_slice(&[error as u8, 0]);
            fragments(&reply, &[])
        }
    }
}

/// The status word and the data of an answer.
fn tell(
    header: &[u8; HEADER_LEN],
    rest: &[u8],
    room: usize,
    view: &ControlView<'_>,
) -> Result<(u16, Vec<u8>), QueryError> {
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (opcode, association, count) = (header[1] & OPCODE, word(6), usize::from(word(10)));
    // Octets after the data are ignored: padding, a MAC, or the rest of ntpstat's fixed 576 octets.
    let asked = rest.get(..count).filter(|_| count <= LARGEST_DATA).ok_or(QueryError::Format)?;
    match opcode {
        0..=2 => {}
        3 | 8 | 9 | 11 => return Err(QueryError::Permission),
        _ => return Err(QueryError::Opcode),
    }
    if association == 0 {
        let data = match opcode {
            1 => list(view, room),
            2 => read(asked, room, system::DEFAULT, |name| system::value(view, name))?,
            _ => Vec::new(),
        };
        return Ok((status::of_system(view), data));
    }
    let source = sources(view).find(|source| view.ids.of(source.id) == association);
    let source = source.ok_or(QueryError::Association)?;
    let data = match opcode {
        0 => Vec::new(),
        _ => read(asked, room, peer::DEFAULT, |name| peer::value(view, source, name))?,
    };
    Ok((status::of_peer(source), data))
}

fn sources<'a>(view: &ControlView<'a>) -> impl Iterator<Item = &'a SourceSnapshot> {
    view.snapshot.into_iter().flat_map(|snapshot| &snapshot.sources)
}

/// The ids and status words of all associations.
fn list(view: &ControlView<'_>, room: usize) -> Vec<u8> {
    let pair = |source: &SourceSnapshot| [view.ids.of(source.id), status::of_peer(source)];
    sources(view).take(room / 4).flat_map(pair).flat_map(u16::to_be_bytes).collect()
}

/// The requested variables, whose names are separated by commas. Without names, the existing variables of `default`.
fn read(
    asked: &[u8],
    room: usize,
    default: &[&str],
    value: impl Fn(&str) -> Option<String>,
) -> Result<Vec<u8>, QueryError> {
    let mut text = text::Text::new(room);
    // Some clients terminate their data with a zero.
    let names = asked.split(|octet| matches!(octet, b',' | 0)).map(<[u8]>::trim_ascii);
    let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        for name in default {
            if let Some(value) = value(name) {
                text.add(name, &value);
            }
        }
        return Ok(text.finish());
    }
    for name in names {
        let name = str::from_utf8(name).map_err(|_| QueryError::Variable)?;
        text.add(name, &value(name).ok_or(QueryError::Variable)?);
    }
    Ok(text.finish())
}

/// Splits `data` into datagrams, at least one, each with a header.
fn fragments(header: &[u8; HEADER_LEN], data: &[u8]) -> Vec<Vec<u8>> {
    let parts = data.len().div_ceil(LARGEST_DATA).max(1);
    let part = |index: usize| {
        let offset = index * LARGEST_DATA;
        let here = &data[offset..data.len().min(offset + LARGEST_DATA)];
        let mut datagram = header.to_vec();
        datagram[1] |= if index + 1 < parts { MORE } else { 0 };
        // `room` keeps both far below 2^16.
        datagram[8..10].copy_from_slice(&(offset as u16).to_be_bytes());
        datagram[10..12].copy_from_slice(&(here.len() as u16).to_be_bytes());
        datagram.extend_from_slice(here);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
        datagram
    };
    (0..parts).map(part).collect()
}

#[cfg(test)]
pub(crate) mod tests;
