//! The variables of the system (association 0), with ntpd's names. Offsets have ntpd's sign, the opposite of the sign
//! elsewhere: positive means that this clock is behind.
use std::net::SocketAddr;

use super::{
    ControlView, peer, sources,
    text::{coarse_ms, ms, ppm, quoted, reference_id, time},
};
use crate::SourceSnapshot;

/// The variables of an answer to a query without names. The order matters: ntpstat reads only the first datagram.
pub(super) const DEFAULT: &[&str] = &[
    "leap",
    "stratum",
    "precision",
    "rootdelay",
    "rootdisp",
    "refid",
    "reftime",
    "tc",
    "peer",
    "offset",
    "frequency",
    "sys_jitter",
    "clk_jitter",
    "clock",
    "processor",
    "system",
    "version",
    "clk_wander",
    "tai",
    "mintc",
    "rootdist",
];

/// The counters of the server since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Queries answered.
    pub queries: u64,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams of version 4.
    pub current_version: u64,
    /// Datagrams of versions 1 to 3.
    pub older_version: u64,
    /// Datagrams of version 1: all, of clients, of clients without a mode, of peers.
    pub version_1: [u64; 4],
    /// Malformed datagrams, and those of an unknown version.
    pub malformed: u64,
    /// Datagrams without valid authentication.
    pub unauthenticated: u64,
    /// Datagrams that are no requests.
    pub declined: u64,
    /// Requests dropped by the access list.
    pub restricted: u64,
    /// Requests beyond the rate limit.
    pub limited: u64,
    /// Kisses sent.
    pub kisses: u64,
    /// Requests answered with the time.
    pub answered: u64,
}

/// The kernel's state of its clock (adjtimex(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelClock {
    /// The rest of the slew by its PLL, seconds. Positive speeds the clock up.
    pub offset: f64,
    /// By how much the clock is sped up, parts per million.
    pub frequency_ppm: f64,
    /// Largest error, seconds.
    pub max_error: f64,
    /// Estimated error, seconds.
    pub estimated_error: f64,
    /// Bits STA_*.
    pub status: i32,
    /// Time constant of its PLL.
    pub time_constant: i64,
    /// Precision, seconds.
    pub precision: f64,
    /// Largest frequency that it accepts, parts per million.
    pub tolerance_ppm: f64,
    /// TAI minus UTC, seconds; 0 if unknown.
    pub tai_offset: i32,
    /// Its data of a pulse per second.
    pub pps: KernelPps,
}

/// The kernel's data of a pulse per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelPps {
    /// Frequency, parts per million.
    pub frequency_ppm: f64,
    /// Stability, parts per million.
    pub stability_ppm: f64,
    /// Jitter, seconds.
    pub jitter: f64,
    /// Length of a calibration, log2 seconds.
    pub interval: i32,
    /// Calibrations.
    pub calibrations: i64,
    /// Pulses beyond the limit of the jitter.
    pub jitter_exceeded: i64,
    /// Calibrations beyond the limit of the stability.
    pub stability_exceeded: i64,
    /// Calibrations that failed.
    pub errors: i64,
}

/// The value of a variable. None if there is no such variable.
pub(super) fn value(view: &ControlView<'_>, name: &str) -> Option<String> {
    clock(view, name)
        .or_else(|| program(view, name))
        .or_else(|| counts(view.counts, name.strip_suffix("_r").unwrap_or(name)))
        .or_else(|| kernel(view, name))
}

/// The quality of the clock.
fn clock(view: &ControlView<'_>, name: &str) -> Option<String> {
    let ControlView { now, snapshot, served, .. } = *view;
    let dispersion = served.dispersion_at(now);
    let peer = system_peer(view);
    Some(match name {
        "leap" => (served.indicator() as u8).to_string(),
        "stratum" => served.stratum.to_string(),
        "precision" => served.precision.to_string(),
        "rootdelay" => coarse_ms(served.root_delay),
        "rootdisp" => coarse_ms(dispersion),
        "rootdist" => coarse_ms(served.root_delay / 2.0 + dispersion),
        "refid" => reference_id(served.reference_id, served.stratum),
        "reftime" => time(served.reference_time),
        "tc" => time_constant(view).to_string(),
        // Shortest poll that a profile may ask for, log2 seconds.
        "mintc" => "0".to_owned(),
        "peer" => peer.map_or(0, |source| view.ids.of(source.id)).to_string(),
        "peeradr" => quoted(&peer.map_or("0.0.0.0:0".to_owned(), peer_address)),
        "peermode" => peer.map_or("0", |_| peer::CLIENT).to_owned(),
        "offset" => ms(-snapshot.and_then(|s| s.offset).unwrap_or(0.0)),
        "frequency" => ppm(snapshot.map_or(0.0, |s| s.frequency_ppm)),
        "sys_jitter" => ms(snapshot.and_then(|s| s.jitter).unwrap_or(0.0)),
        "clk_jitter" => ms(snapshot.and_then(|s| s.offset_error).unwrap_or(0.0)),
        "clk_wander" => ppm(snapshot.map_or(0.0, |s| s.skew_ppm)),
        "clock" => time(Some(now)),
        "tai" => view.kernel.map(|kernel| kernel.tai_offset).filter(|tai| *tai != 0)?.to_string(),
        _ => return None,
    })
}

