//! `convert FILE`: reads one file, prints what it becomes, and says on standard error what it does not.
use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use convert::{Dialect, LARGEST, Machine, Order, Target};

use crate::text;

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  timesync-agent convert /etc/ntp.conf > policy.yaml && kubectl apply -f policy.yaml
  timesync-agent convert --to agent /etc/chrony/chrony.conf > agent.toml
  timesync-agent check agent.toml
  ssh node cat /etc/ntp.conf | timesync-agent convert --from ntp -

  $ timesync-agent convert ntp.conf > policy.yaml
  ntp.conf:3: note: `driftfile /var/lib/ntp/drift`: the agent keeps its own drift in its state directory
  ntp.conf:9: left out: `broadcast 192.0.2.255`: nothing is sent to, or taken from, a broadcast or multicast address …
  ntp.conf: 7 lines carried over, 1 not needed, 1 left out in whole or in part

  $ timesync-agent convert --explain ntp.conf
  LINE        BECAME        WHAT IT SAYS                   WHAT IS DONE
  ntp.conf:3  not needed    driftfile /var/lib/ntp/drift   the agent keeps its own drift in its state directory

Files that the file includes are read with it. Of key files nothing but the numbers of keys is read: the Secrets or
files to make of them are named on standard error.

Exit code 0 if all that matters was carried over, 3 if something was left out (read what was said, then use what was
printed), 1 if nothing was printed.";

/// What to read, and what to make of it.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// What to make: a TimeSyncPolicy (YAML), or a file for `run --config` (TOML)
    #[arg(long, value_enum, value_name = "WHAT", default_value = "policy")]
    to: To,
    /// Whose file it is, where its content does not tell
    #[arg(long, value_enum, value_name = "WHOSE")]
    from: Option<From>,
    /// The policy's name
    #[arg(long, default_value = "default", value_parser = policy_name)]
    name: String,
    /// Print what became of each line, in place of the result
    #[arg(long)]
    explain: bool,
    /// Have the node's own clock served though the reference clocks that set it are left out
    #[arg(long)]
    keep_local: bool,
    /// A copy of the machine's files, where those that the file includes are looked for
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// An ntp.conf or a chrony.conf; - for standard input
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    Policy,
    Agent,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    Ntp,
    Chrony,
}

/// Why nothing was printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no file of the kind.
    #[error("{}: {why}", path.display())]
    NoText {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nothing can be made of it.
    #[error("nothing was printed:\n{0}")]
    Nothing(#[from] convert::Error),
    /// What was made cannot be printed.
    #[error("standard output: {0}")]
    Write(#[source] io::Error),
}

/// Something went amiss with lines that matter.
const LEFT_OUT: u8 = 3;

impl Convert {
    /// Prints what the file becomes.
    pub(super) fn act(&self) -> Result<ExitCode, Error> {
        let text = read(&self.file)?;
        let is_input = self.file == Path::new("-");
        let origin = if is_input { "standard input".to_owned() } else { self.file.display().to_string() };
        // What standard input speaks of is on the machine that it comes from.
        let here = (!is_input).then(|| PathBuf::from("/"));
        let beside = Machine::new(self.root.clone().or(here), decode);
        let order = Order {
            origin: &origin,
            from: self.from.map(|from| match from {
                From::Ntp => Dialect::Ntp,
                From::Chrony => Dialect::Chrony,
            }),
            to: match self.to {
                To::Policy => Target::Policy,
                To::Agent => Target::Agent,
            },
            name: &self.name,
            beside: &beside,
            keep_local: self.keep_local,
        };
        let print = |text: &str| io::stdout().write_all(text.as_bytes()).map_err(Error::Write);
        let converted = match convert::convert(&text, order) {
            Ok(converted) => converted,
            Err(error) => {
                if self.explain {
                    print(&error.table)?;
                }
                return Err(error.into());
            }
        };
        if self.explain {
            print(&converted.table)?;
        } else {
            eprint!("{}", converted.messages);
            print(&converted.output)?;
        }
        Ok(if converted.complete { ExitCode::SUCCESS } else { ExitCode::from(LEFT_OUT) })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut octets = Vec::new();
    let from: &mut dyn Read = if path == Path::new("-") {
        &mut io::stdin()
    } else {
        &mut std::fs::File::open(path).map_err(failed)?
    };
    from.take(LARGEST + 1).read_to_end(&mut octets).map_err(failed)?;
    convert::text(&octets, decode).map_err(|why| Error::NoText { path: path.to_owned(), why })
}

/// The agent's rule for files that users write. Old files have comments in other character sets, and comments are not
/// carried over.
fn decode(octets: &[u8]) -> Result<String, String> {
    text::lossy_text(octets).map(std::borrow::Cow::into_owned).map_err(|error| error.to_string())
}

/// What Kubernetes and the CRD take.
fn policy_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let octets = label.as_bytes();
        edge(octets.first())
            && edge(octets.last())
            && octets.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    if text.len() > 63 || !text.split('.').all(label) {
        return Err(
            "at most 63 small letters, digits, '-' and '.', as for any object of Kubernetes".to_owned()
        );
    }
    Ok(text.to_owned())
}
