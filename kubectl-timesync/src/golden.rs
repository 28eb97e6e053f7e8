//! Tests: the texts and the JSON of `status`, `nodes` and `sources` for a cluster of several nodes, in `tests/views`.
//! UPDATE_GOLDEN=1 writes them anew: read what changed before it is committed.
use std::fs;

use api::NodeClock;
use serde::Serialize;

use crate::{
    nodes::{self, Filter, Order},
    observed::{NodeFacts, Observed, Unread, fixture},
    rollout,
    screen::Screen,
    sources, status,
};

fn check(name: &str, made: &str) {
    let file = format!("{}/tests/views/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, made).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == made,
        "{file} is old: read this, then UPDATE_GOLDEN=1 cargo test -p kubectl-timesync\n{made}"
    );
}

fn json(view: &impl Serialize) -> String {
    serde_json::to_string_pretty(view).unwrap() + "\n"
}

/// A cluster whose nodes have one prepared fault each, and a node of which nothing is known.
fn cluster() -> Observed {
    let mut cluster = fixture("healthy");
    let faults = ["holdover", "error-bound", "conflict", "agent-silent", "falseticker", "rtc", "holdover"];
    for (number, case) in (2..).zip(faults) {
        let mut clock: NodeClock = fixture(case).clocks.remove(0);
        clock.metadata.name = Some(format!("n{number}"));
        cluster.clocks.push(clock);
    }
    let nodes = (1..=9).map(|number| NodeFacts { name: format!("n{number}"), ..NodeFacts::default() });
    cluster.nodes = Ok(nodes.collect());
    // `status` does not read all agents' pods.
    cluster.agents = Err(Unread::NotAsked);
    cluster
}

#[test]
fn status_in_one_screen() {
    let overview = status::overview(&cluster());
    check("status.txt", &status::text(&overview, cluster().now, &Screen::of_file()));
    check("status.json", &json(&overview));
    let empty = Observed { policies: vec![], clocks: vec![], nodes: Ok(vec![]), ..cluster() };
    let text = status::text(&status::overview(&empty), empty.now, &Screen::of_file());
    check("status-empty.txt", &text);
    let down = fixture("operator-down");
    check("status-operator-down.txt", &status::text(&status::overview(&down), down.now, &Screen::of_file()));
}

#[test]
fn a_cluster_of_which_nothing_is_known_is_not_well() {
    let told = |observed: &Observed| {
        let text = status::text(&status::overview(observed), observed.now, &Screen::of_file());
        assert!(!text.contains("is well"), "{text}");
        text
    };
    // A first policy, before any operator has run.
    let mut fresh = fixture("agent-silent-viewer");
    fresh.clocks.clear();
    fresh.policies[0].status = None;
    check("status-fresh-viewer.txt", &told(&fresh));
    fresh.nodes = Ok(vec![]);
    fresh.operators = Ok(fixture("operator-down").operators.unwrap());
    check("status-fresh.txt", &told(&fresh));
    // NodeClocks of another version.
    fresh.malformed = vec!["NodeClock n1: missing field `state`".to_owned()];
    check("status-malformed.txt", &told(&fresh));
    // What a viewer reads can be well, and no more is said.
    let mut viewer = fixture("healthy");
    let text =
        |observed: &Observed| status::text(&status::overview(observed), observed.now, &Screen::of_file());
    assert!(text(&viewer).contains("\nAll is well.\n"), "{}", text(&viewer));
    viewer.nodes = Err(Unread::Failed("not permitted".to_owned()));
    assert!(text(&viewer).contains("\nAll that was read is well.\n"), "{}", text(&viewer));
    // A policy that is accepted and rolled out to no node is ready; one that was edited is not known to be.
    viewer.policies[0].metadata.generation = Some(2);
    assert!(told(&viewer).contains("has not read this version"));
}

#[test]
fn a_status_of_thousands_of_nodes_is_short_and_quick() {
    let mut cluster = fixture("holdover");
    let clock = cluster.clocks[0].clone();
    for number in 0..5000 {
        let mut clock = clock.clone();
        clock.metadata.name = Some(format!("m{number}"));
        cluster.clocks.push(clock);
    }
    let begun = std::time::Instant::now();
    let text = status::text(&status::overview(&cluster), cluster.now, &Screen::of_file());
    assert!(text.lines().count() < 40 && text.contains("5001 nodes"), "{text}");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn nodes_line_by_line() {
    let cluster = cluster();
    let all = nodes::views(&cluster, &Filter::default());
    check("nodes.txt", &nodes::text(&all, cluster.now, false, &Screen::of_file(), None));
    check("nodes-wide.txt", &nodes::text(&all, cluster.now, true, &Screen::of_file(), None));
    check("nodes.json", &json(&all[..2].to_vec()));
    let names = |filter: Filter| {
        let views = nodes::views(&cluster, &filter);
        views.into_iter().map(|view| view.node).collect::<Vec<_>>().join(" ")
    };
    let holdover = Filter { state: Some("holdover".to_owned()), ..Filter::default() };
    assert_eq!(names(holdover), "n2 n8");
    assert_eq!(names(Filter { nodes: vec!["n9".to_owned()], ..Filter::default() }), "n9");
    assert_eq!(names(Filter { sort_by: Order::State, ..Filter::default() }), "n3 n5 n9 n2 n8 n1 n4 n6 n7");
    assert_eq!(names(Filter { sort_by: Order::Bound, ..Filter::default() }), "n3 n2 n8 n1 n4 n6 n7 n5 n9");
    assert_eq!(names(Filter { policy: Some("other".to_owned()), ..Filter::default() }), "");
}

#[test]
fn rollouts_of_policies() {
    for case in ["healthy", "profile-refused", "secret-missing", "rollout-paused"] {
        let views = rollout::views(&fixture(case));
        check(&format!("rollout-{case}.txt"), &rollout::text(&views, &Screen::of_file()));
    }
    check("rollout.json", &json(&rollout::views(&fixture("profile-refused"))));
    let mut edited = fixture("healthy");
    edited.policies[0].metadata.generation = Some(2);
    let text = rollout::text(&rollout::views(&edited), &Screen::of_file());
    assert!(text.contains("has not read this version"), "{text}");
}

#[test]
fn sources_of_a_node() {
    for case in ["healthy", "error-bound", "falseticker", "operator-down"] {
        let observed = fixture(case);
        let status = observed.clocks[0].status.clone().unwrap();
        let view = sources::view("n1", &status, observed.now);
        check(
            &format!("sources-{case}.txt"),
            &sources::text(&view, &status, observed.now, &Screen::of_file()),
        );
        if case == "falseticker" {
            check("sources.json", &json(&view));
        }
    }
}
