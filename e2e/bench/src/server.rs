//! Measures the agent's server under load, and compares it with Debian's chronyd and with a bare loop, over a pair of
//! namespaces. Writes its part of docs/benchmarks.md. Each comparison consists of pairs of consecutive runs, whose
//! order alternates.
use std::{fs, mem, thread, time::Duration};

use anyhow::ensure;
use lab::daemon;
use xtask::{interrupt, packages, page};

use crate::{
    load::lane::{self, Lane, Traffic},
    ratio::{self, Pairs},
};

mod keys;
mod contestant;
mod sealed;

use contestant::{ADDRESSES, Contestant};

/// Rounds of each comparison.
const ROUNDS: usize = 6;

/// The length of a run. Processor time has a resolution of 10 ms.
const SECONDS: u32 = 3;

/// The number of client addresses in measurements with a rate limit.
const LIMITED: u32 = 16_000;

/// The number of client addresses in the rate table while memory is measured.
const MANY: u32 = 100_000;

/// Measures, and writes this part of the page.
pub(crate) fn run() -> anyhow::Result<()> {
    let part = part()?;
    print!("{part}");
    page::put("server", &part)
}

fn part() -> anyhow::Result<String> {
    ensure!(packages::is_root(), "the server is measured in namespaces, which need root");
    ensure!(
        thread::available_parallelism().map_or(1, usize::from) > 1,
        "who asks and who answers need a processor each"
    );
    contestant::build()?;
    keys::make()?;
    let lane = Lane::new()?;
    let result = measure(&lane);
    daemon::end("bench-", "-KILL")?;
    result
}

fn measure(lane: &Lane) -> anyhow::Result<String> {
    let agent = Contestant::agent(lane, "agent", 1001, "", "")?;
    let at_rest = agent.megabytes()?;
    let chronyd = Contestant::chronyd(lane, "chronyd", 1002, "")?;
    let bare = Contestant::bare(lane, "bare", 1003, 1)?;
    let two = Contestant::agent(lane, "agent-two-workers", 1004, "", "workers = 2")?;
    let [limited, limited_chronyd, sparing] = limited(lane)?;
    let [sealed, sealed_chronyd] = sealing(lane)?;
    let mut table = String::from(
        "| processor time per answer in overload | ratio: median (least, most) | aim | µs per answer |\n\
         |---|---|---|---|\n",
    );
    for (what, one, other, aim) in [
        ("agent over chronyd", &agent, &chronyd, Some(0.75)),
        ("agent over a bare loop of recvmmsg and sendmmsg", &agent, &bare, Some(1.15)),
        ("agent over chronyd, rates limited, 16,000 addresses", &limited, &limited_chronyd, Some(0.85)),
        ("the same agent over a bare loop that answers one in four", &limited, &sparing, None),
        ("agent with two workers over one", &two, &agent, Some(1.1)),
        ("agent over chronyd, NTS", &sealed, &sealed_chronyd, Some(0.9)),
    ] {
        let rival = if one.name == limited.name { Some(contestant::Rival::start()?) } else { None };
        let Comparison { answers, requests, idle } = compare(lane, one, other)?;
        drop(rival);
        let what = if idle == 0 { what.to_owned() } else { format!("{what} ({idle} runs were no overload)") };
        table += &cost_row(&what, &answers, aim);
        if other.name == limited_chronyd.name {
            table += &cost_row("the same per request that was taken, answered or not", &requests, None);
        }
    }

    table += "\n| what | figure | aim |\n|---|---|---|\n";
    table += &row("agent at rest: resident memory", at_rest, "MB", Some(10.0));
    let (megabytes, tracked) = crowded(lane)?;
    table += &row(&format!("agent with {tracked:.0} addresses tracked"), megabytes, "MB", Some(24.0));
    for (server, aim) in [(&agent, Some(20.0)), (&chronyd, None)] {
        let (median, p99) = deviation(lane, server)?;
        let what = format!("{} in overload: error of the transmit time in a reply, median", server.name);
        table += &row(&what, median, "µs", aim);
        table += &row("the same, 99 %", p99, "µs", None);
    }
    Ok(format!("{}\n\n{table}", conditions()?))
}

