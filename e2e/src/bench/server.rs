//! Measures the server under load, against Debian's chronyd and a bare loop, over a pair of namespaces. In: nothing.
//! Out: its part of docs/benchmarks.md. Costs are compared by pairs of runs that follow each other, in turn of order.
use std::thread;

use anyhow::ensure;

use super::{
    contestant::{self, Contestant},
    ratio::Pairs,
};
use crate::{interrupt, load::lane::Lane, packages, process};

/// Rounds of each comparison.
const ROUNDS: usize = 6;

/// The whole text of the part.
pub(crate) fn run() -> anyhow::Result<String> {
    ensure!(packages::is_root(), "the server is measured in namespaces, which need root");
    ensure!(
        thread::available_parallelism().map_or(1, usize::from) > 1,
        "who asks and who answers need a processor each"
    );
    contestant::build()?;
    let lane = Lane::new()?;
    let result = measure(&lane);
    process::end("bench-", "-KILL")?;
    result
}

fn measure(lane: &Lane) -> anyhow::Result<String> {
    let agent = Contestant::agent(lane, "agent", 1001, "", "")?;
    let at_rest = agent.megabytes()?;
    let chronyd = Contestant::chronyd(lane, "chronyd", 1002, "")?;
    let bare = Contestant::bare(lane, 1003)?;
    let two = Contestant::agent(lane, "two-workers", 1004, "", "workers = 2")?;
    let limits = "rate_limit = { interval = 3, burst = 8, leak = 2, max_clients = 32768 }";
    let limited_agent = Contestant::agent(lane, "limited-agent", 1005, "\"limited\"", limits)?;
    let limits = "ratelimit interval 3 burst 8 leak 2\nclientloglimit 16777216\n";
    let limited_chronyd = Contestant::chronyd(lane, "limited-chronyd", 1006, limits)?;
    let comparisons = [
        ("agent over chronyd", &agent, &chronyd, 1000, 0.75),
        ("agent over a bare loop of recvmmsg and sendmmsg", &agent, &bare, 1000, 1.15),
        (
            "the same over chronyd, rates limited, 16,000 addresses",
            &limited_agent,
            &limited_chronyd,
            16_000,
            0.85,
        ),
        ("agent with two workers over one", &two, &agent, 1000, 1.1),
    ];
    let mut table = String::from(
        "| processor time per answer in overload | ratio: median of 6 (least, most) | aim | µs per answer |\n\
         |---|---|---|---|\n",
    );
    for (what, one, other, addresses, aim) in comparisons {
        let pairs = compare(lane, one, other, addresses)?;
        let [first, second] = pairs.costs();
        table += &format!("| {what} | {} | {aim:.2} | {first:.2}, {second:.2} |\n", pairs.shown(aim));
    }
    let missed = if at_rest > 10.0 { " **missed**" } else { "" };
    table += &format!(
        "\n| what | figure | aim |\n|---|---|---|\n| resident memory at rest | {at_rest:.1} MB{missed} | 10 MB |\n"
    );
    Ok(table)
}

/// Processor time per answer of each round.
fn compare(lane: &Lane, one: &Contestant, other: &Contestant, addresses: u32) -> anyhow::Result<Pairs> {
    let mut pairs = Pairs::default();
    for round in 0..ROUNDS {
        interrupt::check()?;
        if round % 2 == 0 {
            let first = cost(lane, one, addresses)?;
            pairs.add(first, cost(lane, other, addresses)?);
        } else {
            let first = cost(lane, other, addresses)?;
            pairs.add(cost(lane, one, addresses)?, first);
        }
    }
    eprintln!("  {} over {}: {}", one.name, other.name, pairs.shown(f64::INFINITY));
    Ok(pairs)
}

/// Microseconds of processor time per answer in overload.
fn cost(lane: &Lane, server: &Contestant, addresses: u32) -> anyhow::Result<f64> {
    let (used, traffic) = (server.processor_seconds()?, lane.traffic()?);
    let tally = contestant::ask(lane, server.port, &format!("--addresses {addresses} --seconds {SECONDS}"))?;
    let used = server.processor_seconds()? - used;
    let after = lane.traffic()?;
    let (answers, lost) = (after.sent - traffic.sent, after.overflowed - traffic.overflowed);
    ensure!(tally.answered > 0 && tally.wrong == 0, "{} answers wrong: {tally:?}", server.name);
    ensure!(lost > 0, "{} answered all of {} requests: this is no overload", server.name, tally.sent);
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    Ok(used * 1e6 / answers as f64)
}

/// Of a run. Processor time is read in hundredths of a second.
const SECONDS: u32 = 3;
