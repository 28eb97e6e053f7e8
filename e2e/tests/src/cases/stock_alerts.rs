//! What monitoring that a cluster has already says of our nodes: node_exporter on a node, and the clock alerts of
//! kube-prometheus on its data. While the clock is right they are silent; while it is not synchronised,
//! NodeClockNotSynchronising fires.
use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use lab::{prometheus, under_test, vm, wait};
use xtask::checkout;

const PROGRAM: &str = "/run/node_exporter";
// The alerts, with a range of 10 s instead of 5 min.
const NOT_SYNCHRONISING: &str = "min_over_time(node_timex_sync_status{job=\"node-exporter\"}[10s]) == 0 \
                                 and node_timex_maxerror_seconds{job=\"node-exporter\"} >= 16";
const SKEW: &str = "(node_timex_offset_seconds{job=\"node-exporter\"} > 0.05 \
                    and deriv(node_timex_offset_seconds{job=\"node-exporter\"}[10s]) >= 0) \
                    or (node_timex_offset_seconds{job=\"node-exporter\"} < -0.05 \
                    and deriv(node_timex_offset_seconds{job=\"node-exporter\"}[10s]) <= 0)";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let node = vm::VMS[0];
    let program = checkout::cache().join("prometheus-node-exporter/usr/bin/prometheus-node-exporter");
    node.put(PROGRAM, &fs::read(&program).with_context(|| program.display().to_string())?, "755")?;
    node.run(&format!(
        "setsid {PROGRAM} --collector.disable-defaults --collector.timex --web.listen-address=:9100 \
         </dev/null >/run/node_exporter.log 2>&1 &"
    ))?;
    let folder = prometheus::folder()?;
    fs::write(
        folder.join("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 2s}}\nscrape_configs:\n- job_name: node-exporter\n  static_configs:\n  \
             - targets: ['{}:9100']\n",
            node.address()
        ),
    )?;
    let result = prometheus::during(|| check(node));
    node.run(&format!("kill $(pidof node_exporter); rm {PROGRAM}"))?;
    under_test::or_else(result, under_test::settle)?;
    under_test::settle()
}

fn check(node: vm::Vm) -> anyhow::Result<()> {
    let series = |name: &str| -> anyhow::Result<Option<f64>> {
        let values = prometheus::ask(&format!("{name}{{job=\"node-exporter\"}}"))?;
        Ok(values.first().map(|value| value.parse()).transpose()?)
    };
    wait::until("node_exporter's series", "5 s", Duration::from_secs(60), || {
        Ok((series("node_timex_sync_status")? == Some(1.0)).then_some(()))
    })?;
    let bound = under_test::report(node)?.clock.error_bound.context("a clock that is right has a bound")?;
    let shown = series("node_timex_maxerror_seconds")?.context("maxerror")?;
    ensure!(shown < bound * 3.0 + 0.01, "node_exporter shows a bound of {shown} s, the agent {bound} s");
    wait::holds_for("no stock alert fires", Duration::from_secs(20), || {
        for (name, alert) in
            [("NodeClockNotSynchronising", NOT_SYNCHRONISING), ("NodeClockSkewDetected", SKEW)]
        {
            let found = prometheus::ask(alert)?;
            ensure!(found.is_empty(), "{name} fires for a clock that is right: {found:?}");
        }
        Ok(())
    })?;

    // No clock reaches this error bound, so both agents report that they are not synchronised.
    under_test::apply_four("  thresholds: {errorBound: 1us}\n")?;
    wait::until("NodeClockNotSynchronising to fire", "15 s", Duration::from_secs(90), || {
        let found = prometheus::ask(NOT_SYNCHRONISING)?;
        Ok((!found.is_empty()).then_some(()))
    })?;
    under_test::apply_four("")?;
    wait::until("NodeClockNotSynchronising to end", "15 s", Duration::from_secs(90), || {
        Ok(prometheus::ask(NOT_SYNCHRONISING)?.is_empty().then_some(()))
    })
}
