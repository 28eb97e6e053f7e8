//! `xtask`: the command line that builds and generates. Progress goes to standard error, results to standard output.
#![forbid(unsafe_code)]
use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use timesync_xtask::{
    book, crds,
    image::{self, Arch},
    interrupt, kube_score, packages, page, push, release, source, tools,
};

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
        /// Only these programs, e.g. `helm` or `cargo-deny`.
        names: Vec<String>,
        /// Print where this program lies, and build nothing.
        #[arg(long, conflicts_with = "names")]
        path: Option<String>,
    },
    /// Builds the images into target/images.
    Images {
        #[command(flatten)]
        arches: Arches,
    },
    /// Pushes images and chart into a registry.
    Push {
        /// The registry's host and a path, such as registry.example.com/timesync.
        #[arg(long, env = "REGISTRY", default_value = "")]
        registry: String,
        /// The version: the images' tag, and the chart's version.
        #[arg(long, env = "TAG", default_value = source::VERSION)]
        tag: String,
        /// `1` for a registry with plain HTTP.
        #[arg(long, env = "INSECURE", default_value = "", value_parser = ["", "0", "1"])]
        insecure: String,
        #[command(flatten)]
        arches: Arches,
    },
    /// Writes a release into dist/.
    Release {
        /// The registry that the manifests and the chart name.
        #[arg(long, env = "REGISTRY", default_value = "")]
        registry: String,
        /// The version: the images' tag, and the chart's version.
        #[arg(long, env = "TAG", default_value = source::VERSION)]
        tag: String,
        /// The URL of the folder from which users will get the files, for the manifest of krew.
        #[arg(long, env = "DOWNLOADS", default_value = "")]
        downloads: String,
        /// A private key (PEM, ECDSA or RSA) to sign SHA256SUMS with.
        #[arg(long, env = "SIGNING_KEY")]
        signing_key: Option<PathBuf>,
        #[command(flatten)]
        arches: Arches,
    },
    /// Validates the CRDs with the code of the API servers of the oldest and the newest Kubernetes version.
    Crds,
    /// Checks the chart with helm lint and kube-score.
    KubeScore,
    /// Builds the site of the docs into target/docs, and checks its links (needs the tool mdbook).
    Docs,
    /// Writes standard input into this part of docs/benchmarks.md (for `make sim`).
    #[command(hide = true)]
    Page {
        /// Its name.
        part: String,
    },
}

/// The architectures to build for.
#[derive(Args)]
struct Arches {
    /// One architecture, amd64 or arm64, instead of both.
    #[arg(long = "arch", env = "ARCH", default_value = "", value_parser = only)]
    only: Choice,
}

/// One architecture; none means all.
type Choice = Option<Arch>;

fn only(name: &str) -> Result<Choice, String> {
    if name.is_empty() { Ok(None) } else { image::parse_arch(name).map(Some) }
}

impl Arches {
    fn list(&self) -> Vec<Arch> {
        self.only.map_or_else(|| Arch::ALL.to_vec(), |only| vec![only])
    }
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
        Verb::Images { arches } => image::build_all(&arches.list()),
        Verb::Push { registry, tag, insecure, arches } => {
            push::run(&push::Destination::new(&registry, insecure == "1")?, &tag, &arches.list())
        }
        Verb::Release { registry, tag, downloads, signing_key, arches } => {
            let named =
                (!registry.is_empty()).then(|| push::Destination::new(&registry, false)).transpose()?;
            release::run(&release::Release {
                registry: named.as_ref().map(push::Destination::registry),
                tag: &tag,
                arches: &arches.list(),
                downloads: Some(downloads.as_str()).filter(|url| !url.is_empty()),
                key: signing_key.as_deref(),
            })
        }
        Verb::Crds => crds::check(),
        Verb::KubeScore => kube_score::check(),
        Verb::Docs => book::build(),
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
