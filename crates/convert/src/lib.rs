//! An ntp.conf or a chrony.conf in, a TimeSyncPolicy or an agent's file out, and a remark for each line that does not
//! mean the same there: `lines` reads, `dialect` tells whose file it is, `ntp_conf` and `chrony_conf` go through it line
//! by line and fill a `draft`, `print` writes that. Nothing is guessed: what cannot be carried over is said. Reads no
//! file but its argument, no secret, and asks no resolver.
#![forbid(unsafe_code)]

mod lines;

mod dialect;

mod ntp_conf;
mod ntp_options;
mod ntp_settings;
mod restrict_line;

mod allow_line;
mod chrony_conf;
mod chrony_options;
mod chrony_settings;

mod source_line;

mod defaults;

mod draft;

mod print;

use std::fmt::Write as _;

pub use dialect::Dialect;
use draft::Draft;

/// What is made of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TimeSyncPolicy (YAML).
    Policy,
    /// A file for `run --config` (TOML).
    Agent,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What the file is called, for messages and, where its content does not tell, for what it is.
    pub origin: &'a str,
    /// Whose file it is; none: told by its content.
    pub from: Option<Dialect>,
    /// What is made of it.
    pub to: Target,
    /// The policy's name.
    pub name: &'a str,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Converted {
    /// The policy or the agent's file.
    pub output: String,
    /// For standard error: remarks in the order of the lines, secrets to make, a count.
    pub messages: String,
    /// Whether all that matters was carried over.
    pub complete: bool,
}

/// Why nothing came out; all that was to be said on the way is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Carries `text` over.
///
/// # Errors
/// When it does not tell whose it is, or when what it says is nothing that could run.
pub fn convert(text: &str, order: Order<'_>) -> Result<Converted, Error> {
    let Order { origin, from, to, name } = order;
    let dialect = match from {
        Some(dialect) => dialect,
        None => dialect::tell(text, origin).map_err(|why| Error(format!("{origin}: {why}")))?,
    };
    let mut draft = Draft::new(to);
    match dialect {
        Dialect::Ntp => ntp_conf::read(text, &mut draft),
        Dialect::Chrony => chrony_conf::read(text, &mut draft),
    }
    let refused = draft.settle();
    let mut messages = draft.remarks(origin);
    if !refused.is_empty() {
        for problem in refused {
            let _ = writeln!(messages, "{origin}: {problem}");
        }
        let _ = write!(messages, "{origin}: nothing was made of it");
        return Err(Error(messages));
    }
    messages.push_str(&draft.secrets());
    messages.push_str(&draft.count(origin));
    let output = match to {
        Target::Policy => print::policy(draft.profile(), name, origin),
        Target::Agent => print::agent_file(draft.profile(), draft.rtc_device(), origin),
    };
    Ok(Converted { output, messages, complete: draft.is_complete() })
}

#[cfg(test)]
mod tests;
