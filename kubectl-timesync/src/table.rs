//! Tables as kubectl prints them: columns three spaces apart, no frame. On a terminal the last column is cut at its edge;
//! a pipe gets the whole text.
use crate::screen::{Paint, Screen, printable};

/// A text in a table, with its colour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub(crate) fn painted(text: &str, paint: Paint) -> Self {
        Self { text: printable(text), paint }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::painted(text, Paint::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// A missing value is an empty text, as with kubectl.
impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        text.unwrap_or_default().into()
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).into()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text. At most `most` rows are shown below the headings.
    pub(crate) fn text(&self, screen: &Screen, most: Option<usize>) -> String {
        let shown = &self.rows[..self.rows.len().min(most.map_or(usize::MAX, |most| most + 1))];
        let columns = shown.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = shown.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in shown {
            let (mut line, mut used) = (String::new(), 0);
            for (column, cell) in row.iter().enumerate() {
                let is_last = column + 1 == row.len();
                let room = screen.width.map_or(usize::MAX, |width| width.saturating_sub(used));
                let part = if is_last { cut(&cell.text, room) } else { cell.text.clone() };
                line += &screen.paint(&part, cell.paint);
                if !is_last {
                    line += &" ".repeat(widths[column] + GAP - part.chars().count());
                }
                used += widths[column] + GAP;
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Spaces between columns.
const GAP: usize = 3;

/// The text, or its beginning and three dots. A few columns are always shown.
fn cut(text: &str, room: usize) -> String {
    let room = room.max(10);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room - 3).collect::<String>() + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NODE", "STATE", "WHY"]);
        table.row(vec!["a".into(), Cell::painted("Good", Paint::Good), "".into()]);
        table.row(vec!["long-name".into(), None.into(), "because of\nthis and that".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_whatever_their_colours() {
        let expected =
            "NODE        STATE   WHY\na           Good\nlong-name           because of this and that\n";
        assert_eq!(table().text(&Screen::of_file(), None), expected);
        let colours = table().text(&Screen { colours: true, ..Screen::of_file() }, None);
        assert!(colours.contains("a           \x1b[32mGood\x1b[0m\n"), "{colours}");
    }

    #[test]
    fn a_terminal_cuts_the_last_column_and_a_limit_the_rows() {
        let narrow = Screen { width: Some(34), ..Screen::of_file() };
        let text = table().text(&narrow, None);
        assert!(text.ends_with("\nlong-name           because of ...\n"), "{text}");
        assert_eq!(table().text(&Screen::of_file(), Some(1)).lines().count(), 2);
    }
}
