//! The report as metrics: one struct, one registry, all values set at each scrape. Seconds and ratios; labels from
//! closed sets; an offset is this clock minus true time, as everywhere.
use std::sync::{Mutex, PoisonError};

use contract::{ClockReport, Mode, Reason, Report, RtcReport, SourceReport, SourceState};
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::{panics::Panics, server::ServerCounters};

/// All metrics of the agent. Metrics without labels are vectors too, since a vector can be empty: an unknown value is
/// absent, not zero.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Only one scrape at a time sets and reads the values.
    scrape: Mutex<()>,
    synchronized: GaugeVec,
    offset: GaugeVec,
    jitter: GaugeVec,
    error_bound: GaugeVec,
    root_delay: GaugeVec,
    root_dispersion: GaugeVec,
    stratum: GaugeVec,
    local_reference: GaugeVec,
    leap: GaugeVec,
    frequency: GaugeVec,
    last_update_age: GaugeVec,
    steps: IntCounterVec,
    external_steps: IntCounterVec,
    state_writable: GaugeVec,
    conflict: GaugeVec,
    conflicts: IntCounterVec,
    mode: GaugeVec,
    profile: GaugeVec,
    source_offset: GaugeVec,
    source_jitter: GaugeVec,
    source_delay: GaugeVec,
    source_reach: GaugeVec,
    source_stratum: GaugeVec,
    source_state: GaugeVec,
    source_poll: GaugeVec,
    source_packets: IntCounterVec,
    rtc_offset: GaugeVec,
    rtc_drift: GaugeVec,
    rtc_present: GaugeVec,
    rtc_writes: IntCounterVec,
    server_requests: IntCounterVec,
    server_dropped: IntCounterVec,
    server_kod: IntCounterVec,
    server_queries: IntCounterVec,
    server_rate_entries: GaugeVec,
    server_nts_answers: IntCounterVec,
    server_nts_kisses: IntCounterVec,
    server_key_exchanges: IntCounterVec,
    reloads: IntCounterVec,
}

/// The result of loading a profile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reload {
    /// It runs.
    Applied,
    /// It was refused.
    Refused,
    /// It does not exist yet.
    Missing,
}

