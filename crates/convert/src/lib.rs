//! Converts an ntp.conf or a chrony.conf to a TimeSyncPolicy or an agent's file, with a remark for each line whose
//! meaning changes: `lines` splits the text, `dialect` finds the program that it is for, `ntp_conf` and `chrony_conf`
//! read it line by line into a `draft`, `print` writes that. Nothing is guessed: each line that cannot be carried over
//! gets a remark. Included files and host names are read only through `beside`, and no message contains a secret.
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

/// The kind of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TimeSyncPolicy (YAML).
    Policy,
    /// A file for `run --config` (TOML).
    Agent,
}

/// The arguments of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The name of the file: for messages, and to find the program that it is for if its content is not enough.
    pub origin: &'a str,
    /// The program that it is for; none: found by its content.
    pub from: Option<Dialect>,
    /// The kind of the result.
    pub to: Target,
    /// The policy's name.
    pub name: &'a str,
    /// The files and host names that it names.
    pub beside: &'a dyn Beside,
    /// True to serve the node's own clock even if the reference clocks that set it are left out.
    pub keep_local: bool,
}

/// The result of a conversion.
#[derive(Debug, PartialEq, Eq)]
pub struct Converted {
    /// The policy or the agent's file.
    pub output: String,
    /// For standard error: remarks in the order of the lines, secrets to make, a count.
    pub messages: String,
    /// A table with the result of each line.
    pub table: String,
    /// True if nothing was left out that changes the behavior.
    pub complete: bool,
}

/// Why there is no result, with all remarks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{messages}")]
pub struct Error {
    messages: String,
    /// A table with the result of each line, as far as known.
    pub table: String,
}

/// Converts `text`.
///
/// # Errors
/// If the program that it is for cannot be found, or if no valid profile can be made of it.
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
