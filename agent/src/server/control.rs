//! Queries (mode 6): a datagram that `ntp::respond` called a query in, the datagrams of its answer out.
//!
//! Nothing is prepared: what there is to tell is gathered when somebody asks. That takes memory and locks, so only what
//! came through the access list and the limit gets here; no request for time does.
use std::{
    fmt, fs,
    sync::{Mutex, OnceLock, PoisonError},
};

use ntp::{
    AssociationIds, ControlView, DropReason, KernelClock, KernelPps, Mono, QueryLimit, Request, Served,
    ServerCounts, Snapshot, Wall,
};
use sys::{clock, random};

use super::ServerCounters;

/// Where the answers are given.
pub(crate) struct Desk {
    snapshot: OnceLock<SnapshotSource>,
    ids: AssociationIds,
    limit: Mutex<QueryLimit>,
    started: Mono,
    /// Such as `Linux/6.1.0`.
    system: String,
}

/// Says what the engine knows now; nothing if no engine runs.
pub(crate) type SnapshotSource = Box<dyn Fn() -> Option<Snapshot> + Send + Sync>;

const VERSION: &str = concat!("timesync-agent ", env!("CARGO_PKG_VERSION"));

impl Desk {
    /// One that knows nothing yet.
    ///
    /// # Errors
    /// When the kernel has no random number.
    pub(super) fn new() -> Result<Self, sys::Error> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            snapshot: OnceLock::new(),
            ids: AssociationIds::new(random::word()?),
            limit: Mutex::default(),
            started: Mono(clock::monotonic_ns()),
            system: format!("Linux/{}", release.trim_end()),
        })
    }

    /// Asks `source` from now on; only the first one counts.
    pub(super) fn ask(&self, source: SnapshotSource) {
        let _ = self.snapshot.set(source);
    }

    /// The answer, in its parts.
    ///
    /// # Errors
    /// When there is to be none.
    pub(super) fn answer(
        &self,
        request: &Request<'_>,
        served: &Served,
        counters: &ServerCounters,
    ) -> Result<Vec<Vec<u8>>, DropReason> {
        let address = request.from.ip().to_canonical();
        let afar = !address.is_loopback();
        // A bucket is whole at every moment.
        if afar && !self.limit.lock().unwrap_or_else(PoisonError::into_inner).admit(address, request.now) {
            return Err(DropReason::QueryLimited);
        }
        let snapshot = self.snapshot.get().and_then(|source| source());
        let kernel = kernel();
        let view = ControlView {
            now: Wall(clock::realtime_ns()),
            snapshot: snapshot.as_ref(),
            served,
            ids: self.ids,
            counts: &counts(counters, (request.now - self.started) as u64),
            kernel: kernel.as_ref(),
            version: VERSION,
            system: &self.system,
            processor: std::env::consts::ARCH,
        };
        Ok(ntp::answer_query(request.datagram, afar, &view))
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// The counters in ntpd's words.
fn counts(counters: &ServerCounters, uptime_secs: u64) -> ServerCounts {
    let mut counts = ServerCounts {
        uptime_secs,
        queries: counters.queries(),
        version_1: counters.version_1(),
        kisses: counters.kisses(),
        answered: counters.answered(),
        ..ServerCounts::default()
    };
    for (version, count) in counters.requests() {
        counts.received += count;
        match version {
            "4" => counts.current_version += count,
            "1" | "2" | "3" => counts.older_version += count,
            _ => {}
        }
    }
    for (reason, count) in counters.dropped() {
        match reason {
            "malformed" | "unknown_version" => counts.malformed += count,
            "unauthenticated" => counts.unauthenticated += count,
            "ignore" | "noserve" | "version" | "noquery" => counts.restricted += count,
            "rate_limited" | "query_limited" => counts.limited += count,
            _ => counts.declined += count,
        }
    }
    counts
}

/// What the kernel says of its clock; nothing where a sandbox forbids to ask.
fn kernel() -> Option<KernelClock> {
    let timex = clock::read_timex().ok()?;
    let clock::Pps { frequency_ppm, stability_ppm, jitter, interval, .. } = timex.pps;
    let clock::Pps { calibrations, jitter_exceeded, stability_exceeded, errors, .. } = timex.pps;
    Some(KernelClock {
        offset: timex.pll_offset,
        frequency_ppm: timex.frequency_ppm,
        max_error: timex.max_error,
        estimated_error: timex.estimated_error,
        status: timex.status,
        time_constant: timex.time_constant,
        precision: timex.precision,
        tolerance_ppm: timex.tolerance_ppm,
        tai_offset: timex.tai_offset,
        pps: KernelPps {
            frequency_ppm,
            stability_ppm,
            jitter,
            interval,
            calibrations,
            jitter_exceeded,
            stability_exceeded,
            errors,
        },
    })
}
