//! The operator's own metrics: one struct, one registry, no globals. Labels come from closed sets and from names of
//! policies. When a policy is removed, its series are removed too.
use std::{collections::BTreeMap, time::Duration};

use api::RolloutState;
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
        let nodes = Opts::new("timesync_policy_nodes", "Nodes of a policy by state");
        let spread = Opts::new(
            "timesync_policy_spread_seconds",
            "Largest difference between the offsets of two nodes of a policy that are synchronised and not in holdover",
        );
        let rollout = Opts::new(
            "timesync_policy_rollout_nodes",
            "Nodes for which a policy takes precedence, by whether they run its present profile",
        );
        let paused = Opts::new(
            "timesync_policy_rollout_paused",
            "1 if the staged rollout of a policy is paused, 0 if it is not",
        );
        let duration = HistogramOpts::new(
            "timesync_reconcile_duration_seconds",
            "How long the operator takes for what changed, writes apart",
        );
        let errors =
            Opts::new("timesync_reconcile_errors_total", "Steps of the operator that failed, by step");
        let writes = Opts::new(
            "timesync_write_failures_total",
            "Writes of single objects that failed and are tried again, by kind",
        );
        let api = Opts::new(
            "timesync_api_errors_total",
            "Failed watches, looks at the Lease, and writes for which a right is missing, by resource",
        );
        let dropped =
            "Events that were not written because their node had used up its budget for Events of their kind";
        let failures = Opts::new("timesync_collect_failures_total", "Polls of agents that failed, by reason");
        let metrics = Self {
            registry: Registry::new(),
            policy_nodes: IntGaugeVec::new(nodes, &["policy", "state"])?,
            policy_spread: GaugeVec::new(spread, &["policy"])?,
            rollout_nodes: IntGaugeVec::new(rollout, &["policy", "state"])?,
            rollout_paused: IntGaugeVec::new(paused, &["policy"])?,
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
        metrics.registry.register(Box::new(metrics.reconcile_duration.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_errors.clone()))?;
        metrics.registry.register(Box::new(metrics.collect_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.write_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.events_dropped.clone()))?;
        metrics.registry.register(Box::new(metrics.api_errors.clone()))?;
        Ok(metrics)
    }

    /// Sets the figures of all policies, and drops the series of other policies.
    pub(crate) fn policies(&self, all: &BTreeMap<String, PolicyStatus>) {
        self.policy_nodes.reset();
        self.policy_spread.reset();
        self.rollout_nodes.reset();
        self.rollout_paused.reset();
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
            for (state, count) in states {
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
