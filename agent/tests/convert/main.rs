//! `timesync-agent convert` as a user runs it: whole files in, compared with what is committed beside them (`.yaml`,
//! `.toml`, and `.yaml.stderr`, `.toml.stderr` for what is said). UPDATE_GOLDEN=1 writes them anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_timesync-agent");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert")
}

/// Runs the program in the folder of inputs, so that messages name files as users do.
fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(folder()).env_remove("RUST_LOG").output().unwrap()
}

/// Every input here: a name, and whether something in it is left out.
const INPUTS: [(&str, i32); 6] = [
    ("tutorial.ntp", 0),
    ("rhel.ntp", 3),
    ("debian.ntp", 0),
    ("rhel.chrony", 0),
    ("debian.chrony", 0),
    ("server.chrony", 3),
];

fn golden(file: &str, text: &[u8]) {
    let path = folder().join(file);
    let text = String::from_utf8(text.to_vec()).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{file} is not what convert prints now: look at it, and run UPDATE_GOLDEN=1 cargo test -p timesync-agent --test convert\n{text}"
    );
}

#[test]
fn whole_files_become_what_is_committed() {
    for (name, code) in INPUTS {
        for (to, ending) in [("policy", "yaml"), ("agent", "toml")] {
            let output = run(&["convert", "--root", "root", "--to", to, &format!("{name}.conf")]);
            assert_eq!(
                output.status.code(),
                Some(code),
                "{name} {to}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            golden(&format!("{name}.{ending}"), &output.stdout);
            golden(&format!("{name}.{ending}.stderr"), &output.stderr);
        }
    }
}

#[test]
fn every_input_is_compared() {
    let mut names: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str().unwrap().strip_suffix(".conf").map(str::to_owned)
        })
        .collect();
    names.sort();
    let mut compared = INPUTS.map(|(name, _)| name);
    compared.sort_unstable();
    assert_eq!(names, compared);
}

#[test]
fn check_takes_every_agent_file() {
    for (name, _) in INPUTS {
        let output = run(&["check", &format!("{name}.toml")]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Without its comments.
fn plain(text: &str) -> String {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_page_shows_what_is_made() {
    let page = fs::read_to_string(folder().join("../../../docs/convert.md")).unwrap();
    for file in ["tutorial.ntp.conf", "tutorial.ntp.yaml"] {
        let text = plain(&fs::read_to_string(folder().join(file)).unwrap());
        assert!(page.contains(&text), "docs/convert.md does not show {file}");
    }
}

/// The rows of docs/restrict.md: `line` of an ntp.conf, `{source: …, flags: […]}`.
#[test]
fn the_page_on_restrict_says_what_is_made_of_a_line() {
    let page = fs::read_to_string(folder().join("../../../docs/restrict.md")).unwrap();
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `restrict ")).collect();
    assert!(rows.len() > 8, "{rows:?}");
    for row in rows {
        let (line, entry) = row.trim_end_matches("` |").split_once("` | `").unwrap();
        // A list that drops every answer of the upstreams is refused.
        let printed = printed_for(&format!("server ntp.example.com\nrestrict source\nrestrict {line}\n"));
        let wanted = entry.trim_matches(['{', '}']).replace('"', "");
        let wanted = wanted.strip_prefix("source: ").unwrap();
        let (source, flags) = wanted.split_once(", flags: ").unwrap_or((wanted, "[]"));
        let sorted = |flags: &mut dyn Iterator<Item = String>| {
            let mut flags: Vec<_> = flags.filter(|flag| !flag.is_empty()).collect();
            flags.sort();
            flags
        };
        let wanted = sorted(&mut flags.trim_matches(['[', ']']).split(", ").map(str::to_owned));
        let found: Vec<_> = printed["profile"]["restrict"]
            .as_array()
            .unwrap()
            .iter()
            // One that is for a port alone is spelled as a network.
            .filter(|entry| entry["source"].as_str().unwrap() == source)
            .map(|entry| {
                let flags = entry.get("flags").and_then(toml::Value::as_array).into_iter().flatten();
                sorted(&mut flags.map(|flag| flag.as_str().unwrap().to_owned()))
            })
            .collect();
        assert_eq!(found, [wanted], "restrict {line}: {printed}");
    }
}

/// The agent file that is made of an ntp.conf.
fn printed_for(text: &str) -> toml::Table {
    let mut child = Command::new(PROGRAM)
        .args(["convert", "--from", "ntp", "--to", "agent", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}

#[test]
fn standard_input_and_refusals() {
    let check = |text: &str, arguments: &[&str], code: i32, said: &str| {
        let mut child = Command::new(PROGRAM)
            .args(["convert", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that refuses its arguments may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}: {stderr}");
        assert!(stderr.contains(said), "{text}: {stderr}");
        assert_eq!(output.stdout.is_empty(), [1, 2].contains(&code), "{text}");
        String::from_utf8(output.stdout).unwrap()
    };
    check("server 192.0.2.1\nrestrict default kod limited\n", &[], 0, "standard input: 2 lines carried over");
    check("server 192.0.2.1\n", &[], 1, "--from");
    let policy = check("server 192.0.2.1\n", &["--from", "ntp", "--name", "site"], 0, "no restrict line");
    assert!(policy.contains("name: site\n"), "{policy}");
    check("driftfile /d\n", &["--from", "ntp"], 1, "no line names a time source");
    check("server 192.0.2.1\ntrap 192.0.2.2\n", &[], 3, "standard input:2: left out: `trap 192.0.2.2`");
    let elsewhere =
        "standard input:2: left out: `sourcedir /run`: /run is not read, as the text is from standard input";
    check("server 192.0.2.1\nsourcedir /run\n", &[], 3, elsewhere);
    check("server 192.0.2.1\nmakestep 1 3\n", &["--explain"], 0, "");
    check("server 192.0.2.1\n\0\n", &["--from", "ntp"], 1, "line 2 has a zero octet");
    check("server a\nrestrict default\n", &["--name", "Not A Name"], 2, "small letters");
    for (path, said) in [("/dev/zero", "larger than 256 KiB"), ("/", "Is a directory")] {
        let output = run(&["convert", "--from", "ntp", path]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(said), "{path}: {stderr}");
    }
    let included = ["--root", "/", "--from", "ntp"];
    check("server a.example\nincludefile /dev/zero\n", &included, 3, "/dev/zero: it is not a regular file");
    check("server a.example\nincludefile /dev\n", &included, 3, "/dev: it is not a regular file");
    let missing = run(&["convert", "not-there.conf"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("not-there.conf: No such file"));
}
