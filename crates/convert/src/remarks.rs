//! The result of each line, and the remarks on it, in the order of the lines; and the table of `--explain`. Texts in,
//! texts out.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use crate::lines::Line;

/// Why a line or an option is not in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is not needed here.
    Unneeded,
    /// It is lost, and that changes the behavior.
    LeftOut,
}

/// A line as messages name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Where {
    /// Its position among all lines; 0 for the whole file.
    pub(super) at: usize,
    origin: String,
    number: usize,
    shown: String,
}

impl From<&Line<'_>> for Where {
    fn from(line: &Line<'_>) -> Self {
        let (at, number) = (line.at, line.number);
        Self { at, origin: line.origin.to_owned(), number, shown: line.shown().into_owned() }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: `{}`", self.origin, self.number, self.shown)
    }
}

/// A remark on a line, or on the whole file.
#[derive(Debug)]
struct Remark {
    line: Where,
    /// True if something was left out that changes the behavior.
    left_out: bool,
    what: String,
}

/// The remarks so far, and the lines that are in the result.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    all: Vec<Remark>,
    /// The lines that have a remark.
    said: BTreeSet<usize>,
    carried: BTreeSet<usize>,
}

impl Remarks {
    /// Adds a remark.
    pub(super) fn say(&mut self, line: Where, fate: Fate, what: String) {
        self.said.insert(line.at);
        self.all.push(Remark { line, left_out: fate == Fate::LeftOut, what });
    }

    /// Records that the line is carried over.
    pub(super) fn carry(&mut self, at: usize) {
        self.carried.insert(at);
    }

    /// Takes that back.
    pub(super) fn take_back(&mut self, at: usize) {
        self.carried.remove(&at);
    }

    /// Returns true if the line was carried over, or a remark on it was made.
    pub(super) fn has(&self, at: usize) -> bool {
        self.carried.contains(&at) || self.said.contains(&at)
    }

    /// Returns true if nothing was left out that changes the behavior.
    pub(super) fn is_complete(&self) -> bool {
        !self.all.iter().any(|remark| remark.left_out)
    }

    /// All remarks in the order of the lines, one per line of text.
    pub(super) fn text(&self, origin: &str) -> String {
        let mut ordered: Vec<_> = self.all.iter().collect();
        ordered.sort_by_key(|remark| remark.line.at);
        ordered.into_iter().fold(String::new(), |mut text, Remark { line, left_out, what }| {
            let kind = if *left_out { "left out" } else { "note" };
            let Where { at, origin: file, number, shown } = line;
            let _ = match at {
                0 => writeln!(text, "{origin}: {kind}: {what}"),
                _ => writeln!(text, "{file}:{number}: {kind}: `{shown}`: {what}"),
            };
            text
        })
    }

    fn lines(&self, left_out: bool) -> BTreeSet<usize> {
        let said = self.all.iter().filter(|remark| remark.left_out == left_out && remark.line.at > 0);
        said.map(|remark| remark.line.at).collect()
    }

    /// The number of lines that were carried over, in words.
    pub(super) fn count(&self, origin: &str) -> String {
        let left_out = self.lines(true);
        let only_noted =
            self.lines(false).iter().filter(|n| !self.carried.contains(n) && !left_out.contains(n)).count();
        let carried = self.carried.difference(&left_out).count();
        let left_out = left_out.len();
        let lines = if carried == 1 { "line" } else { "lines" };
        format!(
            "{origin}: {carried} {lines} carried over, {only_noted} not needed, {left_out} left out in whole or in part\n"
        )
    }

    /// A row for each line with a directive: its result, and why. `becomes` returns what a directive becomes.
    pub(super) fn table(&self, lines: &[Line<'_>], becomes: impl Fn(&Line<'_>) -> &'static str) -> String {
        let mut of_lines = BTreeMap::<usize, Vec<&Remark>>::new();
        self.all.iter().for_each(|remark| of_lines.entry(remark.line.at).or_default().push(remark));
        let mut rows = vec![["LINE", "BECAME", "WHAT IT SAYS", "WHAT IS DONE"].map(str::to_owned)];
        for line in lines {
            let said = of_lines.remove(&line.at).unwrap_or_default();
            let is_carried = self.carried.contains(&line.at);
            let became = match said.iter().any(|remark| remark.left_out) {
                true if is_carried => "left out in part",
                true => "left out",
                false if is_carried => "carried over",
                false => "not needed",
            };
            let mut why: Vec<_> = said.iter().map(|remark| remark.what.as_str()).collect();
            if is_carried {
                why.insert(0, becomes(line));
            }
            let shown: String = line.shown().chars().take(WIDEST).collect();
            let place = format!("{}:{}", line.origin, line.number);
            rows.push([place, became.to_owned(), shown, why.join("; ")]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (line, became, says) = (width(0), width(1), width(2));
        let mut text = rows.iter().fold(String::new(), |mut text, [place, became_, shown, why]| {
            let row = format!("{place:line$}  {became_:became$}  {shown:says$}  {why}");
            let _ = writeln!(text, "{}", row.trim_end());
            text
        });
        for Remark { what, .. } in self.all.iter().filter(|remark| remark.line.at == 0) {
            let _ = writeln!(text, "whole file: {what}");
        }
        text
    }
}

/// The most characters of a line that the table shows.
const WIDEST: usize = 48;
