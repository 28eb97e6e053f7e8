//! Prints the table of scenarios, or the requested rows: `[SCENARIOS [POLLS]] [--seeds N]`. A scenario is given by the
//! beginning of its name (`all` for all of them), polls as 6 or 4..6. Commas separate several of either. Seeds run in
//! parallel.
#![forbid(unsafe_code)]

use std::{env, process::ExitCode, thread};

use ntp::sim::{
    DEFAULT_POLLS, Figures, HEADING, Polls, SCENARIOS, Scenario, explanation, row, run, summarize, summary,
};

const USAGE: &str = "usage: timesync-sim [SCENARIO[,SCENARIO...] [POLLS[,POLLS...]]] [--seeds N]";

/// The requested rows.
struct Wanted {
    scenarios: Vec<&'static Scenario>,
    polls: Vec<Polls>,
    seeds: u64,
    whole: bool,
}

fn main() -> ExitCode {
    let Some(wanted) = parse(env::args().skip(1)) else {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("{USAGE}\nscenarios: {}", names.join(" "));
        return ExitCode::FAILURE;
    };
    if wanted.whole {
        println!("{}", explanation(wanted.seeds));
    }
    println!("{HEADING}");
    let mut all = Vec::new();
    for scenario in wanted.scenarios {
        for polls in &wanted.polls {
            let figures = summarize(&runs(scenario, *polls, wanted.seeds));
            println!("{}", row(scenario, *polls, &figures));
            all.push(figures);
        }
    }
    println!("\n{}", summary(&all));
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
    let (mut names, mut polls, mut seeds) = (None, None, 20);
    while let Some(argument) = arguments.next() {
        if argument == "--seeds" {
            seeds = arguments.next()?.parse().ok().filter(|seeds| *seeds > 0)?;
        } else if argument.starts_with('-') || polls.is_some() {
            return None;
        } else if names.is_none() {
            names = Some(argument);
        } else {
            polls = Some(argument.split(',').map(interval).collect::<Option<Vec<_>>>()?);
        }
    }
    let names = names.filter(|names| names != "all");
    let whole = names.is_none() && polls.is_none();
    let scenarios = match names {
        Some(names) => names.split(',').flat_map(named).collect(),
        None => SCENARIOS.iter().collect::<Vec<_>>(),
    };
    let polls = polls.unwrap_or(DEFAULT_POLLS.to_vec());
    (!scenarios.is_empty()).then_some(Wanted { scenarios, polls, seeds, whole })
}

/// The scenario with this name; otherwise all whose names begin with it.
fn named(name: &str) -> Vec<&'static Scenario> {
    match SCENARIOS.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => vec![scenario],
        None => SCENARIOS.iter().filter(|scenario| scenario.name.starts_with(name)).collect(),
    }
}

fn interval(text: &str) -> Option<Polls> {
    let (shortest, longest) = text.split_once("..").unwrap_or((text, text));
    let polls = (shortest.parse().ok()?, longest.parse().ok()?);
    (0 <= polls.0 && polls.0 <= polls.1 && polls.1 <= 17).then_some(polls)
}
