//! Finds the program that a configuration is for, ntpd or chronyd: by directives that only one of them knows, else by
//! the name of the file. Returns an error instead of a guess.
use crate::{
    Dialect, directives,
    lines::{self, Line},
};

/// Finds the program by the content, then by the name `origin`.
///
/// # Errors
/// If neither is enough; the message says what to do.
pub(super) fn tell(text: &str, origin: &str) -> Result<Dialect, String> {
    // chronyd takes its words in any case, ntpd in lower case only.
    let raw = lines::raw(origin, text);
    let knows = |dialect, line: &Line<'_>| directives::find(dialect, line.directive).is_some();
    let only = |one, other| move |line: &Line<'_>| knows(one, line) && !knows(other, line);
    let ntp = lines::of_ntp(&raw).into_iter().find(only(Dialect::Ntp, Dialect::Chrony));
    let chrony = lines::of_chrony(&raw).into_iter().find(only(Dialect::Chrony, Dialect::Ntp));
    let place = |line: &Line<'_>| format!("`{}` (line {})", line.directive, line.number);
    match (ntp, chrony) {
        (Some(_), None) => Ok(Dialect::Ntp),
        (None, Some(_)) => Ok(Dialect::Chrony),
        (Some(ntp), Some(chrony)) => Err(format!(
            "{} is ntpd's and {} chronyd's: say with --from ntp or --from chrony whose file it is",
            place(&ntp),
            place(&chrony)
        )),
        (None, None) => match (origin.contains("ntp"), origin.contains("chrony")) {
            (true, false) => Ok(Dialect::Ntp),
            (false, true) => Ok(Dialect::Chrony),
            _ => Err("nothing in it is only ntpd's or only chronyd's, and they do not mean the same by the same words: \
                      say with --from ntp or --from chrony whose file it is"
                .to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_tells_and_then_the_name() {
        let check = |text: &str, origin: &str, expected: Result<Dialect, &str>| match (
            tell(text, origin),
            expected,
        ) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (outcome, _) => panic!("{text}: {outcome:?}"),
        };
        check("server a\nrestrict default", "chrony.conf", Ok(Dialect::Ntp));
        check("server a\nmakestep 1 3", "ntp.conf", Ok(Dialect::Chrony));
        check("server a\nMakeStep 1 3", "-", Ok(Dialect::Chrony));
        check("server a", "/etc/ntp.conf", Ok(Dialect::Ntp));
        check("server a", "/etc/chrony.conf", Ok(Dialect::Chrony));
        check("server a", "-", Err("nothing in it is only ntpd's"));
        check(
            "tos maxclock 5\nmakestep 1 3",
            "-",
            Err("`tos` (line 1) is ntpd's and `makestep` (line 2) chronyd's"),
        );
        check("# restrict\n", "-", Err("--from"));
    }
}
