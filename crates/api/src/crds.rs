//! The CRDs as they are installed: the output of the derive macro, with descriptions that suit `kubectl explain`.
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{NodeClock, TimeSyncPolicy};

/// All CRDs, with the names of their files in the chart's `files/crds`, to which `crds` is a link.
///
/// # Errors
/// If the derived CRD has an unexpected form; the golden test would detect that.
pub fn crds() -> Result<[(&'static str, CustomResourceDefinition); 2], serde_json::Error> {
    Ok([
        ("timesyncpolicies", readable(&TimeSyncPolicy::crd())?),
        ("nodeclocks", readable(&NodeClock::crd())?),
    ])
}

/// Joins the lines of a comment, since kubectl breaks lines itself.
fn readable(crd: &CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    join_lines(&mut value);
    limit_conditions(&mut value);
    serde_json::from_value(value)
}

/// Adds the limits of conditions that the schema of the type lacks. They are those of Kubernetes (k8s.io/apimachinery,
/// meta/v1/types.go).
const CONDITION: [(&str, u32); 4] = [("type", 316), ("status", 7), ("reason", 1024), ("message", 32_768)];

fn limit_conditions(value: &mut Value) {
    let Value::Object(fields) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(limit_conditions);
        }
        return;
    };
    if let Some(Value::Object(properties)) =
        fields.get_mut("conditions").and_then(|list| list.pointer_mut("/items/properties"))
    {
        for (name, longest) in CONDITION {
            if let Some(Value::Object(property)) = properties.get_mut(name) {
                property.insert("maxLength".to_owned(), longest.into());
            }
        }
    }
    fields.values_mut().for_each(limit_conditions);
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
