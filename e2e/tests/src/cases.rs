//! The cluster tests. Most of them use one cluster, in the order of the list: each test leaves the clocks right for the
//! next. Prints a line per test, and returns an error if one failed.
mod chronyd;

mod follow;

mod reload;

mod keys;

mod liars;

mod silence;

mod external_step;

mod conflict;

mod timezone;

mod policies;

mod refusal;

mod rollout;

mod access;

mod served;

mod tiers;

mod idle_connections;

mod wait;

mod content;

mod dashboard;

mod alerts;

mod plugin;

mod why;

mod stock_alerts;

mod operator_restart;

mod join;

mod node_readiness;

mod nodes;

mod unprivileged;

mod upgrade;

mod registry;

mod boot;

mod restart;

mod demo_fails;

mod scale;

mod isolation;

mod startup_taint;

mod reproducible;

mod arm64;

use std::time::Instant;

use anyhow::bail;
use lab::{cluster, install, upstream};
use xtask::{image, interrupt};

use crate::clocks;

struct Case {
    name: &'static str,
    about: &'static str,
    /// True if it runs only when the command line has its name or [`LONG`].
    long: bool,
    run: fn() -> anyhow::Result<()>,
}

const fn case(name: &'static str, about: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, about, long: false, run }
}

/// A case that waits for minutes. Another case is its short version.
const fn long(name: &'static str, about: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, about, long: true, run }
}

/// The word for all long tests on the command line.
const LONG: &str = "long";

/// Tests on the common cluster, in this order. The last one uninstalls the chart.
const COMMON: &[Case] = &[
    case("follow", "apply, both clocks right; +100 ms without a step; 80 ppm", follow::run),
    case("reload", "an edited policy runs on all nodes; clients of an agent", reload::run),
    case("keys", "a key in a Secret: missing, right, wrong, none, and right again", keys::run),
    case("liars", "a preferred liar; two against two", liars::run),
    case("silence", "all upstreams silent: holdover, unsynchronised without a taint, and back", silence::run),
    case(
        "external-step",
        "a clock set an hour back, restored; an hour forward, reported, then restored",
        external_step::run,
    ),
    case("conflict", "chronyd beside the agent: named, stood back from, and back again", conflict::run),
    case("timezone", "a time zone for the nodes; one they lack; and the former one back", timezone::run),
    case("policies", "bad policies are refused with readable messages, good ones are taken", policies::run),
    case("refusal", "a bad policy; a hand-edited profile", refusal::run),
    case(
        "rollout",
        "a wrong upstream stops at the canary; abort; a good profile; operators end in each of these states",
        rollout::run,
    ),
    long(
        "rollout-bad",
        "a silent and an unsynchronised upstream, and a name without an address, stop at the canary",
        rollout::bad_upstreams,
    ),
    case("access", "restrict … ignore gets no answer; only listed addresses are served", access::run),
    case("served", "clients with keys and certificates, without, and ntpq", served::run),
    case(
        "tiers",
        "a node asks another node, whose agent is killed; two without servers elect one",
        tiers::run,
    ),
    long(
        "idle-connections",
        "hundreds of half-sent requests fail no probe, and the operator hears its agents",
        idle_connections::run,
    ),
    case(
        "wait",
        "init containers start pods when the clock is right, over HTTP and by shared memory",
        wait::run,
    ),
    case("content", "one process, one binary; what NodeClock says is true", content::run),
    case("dashboard", "each query of the dashboards has data in a real Prometheus", dashboard::run),
    long(
        "alerts",
        "each cause ends in its alert alone: upstreams, date -s, chronyd, agents, upgrades, a reboot",
        alerts::run,
    ),
    long(
        "alerts-rare",
        "the same for error bounds, RTC, a certificate, too many requests, a blind operator, a kubelet that stands still",
        alerts::run_rare,
    ),
    long(
        "stock-alerts",
        "node_exporter and the clock alerts of kube-prometheus, on a clock that is right and one that is not",
        stock_alerts::run,
    ),
    case(
        "plugin",
        "kubectl timesync: a viewer reads, waits and asks why; an archive without secrets",
        plugin::run,
    ),
    long("why", "kubectl timesync why names the cause of fourteen faults", why::run),
    case(
        "operator-restart",
        "a restart of the operators changes nothing on the nodes",
        operator_restart::run,
    ),
    case(
        "nodes",
        "condition, taints and label of Nodes; a node that joins 3 s off; the admission policy",
        nodes::run,
    ),
    long(
        "node-readiness",
        "node-readiness-controller frees a node that joins 3 s off when its clock is right",
        node_readiness::run,
    ),
    case(
        "unprivileged",
        "agents with two capabilities set, steer and serve the time, and say what they lack",
        unprivileged::run,
    ),
    case("upgrade", "helm test, upgrade, uninstall and install again", upgrade::run),
    long(
        "registry",
        "make push, helm install with a pull secret, and the demo on the user's own cluster",
        registry::run,
    ),
    case("boot", "a power cut with the hardware clock in 1970, with the boot option", boot::with_option),
    long("boot-without", "the same without the boot option: the node does not join", boot::without_option),
    case("restart", "agent and operator killed; policy deleted; uninstall", restart::run),
];