impl Metrics {
    /// Creates and registers all metrics.
    ///
    /// # Errors
    /// If two have the same name, which is a bug in this file.
    pub(crate) fn new(panics: &Panics) -> Result<Self, prometheus::Error> {
        let r = Registry::new_custom(Some("timesync".to_owned()), None)?;
        panics.register(&r)?;
        let metrics = Self {
            synchronized: gauge(
                &r,
                "synchronized",
                "Whether a majority was found and the error bound holds",
                &[],
            )?,
            offset: gauge(&r, "offset_seconds", "This clock minus true time, as estimated", &[])?,
            jitter: gauge(&r, "jitter_seconds", "Standard deviation of the reference's samples", &[])?,
            error_bound: gauge(&r, "error_bound_seconds", "Largest error that this clock can have", &[])?,
            root_delay: gauge(&r, "root_delay_seconds", "Round trip to the primary reference", &[])?,
            root_dispersion: gauge(
                &r,
                "root_dispersion_seconds",
                "Dispersion to the primary reference",
                &[],
            )?,
            stratum: gauge(&r, "stratum", "Stratum; 16 while unsynchronised", &[])?,
            local_reference: gauge(
                &r,
                "local_reference",
                "Whether the time is that of a local clock, so that UTC is unknown",
                &[],
            )?,
            leap: gauge(&r, "leap_status", "0 none, 1 insert, 2 delete, 3 unsynchronised", &[])?,
            frequency: gauge(
                &r,
                "frequency_ratio",
                "Correction of the clock's rate; positive: sped up",
                &[],
            )?,
            last_update_age: gauge(&r, "last_update_age_seconds", "Time since the last correction", &[])?,
            steps: counter(&r, "steps_total", "Steps of the clock since the node's boot", &["reason"])?,
            external_steps: counter(
                &r,
                "external_steps_total",
                "Steps of the clock by another process since the agent's start",
                &[],
            )?,
            state_writable: gauge(&r, "state_writable", "Whether the state folder can be written", &[])?,
            conflict: gauge(&r, "conflict", "Whether another process steers the clock", &[])?,
            conflicts: counter(
                &r,
                "conflicts_total",
                "Conflicts that began, with another process that steers the clock, by what showed them",
                &["reason"],
            )?,
            mode: gauge(&r, "mode_info", "Whether the clock may be moved", &["mode"])?,
            profile: gauge(&r, "profile_info", "The running profile", &["policy", "hash"])?,
            source_offset: gauge(&r, "source_offset_seconds", "This clock minus the source's time", SOURCE)?,
            source_jitter: gauge(&r, "source_jitter_seconds", "Standard deviation of its samples", SOURCE)?,
            source_delay: gauge(&r, "source_delay_seconds", "Round trip of its newest sample", SOURCE)?,
            source_reach: gauge(&r, "source_reach_ratio", "Share of its last eight polls answered", SOURCE)?,
            source_stratum: gauge(&r, "source_stratum", "Its stratum; 16 if unknown", SOURCE)?,
            source_state: gauge(&r, "source_state", "1 for the state it is in", &["source", "state"])?,
            source_poll: gauge(&r, "source_poll_interval_seconds", "How often it is asked", SOURCE)?,
            source_packets: counter(
                &r,
                "source_packets_total",
                "Requests sent, answers used and refused",
                &["source", "result"],
            )?,
            rtc_offset: gauge(&r, "rtc_offset_seconds", "RTC minus system clock when last read", &[])?,
            rtc_drift: gauge(&r, "rtc_drift_ratio", "What the RTC gains on true time between writes", &[])?,
            rtc_present: gauge(&r, "rtc_present", "Whether there is a hardware clock", &[])?,
            rtc_writes: counter(&r, "rtc_writes_total", "Writes of the RTC by the agent", &["result"])?,
            server_requests: counter(&r, "server_requests_total", "Datagrams that came", &["version"])?,
            server_dropped: counter(&r, "server_dropped_total", "Datagrams left unanswered", &["reason"])?,
            server_kod: counter(&r, "server_kod_total", "Kisses sent", &[])?,
            server_queries: counter(
                &r,
                "server_queries_total",
                "Queries (mode 6: ntpq, ntpstat) answered",
                &[],
            )?,
            server_rate_entries: gauge(&r, "server_rate_table_entries", "Addresses in the rate tables", &[])?,
            server_nts_answers: counter(&r, "server_nts_answers_total", "Replies sealed by NTS", &[])?,
            server_nts_kisses: counter(
                &r,
                "server_nts_kisses_total",
                "Cookies or seals not good (NTSN)",
                &[],
            )?,
            server_key_exchanges: counter(
                &r,
                "server_key_exchanges_total",
                "NTS key exchanges",
                &["result"],
            )?,
            reloads: counter(&r, "agent_reload_total", "Profiles that were handed over", &["result"])?,
            scrape: Mutex::new(()),
            registry: r,
        };
        for result in [Reload::Applied, Reload::Refused, Reload::Missing] {
            metrics.reloads.with_label_values(&[result.as_str()]);
        }
        Ok(metrics)
    }

    /// Counts the result of loading a profile.
    pub(crate) fn reloaded(&self, result: Reload) {
        self.reloads.with_label_values(&[result.as_str()]).inc();
    }

