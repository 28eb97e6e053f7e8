//! The screen: its size, and whether it shows colours. Standard output and the environment are read here and nowhere
//! else. As with kubectl, a pipe gets whole lines without colours, and $NO_COLOR is respected. $COLUMNS is a user's
//! wish, as of `watch`, and holds in a pipe, too.
use std::{
    env,
    io::{self, IsTerminal},
};

use rustix::termios::tcgetwinsize;

/// A colour of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paint {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
    Faint,
    Bold,
}

/// What the output is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns; none if lines may have any length.
    pub(crate) width: Option<usize>,
    /// Rows; none if there is no limit.
    pub(crate) height: Option<usize>,
    /// Whether colours are shown.
    pub(crate) colours: bool,
}

/// Columns of running text if the width is not known. Longer lines are hard to read.
const READABLE: usize = 100;

/// The spaces before a line if more would leave no room.
const FEW: usize = 4;

impl Screen {
    /// Standard output.
    pub(crate) fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| is_terminal && size.ws_col > 0);
        let columns = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|width| *width > 0);
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: columns.or(size.map(|size| usize::from(size.ws_col))),
            height: size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0),
            colours: is_terminal && !is_set("NO_COLOR") && !is_dumb,
        }
    }

    /// A file, or a pipe: whole lines without colours.
    pub(crate) fn of_file() -> Self {
        Self { width: None, height: None, colours: false }
    }

    /// The text in this colour, if colours are shown.
    pub(crate) fn paint(&self, text: &str, paint: Paint) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Doubtful => "33",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Bold => "1",
            Paint::Plain => return text.to_owned(),
        };
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A running text, broken into lines. The first begins with `first`, the others with as many spaces; with a few if
    /// a narrow screen would have no room left for the text.
    pub(crate) fn wrap(&self, first: &str, text: &str) -> String {
        let width = self.width.unwrap_or(READABLE).min(READABLE);
        let indent = match first.chars().count() {
            indent if indent > width / 2 => FEW.min(indent),
            indent => indent,
        };
        let (mut lines, mut line) = (Vec::new(), first.to_owned());
        let mut is_empty = true;
        for word in text.split_whitespace() {
            let longer = line.chars().count() + usize::from(!is_empty) + word.chars().count();
            if !is_empty && longer > width {
                lines.push(line);
                line = " ".repeat(indent);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        lines.push(line);
        lines.join("\n") + "\n"
    }
}

/// A text without control characters, so that what a node reports cannot steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The colour of a clock's state, or of a source's.
pub(crate) fn of_state(state: &str) -> Paint {
    match state {
        "Synchronized" | "Selected" | "Combined" | "Agreeing" => Paint::Good,
        "Holdover" | "LocalReference" | "Measuring" | "Untrusted" | "Noselect" => Paint::Doubtful,
        "Unsynchronized" | "Falseticker" | "NoMajority" | "Unusable" | "Unreachable" | "Unresolved" => {
            Paint::Bad
        }
        "Unknown" | "Outdated" | "NoClock" => Paint::Bad,
        _ => Paint::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_text_is_broken_between_words() {
        let screen = Screen { width: Some(12), ..Screen::of_file() };
        assert_eq!(
            screen.wrap("- ", "one two three averyverylongword x"),
            "- one two\n  three\n  averyverylongword\n  x\n"
        );
        assert_eq!(Screen::of_file().wrap("", "one two"), "one two\n");
        assert_eq!(
            screen.wrap("    because: ", "one two three four"),
            "    because: one\n    two\n    three\n    four\n"
        );
        assert_eq!(screen.wrap("    because: ", "one a b c d"), "    because: one\n    a b c d\n");
    }

    #[test]
    fn colours_are_for_terminals() {
        assert_eq!(Screen::of_file().paint("x", Paint::Bad), "x");
        let terminal = Screen { colours: true, ..Screen::of_file() };
        assert_eq!(terminal.paint("x", Paint::Bad), "\x1b[31mx\x1b[0m");
        assert_eq!(
            (terminal.paint("x", Paint::Plain), terminal.paint("", Paint::Bad)),
            ("x".into(), "".into())
        );
    }

    #[test]
    fn a_nodes_words_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
