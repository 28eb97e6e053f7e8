//! Makes images `FROM scratch` without Docker: OCI archives with a static program and licence texts for each
//! architecture. The same commit always results in the same bytes. Programs in; target/images/*.tar out, for
//! `ctr images import` and for `push`.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{checkout, process, source, third_party};

pub(crate) mod layout;
pub(crate) mod program;

pub use layout::files_of;
pub(crate) use program::build_packages;
pub use program::{Arch, build as build_programs, parse as parse_arch, path as program_for};

/// The architecture of the nodes that the harness starts.
pub const OF_NODES: Arch = Arch::Amd64;
/// The image that keeps a pod's namespaces for containerd.
pub const PAUSE: &str = "localhost/pause:1";
/// Prints a line for each UDP broadcast, so that one event appears in two nodes' logs.
pub const EVENTLOG: &str = "localhost/e2e-eventlog:1";

/// An image that users get.
pub(crate) struct Shipped {
    /// Its repository.
    pub(crate) repository: &'static str,
    /// Its archive, without `.tar`.
    pub(crate) file: &'static str,
    title: &'static str,
    user: &'static str,
}

/// The images that users get.
pub(crate) const SHIPPED: [Shipped; 2] = [
    Shipped {
        repository: "timesync-agent",
        file: "agent",
        title: "The NTP daemon of each node",
        // The capability to set the clock is root's.
        user: "0:0",
    },
    Shipped {
        repository: "timesync-operator",
        file: "operator",
        title: "The controller of TimeSyncPolicy objects",
        user: "65532:65532",
    },
];

impl Shipped {
    /// The archive's path.
    pub(crate) fn archive(&self) -> PathBuf {
        checkout::images().join(format!("{}.tar", self.file))
    }
}

/// Builds the two programs and writes all images, those that users get for these architectures.
pub fn build_all(arches: &[Arch]) -> anyhow::Result<()> {
    build_helpers()?;
    build_shipped(arches, source::VERSION)
}

/// Builds the images that users get. They are called `localhost/<repository>:<tag>` in their archives.
pub(crate) fn build_shipped(arches: &[Arch], tag: &str) -> anyhow::Result<()> {
    for arch in arches {
        build_programs(*arch)?;
    }
    let commit = source::commit()?;
    for image in SHIPPED {
        let read = |arch: &Arch| {
            let path = program_for(image.repository, *arch);
            fs::read(&path)
                .map(|body| (*arch, body))
                .with_context(|| format!("cannot read {}", path.display()))
        };
        let programs = arches.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let mut labels = vec![
            ("org.opencontainers.image.title", image.repository.to_owned()),
            ("org.opencontainers.image.description", image.title.to_owned()),
            ("org.opencontainers.image.version", tag.to_owned()),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
        ];
        labels.extend(commit.iter().map(|at| ("org.opencontainers.image.revision", at.revision.clone())));
        let contents = layout::Image {
            reference: &format!("localhost/{}:{tag}", image.repository),
            entrypoint: image.repository,
            user: image.user,
            labels,
            created: commit.as_ref().map(|at| at.time.clone()),
            files: vec![
                ("licenses/LICENSE".to_owned(), fs::read(checkout::root().join("LICENSE"))?),
                (
                    "licenses/THIRD-PARTY-LICENSES.txt".to_owned(),
                    third_party::licences(&[image.repository])?.into_bytes(),
                ),
            ],
        };
        replace(&image.archive(), &contents.archive(&programs)?)?;
    }
    Ok(())
}

/// A program on the harness's nodes.
pub fn program(name: &str) -> PathBuf {
    program_for(name, OF_NODES)
}

/// The archives of all images.
pub fn archives() -> Vec<PathBuf> {
    let names = ["pause", "eventlog", "agent", "operator"];
    names
        .iter()
        .map(|name| checkout::images().join(format!("{name}.tar")))
        .filter(|path| path.exists())
        .collect()
}

/// Writes the images that only the harness uses.
pub fn build_helpers() -> anyhow::Result<()> {
    fs::create_dir_all(checkout::images())?;
    for (name, source, file) in [
        (PAUSE, include_str!("image/pause.c"), "pause"),
        (EVENTLOG, include_str!("image/eventlog.c"), "eventlog"),
    ] {
        let program = checkout::images().join(file);
        compile(source, &program)?;
        let image = layout::Image { reference: name, entrypoint: file, ..layout::Image::default() };
        let archive = image.archive(&[(OF_NODES, fs::read(&program)?)])?;
        replace(&checkout::images().join(format!("{file}.tar")), &archive)?;
        fs::remove_file(&program)?;
    }
    Ok(())
}

/// Compiles a C program into a static one.
pub fn compile(source: &str, program: &Path) -> anyhow::Result<()> {
    let text = program.with_extension("c");
    fs::write(&text, source)?;
    process::run(
        Command::new("gcc").args(["-O2", "-Wall", "-Werror", "-static", "-s", "-o"]).arg(program).arg(&text),
    )?;
    fs::remove_file(&text)?;
    Ok(())
}

/// Writes a file, so that no reader sees an incomplete one.
fn replace(path: &Path, body: &[u8]) -> anyhow::Result<()> {
    let half = path.with_extension("half");
    fs::write(&half, body).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(half, path)?;
    Ok(())
}
