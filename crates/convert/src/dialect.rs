//! Whose configuration a text is, ntpd's or chronyd's, told by directives that only one of them knows, and if there are
//! none by what the file is called. Says that it cannot tell rather than guess.
use super::lines::{self, Line};

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ntpd's, the classic one's or NTPsec's.
    Ntp,
    /// chronyd's.
    Chrony,
}

/// Directives that ntpd knows and chronyd does not.
const NTP: &[&str] = &[
    "autokey",
    "automax",
    "broadcastclient",
    "broadcastdelay",
    "controlkey",
    "crypto",
    "disable",
    "discard",
    "enable",
    "extra",
    "filegen",
    "fudge",
    "includefile",
    "interface",
    "keys",
    "keysdir",
    "leapfile",
    "leapsmearinterval",
    "limit",
    "listen",
    "logconfig",
    "logfile",
    "manycastclient",
    "manycastserver",
    "mru",
    "multicastclient",
    "nts",
    "phone",
    "requestkey",
    "restrict",
    "revoke",
    "rlimit",
    "saveconfigdir",
    "setvar",
    "statistics",
    "statsdir",
    "tinker",
    "tos",
    "trap",
    "trustedkey",
    "ttl",
    "unpeer",
    "unrestrict",
];

/// Directives that chronyd knows and ntpd does not.
const CHRONY: &[&str] = &[
    "acquisitionport",
    "allow",
    "authselectmode",
    "bindacqaddress",
    "bindaddress",
    "bindcmdaddress",
    "clientloglimit",
    "cmdallow",
    "cmddeny",
    "cmdport",
    "combinelimit",
    "confdir",
    "corrtimeratio",
    "deny",
    "dumpdir",
    "dumponexit",
    "hwtimestamp",
    "initstepslew",
    "keyfile",
    "leapsecmode",
    "leapsectz",
    "leapseclist",
    "local",
    "lock_all",
    "log",
    "logbanner",
    "logchange",
    "logdir",
    "mailonchange",
    "makestep",
    "manual",
    "maxchange",
    "maxdistance",
    "maxslewrate",
    "maxupdateskew",
    "minsources",
    "noclientlog",
    "ntsdumpdir",
    "ntsservercert",
    "ntsserverkey",
    "ntstrustedcerts",
    "port",
    "ratelimit",
    "rtcautotrim",
    "rtcdevice",
    "rtcfile",
    "rtconutc",
    "rtcsync",
    "sched_priority",
    "smoothtime",
    "sourcedir",
    "stratumweight",
    "tempcomp",
    "user",
];

/// Tells by content, then by the name `origin`.
///
/// # Errors
/// When neither tells, with what to do.
pub(super) fn tell(text: &str, origin: &str) -> Result<Dialect, String> {
    // chronyd takes its words in any case, ntpd in lower case only.
    let ntp = lines::of_ntp(text).into_iter().find(|line| NTP.contains(&line.directive));
    let chrony = lines::of_chrony(text);
    let chrony =
        chrony.into_iter().find(|line| CHRONY.contains(&line.directive.to_ascii_lowercase().as_str()));
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

    #[test]
    fn no_word_is_both() {
        assert!(NTP.iter().all(|word| !CHRONY.contains(word)));
    }
}
