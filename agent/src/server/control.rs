//! Queries (mode 6): a datagram that `ntp::respond` classified as a query in; the datagrams of the answer out.
//!
//! Nothing is prepared: the content is collected when a query comes. That takes memory and locks. So only queries that
//! passed the access list and the limit get here, and no time request does.
use std::{
    fmt, fs,
    sync::{Mutex, OnceLock, PoisonError},
};

use ntp::{
    AssociationIds, ControlView, DropReason, KernelClock, KernelPps, Mono, QueryLimit, Request, Served,
    ServerCounts, Snapshot, Wall,
};
use sys::{clock, random};

use super::counters::ServerCounters;

/// Answers queries.
pub(crate) struct QueryHandler {
    snapshot: OnceLock<SnapshotSource>,
    ids: AssociationIds,
    limit: Mutex<QueryLimit>,
    started: Mono,
    /// Such as `Linux/6.1.0`.
    system: String,
}

/// Returns the engine's present snapshot; none if no engine runs.
pub(crate) type SnapshotSource = Box<dyn Fn() -> Option<Snapshot> + Send + Sync>;

const VERSION: &str = concat!("timesync-agent ", env!("CARGO_PKG_VERSION"));

impl QueryHandler {
    /// Without a source of snapshots yet.
    ///
    /// # Errors
    /// If the kernel has no random number.
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

    /// Uses `source` from now on. Only the first one counts.
    pub(super) fn set_source(&self, source: SnapshotSource) {
        let _ = self.snapshot.set(source);
    }

    /// The parts of the answer.
    ///
    /// # Errors
    /// If there must be no answer.
    pub(super) fn answer(
        &self,
        request: &Request<'_>,
        served: &Served,
        counters: &ServerCounters,
    ) -> Result<Vec<Vec<u8>>, DropReason> {
        let address = request.from.ip().to_canonical();
        let afar = !address.is_loopback();
        // A bucket is valid at every moment.
        if afar && !self.limit.lock().unwrap_or_else(PoisonError::into_inner).admit(address, request.now) {
            return Err(DropReason::QueryLimited);
        }
        let snapshot = self.snapshot.get().and_then(|source| source());
        let kernel = kernel();
        let cached = ControlView {
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
        Ok(ntp::answer_query(request.datagram, afar, &cached))
    }
}

impl fmt::Debug for QueryHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// The counters under ntpd's names.
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

/// The kernel's state of its clock; none if a sandbox forbids the call.
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
