//! `check FILE`: checks an agent's file or a profile. Prints every problem with its field, or lines that describe the
//! file.
use std::path::Path;

use contract::Mode;
use profile::{AgentFile, Checked, Profile};

use crate::load;

/// Prints what is wrong, or what the file contains. Returns true if the file is valid.
pub(super) fn act(file: &Path) -> bool {
    match examine(file) {
        Ok(summary) => {
            println!("{}: {}", file.display(), summary.join(&format!("\n{}: ", file.display())));
            true
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

/// The lines that describe the file.
fn examine(file: &Path) -> Result<Vec<String>, String> {
    let text = load::read(file).map_err(|e| e.to_string())?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|e| format!("{}: {}", file.display(), load::located(&text, &e)))?;
    if !table.contains_key("agent") && !table.contains_key("profile") {
        let profile: Profile =
            toml::from_str(&text).map_err(|e| format!("{}: {}", file.display(), load::located(&text, &e)))?;
        return profile::check(&profile).map(|c| summary(&c)).map_err(|e| format!("{}: {e}", file.display()));
    }
    let AgentFile { agent, profile } = load::agent_file(file).map_err(|e| e.to_string())?;
    match (profile, agent.watch) {
        (Some(profile), _) => profile::check(&profile)
            .map(|checked| summary(&checked))
            .map_err(|e| format!("{}: {}", file.display(), e.within("profile"))),
        (None, watch) => {
            let folder = watch.map(|watch| watch.directory.display().to_string()).unwrap_or_default();
            Ok(vec![format!("ok (profiles are handed over in {folder})")])
        }
    }
}

fn summary(checked: &Checked) -> Vec<String> {
    let mode = match checked.mode() {
        Mode::Discipline => "Discipline",
        Mode::Observe => "Observe",
    };
    let upstreams = match checked.sources().len() {
        1 => "1 upstream".to_owned(),
        count => format!("{count} upstreams"),
    };
    let serve = if checked.serve().enabled {
        format!("serves on UDP port {}", checked.serve().port)
    } else {
        "serves no client".to_owned()
    };
    let mut lines = vec![format!("ok ({mode}, {upstreams}, {serve})")];
    lines.extend(checked.hints().iter().map(|hint| format!("hint: {hint}")));
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn both_kinds_of_file() {
        let folder = Scratch::new();
        let path = folder.path().join("f.toml");
        let check = |text: &str, expected: Result<&str, &str>| {
            fs::write(&path, text).unwrap();
            match (examine(&path), expected) {
                (Ok(lines), Ok(line)) => assert_eq!(lines[0], line),
                (Err(why), Err(part)) => assert!(why.ends_with(part), "{why}"),
                (outcome, _) => panic!("{text}: {outcome:?}"),
            }
        };
        let upstream = "upstreams]]\nname = \"a\"\nserver = \"192.0.2.1\"\n";
        check(&format!("[[{upstream}"), Ok("ok (Discipline, 1 upstream, serves on UDP port 123)"));
        check(&format!("[[profile.{upstream}"), Ok("ok (Discipline, 1 upstream, serves on UDP port 123)"));
        check(
            &format!("[[{upstream}minPoll = 9"),
            Err("f.toml: upstreams[0].minPoll: 9 is larger than maxPoll 6"),
        );
        check(
            &format!("[[profile.{upstream}minPoll = 9"),
            Err("f.toml: profile.upstreams[0].minPoll: 9 is larger than maxPoll 6"),
        );
        check("[agent.watch]\ndirectory = \"/x\"", Ok("ok (profiles are handed over in /x)"));
        check("mode = \"Obey\"", Err("unknown variant `Obey`, expected `Discipline` or `Observe`"));
        check("mode = ", Err("f.toml: line 1: string values must be quoted, expected literal string"));
    }

    #[test]
    fn the_reference_names_every_field() {
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent.md");
        let reference = fs::read_to_string(reference).unwrap();
        let file: AgentFile = toml::from_str(
            "[agent]\ntokenFile = \"t\"\n[agent.watch]\ndirectory = \"d\"\n[profile.stratum]\nlocal = 1\n\
             [[profile.upstreams]]\nname = \"a\"\nserver = \"b\"\nkey = \"k\"\npool = \"p\"\nmaxSources = 1\n\
             device = \"d\"\nburst = true\ninterleaved = true\ntrust = true\nrequire = true\nnoselect = true\n\
             nts = { ca = \"c\" }\n[profile.clock]\nminSources = 1\nmaxDistance = \"2s\"\nleap.mode = \"Step\"\n[[profile.restrict]]\nsource = \"default\"\n\
             flags = [\"kod\"]",
        )
        .unwrap();
        let mut fields = Vec::new();
        gather(&toml::Value::try_from(file).unwrap(), &mut fields);
        assert!(fields.len() > 30, "{fields:?}");
        for field in fields {
            let named =
                [format!("`{field}`"), format!(".{field}`"), format!(".{field}]"), format!("[{field}]")];
            assert!(named.iter().any(|name| reference.contains(name)), "docs/agent.md does not name {field}");
        }
    }

    /// The names of all fields whose value is not a table.
    fn gather(value: &toml::Value, fields: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    if !value.is_table() {
                        fields.push(name.clone());
                    }
                    gather(value, fields);
                }
            }
            toml::Value::Array(values) => values.iter().for_each(|value| gather(value, fields)),
            _ => {}
        }
    }

    #[test]
    fn the_example_is_right() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agent.toml");
        let lines = examine(&example).unwrap();
        assert_eq!(lines, ["ok (Discipline, 3 upstreams, serves on UDP port 123)"]);
    }
}
