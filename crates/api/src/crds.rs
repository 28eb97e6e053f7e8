//! The CRDs as they are installed: what the derive makes, with descriptions that read well in `kubectl explain`.
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{NodeClock, TimeSyncPolicy};

/// All of them, under the names of their files in `crds/`.
///
/// # Errors
/// If a CRD is not what its own type says, which the golden test would show.
pub fn crds() -> Result<[(&'static str, CustomResourceDefinition); 2], serde_json::Error> {
    Ok([
        ("timesyncpolicies", readable(&TimeSyncPolicy::crd())?),
        ("nodeclocks", readable(&NodeClock::crd())?),
    ])
}

/// The lines of a comment are no lines of a text: kubectl breaks lines itself.
fn readable(crd: &CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    join_lines(&mut value);
    serde_json::from_value(value)
}

fn join_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}
