//! Checks a profile: every field is checked, and every problem is reported with its field. A profile that passes is
//! never rejected later. All rules are here: the operator calls them for a policy, the agent for a file. CEL rules
//! check some of them earlier. Reads only its argument.
use contract::{Mode, Span};

use crate::{Clock, Profile, Restrict, Step, Stratum, Thresholds, ranges};

mod access;
mod checked;
mod notes;
mod serve;
mod upstreams;

pub use access::{Access, AccessSource, drops_request, ignores};
pub use checked::{Checked, LocalClock};
pub use notes::CheckError;
use notes::Notes;
pub use serve::unfit_to_listen;
pub use upstreams::{Place, Source};

/// Checks every field of `profile`.
///
/// # Errors
/// All problems, each with its field.
pub fn check(profile: &Profile) -> Result<Checked, CheckError> {
    // Without `..`, so that a new field without a check does not compile.
    let Profile { mode, upstreams, restrict, stratum, serve, clock, rtc: _, thresholds, timezone } = profile;
    let mut notes = Notes::default();
    let sources = upstreams::check(upstreams, &mut notes);
    let safe_default;
    let restrict = if restrict.is_empty() {
        safe_default = Restrict::safe_default();
        &safe_default
    } else {
        restrict
    };
    let access = access::check(restrict, &mut notes);
    access::check_reachable(upstreams, &access, &mut notes);
    let votes = (!upstreams.is_empty()).then(|| sources.iter().map(Source::votes).sum());
    let local = check_stratum(*stratum, votes.unwrap_or(0), &mut notes);
    if *mode == Mode::Discipline && upstreams.iter().all(|each| each.noselect) && stratum.local.is_none() {
        notes.wrong(
            "upstreams",
            "mode Discipline needs an upstream without noselect, or stratum.local to serve the node's own clock",
        );
    }
    serve::check(serve, &mut notes);
    check_clock(clock, votes, &mut notes);
    check_timezone(timezone.as_deref(), &mut notes);
    check_thresholds(thresholds, &mut notes);
    let usual = ranges::DEFAULT_MAX_DISTANCE;
    if clock.max_distance > usual && thresholds.error_bound < usual {
        notes.hints.push(format!(
            "clock.maxDistance: a source with a root distance beyond thresholds.errorBound ({}) leaves the \
             clock unsynchronised: raise thresholds.errorBound, too",
            thresholds.error_bound
        ));
    }
    Ok(Checked::new(profile.clone(), sources, access, local, notes.finish()?))
}

/// `votes` is the largest possible number of sources.
fn check_stratum(stratum: Stratum, votes: usize, notes: &mut Notes) -> Option<LocalClock> {
    let Stratum { local, orphan, activate_after } = stratum;
    let Some(local) = local else {
        for (given, field) in [(orphan, "orphan"), (activate_after.is_some(), "activateAfter")] {
            if given {
                notes.wrong(
                    format!("stratum.{field}"),
                    "requires stratum.local, the stratum at which the node serves",
                );
            }
        }
        return None;
    };
    let range = if orphan { ranges::ORPHAN_STRATUM } else { ranges::LOCAL_STRATUM };
    notes.range("stratum.local", local, range);
    if orphan && votes == 0 {
        notes.wrong("stratum.orphan", "requires the other nodes as upstreams, as server or peer");
    }
    let usual = if orphan { ranges::DEFAULT_ORPHAN_ACTIVATE_AFTER } else { ranges::DEFAULT_ACTIVATE_AFTER };
    let activate_after = activate_after.unwrap_or(usual);
    if activate_after > ranges::LONGEST_ACTIVATE_AFTER {
        notes.wrong("stratum.activateAfter", "must be at most 24h");
    }
    Some(LocalClock { stratum: local, orphan, activate_after })
}

/// `votes` is the largest possible number of sources. None without upstreams.
fn check_clock(clock: &Clock, votes: Option<usize>, notes: &mut Notes) {
    // The last two are enums without invalid values.
    let Clock { step, max_slew_rate, max_change, max_distance, min_sources, on_external_step: _, leap: _ } =
        *clock;
    check_step(step, max_change, notes);
    notes.range("clock.maxSlewRate", max_slew_rate, ranges::MAX_SLEW_RATE);
    notes.positive("clock.maxChange", max_change);
    notes.range("clock.maxDistance", max_distance, ranges::MAX_DISTANCE);
    if let Some(least) = min_sources {
        notes.range("clock.minSources", least, ranges::MIN_SOURCES);
        if let Some(votes) = votes.filter(|votes| usize::from(least) > (*votes).max(1)) {
            notes.wrong(
                "clock.minSources",
                format!("{least} sources can never agree: only {votes} can be selected"),
            );
        }
    }
}

