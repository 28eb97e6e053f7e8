//! The committed CRDs are those of the types; `UPDATE_GOLDEN=1 cargo test -p timesync-api` writes them anew. They are the
//! chart's files, since helm reads no file outside of a chart, and `crds` leads there: what is installed without helm is the same.
use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// The text of a CRD, as committed. The chart adds labels and annotations to it.
fn yaml(crd: &CustomResourceDefinition) -> String {
    let text = serde_norway::to_string(crd).expect("a CRD is YAML");
    format!("# Made from crates/api by its golden test (UPDATE_GOLDEN=1); do not edit.\n{text}")
}

fn check(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, expected).expect("the folder is there");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "{} is not what the types say: run UPDATE_GOLDEN=1 cargo test -p timesync-api",
        path.display()
    );
}

#[test]
fn crds_are_those_of_the_types() {
    for (file, crd) in api::crds().unwrap() {
        let text = yaml(&crd);
        let metadata = format!("\nmetadata:\n  name: {file}.timesync.dev\n");
        assert!(text.contains(&metadata), "the chart's templates/crds.yaml looks for these lines");
        check(&format!("charts/timesync/files/crds/{file}.yaml"), &text);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let plain =
            fs::read_to_string(root.join(format!("crds/{file}.yaml"))).expect("crds leads to the chart's");
        assert!(plain == text, "crds is no link to charts/timesync/files/crds");
    }
}

/// `kubectl explain` shows the descriptions; a field without one prints "<no description>".
#[test]
fn every_field_is_documented() {
    for (_, crd) in api::crds().unwrap() {
        let value = serde_json::to_value(&crd).unwrap();
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut missing = Vec::new();
        undocumented(schema, &crd.spec.names.kind, &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }
}

/// A status that the API server takes must be small enough for it: what a node says must not grow without end.
#[test]
fn every_text_and_list_of_a_status_has_a_limit() {
    for (_, crd) in api::crds().unwrap() {
        let value = serde_json::to_value(&crd).unwrap();
        let status = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let mut without = Vec::new();
        unlimited(status, &format!("{}.status", crd.spec.names.kind), &mut without);
        assert_eq!(without, Vec::<String>::new());
        assert_eq!(
            status.pointer("/properties/conditions/items/properties/message/maxLength"),
            Some(&Value::from(32_768))
        );
    }
}

fn unlimited(schema: &Value, at: &str, without: &mut Vec<String>) {
    let limited = match schema["type"].as_str() {
        Some("string") => {
            ["maxLength", "enum"].iter().any(|limit| schema.get(limit).is_some())
                || schema["format"] == "date-time"
        }
        Some("array") => schema.get("maxItems").is_some(),
        Some("object") => schema.get("additionalProperties").is_none(),
        _ => true,
    };
    if !limited {
        without.push(at.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        unlimited(property, &format!("{at}.{name}"), without);
    }
    if let Some(items) = schema.get("items") {
        unlimited(items, &format!("{at}[]"), without);
    }
}

fn undocumented(schema: &Value, at: &str, missing: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        // The API server documents these itself.
        let standard = ["apiVersion", "kind", "metadata"].contains(&name.as_str());
        if property["description"].as_str().unwrap_or_default().is_empty() && !standard {
            missing.push(at.clone());
        }
        undocumented(property, &at, missing);
        undocumented(&property["items"], &at, missing);
    }
}
