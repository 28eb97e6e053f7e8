//! `sources`: the upstreams of the report, in the form of `chronyc sources`.
use contract::{Report, SourceReport, SourceState, approximately};

use super::{agent_address::AgentAddress, ask};

/// Prints the upstreams. Returns true if one is selected.
pub(super) fn act(running: &AgentAddress) -> Result<bool, ask::Error> {
    let (report, text) = ask::report(running)?;
    if running.json {
        println!("{text}");
    } else {
        print!("{}", table(&report));
    }
    Ok(report.sources.iter().any(|source| source.state == SourceState::Selected))
}

fn table(report: &Report) -> String {
    let heading =
        ["  NAME", "ADDRESS", "STRATUM", "POLL", "REACH", "LAST", "OFFSET", "DELAY", "JITTER", "STATE"]
            .map(str::to_owned);
    let rows: Vec<_> = [heading].into_iter().chain(report.sources.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..10).map(width).collect();
    let line = |row: &[String; 10]| {
        let cells =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(source: &SourceReport) -> [String; 10] {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), approximately);
    let mut state = source.state.as_str().to_owned();
    if !source.message.is_empty() {
        state = format!("{state}: {}", source.message);
    }
    [
        format!("{} {}", mark(source.state), source.name),
        source.address.clone().unwrap_or_else(|| "-".to_owned()),
        source.stratum.to_string(),
        source.poll.to_string(),
        format!("{:o}", source.reach),
        source.last_answer_age.map_or_else(|| "-".to_owned(), |age| format!("{age:.0}s")),
        seconds(source.offset),
        seconds(source.delay),
        seconds(source.jitter),
        state,
    ]
}

/// chronyc's marks.
fn mark(state: SourceState) -> char {
    match state {
        SourceState::Selected => '*',
        SourceState::Combined => '+',
        SourceState::Agreeing => '-',
        SourceState::Falseticker => 'x',
        SourceState::NoMajority => '~',
        SourceState::Unresolved
        | SourceState::Unreachable
        | SourceState::Measuring
        | SourceState::Untrusted
        | SourceState::Noselect
        | SourceState::Unusable
        | SourceState::Unknown => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reporter, tests::snapshot};

    #[test]
    fn a_line_per_source() {
        let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
        reporter.engine(ntp::Wall(0), Some(snapshot()), &[]);
        let table = table(&reporter.report());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "  NAME  ADDRESS    STRATUM  POLL  REACH  LAST  OFFSET  DELAY  JITTER  STATE");
        assert_eq!(
            lines[1],
            "* a     192.0.2.1  2        4     377    3s    -11us   200us  3.0us   Selected"
        );
    }
}