/// Tests that start their own cluster.
const APART: &[Case] = &[
    long("demo-fails", "the demo fails in Observe mode", demo_fails::in_observe_mode),
    long("demo-unreachable", "the demo fails without upstream", demo_fails::without_upstream),
    case("scale", "200 simulated nodes: what the operator writes, and how often", scale::run),
    case(
        "isolation",
        "faults of single objects, with 20 simulated nodes: told, and no other object's",
        isolation::run,
    ),
    long(
        "failover",
        "a Lease that cannot be renewed, and leaders that stand still in the middle of a rollout",
        isolation::run_failover,
    ),
    long(
        "startup-taint",
        "each node registers with a taint, and upstreams are names: the cluster comes up",
        startup_taint::run,
    ),
    long("reproducible", "two clones give the same release, to the byte", reproducible::run),
    long(
        "arm64",
        "the agent for arm64 serves and answers, and the plugin converts a file, under emulation",
        arm64::run,
    ),
];

/// Prints the names.
pub(crate) fn list() {
    let clocks = clocks::all().map(|test| (test.name, test.about, test.long));
    let cases = COMMON.iter().chain(APART).map(|case| (case.name, case.about, case.long));
    for (name, about, long) in clocks.chain(cases) {
        println!("{name:16} {about}{}", if long { " (long)" } else { "" });
    }
}

/// Runs the tests with these names, or all except the long ones. `keep` leaves the cluster up after a failure.
pub(crate) fn run(names: &[String], keep: bool) -> anyhow::Result<()> {
    let all = || {
        let clocks = clocks::all().map(|test| Word { name: test.name, long: test.long, clock: true });
        let cases = COMMON.iter().chain(APART);
        clocks.chain(cases.map(|case| Word { name: case.name, long: case.long, clock: false }))
    };
    let known = |name: &str| [clocks::ALL, LONG].contains(&name) || all().any(|word| word.name == name);
    if let Some(wrong) = names.iter().find(|name| !known(name)) {
        bail!("there is no test {wrong}; `e2e list` prints them");
    }
    let chosen = |name: &str| all().any(|word| word.name == name && word.is_meant_by(names));
    let wanted = |case: &&Case| chosen(case.name);
    let mut failed = Vec::new();
    if clocks::all().any(|test| chosen(test.name)) {
        failed = clocks::run(&chosen, keep)?;
    }
    let common: Vec<_> = COMMON.iter().filter(wanted).collect();
    if COMMON.iter().chain(APART).any(|case| chosen(case.name)) && (failed.is_empty() || !keep) {
        image::build_all(&[image::OF_NODES])?;
        if !common.is_empty() {
            failed.extend(run_common(&common, keep)?);
        }
    }
    if failed.is_empty() || !keep {
        for case in APART.iter().filter(wanted) {
            failed.extend(run_one(case)?);
        }
    }
    let count = all().filter(|word| word.is_meant_by(names)).count();
    println!("{} passed, {} failed", count - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// A test, for the choice of tests by words of the command line.
struct Word {
    name: &'static str,
    long: bool,
    /// True if it is one of [`clocks::ALL`].
    clock: bool,
}

impl Word {
    /// Returns true if these words of the command line select this test.
    fn is_meant_by(&self, words: &[String]) -> bool {
        let Self { name, long, clock } = *self;
        let meant =
            |word: &String| word == name || clock && !long && word == clocks::ALL || long && word == LONG;
        words.is_empty() && !long || words.iter().any(meant)
    }
}

fn run_common(cases: &[&Case], keep: bool) -> anyhow::Result<Vec<&'static str>> {
    cluster::up(cluster::IN_2020)?;
    let mut failed = Vec::new();
    let result = (|| {
        cluster::set_clocks_off()?;
        install::chart(&[])?;
        for case in cases {
            failed.extend(run_one(case)?);
            upstream::bend_all(upstream::HONESTLY)?;
        }
        Ok(())
    })();
    if keep && (result.is_err() || !failed.is_empty()) {
        eprintln!("the cluster is left up; `e2e down` removes it");
    } else if result.is_err() || !failed.is_empty() {
        cluster::give_up();
    } else {
        cluster::down()?;
    }
    result.map(|()| failed)
}

/// Returns the name of the test if it failed, and an error only after an interrupt.
fn run_one(case: &Case) -> anyhow::Result<Option<&'static str>> {
    interrupt::check()?;
    eprintln!("test {}: {}", case.name, case.about);
    let begun = Instant::now();
    let result = (case.run)();
    let took = begun.elapsed().as_secs_f64();
    interrupt::check()?;
    match result {
        Ok(()) => {
            println!("ok   {:16} {took:6.1} s  {}", case.name, case.about);
            Ok(None)
        }
        Err(error) => {
            println!("FAIL {:16} {took:6.1} s  {error:#}", case.name);
            eprintln!("{}", cluster::logs_since(begun.elapsed()));
            Ok(Some(case.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_chooses_a_test_or_a_kind_of_tests() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let kill = Word { name: "kill", long: false, clock: true };
        let outage = Word { name: "outage-long", long: true, clock: true };
        let follow = Word { name: "follow", long: false, clock: false };
        for (given, test, expected) in [
            ("", &kill, true),
            ("", &follow, true),
            ("", &outage, false),
            ("kill", &kill, true),
            ("kill", &outage, false),
            ("clocks", &kill, true),
            ("clocks", &outage, false),
            ("clocks", &follow, false),
            ("long", &outage, true),
            ("long", &kill, false),
            ("outage-long", &outage, true),
            ("follow clocks", &follow, true),
        ] {
            assert_eq!(test.is_meant_by(&words(given)), expected, "{given:?} and {}", test.name);
        }
    }

    #[test]
    fn each_test_has_a_name_of_its_own() {
        let mut names: Vec<_> = COMMON.iter().chain(APART).map(|case| case.name).collect();
        names.extend(clocks::all().map(|test| test.name).chain([clocks::ALL, LONG]));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
