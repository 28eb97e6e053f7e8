//! `convert FILE`: reads one file, prints what it becomes, and says on standard error what it does not.
use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use convert::{Dialect, Order, Target};

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

Keys and certificates are not read: the Secrets or files to make of them are named on standard error.

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
    #[error("{}: larger than {LARGEST} octets: that is no configuration", .0.display())]
    TooLarge(PathBuf),
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
        let origin = if self.file == Path::new("-") {
            "standard input".to_owned()
        } else {
            self.file.display().to_string()
        };
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
        };
        let converted = convert::convert(&text, order)?;
        eprint!("{}", converted.messages);
        io::stdout().write_all(converted.output.as_bytes()).map_err(Error::Write)?;
        Ok(if converted.complete { ExitCode::SUCCESS } else { ExitCode::from(LEFT_OUT) })
    }
}

/// A configuration is a few kilobytes; somebody may name a log, or a device that never ends.
const LARGEST: u64 = 1 << 18;

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut octets = Vec::new();
    let from: &mut dyn Read = if path == Path::new("-") {
        &mut io::stdin()
    } else {
        &mut std::fs::File::open(path).map_err(failed)?
    };
    from.take(LARGEST + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > LARGEST {
        return Err(Error::TooLarge(path.to_owned()));
    }
    // Old files have comments in other character sets, and comments are not carried over.
    let text = text::lossy_text(&octets).map_err(|error| failed(io::Error::other(error)))?;
    Ok(text.into_owned())
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
