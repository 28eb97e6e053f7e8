//! Properties that must hold for any text: no panic, a remark or a result for each line, and a result that can run.
//! Also that the table of directives is right.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{net::IpAddr, path::Path};

use proptest::prelude::*;

use super::*;

/// No files beside the text, except one that includes itself.
#[derive(Debug)]
struct Alone;

impl Beside for Alone {
    fn read(&self, path: &Path) -> Result<String, Unread> {
        let text = "server c.example\ninclude /i\nincludefile /i\nrestrict c.example";
        if path == Path::new("/i") { Ok(text.to_owned()) } else { Err(Unread::Missing) }
    }

    fn names(&self, _: &Path) -> Result<Vec<String>, Unread> {
        Err(Unread::Missing)
    }

    fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, String> {
        Err("no such name".to_owned())
    }
}

#[test]
fn the_page_has_every_directive() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/convert.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- made from the tables in the code -->\n", "\n<!-- until here -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (committed, after) = rest.split_once(end).unwrap();
    let made = directives::page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
        return;
    }
    assert!(committed == made, "docs/convert.md is old: UPDATE_GOLDEN=1 cargo test -p timesync-convert");
}

/// The row of the table is right also for a line that has a parser of its own.
#[test]
fn rows_say_what_happens() {
    for dialect in [Dialect::Ntp, Dialect::Chrony] {
        for (name, fate) in directives::names(dialect) {
            let raw = lines::raw("f", name);
            let lines = if dialect == Dialect::Ntp { lines::of_ntp(&raw) } else { lines::of_chrony(&raw) };
            let mut draft = Draft::new(Target::Agent, &Alone);
            match dialect {
                Dialect::Ntp => ntp_conf::read(&lines, &mut draft),
                Dialect::Chrony => chrony_conf::read(&lines, &mut draft),
            }
            let said = draft.remarks.text("f");
            assert!(!said.contains("there is no such directive"), "{said}");
            match fate {
                Some(remarks::Fate::Unneeded) => assert!(said.contains("f:1: note: "), "{said}"),
                Some(remarks::Fate::LeftOut) => assert!(said.contains("f:1: left out: "), "{said}"),
                None => {}
            }
        }
    }
}

/// Words for all branches of the parsers.
const KNOWN: &[&str] = &[
    "includefile",
    "include",
    "/i",
    "confdir",
    "prefer",
    "initstepslew",
    "bindaddress",
    "hwclockfile",
    "/etc/adjtime",
    "localhost",
    "127.0.0.1",
    "crypto",
    "slewalways",
    "refclock",
    "local",
    "offset",
    "minsources",
    "server",
    "pool",
    "peer",
    "refclock",
    "restrict",
    "unrestrict",
    "fudge",
    "tos",
    "tinker",
    "discard",
    "limit",
    "mru",
    "nts",
    "trustedkey",
    "keys",
    "enable",
    "disable",
    "interface",
    "crypto",
    "pw",
    "allow",
    "deny",
    "all",
    "makestep",
    "local",
    "ratelimit",
    "ntstrustedcerts",
    "ntsservercert",
    "keyfile",
    "rtcdevice",
    "default",
    "source",
    "mask",
    "127.127.1.0",
    "127.127.20.1",
    "192.0.2.1",
    "10.0.0.0/8",
    "255.255.0.0",
    "2001:db8::/32",
    "::1",
    "-4",
    "-6",
    "0/0",
    "a.example",
    "b.example",
    "iburst",
    "prefer",
    "noselect",
    "key",
    "minpoll",
    "maxpoll",
    "stratum",
    "orphan",
    "step",
    "panic",
    "average",
    "burst",
    "PHC",
    "/dev/ptp0",
    "tai",
    "#",
    "\"",
    "(",
    "...",
    ")",
    "0",
    "1",
    "5",
    "-1",
    "0.5",
    "99999999999",
    "ntpport",
    "ignore",
    "kod",
    "limited",
    "version",
    "port",
    "ca",
];

/// One of these words, or a word that no parser knows.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => "-?[0-9]{1,20}(\\.[0-9]{1,12})?"]
}

fn text() -> impl Strategy<Value = String> {
    let line = prop::collection::vec(word(), 0..7).prop_map(|words| words.join(" "));
    prop_oneof![4 => prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n")), 1 => "(?s).{0,200}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_line_is_accounted_for(text in text(), is_ntp in any::<bool>(), to_policy in any::<bool>()) {
        let to = if to_policy { Target::Policy } else { Target::Agent };
        let mut draft = Draft::new(to, &Alone);
        let dialect = if is_ntp { Dialect::Ntp } else { Dialect::Chrony };
        let raw = gather::gather(&text, "f", dialect, &Alone);
        let lines = if is_ntp { lines::of_ntp(&raw) } else { lines::of_chrony(&raw) };
        match is_ntp {
            true => ntp_conf::read(&lines, &mut draft),
            false => chrony_conf::read(&lines, &mut draft),
        }
        settle::settle(&mut draft, false);
        for line in &lines {
            prop_assert!(draft.remarks.has(line.at), "{}", line.text);
        }
        let table = draft.remarks.table(&lines, |_| "");
        prop_assert!(table.lines().count() > lines.len());
    }

    #[test]
    fn what_comes_out_can_run(text in text(), is_ntp in any::<bool>()) {
        let from = Some(if is_ntp { Dialect::Ntp } else { Dialect::Chrony });
        let to = |to| Order { origin: "f", from, to, name: "default", beside: &Alone, keep_local: false };
        if let Ok(converted) = convert(&text, to(Target::Agent)) {
            let file: profile::AgentFile = toml::from_str(&converted.output).unwrap();
            prop_assert!(profile::check(&file.profile.unwrap()).is_ok());
        }
        if let Ok(converted) = convert(&text, to(Target::Policy)) {
            prop_assert!(serde_norway::from_str::<serde_norway::Value>(&converted.output).is_ok());
        }
    }
}