/// Agent and chronyd with the same rate limit, under more requests than it allows; and a loop that answers the same
/// part of the requests.
fn limited(lane: &Lane) -> anyhow::Result<[Contestant; 3]> {
    let limits = "rateLimit = { interval = 3, burst = 8, leak = 2, maxClients = 32768 }";
    let agent = Contestant::agent(lane, "agent-limited", 1005, "\"limited\"", limits)?;
    let limits = "ratelimit interval 3 burst 8 leak 2\nclientloglimit 16777216\n";
    let chronyd = Contestant::chronyd(lane, "chronyd-limited", 1006, limits)?;
    let bare = Contestant::bare(lane, "bare-sparing", 1010, 4)?;
    Ok([agent, chronyd, bare].map(|server| server.asked_by(LIMITED)))
}

/// Agent and chronyd as NTS servers, under requests with NTS.
fn sealing(lane: &Lane) -> anyhow::Result<[Contestant; 2]> {
    let files = format!("certificate = '{}', privateKey = '{}'", keys::CERTIFICATE, keys::PRIVATE_KEY);
    let agent = Contestant::agent(lane, "agent-nts", 1007, "", &format!("nts = {{ {files}, port = 2007 }}"))?;
    let [certificate, key] = [keys::CERTIFICATE, keys::PRIVATE_KEY].map(|file| keys::keys().join(file));
    let lines =
        format!("ntsservercert {}\nntsserverkey {}\nntsport 2008\n", certificate.display(), key.display());
    let chronyd = Contestant::chronyd(lane, "chronyd-nts", 1008, &lines)?;
    Ok([
        agent.asked_in(sealed::requests(lane, 1007, 2007)?),
        chronyd.asked_in(sealed::requests(lane, 1008, 2008)?),
    ])
}

/// A row of the first table.
fn cost_row(what: &str, pairs: &Pairs, aim: Option<f64>) -> String {
    let [one, other] = pairs.costs();
    let shown = aim.map_or("–".to_owned(), |aim| format!("{aim:.2}"));
    format!("| {what} | {} | {shown} | {one:.2}, {other:.2} |\n", pairs.shown(aim))
}

/// A row of the second table.
fn row(what: &str, figure: f64, unit: &str, aim: Option<f64>) -> String {
    let missed = if aim.is_some_and(|aim| figure > aim) { " **missed**" } else { "" };
    let aim = aim.map_or("–".to_owned(), |aim| format!("{aim:.0} {unit}"));
    format!("| {what} | {figure:.1} {unit}{missed} | {aim} |\n")
}

/// The conditions of the measurement.
fn conditions() -> anyhow::Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "`make bench-server` writes this part, and `make bench` with the others. The last run was on a machine with\n\
         {cores} shared cores ({model}), Linux {kernel}. A generator asks over a pair of namespaces from {ADDRESSES} addresses\n\
         in turn, as fast as it can, for {SECONDS} s a run. A cost is the server's user and system time over the answers\n\
         that left; a ratio is of two runs that follow each other, in turn of order, {ROUNDS} pairs a row. Debian's chronyd 4.3\n\
         has a local clock and `allow all`; the bare loop takes and sends 64 datagrams at once and looks at nothing.\n\
         Where rates are limited a busy loop takes half of the server's processor, to keep its queue full. What\n\
         leaves goes no further than the wire, but for the first {checked} addresses, whose answers are checked. The kernel's\n\
         part of a cost is common to all. For NTS, requests of a real client (chronyd's) are sent again and again.\n\
         The error of a transmit time is its difference to the kernel's stamp of the reply in a packet capture.",
        cores = thread::available_parallelism().map_or(0, usize::from),
        model = model.map_or("unknown", |(_, model)| model),
        kernel = kernel.trim(),
        checked = lane::CHECKED,
    ))
}

/// Processor time of each round in microseconds.
#[derive(Debug, Default)]
struct Comparison {
    /// Per answer.
    answers: Pairs,
    /// Per request that did not find the queue full.
    requests: Pairs,
    /// The number of runs in which the generator was slower than the server. Then a server needs more time per answer
    /// than in overload.
    idle: usize,
}