    /// The metrics of `report` in the text format of Prometheus.
    ///
    /// # Errors
    /// If the registry has two series of one name and labels, which is a bug in this file.
    pub(crate) fn text(
        &self,
        report: &Report,
        conflicts: &[(&str, u64)],
        server: &ServerCounters,
    ) -> Result<String, prometheus::Error> {
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_profile(report);
        self.set_clock(&report.clock);
        alone(&self.state_writable, Some(f64::from(u8::from(report.state_error.is_none()))));
        alone(&self.conflict, Some(f64::from(u8::from(report.conflict.is_some()))));
        for (reason, number) in conflicts {
            count(&self.conflicts, &[reason], *number);
        }
        self.set_sources(&report.sources);
        self.set_rtc(&report.rtc);
        self.set_server(server);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn set_profile(&self, report: &Report) {
        for mode in [Mode::Discipline, Mode::Observe] {
            let runs = report.mode == Some(mode);
            let name = if mode == Mode::Discipline { "Discipline" } else { "Observe" };
            self.mode.with_label_values(&[name]).set(f64::from(u8::from(runs)));
        }
        self.profile.reset();
        if let Some(name) = &report.profile {
            self.profile.with_label_values(&[name.policy(), name.hash()]).set(1.0);
        }
    }

    fn set_clock(&self, clock: &ClockReport) {
        alone(&self.synchronized, Some(f64::from(u8::from(clock.synchronized))));
        alone(&self.offset, clock.offset);
        alone(&self.jitter, clock.jitter);
        alone(&self.error_bound, clock.error_bound);
        alone(&self.root_delay, Some(clock.root_delay));
        alone(&self.root_dispersion, Some(clock.root_dispersion));
        alone(&self.stratum, Some(f64::from(clock.stratum)));
        let local = clock.reason == Reason::LocalReference;
        alone(&self.local_reference, Some(f64::from(u8::from(local))));
        alone(&self.leap, Some(f64::from(clock.leap)));
        alone(&self.frequency, Some(clock.frequency_ppm / 1e6));
        alone(&self.last_update_age, clock.last_update_age);
        let others = [("external", clock.restored), ("resume", clock.resumed), ("floor", clock.raised)];
        let start = others.iter().fold(clock.steps, |rest, (_, number)| rest.saturating_sub(*number));
        for (reason, number) in [("start", start)].into_iter().chain(others) {
            count(&self.steps, &[reason], u64::from(number));
        }
        count(&self.external_steps, &[], u64::from(clock.external_steps));
    }

    fn set_sources(&self, sources: &[SourceReport]) {
        // Series of the former profile must not stay.
        for vector in [
            &self.source_offset,
            &self.source_jitter,
            &self.source_delay,
            &self.source_reach,
            &self.source_stratum,
            &self.source_state,
            &self.source_poll,
        ] {
            vector.reset();
        }
        self.source_packets.reset();
        for source in sources {
            let name = source.name.as_str();
            let set = |vector: &GaugeVec, value: Option<f64>| {
                if let Some(value) = value {
                    vector.with_label_values(&[name]).set(value);
                }
            };
            set(&self.source_offset, source.offset);
            set(&self.source_jitter, source.jitter);
            set(&self.source_delay, source.delay);
            set(&self.source_reach, Some(f64::from(source.reach.count_ones()) / 8.0));
            set(&self.source_stratum, Some(f64::from(source.stratum)));
            set(&self.source_poll, Some(f64::from(source.poll).exp2()));
            for state in SourceState::ALL {
                let is_it = f64::from(u8::from(source.state == state));
                self.source_state.with_label_values(&[name, state.as_str()]).set(is_it);
            }
            for (result, number) in
                [("sent", source.sent), ("received", source.received), ("rejected", source.rejected)]
            {
                count(&self.source_packets, &[name, result], number);
            }
        }
    }

    fn set_rtc(&self, rtc: &RtcReport) {
        alone(&self.rtc_present, Some(f64::from(u8::from(rtc.present))));
        alone(&self.rtc_offset, rtc.offset);
        alone(&self.rtc_drift, rtc.drift_ppm.map(|ppm| ppm / 1e6));
        count(&self.rtc_writes, &["verified"], rtc.writes);
        count(&self.rtc_writes, &["failed"], rtc.write_failures);
    }

    fn set_server(&self, server: &ServerCounters) {
        for (version, number) in server.requests() {
            count(&self.server_requests, &[version], number);
        }
        for (reason, number) in server.dropped() {
            count(&self.server_dropped, &[reason], number);
        }
        count(&self.server_kod, &[], server.kisses());
        count(&self.server_queries, &[], server.queries());
        count(&self.server_nts_answers, &[], server.nts_answered());
        count(&self.server_nts_kisses, &[], server.nts_kisses());
        for (result, number) in server.key_exchanges() {
            count(&self.server_key_exchanges, &[result], number);
        }
        alone(&self.server_rate_entries, Some(server.rate_entries() as f64));
    }
}

impl Reload {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Missing => "missing",
        }
    }
}

