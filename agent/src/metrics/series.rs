//! Makes and sets vectors of a registry.
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

/// A registered vector of gauges.
pub(super) fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    let vector = GaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

/// A registered vector of counters.
pub(super) fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

/// 1 or 0, as Prometheus has it.
pub(super) fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// Sets the only value of a vector without labels, or removes it.
pub(super) fn alone(vector: &GaugeVec, value: Option<f64>) {
    vector.reset();
    set(vector, &[], value);
}

/// Sets the value with these labels, if it is known.
pub(super) fn set(vector: &GaugeVec, labels: &[&str], value: Option<f64>) {
    if let Some(value) = value {
        vector.with_label_values(labels).set(value);
    }
}

/// Sets a counter to `number`, which is counted elsewhere.
pub(super) fn count(vector: &IntCounterVec, labels: &[&str], number: u64) {
    let counter = vector.with_label_values(labels);
    counter.reset();
    counter.inc_by(number);
}
