//! Part of the report under the names of chrony_exporter, for dashboards and alerts that a cluster has already. Only names
//! whose meaning is the same; no name of what the agent does not know. The signs are chrony's: in `last_offset` and in
//! the offsets of sources positive is ahead, as everywhere here; `system_time` and `frequency` have the opposite sign.
use contract::{ClockReport, SourceReport, limits::UNSYNCHRONIZED};
use prometheus::{GaugeVec, Registry, TextEncoder};

use super::{
    series::{self, alone, gauge},
    sources::{poll_interval, reach_ratio},
};

/// All metrics with names of chrony_exporter.
#[derive(Debug)]
pub(super) struct ChronyMetrics {
    registry: Registry,
    last_offset: GaugeVec,
    system_time: GaugeVec,
    frequency: GaugeVec,
    root_delay: GaugeVec,
    root_dispersion: GaugeVec,
    stratum: GaugeVec,
    sample_age: GaugeVec,
    reachability: GaugeVec,
    last_poll: GaugeVec,
    polling_interval: GaugeVec,
    source_stratum: GaugeVec,
    source_offset: GaugeVec,
    source_deviation: GaugeVec,
}

/// The labels of an upstream.
const SOURCE: &[&str] = &["source_address", "source_name"];

impl ChronyMetrics {
    /// Creates and registers them.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new_custom(Some("chrony".to_owned()), None)?;
        let tracking = |name: &str, help: &str| gauge(&r, &format!("tracking_{name}"), help, &[]);
        let sources = |name: &str, help: &str| gauge(&r, &format!("sources_{name}"), help, SOURCE);
        let statistics = |name: &str, help: &str| gauge(&r, &format!("sourcestats_{name}"), help, SOURCE);
        Ok(Self {
            last_offset: tracking("last_offset_seconds", "This clock minus true time, as estimated")?,
            system_time: tracking("system_time_seconds", "True time, as estimated, minus this clock")?,
            frequency: tracking("frequency_ppms", "How fast this clock would be without correction")?,
            root_delay: tracking("root_delay_seconds", "Round trip to the primary reference")?,
            root_dispersion: tracking("root_dispersion_seconds", "Dispersion to the primary reference")?,
            stratum: tracking("stratum", "Stratum; 0 while unsynchronised")?,
            sample_age: sources("last_sample_age_seconds", "Time since its last good answer")?,
            reachability: sources("reachability_ratio", "Share of its last eight polls answered")?,
            last_poll: sources("reachability_success", "Whether its last poll was answered")?,
            polling_interval: sources("polling_interval_seconds", "How often it is asked")?,
            source_stratum: sources("stratum", "Its stratum")?,
            source_offset: statistics("offset", "This clock minus the source's time, as estimated")?,
            source_deviation: statistics("stddev", "Standard deviation of its samples")?,
            registry: r,
        })
    }

    /// The metrics in the text format of Prometheus.
    pub(super) fn text(
        &self,
        clock: &ClockReport,
        sources: &[SourceReport],
    ) -> Result<String, prometheus::Error> {
        self.set_tracking(clock);
        self.set_sources(sources);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn set_tracking(&self, clock: &ClockReport) {
        alone(&self.last_offset, clock.offset);
        alone(&self.system_time, clock.offset.map(|offset| -offset));
        alone(&self.frequency, Some(-clock.frequency_ppm));
        alone(&self.root_delay, Some(clock.root_delay));
        alone(&self.root_dispersion, Some(clock.root_dispersion));
        let stratum = if clock.stratum < UNSYNCHRONIZED { clock.stratum } else { 0 };
        alone(&self.stratum, Some(f64::from(stratum)));
    }

    fn set_sources(&self, sources: &[SourceReport]) {
        let Self { sample_age, reachability, last_poll, polling_interval, .. } = self;
        let Self { source_stratum, source_offset, source_deviation, .. } = self;
        let of_polls = [sample_age, reachability, last_poll, polling_interval];
        for vector in of_polls.into_iter().chain([source_stratum, source_offset, source_deviation]) {
            vector.reset();
        }
        for source in sources {
            // chrony_exporter, too, leaves out a source whose name does not resolve.
            let Some(address) = &source.address else { continue };
            let labels = [address.as_str(), source.name.as_str()];
            let set = |vector: &GaugeVec, value: Option<f64>| series::set(vector, &labels, value);
            set(sample_age, source.last_answer_age);
            set(reachability, Some(reach_ratio(source)));
            set(last_poll, Some(f64::from(source.reach & 1)));
            set(polling_interval, Some(poll_interval(source)));
            let stratum = Some(source.stratum).filter(|stratum| *stratum < UNSYNCHRONIZED);
            set(source_stratum, stratum.map(f64::from));
            set(source_offset, source.offset);
            set(source_deviation, source.jitter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reporter, tests::snapshot};

    fn lines(snapshot: ntp::Snapshot) -> Vec<String> {
        let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
        reporter.engine(ntp::Wall(0), Some(snapshot), &[]);
        let report = reporter.report();
        let text = ChronyMetrics::new().unwrap().text(&report.clock, &report.sources).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn signs_and_labels_are_those_of_chrony() {
        // 12 us behind, and sped up by 20 ppm.
        let mut behind = snapshot();
        behind.sources[0].address = Some("192.0.2.1".parse().unwrap());
        behind.sources[0].reach = 0b1111_1110;
        let source = "{source_address=\"192.0.2.1\",source_name=\"a\"}";
        let found = lines(behind);
        for line in [
            "chrony_tracking_last_offset_seconds -0.000012",
            "chrony_tracking_system_time_seconds 0.000012",
            "chrony_tracking_frequency_ppms -20",
            "chrony_tracking_root_delay_seconds 0.001",
            "chrony_tracking_stratum 3",
            &format!("chrony_sources_reachability_ratio{source} 0.875"),
            &format!("chrony_sources_reachability_success{source} 0"),
            &format!("chrony_sources_polling_interval_seconds{source} 16"),
        ] {
            assert!(found.iter().any(|found| found == line), "{line} is not in\n{found:#?}");
        }
    }

    #[test]
    fn an_unsynchronised_clock_has_stratum_0_and_a_source_without_an_address_is_left_out() {
        let mut lost = ntp::Snapshot { stratum: 16, offset: None, ..snapshot() };
        lost.sources[0].address = None;
        let found = lines(lost);
        assert!(found.contains(&"chrony_tracking_stratum 0".to_owned()), "{found:#?}");
        for part in ["offset", "system_time", "source"] {
            assert!(!found.iter().any(|line| line.contains(part)), "{part} is in\n{found:#?}");
        }
    }
}
