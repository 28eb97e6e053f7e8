//! The shape inside a crate, computed from its `use` lines: modules use only those below them, in the order that is
//! stated here, and no files use each other in a circle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::path::{Path, PathBuf};

mod shape;

use shape::Shape;

/// Folders and files of `crates/ntp/src`, the lowest first. Each uses only those before it, as in the lists below.
const NTP: [&str; 11] = [
    "time",
    "wire",
    "interface",
    "clock",
    "source",
    "measure",
    "disturbance",
    "engine",
    "server",
    "sim",
    "bin",
];

const CONTRACT: [&str; 14] = [
    "name",
    "mode",
    "failures",
    "key_files",
    "cookie_key",
    "reasons",
    "rtc_report",
    "transition",
    "span",
    "host",
    "proof",
    "report",
    "limits",
    "synchronized",
];

const PROFILE: [&str; 7] = ["ranges", "network", "serve", "profile", "agent_file", "spelling", "check"];

const CONVERT: [&str; 27] = [
    // Lines, and what is said of them.
    "dialect",
    "lines",
    "beside",
    "remarks",
    "wanted",
    "draft",
    "source_line",
    // The directives of both programs.
    "directive",
    "ntp_options",
    "chrony_options",
    "directives",
    "detect",
    "gather",
    // A step per kind of line.
    "defaults",
    "listen",
    "restrict_whom",
    "restrict_line",
    "allow_line",
    "ntp_facts",
    "ntp_settings",
    "ntp_server",
    "ntp_conf",
    "chrony_facts",
    "chrony_settings",
    "chrony_conf",
    // The result.
    "settle",
    "print",
];

const HTTP: [&str; 8] = ["token", "proof", "head", "client", "gate", "connection", "limits", "server"];

const API: [&str; 12] = [
    "rules",
    "schema",
    "selector",
    "upstream",
    "serve",
    "node_taint",
    "rollout",
    "rollout_request",
    "policy_status",
    "policy",
    "node_clock",
    "crds",
];

const SYS: [&str; 12] = [
    "error",
    "clock",
    "poll",
    "signal",
    "alarm",
    "lock",
    "random",
    "rtc",
    "phc",
    "shared",
    "udp",
    "interface",
];

const AGENT: [&str; 32] = [
    // What all parts use.
    "text",
    "replace",
    "host_root",
    "exposure",
    "panics",
    "suspects",
    "clock",
    "liveness",
    "leap_table",
    "send_error",
    "loop_detector",
    "resolve",
    // Files, state and keys.
    "load",
    "lock",
    "auth",
    "cookie_keys",
    "state",
    "floor",
    // Parts that know neither each other nor the engine.
    "rtc",
    "timezone",
    "boot_pod",
    "server",
    "key_server",
    // What is known, for readers.
    "report",
    "clock_bound",
    "metrics",
    "http",
    // The engine, its configuration, and what starts both.
    "engine",
    "assemble",
    "reload",
    "boot",
    "cli",
];

const OPERATOR: [&str; 47] = [
    // What all steps use.
    "term",
    "message",
    "health",
    "condition",
    "facts",
    "stored_node_clock",
    "keys",
    "budget",
    "work_queue",
    // The steps.
    "watch",
    "secrets",
    "fetch",
    "cluster_state",
    "cookie_keys",
    "portion",
    "tier",
    "translate",
    "taint_rule",
    "rollout",
    "validate",
    "resolve",
    "placement",
    "plan",
    "build",
    "apply",
    "store",
    "nudge",
    "token",
    "collect",
    "reports",
    // What users see.
    "node_conditions",
    "node_fields",
    "node_clock",
    "events",
    "node_state",
    "policy_nodes",
    "policy_conditions",
    "status",
    // Writes, and what the program says of itself.
    "publish",
    "writer",
    "rollout_log",
    "metrics",
    "serve",
    // What drives the rest.
    "leader",
    "controller",
    "uninstall",
    "cli",
];

const PLUGIN: [&str; 20] = [
    // What all commands use.
    "words",
    "screen",
    "table",
    "output",
    // From a kubeconfig to what was read.
    "observed",
    "proxy",
    "connect",
    "server_clock",
    "fetch",
    // A command each.
    "why",
    "nodes",
    "sources",
    "status",
    "wait",
    "top",
    "rollout",
    "bundle",
    "convert_file",
    "completion",
    "cli",
];