fn check_step(step: Step, max_change: Span, notes: &mut Notes) {
    let Step { threshold, limit } = step;
    notes.range("clock.step.limit", limit, ranges::STEP_LIMIT);
    if threshold == Span::default() {
        notes.wrong(
            "clock.step.threshold",
            "must be more than 0s; for no steps at all set clock.step.limit to 0",
        );
    } else if threshold > max_change && max_change != Span::default() {
        notes.wrong(
            "clock.step.threshold",
            format!(
                "{threshold} is larger than clock.maxChange, {max_change}: the first step would be refused"
            ),
        );
    }
}

fn check_timezone(timezone: Option<&str>, notes: &mut Notes) {
    let Some(name) = timezone else { return };
    if !is_zone_name(name) {
        notes.wrong(
            "timezone",
            format!(
                "{name:?} is not the name of a time zone: use a name such as Asia/Shanghai, Etc/GMT+8 or UTC"
            ),
        );
    } else if name.starts_with("right/") {
        notes.wrong(
            "timezone",
            format!(
                "{name:?} counts leap seconds, which the system clock does not: remove right/ from the name"
            ),
        );
    }
}

/// Returns true if `name` has the form of a name in the tz database: one to three words, of which the first begins with
/// a letter. Such a name has no dots, so it cannot leave the folder. `localtime` is excluded, since on some hosts it is
/// a link to /etc/localtime.
fn is_zone_name(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphanumeric())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    };
    name.len() <= ranges::LONGEST_TIMEZONE
        && name != "localtime"
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.split('/').count() <= 3
        && name.split('/').all(word)
}

