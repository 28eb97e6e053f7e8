//! Queries (mode 6, RFC 9327), read-only: a datagram and what there is to tell in, the datagrams of the answer out.
//!
//! The order: `examine` (is it a query?), `answer` (what is asked, by whom), `status` (two words that sum up), `system`
//! and `peer` (the variables), `text` (how they are written), fragments. Nothing can be changed by a query, and neither
//! origin nor cookie of a request on its way is ever told. `limit` is how many queries a stranger may have answered.
use crate::{DropReason, Served, Snapshot, SourceId, SourceSnapshot, Wall};

mod limit;
mod peer;
mod status;
mod system;
mod text;

pub use limit::QueryLimit;
pub use system::{KernelClock, KernelPps, ServerCounts};

/// All that a query may be answered with.
#[derive(Clone, Copy, Debug)]
pub struct ControlView<'a> {
    /// The time of the query.
    pub now: Wall,
    /// What the engine knows; none while none runs.
    pub snapshot: Option<&'a Snapshot>,
    /// What clients are told.
    pub served: &'a Served,
    /// How sources are numbered.
    pub ids: AssociationIds,
    /// What the server did.
    pub counts: &'a ServerCounts,
    /// What the kernel holds; none if it does not say.
    pub kernel: Option<&'a KernelClock>,
    /// The program and its version.
    pub version: &'a str,
    /// The operating system.
    pub system: &'a str,
    /// The machine's architecture.
    pub processor: &'a str,
}

/// Numbers sources as associations: not zero, the same for a source as long as it lives, ascending in the order in which
/// sources were made, and beginning somewhere, so that a stranger cannot guess them.
#[derive(Clone, Copy, Debug)]
pub struct AssociationIds {
    start: u16,
}

impl AssociationIds {
    /// Of 65535 numbers the first half are beginnings, so that a node has to see 32768 sources before they start over.
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

/// So many datagrams an answer has at most, for who is on this host: older clients take no more.
const FRAGMENTS: usize = 24;

/// And for others, since their address may be forged: what one source's variables need, twice.
const FRAGMENTS_AFAR: usize = 4;

/// Returns true if a datagram is a query or says that it is.
pub(crate) fn is_query(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|octet| octet & 7 == MODE_CONTROL)
}

/// Returns true if a query is one that can be answered, be it with an error.
///
/// # Errors
/// Why it is met with silence: an answer to an answer would make two servers talk for ever.
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

/// The bits of the second octet that are not response, error or more.
const OPCODE: u8 = 0x1f;
const RESPONSE: u8 = 0x80;
const ERROR: u8 = 0x40;
const MORE: u8 = 0x20;

/// Why a query is answered with an error (RFC 9327 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryError {
    /// Nothing is changed by a query.
    Permission = 1,
    Format = 2,
    Opcode = 3,
    Association = 4,
    Variable = 5,
}

/// The answer to a query for which `respond` said [`crate::Verdict::Query`], in its parts; none for what is no query.
/// `afar` is whether its sender is not on this host.
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

/// Status word and data.
fn tell(
    header: &[u8; HEADER_LEN],
    rest: &[u8],
    room: usize,
    view: &ControlView<'_>,
) -> Result<(u16, Vec<u8>), QueryError> {
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (opcode, association, count) = (header[1] & OPCODE, word(6), usize::from(word(10)));
    // What follows the data is not looked at: padding, a MAC, or the rest of ntpstat's fixed 576 octets.
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

/// All associations: id and status word of each.
fn list(view: &ControlView<'_>, room: usize) -> Vec<u8> {
    let pair = |source: &SourceSnapshot| [view.ids.of(source.id), status::of_peer(source)];
    sources(view).take(room / 4).flat_map(pair).flat_map(u16::to_be_bytes).collect()
}

/// The variables that are asked for by name, separated by commas; those of `default` that there are if none is.
fn read(
    asked: &[u8],
    room: usize,
    default: &[&str],
    value: impl Fn(&str) -> Option<String>,
) -> Result<Vec<u8>, QueryError> {
    let mut text = text::Text::new(room);
    // Some clients end their data with a zero.
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

/// `data` behind as many headers as it takes, one at least.
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
