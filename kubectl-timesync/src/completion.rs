//! Shell completion. kubectl completes a plugin's words by the program `kubectl_complete-timesync` on $PATH, in every shell
//! that kubectl itself has completion for; `completion` prints that program, a script that calls `__complete`. The answer
//! has a word per line, and at last `:4`: no names of files.
use std::time::Duration;

use api::{NodeClock, TimeSyncPolicy};
use clap::{Args, Command, Parser};

use crate::{connect, fetch::Reader, output};

/// The program for kubectl.
pub(crate) const SCRIPT: &str = include_str!("../kubectl_complete-timesync");

/// Answers kubectl's question.
#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// The words after `kubectl timesync`; the last one is to be completed, and may be empty
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// Names of objects are asked for only this long: a key press must not hang.
const PATIENCE: Duration = Duration::from_secs(3);

impl Complete {
    /// Prints the words for the last place. `root` is the whole command line.
    pub(crate) async fn run(&self, root: &Command, flags: &connect::Flags) -> anyhow::Result<()> {
        let (last, before) =
            self.words.split_last().map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
        let choice = choice(root, before, last);
        let mut words = match choice {
            Choice::Words(words) => words,
            Choice::Files => return Ok(output::write(":0\n")?),
            Choice::Names(kind) => {
                let flags = typed(root, before).unwrap_or_else(|| flags.clone());
                tokio::time::timeout(PATIENCE, names(kind, &flags)).await.unwrap_or_default()
            }
        };
        words.retain(|word| word.starts_with(last));
        words.push(":4".to_owned());
        Ok(output::write(&(words.join("\n") + "\n"))?)
    }
}

/// What can stand in the last place.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Words(Vec<String>),
    Names(Kind),
    Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Policy,
}

fn choice(root: &Command, before: &[String], last: &str) -> Choice {
    let mut command = root;
    let mut is_value = None;
    for word in before {
        is_value = None;
        if let Some(found) = command.get_subcommands().find(|each| each.get_name() == word) {
            command = found;
        } else if word.starts_with('-') && !word.contains('=') {
            let known = command.get_arguments().chain(root.get_arguments());
            is_value = known.into_iter().find(|each| {
                let long = each.get_long().is_some_and(|long| *word == format!("--{long}"));
                let short = each.get_short().is_some_and(|short| *word == format!("-{short}"));
                (long || short) && each.get_action().takes_values()
            });
        }
    }
    let values = |arg: &clap::Arg| match arg.get_id().as_str() {
        "node" | "nodes" | "logs_of" => Choice::Names(Kind::Node),
        "policy" | "name" if command.get_name() != "convert" => Choice::Names(Kind::Policy),
        "kubeconfig" | "file" | "root" | "target" => Choice::Files,
        "goal" => Choice::Words(["synchronized", "bound=", "rollout"].map(str::to_owned).into()),
        _ => {
            let all = arg.get_possible_values();
            Choice::Words(all.iter().map(|value| value.get_name().to_owned()).collect())
        }
    };
    if let Some(arg) = is_value {
        return values(arg);
    }
    if last.starts_with('-') {
        let all = command.get_arguments().chain(root.get_arguments().filter(|arg| arg.is_global_set()));
        let mut flags: Vec<_> = all.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
        flags.sort_unstable();
        flags.dedup();
        return Choice::Words(flags);
    }
    let verbs: Vec<_> = command.get_subcommands().filter(|each| !each.is_hide_set()).collect();
    if !verbs.is_empty() {
        return Choice::Words(verbs.iter().map(|each| each.get_name().to_owned()).collect());
    }
    command.get_positionals().next().map_or(Choice::Words(Vec::new()), values)
}

/// The names of all objects of a kind; none if they cannot be read.
async fn names(kind: Kind, flags: &connect::Flags) -> Vec<String> {
    let Ok(client) = connect::client(flags).await else { return Vec::new() };
    let reader = Reader::new(client, &flags.namespace);
    let names = match kind {
        Kind::Node => reader.names::<NodeClock>().await,
        Kind::Policy => reader.names::<TimeSyncPolicy>().await,
    };
    names.unwrap_or_default()
}

/// Nothing but the flags of kubectl.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Alone {
    #[command(flatten)]
    flags: connect::Flags,
}

/// The flags of kubectl among the words of an unfinished line, so that names are those of the cluster that it is about;
/// none if a value is wrong.
fn typed(root: &Command, words: &[String]) -> Option<connect::Flags> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let of_kubectl =
            root.get_arguments().filter(|arg| arg.is_global_set() && arg.get_action().takes_values());
        for arg in of_kubectl {
            let names = [
                arg.get_long().map(|long| format!("--{long}")),
                arg.get_short().map(|short| format!("-{short}")),
            ];
            for name in names.into_iter().flatten() {
                if *word == name {
                    kept.extend([Some(word), words.next()].into_iter().flatten());
                } else if word
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('=') || name.len() == 2)
                {
                    kept.push(word);
                }
            }
        }
    }
    Alone::try_parse_from(kept).ok().map(|alone| alone.flags)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_place_has_its_words() {
        let check = |line: &str, expected: Choice| {
            let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let last = words.pop().unwrap();
            assert_eq!(choice(&Cli::command(), &words, &last), expected, "{line}");
        };
        let words = |list: &str| Choice::Words(list.split_whitespace().map(str::to_owned).collect());
        check("why ", Choice::Names(Kind::Node));
        check("sources n", Choice::Names(Kind::Node));
        check("wait --for ", words("synchronized bound= rollout"));
        check("wait --policy ", Choice::Names(Kind::Policy));
        check("nodes -o ", words("json yaml wide"));
        check("bundle --logs-of ", Choice::Names(Kind::Node));
        check("convert ", Choice::Files);
        check("status --kubeconfig ", Choice::Files);
        let Choice::Words(verbs) = choice(&Cli::command(), &[], "") else { panic!() };
        assert!(verbs.contains(&"why".to_owned()) && !verbs.contains(&"__complete".to_owned()), "{verbs:?}");
        let Choice::Words(flags) = choice(&Cli::command(), &["why".to_owned()], "--") else { panic!() };
        assert!(
            flags.contains(&"--output".to_owned()) && flags.contains(&"--context".to_owned()),
            "{flags:?}"
        );
    }

    #[test]
    fn names_are_those_of_the_cluster_that_the_line_is_about() {
        let check = |line: &str, context: Option<&str>, namespace: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let flags = typed(&Cli::command(), &words).unwrap();
            assert_eq!((flags.context.as_deref(), flags.namespace.as_str()), (context, namespace), "{line}");
        };
        check("why", None, "timesync-system");
        check("--context prod why -o json", Some("prod"), "timesync-system");
        check("wait --for synchronized --context=prod -n time", Some("prod"), "time");
        check("nodes --state x -ntime --no-such-flag", None, "time");
        assert!(typed(&Cli::command(), &["--request-timeout".to_owned(), "soon".to_owned()]).is_none());
    }
}
