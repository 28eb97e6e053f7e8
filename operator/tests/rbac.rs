//! The rights that the chart gives the operator are those of the table in `operator/rbac.yaml`, row by row.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    r#where: String,
    group: String,
    resource: String,
    #[serde(default)]
    names: Vec<String>,
    verbs: Vec<String>,
    reason: String,
}

/// A right: where, group, resource, name, verb.
type Right = (String, String, String, String, String);

fn rights(place: &str, group: &str, resource: &str, names: &[String], verbs: &[String]) -> Vec<Right> {
    let any = [String::new()];
    let names = if names.is_empty() { &any[..] } else { names };
    let of = |name: &String, verb: &String| {
        (place.to_owned(), group.to_owned(), resource.to_owned(), name.clone(), verb.clone())
    };
    names.iter().flat_map(|name| verbs.iter().map(|verb| of(name, verb)).collect::<Vec<_>>()).collect()
}

fn file(path: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table() -> BTreeSet<Right> {
    let rows: Vec<Row> = serde_norway::from_str(&file("rbac.yaml")).expect("the table is YAML");
    assert!(rows.iter().all(|row| !row.reason.is_empty()), "each row has its reason");
    rows.iter()
        .flat_map(|row| rights(&row.r#where, &row.group, &row.resource, &row.names, &row.verbs))
        .collect()
}

/// The roles in the rendered chart whose names hold `part`; `cluster` and `own` are what a role without a namespace, and one in
/// the release's, count as.
fn chart(part: &str, cluster: &'static str, own: &'static str) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for document in
        serde_norway::Deserializer::from_str(&file("../charts/timesync/tests/golden/default.yaml"))
    {
        let object = serde_json::Value::deserialize(document).expect("the chart is YAML");
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let place = match (object["kind"].as_str(), object["metadata"]["namespace"].as_str()) {
            (Some("ClusterRole"), _) => cluster,
            (Some("Role"), Some("default")) => "default",
            (Some("Role"), _) => own,
            _ => continue,
        };
        if !name.contains(part) {
            continue;
        }
        let rules: Vec<PolicyRule> =
            serde_json::from_value(object["rules"].clone()).expect("a role has rules");
        for rule in rules {
            let names = rule.resource_names.unwrap_or_default();
            for group in rule.api_groups.unwrap_or_default() {
                for resource in rule.resources.clone().unwrap_or_default() {
                    all.extend(rights(place, &group, &resource, &names, &rule.verbs));
                }
            }
        }
    }
    all
}

#[test]
fn the_chart_gives_the_rights_of_the_table() {
    let mut chart_rights = chart("operator", "cluster", "own");
    chart_rights.extend(chart("uninstall", "uninstall-cluster", "uninstall"));
    let (table, chart) = (table(), chart_rights);
    let missing: Vec<_> = table.difference(&chart).collect();
    let surplus: Vec<_> = chart.difference(&table).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing in the chart: {missing:#?}\nwithout a row: {surplus:#?}"
    );
}
