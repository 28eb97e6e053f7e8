//! `check FILE`: an agent's file or a profile; every problem with its field, or a line that says what it is.
use std::path::Path;

use contract::{AgentFile, Mode, Profile};

use crate::{
    check::{self, Checked},
    load,
};

/// Prints what is wrong, or what the file says; whether it is right.
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

/// The lines that say what the file is.
fn examine(file: &Path) -> Result<Vec<String>, String> {
    let text = load::read(file).map_err(|e| e.to_string())?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|e| format!("{}: {}", file.display(), load::located(&text, &e)))?;
    if !table.contains_key("agent") && !table.contains_key("profile") {
        let profile: Profile =
            toml::from_str(&text).map_err(|e| format!("{}: {}", file.display(), load::located(&text, &e)))?;
        return check::check(&profile).map(|c| summary(&c)).map_err(|e| format!("{}: {e}", file.display()));
    }
    let AgentFile { agent, profile } = load::agent_file(file).map_err(|e| e.to_string())?;
    match (profile, agent.watch) {
        (Some(profile), _) => check::check(&profile)
            .map(|checked| summary(&checked))
            .map_err(|e| format!("{}: {}", file.display(), e.within("profile"))),
        (None, watch) => {
            let folder = watch.map(|watch| watch.directory.display().to_string()).unwrap_or_default();
            Ok(vec![format!("ok (profiles are handed over in {folder})")])
        }
    }
}

fn summary(checked: &Checked) -> Vec<String> {
    let mode = match checked.mode {
        Mode::Discipline => "Discipline",
        Mode::Observe => "Observe",
    };
    let upstreams = match checked.upstreams.len() {
        1 => "1 upstream".to_owned(),
        count => format!("{count} upstreams"),
    };
    let serve = if checked.serve.enabled {
        format!("serves on UDP port {}", checked.serve.port)
    } else {
        "serves nobody".to_owned()
    };
    let mut lines = vec![format!("ok ({mode}, {upstreams}, {serve})")];
    lines.extend(checked.hints.iter().map(|hint| format!("hint: {hint}")));
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
            &format!("[[{upstream}min_poll = 9"),
            Err("f.toml: upstreams[0].min_poll: 9 is larger than max_poll 6"),
        );
        check(
            &format!("[[profile.{upstream}min_poll = 9"),
            Err("f.toml: profile.upstreams[0].min_poll: 9 is larger than max_poll 6"),
        );
        check("[agent.watch]\ndirectory = \"/x\"", Ok("ok (profiles are handed over in /x)"));
        check("mode = \"Obey\"", Err("unknown variant `Obey`, expected `Discipline` or `Observe`"));
        check("mode = ", Err("f.toml: line 1: string values must be quoted, expected literal string"));
    }

    #[test]
    fn the_example_is_right() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agent.toml");
        let lines = examine(&example).unwrap();
        assert_eq!(lines, ["ok (Discipline, 3 upstreams, serves on UDP port 123)"]);
    }
}
