//! Makes images `FROM scratch` without Docker: OCI archives with one layer, which has one static program. The same
//! program always results in the same bytes. Programs in; target/images/*.tar out, for `ctr images import`.
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{checkout, process};

/// The agent's image.
pub(crate) const AGENT: &str = "localhost/timesync-agent:0.1.0";
/// The operator's image.
pub(crate) const OPERATOR: &str = "localhost/timesync-operator:0.1.0";
/// The image that keeps a pod's namespaces for containerd.
pub const PAUSE: &str = "localhost/pause:1";
/// Prints a line for each UDP broadcast, so that one event appears in two nodes' logs.
pub const EVENTLOG: &str = "localhost/e2e-eventlog:1";

const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the two programs and writes all images.
pub fn build_all() -> anyhow::Result<()> {
    build_helpers()?;
    build_programs()?;
    write(AGENT, &agent_program(), "agent")?;
    write(OPERATOR, &program("timesync-operator"), "operator")
}

/// The agent's program in the image.
pub fn agent_program() -> PathBuf {
    program("timesync-agent")
}

/// The program in an image.
pub fn program(name: &str) -> PathBuf {
    checkout::target().join(STATIC_TARGET).join("release").join(name)
}

/// Builds agent and operator, static.
pub fn build_programs() -> anyhow::Result<()> {
    fs::create_dir_all(checkout::images())?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--target", STATIC_TARGET])
        .args(["-p", "timesync-agent", "-p", "timesync-operator"])
        .current_dir(checkout::root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let log = checkout::images().join("cargo.log");
    process::run_shown(&mut cargo, "building agent and operator", "8 min the first time", &log)
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
        write(name, &program, file)?;
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

fn write(name: &str, program: &Path, file: &str) -> anyhow::Result<()> {
    let body = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let entrypoint = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    let finished = checkout::images().join(format!("{file}.tar"));
    let half = finished.with_extension("half");
    fs::write(&half, archive(name, &entrypoint, &body)?)?;
    fs::rename(half, finished)?;
    Ok(())
}

/// Names of the files in an image, layer by layer.
pub fn files_of(archive: &Path) -> anyhow::Result<Vec<String>> {
    let outer = contents(fs::File::open(archive)?)?;
    let blob = |digest: &Value| {
        let path = format!("blobs/{}", digest.as_str().unwrap_or_default().replace(':', "/"));
        outer.iter().find(|file| file.0 == path).map(|file| file.1.as_slice()).context("a blob is missing")
    };
    let index = outer.iter().find(|file| file.0 == "index.json").context("no index.json")?;
    let index: Value = serde_json::from_slice(&index.1)?;
    let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0]["digest"])?)?;
    let mut names = Vec::new();
    for layer in manifest["layers"].as_array().context("no layers")? {
        names.extend(contents(blob(&layer["digest"])?)?.into_iter().map(|file| file.0));
    }
    Ok(names)
}

fn contents(tar: impl Read) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let mut body = Vec::new();
        entry.read_to_end(&mut body)?;
        files.push((entry.path()?.display().to_string(), body));
    }
    Ok(files)
}

/// The OCI image layout as one tar (image-spec v1.1, image-layout.md).
fn archive(name: &str, entrypoint: &str, program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let layer = tarball(&[(entrypoint.to_owned(), program.to_vec(), 0o755)])?;
    let layer_digest = digest(&layer);
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [format!("/{entrypoint}")]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(&config, "config.v1+json"),
        "layers": [descriptor(&layer, "layer.v1.tar")],
    }))?;
    let mut listed = descriptor(&manifest, "manifest.v1+json");
    listed["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [listed]}))?;
    let blob = |body: Vec<u8>| (format!("blobs/sha256/{}", digest(&body)), body, 0o644);
    tarball(&[
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(), 0o644),
        ("index.json".to_owned(), index, 0o644),
        blob(manifest),
        blob(config),
        blob(layer),
    ])
}

fn descriptor(body: &[u8], kind: &str) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{}", digest(body)),
        "size": body.len(),
    })
}

fn digest(body: &[u8]) -> String {
    format!("{:x}", Sha256::digest(body))
}

/// A tar archive of plain files, with times of 1970.
fn tarball(files: &[(String, Vec<u8>, u32)]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, body, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(body.len())?);
        header.set_mode(*mode);
        header.set_mtime(0);
        tar.append_data(&mut header, path, body.as_slice())?;
    }
    Ok(tar.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let make = || archive("localhost/x:1", "x", b"program").unwrap();
        assert_eq!(make(), make());
        assert_ne!(make(), archive("localhost/x:1", "x", b"another").unwrap());
    }

    #[test]
    fn the_image_holds_one_file() {
        let path = std::env::temp_dir().join(format!("e2e-image-{}", std::process::id()));
        fs::write(&path, archive("localhost/x:1", "agent", b"x").unwrap()).unwrap();
        assert_eq!(files_of(&path).unwrap(), ["agent"]);
        fs::remove_file(path).unwrap();
    }
}
