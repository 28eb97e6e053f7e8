//! The metrics of the upstreams, with the label `source`.
use contract::{SourceReport, SourceState};
use prometheus::{GaugeVec, IntCounterVec, Registry};

use super::series::{self, count, counter, flag, gauge};

/// All metrics of the upstreams.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    offset: GaugeVec,
    jitter: GaugeVec,
    delay: GaugeVec,
    reach: GaugeVec,
    stratum: GaugeVec,
    state: GaugeVec,
    poll: GaugeVec,
    packets: IntCounterVec,
}

/// The label of every metric about one upstream.
const SOURCE: &[&str] = &["source"];

impl SourceMetrics {
    /// Creates and registers them.
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            offset: gauge(r, "source_offset_seconds", "This clock minus the upstream's time", SOURCE)?,
            jitter: gauge(r, "source_jitter_seconds", "Standard deviation of its samples", SOURCE)?,
            delay: gauge(r, "source_delay_seconds", "Round trip of its newest sample", SOURCE)?,
            reach: gauge(r, "source_reach_ratio", "Share of the last eight polls answered", SOURCE)?,
            stratum: gauge(r, "source_stratum", "Its stratum; 16 if unknown", SOURCE)?,
            state: gauge(r, "source_state", "1 for the state of the upstream", &["source", "state"])?,
            poll: gauge(r, "source_poll_interval_seconds", "Time between two polls", SOURCE)?,
            packets: counter(
                r,
                "source_packets_total",
                "Requests that were sent, replies that were accepted, and replies that were rejected",
                &["source", "result"],
            )?,
        })
    }

    /// Sets the values of these upstreams, and drops the series of others.
    pub(super) fn set(&self, sources: &[SourceReport]) {
        let Self { offset, jitter, delay, reach, stratum, state, poll, packets } = self;
        // Series of the former profile must not stay.
        for vector in [offset, jitter, delay, reach, stratum, state, poll] {
            vector.reset();
        }
        packets.reset();
        for source in sources {
            let name = source.name.as_str();
            let set = |vector: &GaugeVec, value: Option<f64>| series::set(vector, &[name], value);
            set(offset, source.offset);
            set(jitter, source.jitter);
            set(delay, source.delay);
            set(reach, Some(reach_ratio(source)));
            set(stratum, Some(f64::from(source.stratum)));
            set(poll, Some(poll_interval(source)));
            for each in SourceState::ALL {
                state.with_label_values(&[name, each.as_str()]).set(flag(source.state == each));
            }
            for (result, number) in
                [("sent", source.sent), ("received", source.received), ("rejected", source.rejected)]
            {
                count(packets, &[name, result], number);
            }
        }
    }
}

/// Share of the last eight polls that were answered.
pub(super) fn reach_ratio(source: &SourceReport) -> f64 {
    f64::from(source.reach.count_ones()) / 8.0
}

/// Time between two polls, seconds.
pub(super) fn poll_interval(source: &SourceReport) -> f64 {
    f64::from(source.poll).exp2()
}
