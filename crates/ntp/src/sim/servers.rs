//! The servers. A script gives a server's behaviour at each moment. The time of a request goes in; replies with their
//! times of arrival come out.
use super::{machine::EPOCH, network::Trip};
use crate::{
    Leap, NtpTimestamp,
    wire::packet::{self, Header, NtpShort},
};

/// The behaviour of a server at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// Its clock minus true time, seconds.
    pub offset: f64,
    /// Its stratum.
    pub stratum: u8,
    /// True if it does not answer.
    pub silent: bool,
    /// The code of a kiss that it sends instead of time.
    pub kiss: Option<[u8; 4]>,
    /// The leap second that it announces.
    pub leap: Leap,
    /// Its reference id.
    pub reference_id: [u8; 4],
    /// Its reply leaves this much later than its transmit timestamp, seconds.
    pub late: f64,
    /// It sends the reply again after this time, seconds.
    pub again: Option<f64>,
}

/// A correct server.
pub const HONEST: Behaviour = Behaviour {
    offset: 0.0,
    stratum: 1,
    silent: false,
    kiss: None,
    leap: Leap::None,
    reference_id: *b"GPS\0",
    late: 0.0,
    again: None,
};

/// A server's behaviour over true time, seconds since the beginning.
pub type Script = Box<dyn Fn(f64) -> Behaviour>;

/// A server that is always correct.
pub fn honest() -> Script {
    Box::new(|_| HONEST)
}

/// A server whose clock is `offset` seconds ahead.
pub fn ahead(offset: f64) -> Script {
    Box::new(move |_| Behaviour { offset, ..HONEST })
}

/// Seconds from a request's arrival to the reply's departure.
const PROCESSING: f64 = 20e-6;

/// The answers to a request that left at `now`, and when they arrive.
pub(super) fn answer(
    behaviour: &Behaviour,
    cookie: NtpTimestamp,
    now: f64,
    trip: &Trip,
) -> Vec<(f64, Vec<u8>)> {
    if behaviour.silent {
        return Vec::new();
    }
    let stamp = |seconds: f64| NtpTimestamp::from_wall(EPOCH.plus(seconds + behaviour.offset));
    let header = Header {
        leap: behaviour.leap,
        version: 4,
        mode: packet::MODE_SERVER,
        stratum: if behaviour.kiss.is_some() { 0 } else { behaviour.stratum },
        poll: 6,
        precision: -24,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(1),
        reference_id: behaviour.kiss.unwrap_or(behaviour.reference_id),
        reference_time: stamp(now - 3.0),
        origin: cookie,
        receive: stamp(now + trip.there),
        transmit: stamp(now + trip.there + PROCESSING),
    };
    let datagram = header.encode().to_vec();
    let first = now + trip.there + PROCESSING + behaviour.late + trip.back;
    let mut answers = Vec::with_capacity(2);
    answers.extend(behaviour.again.map(|later| (first + later, datagram.clone())));
    answers.push((first, datagram));
    answers
}
