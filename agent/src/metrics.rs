//! The report as metrics: one struct, one registry, all values set at each scrape. Seconds and ratios; labels from
//! closed sets; an offset is this clock minus true time, as everywhere.
use std::sync::{Mutex, PoisonError};

use contract::{ClockReport, Mode, Reason, Report, RtcHealth, RtcReport, ServerReport};
use prometheus::{GaugeVec, IntCounterVec, Registry, TextEncoder};

use crate::{key_server::CertificateValidity, panics::Panics, server::ServerCounters};

mod chrony;
mod series;
mod sources;

use chrony::ChronyMetrics;
use series::{alone, count, counter, flag, gauge};
use sources::SourceMetrics;

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
    build: GaugeVec,
    sources: SourceMetrics,
    rtc_offset: GaugeVec,
    rtc_drift: GaugeVec,
    rtc_present: GaugeVec,
    rtc_health: GaugeVec,
    rtc_writes: IntCounterVec,
    server_serving: GaugeVec,
    server_failure: GaugeVec,
    certificate_begin: GaugeVec,
    certificate_end: GaugeVec,
    server_requests: IntCounterVec,
    server_dropped: IntCounterVec,
    server_kod: IntCounterVec,
    server_queries: IntCounterVec,
    server_rate_entries: GaugeVec,
    server_nts_answers: IntCounterVec,
    server_nts_kisses: IntCounterVec,
    server_key_exchanges: IntCounterVec,
    reloads: IntCounterVec,
    /// The names of chrony_exporter, if the agent's file asks for them.
    chrony: Option<ChronyMetrics>,
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
    /// Creates and registers all metrics; with `chrony` also those with names of chrony_exporter.
    ///
    /// # Errors
    /// If two have the same name, which is a bug in this file.
    pub(crate) fn new(panics: &Panics, chrony: bool) -> Result<Self, prometheus::Error> {
        let r = Registry::new_custom(Some("timesync".to_owned()), None)?;
        panics.register(&r)?;
        let metrics = Self {
            synchronized: gauge(
                &r,
                "synchronized",
                "1 if the clock is synchronised: a majority of upstreams agrees, and the error bound is within its threshold",
                &[],
            )?,
            offset: gauge(&r, "offset_seconds", "This clock minus true time; positive: ahead", &[])?,
            jitter: gauge(&r, "jitter_seconds", "Standard deviation of the measurements in use", &[])?,
            error_bound: gauge(&r, "error_bound_seconds", "The largest possible error of this clock", &[])?,
            root_delay: gauge(
                &r,
                "root_delay_seconds",
                "Round trip to the reference clock at the root",
                &[],
            )?,
            root_dispersion: gauge(
                &r,
                "root_dispersion_seconds",
                "Error that has added up from the reference clock to here, without that of the round trip",
                &[],
            )?,
            stratum: gauge(&r, "stratum", "Distance from a reference clock; 16 while unsynchronised", &[])?,
            local_reference: gauge(
                &r,
                "local_reference",
                "1 if the time is that of a local clock, so that its distance from UTC is not known",
                &[],
            )?,
            leap: gauge(
                &r,
                "leap_status",
                "Leap indicator: 0 none, 1 a second is inserted, 2 one is left out, 3 unsynchronised",
                &[],
            )?,
            frequency: gauge(&r, "frequency_ratio", "Rate correction; positive speeds the clock up", &[])?,
            last_update_age: gauge(&r, "last_update_age_seconds", "Time since the last correction", &[])?,
            steps: counter(
                &r,
                "steps_total",
                "Steps of the clock by the agent: `start` since the node's boot, the others since the agent's start",
                &["reason"],
            )?,
            external_steps: counter(
                &r,
                "external_steps_total",
                "Steps of the clock by other processes",
                &[],
            )?,
            state_writable: gauge(&r, "state_writable", "1 if the state directory can be written", &[])?,
            conflict: gauge(&r, "conflict", "1 while another process steers the clock", &[])?,
            conflicts: counter(
                &r,
                "conflicts_total",
                "Conflicts with another process that steers the clock, by what it did to the clock",
                &["reason"],
            )?,
            mode: gauge(&r, "mode_info", "1 for the present mode; Observe moves no clock", &["mode"])?,
            profile: gauge(&r, "profile_info", "1 for the running profile", &["policy", "hash"])?,
            build: gauge(&r, "agent_build_info", "The agent's version", &["version"])?,
            sources: SourceMetrics::new(&r)?,
            rtc_offset: gauge(&r, "rtc_offset_seconds", "RTC minus system clock when last read", &[])?,
            rtc_drift: gauge(&r, "rtc_drift_ratio", "Rate error of the RTC; positive: it gains", &[])?,
            rtc_present: gauge(&r, "rtc_present", "1 if the node has a hardware clock", &[])?,
            rtc_health: gauge(&r, "rtc_health", "1 for the health that the hardware clock has", &["health"])?,
            rtc_writes: counter(&r, "rtc_writes_total", "Writes of the hardware clock", &["result"])?,
            server_serving: gauge(
                &r,
                "server_serving",
                "Whether the NTP port is open; absent if the profile asks for no server",
                &[],
            )?,
            server_failure: gauge(
                &r,
                "server_failure",
                "1 for the reason why the NTP port is not open as the profile asks; absent if it is open",
                &["reason"],
            )?,
            certificate_begin: gauge(
                &r,
                "tls_certificate_not_before_timestamp_seconds",
                "When the served certificate of NTS that expires first becomes valid",
                &[],
            )?,
            certificate_end: gauge(
                &r,
                "tls_certificate_not_after_timestamp_seconds",
                "When the first of the served certificates of NTS expires",
                &[],
            )?,
            server_requests: counter(&r, "server_requests_total", "Datagrams received", &["version"])?,
            server_dropped: counter(&r, "server_dropped_total", "Datagrams without an answer", &["reason"])?,
            server_kod: counter(&r, "server_kod_total", "Kiss-o'-death replies that were sent", &[])?,
            server_queries: counter(&r, "server_queries_total", "Queries of ntpq and ntpstat answered", &[])?,
            server_rate_entries: gauge(&r, "server_rate_table_entries", "Addresses in the rate table", &[])?,
            server_nts_answers: counter(&r, "server_nts_answers_total", "Replies authenticated by NTS", &[])?,
            server_nts_kisses: counter(
                &r,
                "server_nts_kisses_total",
                "NTSN replies: the cookie or the authenticator of a request was not valid",
                &[],
            )?,
            server_key_exchanges: counter(
                &r,
                "server_key_exchanges_total",
                "NTS key exchanges",
                &["result"],
            )?,
            reloads: counter(&r, "agent_reload_total", "Profiles handed to the agent", &["result"])?,
            chrony: chrony.then(ChronyMetrics::new).transpose()?,
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

    /// Takes the validity of the certificate that is served for NTS; none if there is none.
    pub(crate) fn certificate(&self, validity: Option<CertificateValidity>) {
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        alone(&self.certificate_begin, validity.map(|validity| validity.not_before as f64));
        alone(&self.certificate_end, validity.map(|validity| validity.not_after as f64));
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
        alone(&self.state_writable, Some(flag(report.state_error.is_none())));
        alone(&self.conflict, Some(flag(report.conflict.is_some())));
        for (reason, number) in conflicts {
            count(&self.conflicts, &[reason], *number);
        }
        self.sources.set(&report.sources);
        self.set_rtc(&report.rtc);
        self.set_server(&report.server, server);
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        if let Some(chrony) = &self.chrony {
            text += &chrony.text(&report.clock, &report.sources)?;
        }
        Ok(text)
    }

    fn set_profile(&self, report: &Report) {
        for mode in [Mode::Discipline, Mode::Observe] {
            let runs = report.mode == Some(mode);
            let name = if mode == Mode::Discipline { "Discipline" } else { "Observe" };
            self.mode.with_label_values(&[name]).set(flag(runs));
        }
        self.build.with_label_values(&[report.version.as_str()]).set(1.0);
        self.profile.reset();
        if let Some(name) = &report.profile {
            self.profile.with_label_values(&[name.policy(), name.hash()]).set(1.0);
        }
    }

    fn set_clock(&self, clock: &ClockReport) {
        alone(&self.synchronized, Some(flag(clock.synchronized)));
        alone(&self.offset, clock.offset);
        alone(&self.jitter, clock.jitter);
        alone(&self.error_bound, clock.error_bound);
        alone(&self.root_delay, Some(clock.root_delay));
        alone(&self.root_dispersion, Some(clock.root_dispersion));
        alone(&self.stratum, Some(f64::from(clock.stratum)));
        let local = clock.reason == Reason::LocalReference;
        alone(&self.local_reference, Some(flag(local)));
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

    fn set_rtc(&self, rtc: &RtcReport) {
        alone(&self.rtc_present, Some(flag(rtc.present)));
        alone(&self.rtc_offset, rtc.offset);
        alone(&self.rtc_drift, rtc.drift_ppm.map(|ppm| ppm / 1e6));
        for health in RtcHealth::ALL {
            self.rtc_health.with_label_values(&[health.as_str()]).set(flag(rtc.health == health));
        }
        count(&self.rtc_writes, &["verified"], rtc.writes);
        count(&self.rtc_writes, &["failed"], rtc.write_failures);
    }

    fn set_server(&self, report: &ServerReport, server: &ServerCounters) {
        alone(&self.server_serving, report.enabled.then_some(flag(report.serving)));
        self.server_failure.reset();
        if let Some(failure) = report.failure.filter(|_| report.enabled) {
            self.server_failure.with_label_values(&[failure.as_str()]).set(1.0);
        }
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

#[cfg(test)]
mod tests {
    use contract::ServingFailure;

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
        Metrics::new(&Panics::new().unwrap(), false).unwrap()
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
            "timesync_rtc_health{health=\"Absent\"} 1",
            "timesync_rtc_health{health=\"BatterySuspect\"} 0",
            "timesync_agent_build_info{version=\"0.0.0\"} 1",
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

    /// The part of docs/metrics.md about the agent is made from the metrics of this file.
    #[test]
    fn the_page_has_every_metric() {
        let (metrics, mut report) = (metrics(), report(Some(snapshot())));
        report.profile = Some("default.811c9dc5".parse().unwrap());
        report.mode = Some(Mode::Discipline);
        report.rtc.offset = Some(0.1);
        let failure = Some(ServingFailure::PortTaken);
        report.server = ServerReport { enabled: true, failure, ..ServerReport::default() };
        metrics.certificate(Some(CertificateValidity { not_before: 1, not_after: 2 }));
        let conflicts = ntp::Foreign::ALL.map(|sign| (sign.as_str(), 0));
        metrics.text(&report, &conflicts, &ServerCounters::default()).unwrap();
        let families = metrics.registry.gather();
        let sources = [include_str!("metrics.rs"), include_str!("metrics/sources.rs")];
        let lines = sources.into_iter().flat_map(str::lines);
        let fields = lines.filter(|line| line.ends_with("Vec,")).count();
        assert_eq!(families.len(), fields + 1, "a metric of this file, or of panics.rs, has no series here");
        let part: String = families.iter().map(row).collect();

        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- agent: begin -->\n", "<!-- agent: end -->");
        let (before, rest) = page.split_once(begin).unwrap();
        let (committed, after) = rest.split_once(end).unwrap();
        let made = format!("| metric | meaning | type | labels |\n|---|---|---|---|\n{part}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
            return;
        }
        assert!(
            committed == made,
            "docs/metrics.md is old: UPDATE_GOLDEN=1 cargo test -p timesync-agent metrics"
        );
    }

    /// A row of the table. The values of a label are listed if they do not depend on policies.
    fn row(family: &prometheus::proto::MetricFamily) -> String {
        let mut labels = std::collections::BTreeMap::<_, std::collections::BTreeSet<_>>::new();
        for label in family.get_metric().iter().flat_map(|series| series.get_label()) {
            labels.entry(label.name()).or_default().insert(format!("`{}`", label.value()));
        }
        let shown = labels.into_iter().map(|(name, values)| {
            let is_open = ["source", "policy", "hash"].contains(&name)
                || ["timesync_server_failure", "timesync_agent_build_info"].contains(&family.name());
            let list = if is_open { vec![] } else { values.into_iter().collect::<Vec<_>>() };
            format!("`{name}`{}{}", if is_open { "" } else { ": " }, list.join(", "))
        });
        let (labels, kind) = (shown.collect::<Vec<_>>().join("; "), family.get_field_type());
        let kind = format!("{kind:?}").to_lowercase();
        format!("| `{}` | {} | {kind} | {labels} |\n", family.name(), family.help())
    }

    #[test]
    fn a_server_is_shown_only_if_the_profile_asks_for_it() {
        let check = |enabled, failure: Option<ServingFailure>, expected: &[&str]| {
            let serving = failure.is_none();
            let server = ServerReport { enabled, serving, failure, ..ServerReport::default() };
            let text =
                metrics().text(&Report { server, ..report(None) }, &[], &ServerCounters::default()).unwrap();
            let is_ours = |line: &&str| {
                ["timesync_server_serving ", "timesync_server_failure{"]
                    .iter()
                    .any(|name| line.starts_with(name))
            };
            assert_eq!(text.lines().filter(is_ours).collect::<Vec<_>>(), expected);
        };
        check(false, None, &[]);
        check(true, None, &["timesync_server_serving 1"]);
        let taken = ["timesync_server_failure{reason=\"PortTaken\"} 1", "timesync_server_serving 0"];
        check(true, Some(ServingFailure::PortTaken), &taken);
    }

    #[test]
    fn a_certificate_is_shown_while_there_is_one() {
        let metrics = metrics();
        let text = || metrics.text(&report(None), &[], &ServerCounters::default()).unwrap();
        metrics
            .certificate(Some(CertificateValidity { not_before: 1_800_000_000, not_after: 1_807_776_000 }));
        for line in [
            "timesync_tls_certificate_not_before_timestamp_seconds 1800000000",
            "timesync_tls_certificate_not_after_timestamp_seconds 1807776000",
        ] {
            assert!(text().lines().any(|each| each == line), "{line} is not in\n{}", text());
        }
        metrics.certificate(None);
        assert!(!text().contains("tls_certificate"), "{}", text());
    }

    #[test]
    fn names_of_chrony_are_opt_in() {
        let text = |chrony| {
            let metrics = Metrics::new(&Panics::new().unwrap(), chrony).unwrap();
            metrics.text(&report(Some(snapshot())), &[], &ServerCounters::default()).unwrap()
        };
        assert!(!text(false).contains("chrony_"));
        let both = text(true);
        assert!(
            both.contains("\nchrony_tracking_stratum 3\n") && both.contains("\ntimesync_stratum 3\n"),
            "{both}"
        );
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
