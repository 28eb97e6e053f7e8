//! Prints the table of scenarios, or the rows that are asked for: `[SCENARIO [POLLS]] [--seeds N]`, where a scenario
//! is named by its beginning (`all` for each), and polls are like 6 or 4..6. Rows are kept in the table's order;
//! seeds run side by side.
use std::{env, process::ExitCode, thread};

use ntp::sim::{
    DEFAULT_POLLS, Figures, HEADING, Polls, SCENARIOS, Scenario, explanation, row, run, summarize,
};

const USAGE: &str = "usage: timesync-sim [SCENARIO [POLLS]] [--seeds N]";

/// What is asked for.
struct Wanted {
    scenario: Option<String>,
    polls: Option<Polls>,
    seeds: u64,
}

fn main() -> ExitCode {
    let Some(wanted) = parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let begins = |name: &str| wanted.scenario.as_deref().is_none_or(|start| name.starts_with(start));
    let exact = SCENARIOS.iter().filter(|row| wanted.scenario.as_deref() == Some(row.name));
    let mut scenarios: Vec<&Scenario> = exact.collect();
    if scenarios.is_empty() {
        scenarios.extend(SCENARIOS.iter().filter(|row| begins(row.name)));
    }
    if scenarios.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|row| row.name).collect();
        eprintln!("{USAGE}\nscenarios: {}", names.join(" "));
        return ExitCode::FAILURE;
    }
    let whole = wanted.scenario.is_none() && wanted.polls.is_none();
    if whole {
        println!("{}", explanation(wanted.seeds));
    }
    println!("{HEADING}");
    let polls = wanted.polls.map_or(DEFAULT_POLLS.to_vec(), |polls| vec![polls]);
    let mut misled = Vec::new();
    for scenario in scenarios {
        for polls in &polls {
            let figures = summarize(&runs(scenario, *polls, wanted.seeds));
            println!("{}", row(scenario, *polls, &figures));
            if figures.misled > 0 {
                misled.push(scenario.name);
            }
        }
    }
    match misled.as_slice() {
        [] => println!("\nNo server that lies from the beginning was followed for a second."),
        rows => println!("\n**A server that lies was followed**: {}.", rows.join(", ")),
    }
    ExitCode::SUCCESS
}

fn runs(scenario: &Scenario, polls: Polls, seeds: u64) -> Vec<Figures> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = |worker: usize| {
            let seeds = (1..=seeds).skip(worker).step_by(workers);
            seeds.map(|seed| run(scenario, polls, seed)).collect::<Vec<_>>()
        };
        let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no run panics")).collect()
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { scenario: None, polls: None, seeds: 20 };
    let mut named = false;
    while let Some(argument) = arguments.next() {
        if argument == "--seeds" {
            wanted.seeds = arguments.next()?.parse().ok().filter(|seeds| *seeds > 0)?;
        } else if argument.starts_with('-') {
            return None;
        } else if !named {
            named = true;
            wanted.scenario = Some(argument).filter(|name| name != "all");
        } else {
            let (shortest, longest) = argument.split_once("..").unwrap_or((&argument, &argument));
            wanted.polls = Some((shortest.parse().ok()?, longest.parse().ok()?));
        }
    }
    Some(wanted)
}
