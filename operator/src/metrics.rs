//! The operator's own metrics: one struct, one registry, no globals. Labels come from closed sets and from names of
//! policies. When a policy is removed, its series are removed too.
use std::{collections::BTreeMap, time::Duration};

use api::RolloutState;
use profile::Thresholds;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::status::{PolicyStatus, Updated};

/// All metrics of the operator.
pub(crate) struct Metrics {
    registry: Registry,
    policy_nodes: IntGaugeVec,
    policy_spread: GaugeVec,
    rollout_nodes: IntGaugeVec,
    rollout_paused: IntGaugeVec,
    policy_threshold: GaugeVec,
    taints_held: IntGaugeVec,
    reconcile_duration: Histogram,
    reconcile_errors: IntCounterVec,
    collect_failures: IntCounterVec,
    write_failures: IntCounterVec,
    events_dropped: IntCounter,
    api_errors: IntCounterVec,
}

impl Metrics {
    /// A registry with all metrics in it.
    ///
    /// # Errors
    /// If two metrics have the same name, or a name is not valid.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let nodes = Opts::new("timesync_policy_nodes", "Nodes of a policy, by state");
        let spread = Opts::new(
            "timesync_policy_spread_seconds",
            "Largest difference between two nodes of a policy that are synchronised and not in holdover",
        );
        let rollout = Opts::new(
            "timesync_policy_rollout_nodes",
            "Nodes for which a policy takes precedence, by whether they run its present profile",
        );
        let paused = Opts::new(
            "timesync_policy_rollout_paused",
            "1 if the staged rollout of a policy is paused, 0 if it is not",
        );
        let threshold = Opts::new(
            "timesync_policy_threshold_seconds",
            "Thresholds of a policy: offset, error_bound, spread; the defaults if it is refused",
        );
        let held = Opts::new(
            "timesync_taints_held",
            "Whether the taint clock-wrong is withheld from nodes that qualify for it, by policy with nodeTaint",
        );
        let build = Opts::new("timesync_operator_build_info", "The operator's version");
        let duration = HistogramOpts::new(
            "timesync_reconcile_duration_seconds",
            "The duration of a reconciliation, without writes",
        );
        let errors = Opts::new(
            "timesync_reconcile_errors_total",
            "Failed steps that affect all objects, by step: the ConfigMap, the Secret, keys for cookies",
        );
        let writes = Opts::new(
            "timesync_write_failures_total",
            "Failed writes of single objects, which are tried again, by kind",
        );
        let api = Opts::new(
            "timesync_api_errors_total",
            "Failed watches, failed reads of the Lease, writes without the required right, and faults of the token's Secret (`token`), by resource",
        );
        let dropped = "Events beyond a node's limit for their reason, which were not written";
        let failures = Opts::new("timesync_collect_failures_total", "Polls of agents that failed, by reason");
        let metrics = Self {
            registry: Registry::new(),
            policy_nodes: IntGaugeVec::new(nodes, &["policy", "state"])?,
            policy_spread: GaugeVec::new(spread, &["policy"])?,
            rollout_nodes: IntGaugeVec::new(rollout, &["policy", "state"])?,
            rollout_paused: IntGaugeVec::new(paused, &["policy"])?,
            policy_threshold: GaugeVec::new(threshold, &["policy", "threshold"])?,
            taints_held: IntGaugeVec::new(held, &["policy"])?,
            reconcile_duration: Histogram::with_opts(duration)?,
            reconcile_errors: IntCounterVec::new(errors, &["reason"])?,
            collect_failures: IntCounterVec::new(failures, &["reason"])?,
            write_failures: IntCounterVec::new(writes, &["kind"])?,
            events_dropped: IntCounter::new("timesync_events_dropped_total", dropped)?,
            api_errors: IntCounterVec::new(api, &["resource"])?,
        };
        metrics.registry.register(Box::new(metrics.policy_nodes.clone()))?;
        metrics.registry.register(Box::new(metrics.policy_spread.clone()))?;
        metrics.registry.register(Box::new(metrics.rollout_nodes.clone()))?;
        metrics.registry.register(Box::new(metrics.rollout_paused.clone()))?;
        metrics.registry.register(Box::new(metrics.policy_threshold.clone()))?;
        metrics.registry.register(Box::new(metrics.taints_held.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_duration.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_errors.clone()))?;
        metrics.registry.register(Box::new(metrics.collect_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.write_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.events_dropped.clone()))?;
        metrics.registry.register(Box::new(metrics.api_errors.clone()))?;
        let build = IntGaugeVec::new(build, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(build))?;
        Ok(metrics)
    }

    /// Sets the figures of all policies, and drops the series of other policies.
    pub(crate) fn policies(&self, all: &BTreeMap<String, PolicyStatus>) {
        self.policy_nodes.reset();
        self.policy_spread.reset();
        self.rollout_nodes.reset();
        self.rollout_paused.reset();
        self.policy_threshold.reset();
        self.taints_held.reset();
        for (policy, status) in all {
            let api::NodeCounts {
                matched,
                applied,
                synchronized,
                conflicting,
                stepped,
                holdover,
                without_agent,
            } = &status.counts;
            let states = [
                ("matched", matched),
                ("applied", applied),
                ("synchronized", synchronized),
                ("conflicting", conflicting),
                ("stepped", stepped),
                ("holdover", holdover),
                ("without_agent", without_agent),
            ];
            let outdated = i32::try_from(status.outdated).unwrap_or(i32::MAX);
            for (state, count) in states.into_iter().chain([("outdated", &outdated)]) {
                self.policy_nodes.with_label_values(&[policy.as_str(), state]).set(i64::from(*count));
            }
            let Updated { run_it, all } = status.updated;
            for (state, count) in [("updated", run_it), ("waiting", all - run_it)] {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.rollout_nodes.with_label_values(&[policy.as_str(), state]).set(count);
            }
            if let Some(rollout) = &status.status.rollout {
                let paused = i64::from(rollout.state == RolloutState::Paused);
                self.rollout_paused.with_label_values(&[policy.as_str()]).set(paused);
            }
            if let Some(spread) = status.spread {
                self.policy_spread.with_label_values(&[policy.as_str()]).set(spread);
            }
            let Thresholds { offset, error_bound, spread, hold: _ } = &status.thresholds;
            for (name, value) in [("offset", offset), ("error_bound", error_bound), ("spread", spread)] {
                self.policy_threshold.with_label_values(&[policy.as_str(), name]).set(value.as_secs_f64());
            }
            if let Some(held) = status.taints_held {
                self.taints_held.with_label_values(&[policy.as_str()]).set(i64::from(held));
            }
        }
    }

    /// Records the duration of a round.
    pub(crate) fn reconciled(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a round that failed at a step.
    pub(crate) fn failed(&self, reason: &str) {
        self.reconcile_errors.with_label_values(&[reason]).inc();
    }

    /// Counts a write that failed.
    pub(crate) fn not_written(&self, kind: &str) {
        self.write_failures.with_label_values(&[kind]).inc();
    }

    /// Counts Events that exceeded a node's budget for their kind.
    pub(crate) fn events_dropped(&self, count: u64) {
        self.events_dropped.inc_by(count);
    }

    /// The counter of what keeps the operator from its work, by resource.
    pub(crate) fn api_errors(&self) -> IntCounterVec {
        self.api_errors.clone()
    }

    /// Counts a poll that failed.
    pub(crate) fn not_collected(&self, reason: &str) {
        self.collect_failures.with_label_values(&[reason]).inc();
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(thresholds: Thresholds, taints_held: Option<bool>) -> PolicyStatus {
        PolicyStatus {
            status: api::TimeSyncPolicyStatus::default(),
            counts: api::NodeCounts::default(),
            worst: None,
            spread: None,
            thresholds,
            updated: Default::default(),
            outdated: 0,
            taints_held,
        }
    }

    #[test]
    fn thresholds_and_held_taints_are_those_of_the_present_policies() {
        let metrics = Metrics::new().unwrap();
        let check = |policies: &[(&str, PolicyStatus)], expected: &[&str]| {
            let policies = policies.iter().map(|(name, status)| ((*name).to_owned(), status.clone()));
            metrics.policies(&policies.collect());
            let text = String::from_utf8(metrics.text().unwrap()).unwrap();
            let wanted = ["timesync_policy_threshold_seconds{", "timesync_taints_held{"];
            let found: Vec<_> =
                text.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))).collect();
            assert_eq!(found, expected);
        };
        let strict = Thresholds { offset: "1ms".parse().unwrap(), ..Thresholds::default() };
        check(
            &[("strict", policy(strict, Some(true)))],
            &[
                "timesync_policy_threshold_seconds{policy=\"strict\",threshold=\"error_bound\"} 0.2",
                "timesync_policy_threshold_seconds{policy=\"strict\",threshold=\"offset\"} 0.001",
                "timesync_policy_threshold_seconds{policy=\"strict\",threshold=\"spread\"} 0.05",
                "timesync_taints_held{policy=\"strict\"} 1",
            ],
        );
        check(
            &[("plain", policy(Thresholds::default(), None))],
            &[
                "timesync_policy_threshold_seconds{policy=\"plain\",threshold=\"error_bound\"} 0.2",
                "timesync_policy_threshold_seconds{policy=\"plain\",threshold=\"offset\"} 0.05",
                "timesync_policy_threshold_seconds{policy=\"plain\",threshold=\"spread\"} 0.05",
            ],
        );
    }

    /// The part of docs/metrics.md about the operator is made from the metrics of this file.
    #[test]
    fn the_page_has_every_metric() {
        let metrics = Metrics::new().unwrap();
        let mut status = policy(Thresholds::default(), Some(true));
        status.spread = Some(0.0);
        status.status.rollout = Some(api::RolloutStatus {
            state: RolloutState::Done,
            profile: String::new(),
            generation: None,
            last_good: None,
            paused: None,
            message: String::new(),
            acted: None,
            excused: vec![],
        });
        metrics.policies(&BTreeMap::from([(String::new(), status)]));
        for count in [Metrics::failed, Metrics::not_written, Metrics::not_collected] {
            count(&metrics, "");
        }
        metrics.api_errors().with_label_values(&[""]).inc();
        let families = metrics.registry.gather();
        let source = include_str!("metrics.rs").split("mod tests").next().unwrap();
        let registered = source.matches("registry.register(").count();
        assert_eq!(families.len(), registered, "a metric has no series here");
        let part: String = families.iter().map(row).collect();

        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- operator: begin -->\n", "<!-- operator: end -->");
        let (before, rest) = page.split_once(begin).unwrap();
        let (committed, after) = rest.split_once(end).unwrap();
        let made = format!("| metric | meaning | type | labels |\n|---|---|---|---|\n{part}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
            return;
        }
        assert!(
            committed == made,
            "docs/metrics.md is old: UPDATE_GOLDEN=1 cargo test -p timesync-operator metrics"
        );
    }

    /// A row of the table. Of the label `state` the values are listed, too.
    fn row(family: &prometheus::proto::MetricFamily) -> String {
        let series = family.get_metric();
        let names = series[0].get_label().iter().map(|label| match label.name() {
            "state" => {
                let labels = series.iter().flat_map(|one| one.get_label());
                let states = labels.filter(|label| label.name() == "state");
                let values: Vec<_> = states.map(|label| format!("`{}`", label.value())).collect();
                format!("`state`: {}", values.join(", "))
            }
            name => format!("`{name}`"),
        });
        let (labels, kind) = (names.collect::<Vec<_>>().join("; "), family.get_field_type());
        let kind = format!("{kind:?}").to_lowercase();
        format!("| `{}` | {} | {kind} | {labels} |\n", family.name(), family.help())
    }
}
