//! The cluster tests: one cluster for most of them, in the order of the list, so that each finds the clocks as the one
//! before left them: right. Out: a line per test, and an error if one failed.
pub(crate) mod lab;

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

mod access;

mod served;

mod idle_connections;

mod content;

mod dashboard;

mod operator_restart;

mod upgrade;

mod boot;

mod restart;

mod demo_fails;

mod scale;

mod isolation;

use std::time::Instant;

use anyhow::bail;

use crate::{clocks, cluster, image, install, interrupt, upstream};

struct Case {
    name: &'static str,
    about: &'static str,
    run: fn() -> anyhow::Result<()>,
}

const fn case(name: &'static str, about: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, about, run }
}

/// On the common cluster, in this order: the last one uninstalls the chart.
const COMMON: &[Case] = &[
    case("follow", "apply, both clocks right; +100 ms without a step; 80 ppm", follow::run),
    case("reload", "an edited policy runs on all nodes; clients of an agent", reload::run),
    case("keys", "a key in a Secret: missing, right, wrong, none, and right again", keys::run),
    case("liars", "a preferred liar; two against two", liars::run),
    case("silence", "all upstreams silent: holdover, unsynchronised, and back", silence::run),
    case(
        "external-step",
        "a clock set an hour back, restored; an hour forward, reported, then restored",
        external_step::run,
    ),
    case("conflict", "chronyd beside the agent: named, stood back from, and back again", conflict::run),
    case("timezone", "a time zone for the nodes; one they lack; and the former one back", timezone::run),
    case("policies", "bad policies are refused with readable messages, good ones are taken", policies::run),
    case("refusal", "a bad policy; a hand-edited profile", refusal::run),
    case("access", "restrict … ignore gets no answer", access::run),
    case("served", "clients with keys and certificates, without, and ntpq", served::run),
    case(
        "idle-connections",
        "hundreds of half-sent requests fail no probe, and the operator hears its agents",
        idle_connections::run,
    ),
    case("content", "one process, one binary; what NodeClock says is true", content::run),
    case("dashboard", "each query of the dashboard has data in a real Prometheus", dashboard::run),
    case(
        "operator-restart",
        "a restart of the operators changes nothing on the nodes",
        operator_restart::run,
    ),
    case("upgrade", "helm test, upgrade, uninstall and install again", upgrade::run),
    case("boot", "power cuts with the hardware clock in 1970, with the boot option and without", boot::run),
    case("restart", "agent and operator killed; policy deleted; uninstall", restart::run),
];

/// With clusters of their own.
const APART: &[Case] = &[
    case("demo-fails", "the demo fails in Observe mode and without upstream", demo_fails::run),
    case("scale", "200 simulated nodes: what the operator writes, and how often", scale::run),
    case(
        "isolation",
        "faults of single objects, with 20 simulated nodes: told, and no other object's",
        isolation::run,
    ),
];

/// Those of `make test-long`: they wait for minutes, and run only if they are named.
const LONG: &[Case] = &[case(
    "failover",
    "a Lease that cannot be renewed, and leaders that stand still in the middle of a rollout",
    isolation::run_failover,
)];

/// Prints the names.
pub(crate) fn list() {
    for test in clocks::all() {
        println!("{:16} {}", test.name, test.about);
    }
    for case in COMMON.iter().chain(APART).chain(LONG) {
        println!("{:16} {}", case.name, case.about);
    }
}

/// Runs the tests of these names, or all. `keep` leaves the cluster up after a failure.
pub(crate) fn run(names: &[String], keep: bool) -> anyhow::Result<()> {
    let apart = || APART.iter().chain(LONG.iter().filter(|_| !names.is_empty()));
    let cases = || COMMON.iter().chain(apart()).map(|case| case.name);
    let all: Vec<_> = clocks::all().map(|test| test.name).chain(cases()).collect();
    let known = |name: &str| name == clocks::ALL || all.contains(&name);
    if let Some(wrong) = names.iter().find(|name| !known(name)) {
        bail!("there is no test {wrong}; `e2e list` prints them");
    }
    let chosen = |name: &str| chosen(names, name);
    let wanted = |case: &&Case| chosen(case.name);
    let mut failed = Vec::new();
    if clocks::all().any(|test| chosen(test.name)) {
        failed = clocks::run(&chosen, keep)?;
    }
    let common: Vec<_> = COMMON.iter().filter(wanted).collect();
    if cases().any(chosen) && (failed.is_empty() || !keep) {
        image::build_all()?;
        if !common.is_empty() {
            failed.extend(run_common(&common, keep)?);
        }
    }
    if failed.is_empty() || !keep {
        for case in apart().filter(wanted) {
            failed.extend(run_one(case)?);
        }
    }
    let count = all.iter().filter(|name| chosen(name)).count();
    println!("{} passed, {} failed", count - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Whether these words of the command line mean the test of this name.
fn chosen(words: &[String], name: &str) -> bool {
    let clock = clocks::all().any(|test| test.name == name);
    words.is_empty() || words.iter().any(|word| word == name || clock && word == clocks::ALL)
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

/// The name of the test if it failed; an error only if we were interrupted.
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
    fn a_word_chooses_a_test_or_all_tests_of_clocks() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (given, name, expected) in [
            ("", "kill", true),
            ("", "follow", true),
            ("kill", "kill", true),
            ("kill", "power", false),
            ("clocks", "power", true),
            ("clocks", "follow", false),
            ("follow clocks", "follow", true),
        ] {
            assert_eq!(chosen(&words(given), name), expected, "{given:?} and {name}");
        }
    }

    #[test]
    fn each_test_has_a_name_of_its_own() {
        let mut names: Vec<_> = COMMON.iter().chain(APART).chain(LONG).map(|case| case.name).collect();
        names.extend(clocks::all().map(|test| test.name).chain([clocks::ALL]));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
