//! The directives of both programs, looked up: `detect` tells a file by them, `--explain` and the page docs/convert.md show
//! them.
#[cfg(test)]
use crate::remarks::Fate;
use crate::{Dialect, chrony_options, directive::Directive, draft::Draft, lines::Line, ntp_options};

fn of(dialect: Dialect) -> &'static [Directive] {
    match dialect {
        Dialect::Ntp => ntp_options::DIRECTIVES,
        Dialect::Chrony => chrony_options::DIRECTIVES,
    }
}

/// The row of `word`. chronyd takes its words in any case, ntpd in lower case only.
pub(super) fn find(dialect: Dialect, word: &str) -> Option<&'static Directive> {
    let is = |name: &&str| match dialect {
        Dialect::Ntp => *name == word,
        Dialect::Chrony => name.eq_ignore_ascii_case(word),
    };
    of(dialect).iter().find(|row| row.names.iter().any(is))
}

/// What `word` becomes if it is carried over.
pub(super) fn becomes(dialect: Dialect, word: &str) -> &'static str {
    find(dialect, word).map_or("", |row| row.what)
}

/// Handles a line that has no parser of its own: its row says what happens to it.
pub(super) fn without_field(dialect: Dialect, line: &Line<'_>, draft: &mut Draft<'_>) {
    match find(dialect, line.directive).map(|row| (row.fate, row.what)) {
        Some((Some(fate), why)) => draft.tell(line, fate, why),
        Some((None, _)) => draft.carry(line),
        None => draft.leave_out(
            line,
            match dialect {
                Dialect::Ntp => "there is no such directive in ntp.conf",
                Dialect::Chrony => "there is no such directive in chrony.conf",
            },
        ),
    }
}

/// Each directive, and its result where the row has one.
#[cfg(test)]
pub(super) fn names(dialect: Dialect) -> impl Iterator<Item = (&'static str, Option<Fate>)> {
    of(dialect).iter().flat_map(|row| row.names.iter().map(|name| (*name, row.fate)))
}

/// The tables of docs/convert.md.
#[cfg(test)]
pub(super) fn page() -> String {
    let mut text = String::new();
    for (dialect, file) in [(Dialect::Ntp, "ntp.conf"), (Dialect::Chrony, "chrony.conf")] {
        text += &format!("\n| {file} | | |\n|---|---|---|\n");
        for Directive { names, fate, depends, what } in of(dialect) {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let fate = match fate {
                None if *depends => "depends",
                None => "carried over",
                Some(Fate::Unneeded) => "not needed",
                Some(Fate::LeftOut) => "left out",
            };
            text += &format!("| {} | {fate} | {what} |\n", names.join(", "));
        }
    }
    text
}
