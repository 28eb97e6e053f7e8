//! Standard output: a view as text, JSON or YAML. Standard error: remarks.
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableForm {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// More columns.
    Wide,
}

impl TableForm {
    /// The form for programs; none if it is a table.
    pub(crate) fn form(self) -> Option<Form> {
        match self {
            Self::Json => Some(Form::Json),
            Self::Yaml => Some(Form::Yaml),
            Self::Wide => None,
        }
    }
}

/// Prints a view: in this form, or else as the text.
pub(crate) fn print(
    view: &impl Serialize,
    form: Option<Form>,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = match form {
        None => text(),
        Some(Form::Json) => serde_json::to_string_pretty(view)? + "\n",
        Some(Form::Yaml) => serde_norway::to_string(view)?,
    };
    Ok(write(&text)?)
}

/// Writes a text to standard output.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a remark to standard error. The command goes on if that is closed, where `eprintln!` would panic.
pub(crate) fn remark(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Returns true if the reader of standard output has ended.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
