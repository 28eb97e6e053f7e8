//! `convert FILE`: prints the policy that an ntp.conf or a chrony.conf becomes, and says on standard error what it does
//! not. The same conversion as the agent's; it needs no cluster.
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use convert::{Dialect, LARGEST, Machine, Order, Target};

use crate::output;

/// Converts a file to a policy.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// Whose file it is, if its content does not tell
    #[arg(long, value_enum, value_name = "WHOSE")]
    from: Option<From>,
    /// The policy's name
    #[arg(long, default_value = "default")]
    name: String,
    /// Print what became of each line, instead of the policy
    #[arg(long)]
    explain: bool,
    /// Have the node's own clock served even if the reference clocks that set it are left out
    #[arg(long)]
    keep_local: bool,
    /// A copy of the machine's files, where those that the file includes are looked for
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// An ntp.conf or a chrony.conf; - for standard input
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    Ntp,
    Chrony,
}

/// Something that matters was left out.
const LEFT_OUT: u8 = 3;

impl Convert {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let is_input = self.file == Path::new("-");
        let shown = self.file.display().to_string();
        let origin = if is_input { "standard input" } else { shown.as_str() };
        let text = self.read(is_input).with_context(|| origin.to_owned())?;
        // What standard input speaks of is on the machine that it comes from.
        let here = (!is_input).then(|| PathBuf::from("/"));
        let beside = Machine::new(self.root.clone().or(here), decode);
        let order = Order {
            origin,
            from: self.from.map(|from| match from {
                From::Ntp => Dialect::Ntp,
                From::Chrony => Dialect::Chrony,
            }),
            to: Target::Policy,
            name: &self.name,
            beside: &beside,
            keep_local: self.keep_local,
        };
        let converted = match convert::convert(&text, order) {
            Ok(converted) => converted,
            Err(error) => {
                if self.explain {
                    output::write(&error.table)?;
                }
                return Err(anyhow!("nothing was printed:\n{error}"));
            }
        };
        if self.explain {
            output::write(&converted.table)?;
        } else {
            output::remark(&converted.messages.to_string());
            output::write(&converted.output)?;
        }
        Ok(if converted.complete { ExitCode::SUCCESS } else { ExitCode::from(LEFT_OUT) })
    }

    fn read(&self, is_input: bool) -> anyhow::Result<String> {
        let mut octets = Vec::new();
        let from: &mut dyn Read = if is_input { &mut io::stdin() } else { &mut File::open(&self.file)? };
        from.take(LARGEST + 1).read_to_end(&mut octets)?;
        convert::text(&octets, decode).map_err(|why| anyhow!(why))
    }
}

/// Old files have comments in other character sets, and comments are not carried over.
fn decode(octets: &[u8]) -> Result<String, String> {
    if octets.starts_with(b"\xff\xfe") || octets.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16, as some editors of Windows write: save it as UTF-8".to_owned());
    }
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    Ok(String::from_utf8_lossy(octets).into_owned())
}
