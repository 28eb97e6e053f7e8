//! The operator's own metrics: one struct, one registry, no globals. Names are DESIGN's; labels come from closed sets
//! and from names of policies, whose series go when they do.
use std::{collections::BTreeMap, time::Duration};

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::status::PolicyStatus;

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    policy_nodes: IntGaugeVec,
    policy_spread: GaugeVec,
    reconcile_duration: Histogram,
    reconcile_errors: IntCounterVec,
    collect_failures: IntCounterVec,
}

impl Metrics {
    /// A registry with all metrics in it.
    ///
    /// # Errors
    /// If two metrics have one name, or a name is not one.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let nodes = Opts::new("timesync_policy_nodes", "Nodes of a policy by state");
        let spread = Opts::new(
            "timesync_policy_spread_seconds",
            "Largest difference between the offsets of two synchronised nodes of a policy",
        );
        let duration = HistogramOpts::new(
            "timesync_reconcile_duration_seconds",
            "How long a round of the operator takes",
        );
        let errors =
            Opts::new("timesync_reconcile_errors_total", "Rounds of the operator that failed, by step");
        let failures = Opts::new("timesync_collect_failures_total", "Polls of agents that failed, by reason");
        let metrics = Self {
            registry: Registry::new(),
            policy_nodes: IntGaugeVec::new(nodes, &["policy", "state"])?,
            policy_spread: GaugeVec::new(spread, &["policy"])?,
            reconcile_duration: Histogram::with_opts(duration)?,
            reconcile_errors: IntCounterVec::new(errors, &["reason"])?,
            collect_failures: IntCounterVec::new(failures, &["reason"])?,
        };
        metrics.registry.register(Box::new(metrics.policy_nodes.clone()))?;
        metrics.registry.register(Box::new(metrics.policy_spread.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_duration.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_errors.clone()))?;
        metrics.registry.register(Box::new(metrics.collect_failures.clone()))?;
        Ok(metrics)
    }

    /// Takes the figures of all policies; those of others are dropped.
    pub(crate) fn policies(&self, all: &BTreeMap<String, PolicyStatus>) {
        self.policy_nodes.reset();
        self.policy_spread.reset();
        for (policy, status) in all {
            let api::NodeCounts { matched, applied, synchronized, conflicting, stepped, without_agent } =
                &status.counts;
            let states = [
                ("matched", matched),
                ("applied", applied),
                ("synchronized", synchronized),
                ("conflicting", conflicting),
                ("stepped", stepped),
                ("without_agent", without_agent),
            ];
            for (state, count) in states {
                self.policy_nodes.with_label_values(&[policy.as_str(), state]).set(i64::from(*count));
            }
            if let Some(spread) = status.spread {
                self.policy_spread.with_label_values(&[policy.as_str()]).set(spread);
            }
        }
    }

    /// A round took so long.
    pub(crate) fn reconciled(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// A round failed at a step.
    pub(crate) fn failed(&self, reason: &str) {
        self.reconcile_errors.with_label_values(&[reason]).inc();
    }

    /// A poll failed.
    pub(crate) fn not_collected(&self, reason: &str) {
        self.collect_failures.with_label_values(&[reason]).inc();
    }

    /// All of them in the text format of Prometheus.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