/// The label of every metric about one upstream.
const SOURCE: &[&str] = &["source"];

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    let vector = GaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

/// Sets the only value of a vector without labels, or removes it.
fn alone(vector: &GaugeVec, value: Option<f64>) {
    vector.reset();
    if let Some(value) = value {
        vector.with_label_values::<&str>(&[]).set(value);
    }
}

/// Sets a counter to `number`, which is counted elsewhere.
fn count(vector: &IntCounterVec, labels: &[&str], number: u64) {
    let counter = vector.with_label_values(labels);
    counter.reset();
    counter.inc_by(number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reporter, tests::snapshot};

    fn report(snapshot: Option<ntp::Snapshot>) -> Report {
        let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
        let then = Some(ntp::OnExternalStep::Restore);
        let jump = ntp::Transition::ExternalStep { by: 3600.0, then };
        let back = ntp::Transition::Stepped { by: -3600.0, why: ntp::StepReason::ExternalStep };
        let raised = ntp::Transition::Stepped { by: 1e9, why: ntp::StepReason::Floor };
        reporter.raised(1);
        reporter.engine(ntp::Wall(0), snapshot, &[raised, jump.clone(), jump, back]);
        reporter.rtc(ntp::Wall(0), RtcReport { drift_ppm: Some(-25.0), ..RtcReport::default() });
        reporter.report()
    }

    fn metrics() -> Metrics {
        Metrics::new(&Panics::new().unwrap()).unwrap()
    }

    #[test]
    fn values_labels_and_units() {
        let text = metrics().text(&report(Some(snapshot())), &[], &ServerCounters::default()).unwrap();
        for line in [
            "timesync_synchronized 1",
            "timesync_offset_seconds -0.000012",
            "timesync_stratum 3",
            "timesync_local_reference 0",
            "timesync_frequency_ratio 0.00002",
            "timesync_last_update_age_seconds 10",
            "timesync_steps_total{reason=\"start\"} 1",
            "timesync_steps_total{reason=\"external\"} 1",
            "timesync_steps_total{reason=\"resume\"} 0",
            "timesync_steps_total{reason=\"floor\"} 2",
            "timesync_external_steps_total 2",
            "timesync_source_reach_ratio{source=\"a\"} 1",
            "timesync_source_state{source=\"a\",state=\"Selected\"} 1",
            "timesync_source_state{source=\"a\",state=\"Falseticker\"} 0",
            "timesync_source_poll_interval_seconds{source=\"a\"} 16",
            "timesync_source_packets_total{result=\"rejected\",source=\"a\"} 1",
            "timesync_rtc_present 0",
            "timesync_rtc_drift_ratio -0.000025",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_local_clock_is_told_by_those_who_serve_and_follow_it() {
        for reason in [ntp::Reason::LocalClock, ntp::Reason::LocalReference] {
            let local = ntp::Snapshot { reason, ..snapshot() };
            let text = metrics().text(&report(Some(local)), &[], &ServerCounters::default()).unwrap();
            for line in ["timesync_local_reference 1", "timesync_synchronized 1"] {
                assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
            }
        }
    }

    #[test]
    fn what_is_unknown_or_gone_is_absent() {
        let metrics = metrics();
        metrics.text(&report(Some(snapshot())), &[], &ServerCounters::default()).unwrap();
        let text = metrics.text(&report(None), &[], &ServerCounters::default()).unwrap();
        assert!(text.contains("timesync_synchronized 0"), "{text}");
        for name in ["timesync_offset_seconds", "timesync_source_state", "timesync_profile_info"] {
            assert!(!text.contains(&format!("\n{name}")), "{name} is in\n{text}");
        }
    }

    #[test]
    fn counters_do_not_add_up_over_scrapes() {
        let metrics = metrics();
        metrics.reloaded(Reload::Refused);
        for _ in 0..3 {
            let text = metrics.text(&report(Some(snapshot())), &[], &ServerCounters::default()).unwrap();
            assert!(text.contains("timesync_source_packets_total{result=\"sent\",source=\"a\"} 9"), "{text}");
            assert!(text.contains("timesync_agent_reload_total{result=\"refused\"} 1"), "{text}");
        }
    }
}