#[test]
fn ntp_has_layers_and_no_circles() {
    check("crates/ntp/src", &NTP, Shape::circles);
}

#[test]
fn small_crates_have_layers_and_no_circles() {
    check("crates/contract/src", &CONTRACT, Shape::circles_of_files);
    check("crates/http/src", &HTTP, Shape::circles_of_files);
    check("crates/api/src", &API, Shape::circles_of_files);
    check("crates/sys/src", &SYS, Shape::circles_of_files);
    check("crates/profile/src", &PROFILE, Shape::circles_of_files);
    check("crates/convert/src", &CONVERT, Shape::circles_of_files);
}

#[test]
fn agent_has_layers_and_no_circles() {
    check("agent/src", &AGENT, Shape::circles_of_files);
}

#[test]
fn operator_has_layers_and_no_circles() {
    check("operator/src", &OPERATOR, Shape::circles_of_files);
}

#[test]
fn the_plugin_has_layers_and_no_circles() {
    check("kubectl-timesync/src", &PLUGIN, Shape::circles_of_files);
}

/// The harness has no stated order inside its crates.
#[test]
fn the_harness_has_no_circles() {
    for folder in ["e2e/lab/src", "e2e/fleet/src", "e2e/tests/src", "e2e/bench/src"] {
        assert_eq!(
            Shape::of(&root().join(folder)).circles(),
            Vec::<Vec<String>>::new(),
            "circles of {folder}"
        );
    }
}

fn check(folder: &str, order: &[&str], circles: fn(&Shape) -> Vec<Vec<String>>) {
    let shape = Shape::of(&root().join(folder));
    assert_eq!(shape.upward(order), Vec::<String>::new(), "arrows of {folder} that run up");
    assert_eq!(circles(&shape), Vec::<Vec<String>>::new(), "circles of {folder}");
}

#[test]
fn a_made_up_circle_is_found() {
    let files = |pairs: &[(&str, &str)]| {
        Shape::parse(&pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    };
    let (lib, low) = ("mod high; mod low; pub use high::a::Thing;", "pub(crate) mod b;\npub(crate) mod c;");
    let high = ("high", "pub(crate) mod a;");
    let a = ("high::a", "use crate::low::b::Other;\npub struct Thing;");
    let down =
        files(&[("", lib), ("low", low), high, a, ("low::b", "use super::c::{X, Y};"), ("low::c", "")]);
    assert_eq!(down.upward(&["low", "high"]), Vec::<String>::new());
    assert_eq!(down.circles(), Vec::<Vec<String>>::new());
    // By a name that the crate's root exports, and between two files of one folder.
    let up = files(&[
        ("", lib),
        ("low", low),
        high,
        a,
        ("low::b", "use crate::{\n    Thing,\n    low::c::X,\n};"),
        ("low::c", "fn f() { crate::low::b::other() }"),
    ]);
    assert_eq!(up.upward(&["low", "high"]), ["low::b -> high::a"]);
    let circles = [["high", "low"], ["low::b", "low::c"]].map(|circle| circle.map(str::to_owned).to_vec());
    assert_eq!(up.circles(), circles);
    // Tests may use what they like.
    let test = "#[cfg(test)]\nmod tests {\n    use crate::Thing;\n}";
    let tested = files(&[("", lib), ("low", low), high, a, ("low::b", test), ("low::c", "")]);
    assert_eq!(tested.upward(&["low", "high"]), Vec::<String>::new());
    assert_eq!(down.upward(&["low"]), ["high stands in no layer"]);
    // A file that uses the one above it. Both are one module, but two files.
    let below = ("low::c", "use super::Top;");
    let above = ("low", "mod c;\nstruct Top;\nfn f() { c::g() }");
    let file = files(&[("", "mod low;"), above, below]);
    assert_eq!(file.circles(), Vec::<Vec<String>>::new());
    assert_eq!(file.circles_of_files(), [["low", "low::c"].map(str::to_owned).to_vec()]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}