fn compare(lane: &Lane, one: &Contestant, other: &Contestant) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    for round in 0..ROUNDS {
        interrupt::check()?;
        let order = if round % 2 == 0 { [one, other] } else { [other, one] };
        let mut costs = [run_once(lane, order[0])?, run_once(lane, order[1])?];
        if round % 2 == 1 {
            costs.reverse();
        }
        found.answers.add(costs[0].per_answer, costs[1].per_answer);
        found.requests.add(costs[0].per_request, costs[1].per_request);
        found.idle += costs.iter().filter(|cost| !cost.overload).count();
    }
    eprintln!("  {} over {}: {}", one.name, other.name, found.answers.shown(None));
    Ok(found)
}

/// The result of a run, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    per_answer: f64,
    per_request: f64,
    /// True if the server's queue overflowed.
    overload: bool,
}

fn run_once(lane: &Lane, server: &Contestant) -> anyhow::Result<Cost> {
    warm_up(lane, server)?;
    let (used, traffic) = (server.processor_seconds()?, lane.traffic()?);
    let tally = server.ask(lane, SECONDS)?;
    let after = settled(lane)?;
    let micros = (server.processor_seconds()? - used) * 1e6;
    ensure!(tally.answered > 0 && tally.wrong == 0, "{} answers wrong: {tally:?}", server.name);
    let lost = after.overflowed - traffic.overflowed;
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    let [taken, answers] =
        [tally.sent.saturating_sub(lost), after.sent - traffic.sent].map(|count| count as f64);
    let cost = Cost { per_answer: micros / answers, per_request: micros / taken, overload: lost > 0 };
    eprintln!(
        "    {}: {:.2} µs per answer; of {} requests {lost} lost, {:.1} % of the others answered",
        server.name,
        cost.per_answer,
        tally.sent,
        100.0 * answers / taken
    );
    Ok(cost)
}

/// Sends requests until each address has used the tokens that it saved between two runs. Until then a server answers
/// more requests, so an answer costs less.
fn warm_up(lane: &Lane, server: &Contestant) -> anyhow::Result<()> {
    let mut taken = 0;
    // A server that gets no processor time is measured nevertheless.
    for _ in 0..20 {
        let before = lane.traffic()?;
        let sent = server.ask(lane, 1)?.sent;
        taken += sent.saturating_sub(settled(lane)?.overflowed - before.overflowed);
        if taken >= u64::from(server.addresses) * BUCKETFUL {
            break;
        }
    }
    Ok(())
}

/// The number of quick requests after which the limit certainly applies to an address: it saves at most 8 tokens, and
/// one in four requests of the excess is answered in addition.
const BUCKETFUL: u64 = 24;

/// The counters once the server has emptied its queue, or after half a minute.
fn settled(lane: &Lane) -> anyhow::Result<Traffic> {
    let mut last = lane.traffic()?;
    for _ in 0..150 {
        thread::sleep(Duration::from_millis(200));
        let now = lane.traffic()?;
        if mem::replace(&mut last, now) == now {
            break;
        }
    }
    Ok(last)
}

/// Resident megabytes of an agent after requests from [`MANY`] addresses, and how many of these are in its rate table.
fn crowded(lane: &Lane) -> anyhow::Result<(f64, f64)> {
    let limits = "rateLimit = { maxClients = 131072 }";
    let agent = Contestant::agent(lane, "agent-crowded", 1009, "\"limited\"", limits)?;
    contestant::ask(lane, agent.port, &format!("--addresses {MANY} --rate 50000 --seconds 5"))?;
    let tracked = contestant::metric(lane, &agent, "timesync_server_rate_table_entries")?;
    ensure!(tracked >= 0.9 * f64::from(MANY), "only {tracked} of {MANY} addresses are remembered");
    Ok((agent.megabytes()?, tracked))
}

/// The error of transmit times in overload, microseconds: the median of the rounds' medians, and the median of their
/// 99th percentiles.
fn deviation(lane: &Lane, server: &Contestant) -> anyhow::Result<(f64, f64)> {
    let (mut medians, mut p99s) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let found = thread::scope(|scope| {
            let load = scope.spawn(|| server.ask(lane, SECONDS));
            let found = contestant::capture(lane, server.port, 2.0);
            let _ = load.join().map_err(|_| anyhow::anyhow!("the generator's thread panicked"))??;
            found
        })?;
        medians.push(found.median);
        p99s.push(found.p99);
    }
    eprintln!("  {}: transmit times off by {medians:?} µs, 99 % {p99s:?} µs", server.name);
    Ok((ratio::median(&mut medians), ratio::median(&mut p99s)))
}
