//! A configuration's text as lines of words, without comments and without what is empty. Text in, borrowed lines out;
//! every other character of the file is in exactly one line.
use std::borrow::Cow;

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// From 1 on.
    pub(super) number: usize,
    /// As it stands in the file, without blanks around it and without its comment.
    pub(super) text: &'a str,
    /// What it says first.
    pub(super) directive: &'a str,
    /// What follows.
    pub(super) words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn new(number: usize, text: &'a str, mut words: Vec<&'a str>) -> Option<Self> {
        let directive = if words.is_empty() { return None } else { words.remove(0) };
        Some(Self { number, text, directive, words })
    }

    /// The line for a message: short, printable, and without what could be a secret.
    pub(super) fn shown(&self) -> Cow<'a, str> {
        // A key file in place of a configuration, or the password of Autokey's key.
        let secret = self.directive.bytes().all(|b| b.is_ascii_digit()) || self.words.contains(&"pw");
        if secret {
            return Cow::Owned(format!("{} …", printable(self.directive)));
        }
        printable(self.text)
    }
}

/// So much of a line is shown.
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
pub(super) fn of_ntp(text: &str) -> Vec<Line<'_>> {
    let numbered = without_mark(text).lines().enumerate();
    numbered
        .filter_map(|(n, line)| quoted(line).and_then(|(text, words)| Line::new(n + 1, text, words)))
        .collect()
}

/// The lines of a chrony.conf: one that begins with `#`, `%`, `;` or `!` is a comment.
pub(super) fn of_chrony(text: &str) -> Vec<Line<'_>> {
    let numbered = without_mark(text).lines().enumerate();
    numbered
        .map(|(n, line)| (n + 1, line.trim()))
        .filter(|(_, text)| !text.starts_with(['#', '%', ';', '!']))
        .filter_map(|(number, text)| Line::new(number, text, text.split_whitespace().collect()))
        .collect()
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
            let found = of_ntp(text);
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
        assert_eq!(of_ntp(" server  a  # b")[0].text, "server  a");
    }

    #[test]
    fn a_chrony_conf_in_words() {
        let lines = of_chrony("! a\n% b\n; c\n# d\n server h  iburst\n");
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].number, lines[0].text), (5, "server h  iburst"));
    }

    #[test]
    fn no_secret_and_no_control_character_is_shown() {
        let shown = |text: &str| of_ntp(text)[0].shown().into_owned();
        assert_eq!(shown("crypto pw geheim"), "crypto …");
        assert_eq!(shown("5 MD5 geheim"), "5 …");
        assert_eq!(shown("server \u{1b}[2J"), "server ?[2J");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), MOST_SHOWN + 1);
    }
}
