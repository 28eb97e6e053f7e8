//! An ntp.conf or a chrony.conf in, a TimeSyncPolicy or an agent's file out, and a remark for each line that does not
//! mean the same there: `lines` reads, `dialect` tells whose file it is, `ntp_conf` and `chrony_conf` go through it line
//! by line and fill a `draft`, `print` writes that. Nothing is guessed: what cannot be carried over is said. What
//! stands beside the file (included files, names) is read through `beside` alone, and no secret is ever repeated.
#![forbid(unsafe_code)]

mod beside;
mod lines;

mod dialect;
mod detect;

mod gather;

mod ntp_conf;
mod ntp_facts;
mod ntp_options;
mod ntp_server;
mod ntp_settings;
mod restrict_line;
mod restrict_whom;

mod allow_line;
mod chrony_conf;
mod chrony_facts;
mod chrony_options;
mod chrony_settings;

mod listen;
mod source_line;

mod defaults;

mod remarks;
mod wanted;

mod draft;

mod settle;

mod print;

mod directive;
mod directives;

use std::fmt::Write as _;

pub use beside::{Beside, Decode, LARGEST, Machine, Unread, text};
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
    /// Files and names that it speaks of.
    pub beside: &'a dyn Beside,
    /// The node's own clock is served though the reference clocks that set it are left out.
    pub keep_local: bool,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Converted {
    /// The policy or the agent's file.
    pub output: String,
    /// For standard error: remarks in the order of the lines, secrets to make, a count.
    pub messages: String,
    /// What became of each line: a row for each.
    pub table: String,
    /// True if all that matters was carried over.
    pub complete: bool,
}

/// Why nothing came out; all that was to be said on the way is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{messages}")]
pub struct Error {
    messages: String,
    /// What became of each line, as far as that is known.
    pub table: String,
}

/// Carries `text` over.
///
/// # Errors
/// When it does not tell whose it is, or when what it says is nothing that could run.
pub fn convert(text: &str, order: Order<'_>) -> Result<Converted, Error> {
    let Order { origin, from, to, name, beside, keep_local } = order;
    let dialect = match from {
        Some(dialect) => dialect,
        None => detect::tell(text, origin)
            .map_err(|why| Error { messages: format!("{origin}: {why}"), table: String::new() })?,
    };
    let raw = gather::gather(text, origin, dialect, beside);
    let lines = match dialect {
        Dialect::Ntp => lines::of_ntp(&raw),
        Dialect::Chrony => lines::of_chrony(&raw),
    };
    let mut draft = Draft::new(to, beside);
    match dialect {
        Dialect::Ntp => ntp_conf::read(&lines, &mut draft),
        Dialect::Chrony => chrony_conf::read(&lines, &mut draft),
    }
    let refused = settle::settle(&mut draft, keep_local);
    let table = draft.remarks.table(&lines, |line| directives::becomes(dialect, line.directive));
    let mut messages = draft.remarks.text(origin);
    if !refused.is_empty() {
        for problem in refused {
            let _ = writeln!(messages, "{origin}: {problem}");
        }
        let _ = write!(messages, "{origin}: it was not converted");
        return Err(Error { messages, table });
    }
    messages.push_str(&draft.secrets());
    messages.push_str(&draft.remarks.count(origin));
    let output = match to {
        Target::Policy => print::policy(draft.profile(), name, origin),
        Target::Agent => print::agent_file(draft.profile(), draft.rtc_device(), origin),
    };
    Ok(Converted { output, messages, table, complete: draft.remarks.is_complete() })
}

#[cfg(test)]
mod tests;
