//! The table of a run: figures of the operator and of the bare client, and the target for each.
use std::fmt::Write;

/// Rows so far; each is shown when it comes, since a run takes long.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    operator: String,
    bare: String,
    ratio: String,
    aim: String,
}

impl Table {
    /// A figure of the operator alone, with the largest one that is aimed at.
    pub(crate) fn figure(&mut self, what: &str, figure: f64, unit: &str, aim: Option<f64>) {
        let missed = if aim.is_some_and(|aim| figure > aim) { " **missed**" } else { "" };
        let with_unit = |figure| format!("{} {unit}", shown(figure)).trim_end().to_owned();
        self.row(what, format!("{}{missed}", with_unit(figure)), None, aim.map_or("–".to_owned(), with_unit));
    }

    /// Seconds of the operator and of the bare client, with the largest ratio that is aimed at.
    pub(crate) fn beside(&mut self, what: &str, operator: f64, bare: f64, aim: f64) {
        let ratio = operator / bare;
        let missed = if ratio > aim { " **missed**" } else { "" };
        let bare = Some((format!("{} s", shown(bare)), format!("{ratio:.2}{missed}")));
        self.row(what, format!("{} s", shown(operator)), bare, format!("{aim:.1} ×"));
    }

    /// What has to hold.
    pub(crate) fn fact(&mut self, what: &str, said: &str, holds: bool, aim: &str) {
        let missed = if holds { "" } else { " **missed**" };
        self.row(what, format!("{said}{missed}"), None, aim.to_owned());
    }

    /// What could not be measured, and why.
    pub(crate) fn failed(&mut self, what: &str, error: &anyhow::Error) {
        let why: String = format!("{error:#}").lines().next().unwrap_or_default().chars().take(120).collect();
        self.row(what, format!("**failed**: {}", why.replace('|', "/")), None, "–".to_owned());
    }

    fn row(&mut self, what: &str, operator: String, bare: Option<(String, String)>, aim: String) {
        let (bare, ratio) = bare.unwrap_or(("–".to_owned(), "–".to_owned()));
        eprintln!("  {what}: {operator} (bare client {bare}, ratio {ratio}, aim {aim})");
        self.rows.push(Row { what: what.to_owned(), operator, bare, ratio, aim });
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text =
            String::from("| what | operator | bare client | ratio | aim |\n|---|---|---|---|---|\n");
        for Row { what, operator, bare, ratio, aim } in &self.rows {
            let _ = writeln!(text, "| {what} | {operator} | {bare} | {ratio} | {aim} |");
        }
        text
    }
}

/// Two digits behind the point for small figures, none for large ones.
fn shown(figure: f64) -> String {
    match figure.abs() {
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_its_aim_is_marked() {
        let mut table = Table::default();
        table.figure("memory", 121.0, "MB", Some(120.0));
        table.figure("memory", 119.4, "MB", Some(120.0));
        table.beside("edit", 11.0, 10.0, 1.1);
        table.beside("edit", 12.0, 10.0, 1.1);
        table.fact("restart", "3 annotations", false, "none");
        let text = table.text();
        for row in [
            "| memory | 121 MB **missed** | – | – | 120 MB |",
            "| memory | 119 MB | – | – | 120 MB |",
            "| edit | 11.0 s | 10.0 s | 1.10 | 1.1 × |",
            "| edit | 12.0 s | 10.0 s | 1.20 **missed** | 1.1 × |",
            "| restart | 3 annotations **missed** | – | – | none |",
        ] {
            assert!(text.contains(row), "{text}");
        }
    }
}
