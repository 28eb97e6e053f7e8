//! Splits a configuration's text into lines of words, without comments and empty lines. Text in, borrowed lines out;
//! every other character of the file is in exactly one line.
use std::borrow::Cow;

/// A line of a file, with the result of reading the files that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    /// The file, as messages name it.
    pub(super) origin: String,
    /// From 1 on.
    pub(super) number: usize,
    /// Without its end.
    pub(super) text: String,
    /// For a line that names other files.
    pub(super) beside: Option<Included>,
    /// True if it must not be shown: a configuration may include a file that is no configuration, such as one with
    /// secrets.
    pub(super) is_hidden: bool,
}

/// The result of a line that names other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Included {
    /// Their lines follow; a word on which they are.
    Read(String),
    /// There is nothing to read, and nothing is lost.
    Nothing(String),
    /// Something could not be read.
    LeftOut(String),
}

/// A line that is neither empty nor a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Its position among all lines, including those of included files, from 1 on.
    pub(super) at: usize,
    /// The file, as messages name it.
    pub(super) origin: &'a str,
    /// Its number in that file, from 1 on.
    pub(super) number: usize,
    /// The result of reading the files that it names.
    pub(super) beside: Option<&'a Included>,
    /// True if messages must not repeat its text.
    is_hidden: bool,
    /// Its text, without blanks around it and without its comment.
    pub(super) text: &'a str,
    /// The first word.
    pub(super) directive: &'a str,
    /// The other words.
    pub(super) words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn new(at: usize, raw: &'a Raw, text: &'a str, mut words: Vec<&'a str>) -> Option<Self> {
        let directive = if words.is_empty() { return None } else { words.remove(0) };
        let Raw { origin, number, text: _, beside, is_hidden } = raw;
        Some(Self {
            is_hidden: *is_hidden,
            at: at + 1,
            origin,
            number: *number,
            beside: beside.as_ref(),
            text,
            directive,
            words,
        })
    }

    /// The line for a message: short, printable, and without what could be a secret.
    pub(super) fn shown(&self) -> Cow<'a, str> {
        if self.is_hidden {
            return Cow::Borrowed("…");
        }
        // A key file in place of a configuration, or the password of Autokey's key.
        let secret = self.directive.bytes().all(|b| b.is_ascii_digit()) || self.words.contains(&"pw");
        if secret {
            return Cow::Owned(format!("{} …", printable(self.directive)));
        }
        printable(self.text)
    }
}

/// The most characters of a line that are shown.
const MOST_SHOWN: usize = 120;

/// `text` without control characters, and not too long.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let plain = |c: char| !c.is_control() || c == '\t';
    if text.chars().all(plain) && text.chars().nth(MOST_SHOWN).is_none() {
        return Cow::Borrowed(text);
    }
    let shown: String = text.chars().take(MOST_SHOWN).map(|c| if plain(c) { c } else { '?' }).collect();
    Cow::Owned(if text.chars().nth(MOST_SHOWN).is_some() { shown + "…" } else { shown })
}

/// The lines of an ntp.conf: a `#` begins a comment wherever it stands, save within quotes.
pub(super) fn of_ntp<'a>(raw: &'a [Raw]) -> Vec<Line<'a>> {
    let line = |(at, raw): (usize, &'a Raw)| {
        quoted(&raw.text).and_then(|(text, words)| Line::new(at, raw, text, words))
    };
    raw.iter().enumerate().filter_map(line).collect()
}

/// The lines of a chrony.conf: one that begins with `#`, `%`, `;` or `!` is a comment.
pub(super) fn of_chrony(raw: &[Raw]) -> Vec<Line<'_>> {
    let trimmed = raw.iter().enumerate().map(|(at, raw)| (at, raw, raw.text.trim()));
    trimmed
        .filter(|(.., text)| !text.starts_with(['#', '%', ';', '!']))
        .filter_map(|(at, raw, text)| Line::new(at, raw, text, text.split_whitespace().collect()))
        .collect()
}

/// The lines of one file.
pub(super) fn raw(origin: &str, text: &str) -> Vec<Raw> {
    let line = |(n, text): (usize, &str)| Raw {
        origin: origin.to_owned(),
        number: n + 1,
        text: text.to_owned(),
        beside: None,
        is_hidden: false,
    };
    without_mark(text).lines().enumerate().map(line).collect()
}

/// Some editors put a byte order mark before everything.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A line without its comment, and its words, of which some may be in quotes; none if there is nothing.
fn quoted(line: &str) -> Option<(&str, Vec<&str>)> {
    let (mut words, mut rest) = (Vec::new(), line.trim_start());
    let mut end = rest;
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(inside) => inside.split_once('"').unwrap_or((inside, "")),
            None => rest.split_at(rest.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(rest.len())),
        };
        words.push(word);
        end = after;
        rest = after.trim_start();
    }
    let said = line.len() - end.len();
    (!words.is_empty()).then(|| (line[..said].trim(), words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ntp_conf_in_words() {
        let check = |text: &str, expected: &[(usize, &str, &[&str])]| {
            let raw = raw("f", text);
            let found = of_ntp(&raw);
            let found: Vec<_> = found.iter().map(|l| (l.number, l.directive, l.words.as_slice())).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &[]);
        check("# a\n\n \t \n#b", &[]);
        check("server a iburst # the first\n", &[(1, "server", &["a", "iburst"])]);
        check("\r\n  keys\t/k\r\n", &[(2, "keys", &["/k"])]);
        check("server a#b", &[(1, "server", &["a"])]);
        check("crypto pw \"a # b\" x", &[(1, "crypto", &["pw", "a # b", "x"])]);
        check("keys \"open", &[(1, "keys", &["open"])]);
        check("\u{feff}driftfile /d", &[(1, "driftfile", &["/d"])]);
        assert_eq!(of_ntp(&raw("f", " server  a  # b"))[0].text, "server  a");
    }

    #[test]
    fn a_chrony_conf_in_words() {
        let raw = raw("f", "! a\n% b\n; c\n# d\n server h  iburst\n");
        let lines = of_chrony(&raw);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].number, lines[0].text), (5, "server h  iburst"));
    }

    #[test]
    fn no_secret_and_no_control_character_is_shown() {
        let shown = |text: &str| of_ntp(&raw("f", text))[0].shown().into_owned();
        assert_eq!(shown("crypto pw geheim"), "crypto …");
        assert_eq!(shown("5 MD5 geheim"), "5 …");
        assert_eq!(shown("server \u{1b}[2J"), "server ?[2J");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), MOST_SHOWN + 1);
    }
}
