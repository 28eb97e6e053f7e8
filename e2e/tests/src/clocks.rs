//! Tests of what can happen to a node's clock, on machines without Kubernetes. Two machines run in parallel, each with
//! its own upstream. Each test leaves its machine's clock right for the next. No test here needs a cluster.
use std::{fs, sync::Mutex, thread, time::Instant};

use anyhow::bail;
use lab::{
    cluster, machine,
    machine::{MACHINES, Machine},
    network, upstream,
};
use xtask::{checkout, image, interrupt, packages};

mod bench;

mod start;

mod past;

mod kill;

mod frequency;

mod hand_back;

mod power;

mod leap;

mod step;

mod held;

mod rival;

mod outage;

/// A test.
pub(crate) struct Test {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// True if it waits for minutes, and runs only if the command line says so.
    pub(crate) long: bool,
    run: fn(Machine) -> anyhow::Result<()>,
}

const fn test(name: &'static str, about: &'static str, run: fn(Machine) -> anyhow::Result<()>) -> Test {
    Test { name, about, long: false, run }
}

const fn long(name: &'static str, about: &'static str, run: fn(Machine) -> anyhow::Result<()>) -> Test {
    Test { name, about, long: true, run }
}

/// The tests of each machine, in this order.
const LANES: [&[Test]; 2] = [
    &[
        test("rtc-in-2020", "a boot with a hardware clock in 2020", start::rtc_in_2020),
        test("rtc-an-hour-off", "a hardware clock that is an hour off is written", start::rtc_an_hour_off),
        test("server-of-1980", "a lone upstream says a time that has passed", past::run),
        test("kill", "the agent killed 20 times while it slews", kill::run),
        test("fast-upstream", "an upstream that is 80 ppm fast", frequency::run),
        test("hand-back", "the agent ends in the middle of a slew, a leap second armed", hand_back::run),
        test("leap-second", "a leap second inserted, and one left out", leap::run),
        test("power", "reset and power cycle, without a network afterwards", power::run),
    ],
    &[
        test(
            "date-restore",
            "another process sets the clock an hour back, and forth: it is put right",
            step::restore,
        ),
        test("date-accept", "the same where the new time is accepted", step::accept),
        test("date-report", "the same where it is only reported", step::report),
        test("held", "a machine that is held while its upstream goes on by 20 minutes", held::run),
        long("rival", "chronyd beside the agent: on its port, and at its clock", rival::run),
        test("outage", "the network is gone for a minute", outage::of_a_minute),
        long("outage-long", "the network is gone for three minutes", outage::of_three_minutes),
    ],
];

/// The word for all of them except the long ones on the command line.
pub(crate) const ALL: &str = "clocks";

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    LANES.into_iter().flatten()
}

/// Runs the tests for which `wanted` is true. Returns the names of those that failed.
pub(crate) fn run(wanted: &(dyn Fn(&str) -> bool + Sync), keep: bool) -> anyhow::Result<Vec<&'static str>> {
    if !packages::is_root() {
        bail!("virtual machines need root");
    }
    packages::ensure()?;
    cluster::down()?;
    let failed = Mutex::new(Vec::new());
    let result = (|| {
        fs::create_dir_all(checkout::state())?;
        image::build_programs(image::OF_NODES)?;
        machine::prepare()?;
        network::up()?;
        upstream::up()?;
        thread::scope(|scope| {
            let lanes = MACHINES.iter().zip(LANES).map(|(machine, tests)| {
                let failed = &failed;
                scope.spawn(move || walk(*machine, tests, wanted, failed))
            });
            lanes
                .collect::<Vec<_>>()
                .into_iter()
                .try_for_each(|lane| lane.join().map_err(|_| anyhow::anyhow!("a test panicked"))?)
        })
    })();
    let failed = failed.into_inner().unwrap_or_default();
    if result.is_err() || !failed.is_empty() {
        keep_logs();
    }
    if keep && !failed.is_empty() {
        eprintln!("the machines are left running; `e2e down` removes them");
    } else {
        interrupt::forgive();
        cluster::down()?;
    }
    result.map(|()| failed)
}

fn walk(
    machine: Machine,
    tests: &'static [Test],
    wanted: &(dyn Fn(&str) -> bool + Sync),
    failed: &Mutex<Vec<&'static str>>,
) -> anyhow::Result<()> {
    let mut tests = tests.iter().filter(|test| wanted(test.name)).peekable();
    if tests.peek().is_none() {
        return Ok(());
    }
    machine.start("2020-01-01T00:00:00")?;
    for test in tests {
        interrupt::check()?;
        eprintln!("test {} ({}): {}", test.name, machine.name(), test.about);
        let begun = Instant::now();
        let result = (test.run)(machine);
        let took = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("ok   {:16} {took:6.1} s  {}", test.name, test.about),
            Err(error) => {
                interrupt::check()?;
                println!("FAIL {:16} {took:6.1} s  {error:#}", test.name);
                eprintln!("the agent's log ends:\n{}", machine.log_end());
                failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(test.name);
            }
        }
    }
    Ok(())
}

fn keep_logs() {
    let folder = checkout::target().join("e2e-logs");
    let _ = fs::create_dir_all(&folder);
    for machine in MACHINES {
        let _ = fs::write(folder.join(format!("{}.log", machine.name())), machine.logs());
    }
    eprintln!("logs are in {}", folder.display());
}
