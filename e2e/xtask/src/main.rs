//! `xtask`: the command line that builds and generates. Progress goes to standard error, results to standard output.
#![forbid(unsafe_code)]
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use timesync_xtask::{image, interrupt, packages, page, tools};

#[derive(Parser)]
#[command(name = "xtask", about = "Builds and generates what needs no running cluster")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs the Debian packages that are missing (as root), or lists them.
    Packages,
    /// Builds Kubernetes, containerd and helm into the cache.
    Tools {
        /// Only these programs, e.g. `helm`.
        names: Vec<String>,
        /// Print where this program lies, and build nothing.
        #[arg(long, conflicts_with = "names")]
        path: Option<String>,
    },
    /// Builds the images into target/images.
    Images,
    /// Writes standard input into this part of docs/benchmarks.md (for `make sim`).
    #[command(hide = true)]
    Page {
        /// Its name.
        part: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    interrupt::watch()?;
    match verb {
        Verb::Packages => packages::ensure(),
        Verb::Tools { path: Some(name), .. } => {
            println!("{}", tools::path(&name)?.display());
            Ok(())
        }
        Verb::Tools { names, path: None } => tools::build(&names),
        Verb::Images => image::build_all(),
        Verb::Page { part } => page::read(&part),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