fn system_peer<'a>(view: &ControlView<'a>) -> Option<&'a SourceSnapshot> {
    let reference = view.snapshot?.reference?;
    sources(view).find(|source| source.id == reference)
}

fn peer_address(source: &SourceSnapshot) -> String {
    let address = source.address.filter(|_| !source.detail.device);
    address.map_or_else(
        || format!("{}:0", peer::DEVICE_ADDRESS),
        |address| SocketAddr::new(address, source.detail.port).to_string(),
    )
}

/// The poll interval of the selected source, or the shortest one of all sources, log2 seconds.
fn time_constant(view: &ControlView<'_>) -> i8 {
    let followed = system_peer(view).map(|source| source.poll);
    followed.or_else(|| sources(view).map(|source| source.poll).min()).unwrap_or(USUAL_POLL).clamp(0, 17)
}

/// The default poll interval (RFC 5905 §7.2, MINPOLL).
const USUAL_POLL: i8 = 6;

fn program(view: &ControlView<'_>, name: &str) -> Option<String> {
    Some(match name {
        "processor" => quoted(view.processor),
        "system" => quoted(view.system),
        "version" => quoted(view.version),
        // The time for a digest, which old versions measured and subtracted.
        "authdelay" => coarse_ms(0.0),
        _ => return None,
    })
}

/// In ntpd the variables with `_r` restart every hour. Here they are the same as those without, since nothing is reset.
fn counts(counts: &ServerCounts, name: &str) -> Option<String> {
    let number = match name {
        "ss_uptime" | "ss_reset" => counts.uptime_secs,
        "ss_numctlreq" => counts.queries,
        "ss_received" => counts.received,
        "ss_thisver" => counts.current_version,
        "ss_oldver" => counts.older_version,
        "ss_ver1" => counts.version_1[0],
        "ss_ver1client" => counts.version_1[1],
        "ss_ver1zero" => counts.version_1[2],
        "ss_ver1symm" => counts.version_1[3],
        "ss_badformat" => counts.malformed,
        "ss_badauth" => counts.unauthenticated,
        "ss_declined" => counts.declined,
        "ss_restricted" => counts.restricted,
        "ss_limited" => counts.limited,
        "ss_kodsent" => counts.kisses,
        "ss_processed" => counts.answered,
        _ => return None,
    };
    Some(number.to_string())
}

fn kernel(view: &ControlView<'_>, name: &str) -> Option<String> {
    let kernel = view.kernel?;
    let pps = &kernel.pps;
    Some(match name {
        "koffset" => ms(kernel.offset),
        "kfreq" => ppm(kernel.frequency_ppm),
        "kmaxerr" => ms(kernel.max_error),
        "kesterr" => ms(kernel.estimated_error),
        "kstflags" => quoted(&status_words(kernel.status)),
        "ktimeconst" => kernel.time_constant.to_string(),
        "kprecis" => ms(kernel.precision),
        "kfreqtol" => ppm(kernel.tolerance_ppm),
        "kppsfreq" => ppm(pps.frequency_ppm),
        "kppsstab" => ppm(pps.stability_ppm),
        "kppsjitter" => ms(pps.jitter),
        "kppscalibdur" => 1_u64.checked_shl(pps.interval.unsigned_abs()).unwrap_or(0).to_string(),
        "kppscalibs" => pps.calibrations.to_string(),
        "kppsjitexc" => pps.jitter_exceeded.to_string(),
        "kppsstbexc" => pps.stability_exceeded.to_string(),
        "kppscaliberrs" => pps.errors.to_string(),
        _ => return None,
    })
}

/// Names of the status bits, the lowest first (include/uapi/linux/timex.h).
const STATUS_WORDS: [&str; 16] = [
    "pll",
    "ppsfreq",
    "ppstime",
    "fll",
    "ins",
    "del",
    "unsync",
    "freqhold",
    "ppssignal",
    "ppsjitter",
    "ppswander",
    "ppserror",
    "clockerr",
    "nano",
    "mode=fll",
    "src=B",
];

fn status_words(status: i32) -> String {
    let set = STATUS_WORDS.iter().enumerate().filter(|(bit, _)| status >> bit & 1 != 0);
    set.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}