fn check_thresholds(thresholds: &Thresholds, notes: &mut Notes) {
    let Thresholds { offset, error_bound, spread, hold } = *thresholds;
    for (field, span) in [("offset", offset), ("errorBound", error_bound), ("spread", spread)] {
        notes.positive(&format!("thresholds.{field}"), span);
    }
    notes.range("thresholds.hold", hold, ranges::HOLD);
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "[[upstreams]]\nname = \"a\"\nserver = \"192.0.2.1\"\n";

    fn outcome(text: &str) -> Result<Checked, String> {
        check(&toml::from_str(text).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_small_profile_passes() {
        let checked = outcome(A).unwrap();
        assert_eq!((checked.sources().len(), checked.access().len()), (1, 3));
        assert!(checked.hints().is_empty());
    }

    #[test]
    fn problems_name_the_field() {
        let check = |text: &str, expected: &str| assert_eq!(outcome(text).unwrap_err(), expected, "{text}");
        let with = |line: &str| format!("{A}{line}");
        check(&with("minPoll = 9"), "upstreams[0].minPoll: 9 is larger than maxPoll 6");
        check(
            &with("minPoll = -1\nmaxPoll = 18"),
            "upstreams[0].minPoll: -1 is not within 0 to 17; upstreams[0].maxPoll: 18 is not within 0 to 17",
        );
        check(
            &(A.to_owned() + &A.replace(".1", ".2")),
            "upstreams[1].name: \"a\" is used twice: each name must be unique",
        );
        check(&with("port = 0"), "upstreams[0].port: 0 is no port");
        check(
            "",
            "upstreams: mode Discipline needs an upstream without noselect, or stratum.local to serve the node's own clock",
        );
        check(&with("[stratum]\nlocal = 16"), "stratum.local: 16 is not within 1 to 15");
        for (local, said) in [(15, "15 is not within 2 to 14"), (1, "1 is not within 2 to 14")] {
            let text = with(&format!("[stratum]\nlocal = {local}\norphan = true"));
            check(&text, &format!("stratum.local: {said}"));
        }
        check(
            &with("[stratum]\norphan = true\nactivateAfter = \"5s\""),
            "stratum.orphan: requires stratum.local, the stratum at which the node serves; \
             stratum.activateAfter: requires stratum.local, the stratum at which the node serves",
        );
        check(
            "[stratum]\nlocal = 10\norphan = true",
            "stratum.orphan: requires the other nodes as upstreams, as server or peer",
        );
        check(
            &with("[stratum]\nlocal = 10\nactivateAfter = \"25h\""),
            "stratum.activateAfter: must be at most 24h",
        );
        check(&with("[clock]\nmaxSlewRate = 0"), "clock.maxSlewRate: 0 is not within 1 to 100000");
        check(&with("[clock]\nmaxChange = \"0s\""), "clock.maxChange: must be more than 0s");
        let range = |value: &str| format!("clock.maxDistance: {value} is not within 1ms to 16s");
        check(&with("[clock]\nmaxDistance = \"999us\""), &range("999us"));
        check(&with("[clock]\nmaxDistance = \"17s\""), &range("17s"));
        check(&with("[serve.rateLimit]\nleak = 0"), "serve.rateLimit.leak: 0 is not within 1 to 4");
        check(
            &with("[serve.rateLimit]\ninterval = 13"),
            "serve.rateLimit.interval: 13 is not within -6 to 12",
        );
        check(
            &with("[serve]\nworkers = 0\nrateLimit.maxClients = 1023"),
            "serve.rateLimit.maxClients: 1023 is not within 1024 to 1048576; serve.workers: 0 is not within 1 to 16",
        );
        check(&with("[thresholds]\nerrorBound = \"0s\""), "thresholds.errorBound: must be more than 0s");
    }

    #[test]
    fn names_of_time_zones() {
        let check = |name: &str, good: bool| {
            let outcome = outcome(&format!("timezone = {name:?}\n{A}"));
            assert_eq!(outcome.is_ok(), good, "{name}: {outcome:?}");
            if let Err(why) = outcome {
                assert!(why.starts_with("timezone: "), "{why}");
            }
        };
        for name in ["Asia/Shanghai", "UTC", "Etc/GMT+8", "America/Argentina/Buenos_Aires", "EST5EDT"] {
            check(name, true);
        }
        for name in ["", "/etc/passwd", "../../etc/passwd", "Asia/..", "Asia//Shanghai", "Asia/", ".", "a b"]
        {
            check(name, false);
        }
        for name in ["localtime", "Asia/Shang\thai", "Zürich", "leapseconds.list", &"A".repeat(256)] {
            check(name, false);
        }
        check("right/UTC", false);
        check("A/b/c/d", false);
        check(&"A".repeat(65), false);
        check(&"A".repeat(64), true);
    }

    #[test]
    fn what_could_never_agree_is_refused() {
        let check = |text: &str, expected: &str| match outcome(text) {
            Ok(_) => assert_eq!(expected, "", "{text}"),
            Err(why) => assert_eq!(why, expected, "{text}"),
        };
        check(&format!("{A}[clock]\nminSources = 1"), "");
        check(
            &format!("{A}[clock]\nminSources = 2"),
            "clock.minSources: 2 sources can never agree: only 1 can be selected",
        );
        check("[[upstreams]]\nname = \"p\"\npool = \"p.example\"\n[clock]\nminSources = 4", "");
        check("[stratum]\nlocal = 10\n[clock]\nminSources = 2", "");
        check(&format!("{A}[clock]\nminSources = 0"), "clock.minSources: 0 is not within 1 to 16");
        check(
            &format!("{A}noselect = true"),
            "upstreams: mode Discipline needs an upstream without noselect, or stratum.local to serve the node's own clock",
        );
        check(&format!("mode = \"Observe\"\n{A}noselect = true"), "");
        let two = format!("{A}prefer = true\n[[upstreams]]\nname = \"b\"\nserver = \"h\"\nprefer = true");
        check(&two, "upstreams: 2 have prefer, but at most one may");
    }

    #[test]
    fn sources_of_restrict_lines() {
        let check =
            |source: &str, expected: Result<usize, &str>| match (access::parse_source(source), expected) {
                (Ok(AccessSource::Everybody), Ok(2))
                | (Ok(AccessSource::Network(_)), Ok(1))
                | (Ok(AccessSource::Upstreams), Ok(0)) => {}
                (Err(why), Err(part)) => assert!(why.to_string().contains(part), "{source}: {why}"),
                (outcome, _) => panic!("{source}: {outcome:?}"),
            };
        check("default", Ok(2));
        check("source", Ok(0));
        check("10.0.0.0/8", Ok(1));
        check("0.0.0.0/0", Ok(1));
        check("::/0", Ok(1));
        check("fd00::/8", Ok(1));
        check("127.0.0.1", Ok(1));
        check("10.1.0.0/8", Err("beyond its prefix"));
        check("fd00::1/64", Err("beyond its prefix"));
        check("10.0.0.0/33", Err("more than 32 prefix bits"));
        check("10.0.0.0/+8", Err("neither"));
        check("10.0.0.0/", Err("neither"));
        check("example.com", Err("neither"));
        check("::ffff:10.0.0.0/104", Err("IPv4"));
    }

    #[test]
    fn an_upstream_under_ignore_is_an_error() {
        let refused = |restrict: &str| match outcome(&format!("{A}{restrict}")) {
            Ok(_) => false,
            Err(why) => {
                why.starts_with("upstreams[0].server: 192.0.2.1 is covered by a restrict entry with ignore")
            }
        };
        let line =
            |source: &str, flags: &str| format!("[[restrict]]\nsource = \"{source}\"\nflags = [{flags}]\n");
        assert!(refused(&line("192.0.2.0/24", "\"ignore\"")));
        assert!(refused(&line("default", "\"ignore\"")));
        assert!(refused(&line("192.0.2.1", "\"ignore\", \"ntpport\"")));
        assert!(
            refused(&(line("192.0.2.1", "\"ignore\"") + &line("192.0.2.1/32", ""))),
            "duplicates are merged"
        );
        assert!(
            !refused(&(line("default", "\"ignore\"") + &line("192.0.2.1", ""))),
            "the most specific one wins"
        );
        assert!(!refused(&(line("default", "\"ignore\"") + &line("192.0.2.1", "\"ntpport\""))));
        assert!(!refused(&line("198.51.100.0/24", "\"ignore\"")));
        assert!(!refused(&(line("default", "\"ignore\"") + &line("source", "\"noquery\""))));
        assert!(
            refused(&(line("192.0.2.1", "\"ignore\"") + &line("source", ""))),
            "what is written for an address goes before the template"
        );
    }

    #[test]
    fn keys_for_clients() {
        let check = |keys: &str, expected: &str| {
            let found =
                outcome(&format!("{A}[serve]\nkeys = [{keys}]")).map_or_else(|why| why, |_| String::new());
            assert_eq!(found, expected, "{keys}");
        };
        check("'s_a', 's_b'", "");
        check("'s_a', 's_b', 's_a'", "serve.keys[2]: \"s_a\" is listed twice");
        let why = "is not a file name: use letters, digits, '.', '-' and '_', without a folder";
        check("'s_a', '../b'", &format!("serve.keys[1]: \"../b\" {why}"));
        let many: Vec<_> = (0..17).map(|n| format!("'k{n}'")).collect();
        check(&many.join(","), "serve.keys: has more than 16 files");
    }

    #[test]
    fn files_and_port_of_served_nts() {
        let check = |lines: &str, expected: &str| {
            let text = format!("{A}[serve.nts]\n{lines}");
            assert_eq!(
                outcome(&text).map(|checked| checked.hints().to_vec()),
                Err(expected.to_owned()),
                "{lines}"
            );
        };
        let good = "certificate = 'web_tls.crt'\nprivateKey = 'web_tls.key'\n";
        assert_eq!(outcome(&format!("{A}[serve.nts]\n{good}")).unwrap().hints(), [""; 0]);
        let what = "is not a file name: use letters, digits, '.', '-' and '_', without a folder";
        check(&good.replace("web_tls.crt", "/etc/x"), &format!("serve.nts.certificate: \"/etc/x\" {what}"));
        check(&good.replace("web_tls.key", ".."), &format!("serve.nts.privateKey: \"..\" {what}"));
        check(&format!("{good}cookieKeys = ''"), &format!("serve.nts.cookieKeys: \"\" {what}"));
        check(&format!("{good}port = 0"), "serve.nts.port: 0 is no port");
        let hints = outcome(&format!("{A}[serve]\nenabled = false\n[serve.nts]\n{good}")).unwrap();
        assert_eq!(hints.hints(), ["serve.nts: has no effect while serve.enabled is false"]);
    }

    #[test]
    fn kod_without_limited_is_a_hint() {
        let checked = outcome(&format!("{A}[[restrict]]\nsource = \"default\"\nflags = [\"kod\"]")).unwrap();
        assert_eq!(checked.hints(), ["restrict[0].flags: kod has no effect without limited"]);
        let text = "[[restrict]]\nsource = \"default\"\nflags = [\"noepeer\", \"nomodify\", \"notrap\"]";
        let checked = outcome(&format!("{A}{text}")).unwrap();
        let why = "noepeer has no effect: a packet never creates an association";
        assert_eq!(checked.hints(), [format!("restrict[0].flags: {why}")]);
    }

    #[test]
    fn a_template_must_let_upstreams_answer() {
        let text = |flag: &str| format!("{A}[[restrict]]\nsource = \"source\"\nflags = [\"{flag}\"]");
        let why = "restrict[0].flags: ignore would drop the replies of every upstream";
        assert!(outcome(&text("ignore")).unwrap_err().starts_with(why));
        let why = "restrict[0].flags: the entry for source applies to every port: remove ntpport";
        assert_eq!(outcome(&text("ntpport")).unwrap_err(), why);
        assert!(outcome(&text("noserve")).is_ok());
    }
}
