//! OCI archives (image-spec v1.1): an image index with an image for each architecture, each with one layer. Pure: files
//! in, octets out, the same for the same input.
use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, ensure};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::program::Arch;

/// What an image holds, whatever its architecture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image<'a> {
    /// Its reference, such as `localhost/timesync-agent:0.1.0`.
    pub(crate) reference: &'a str,
    /// The program's name.
    pub(crate) entrypoint: &'a str,
    /// User and group as numbers.
    pub(crate) user: &'a str,
    /// The config's labels, `org.opencontainers.image.…`.
    pub(crate) labels: Vec<(&'static str, String)>,
    /// When the sources were committed (RFC 3339).
    pub(crate) created: Option<String>,
    /// Files beside the program, by path.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Image<'_> {
    /// The archive, with a program for each architecture.
    pub(crate) fn archive(&self, programs: &[(Arch, Vec<u8>)]) -> anyhow::Result<Vec<u8>> {
        let (mut blobs, mut images) = (Vec::new(), Vec::new());
        for (arch, program) in programs {
            let mut files = vec![(self.entrypoint.to_owned(), program.clone(), 0o755)];
            files.extend(self.files.iter().map(|(path, body)| (path.clone(), body.clone(), 0o644)));
            let layer = tarball(&files)?;
            let compressed = gzip(&layer)?;
            let config = serde_json::to_vec(&self.config(*arch, &digest(&layer)))?;
            let manifest = serde_json::to_vec(&json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": descriptor(&config, "config.v1+json"),
                "layers": [descriptor(&compressed, "layer.v1.tar+gzip")],
            }))?;
            let mut image = descriptor(&manifest, "manifest.v1+json");
            image["platform"] = json!({"architecture": arch.name(), "os": "linux"});
            images.push(image);
            blobs.extend([manifest, config, compressed]);
        }
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": images,
        }))?;
        let mut listed = descriptor(&index, "index.v1+json");
        listed["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference,
        });
        let top = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [listed]}))?;
        blobs.insert(0, index);
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(), 0o644),
            ("index.json".to_owned(), top, 0o644),
        ];
        files.extend(blobs.into_iter().map(|body| (format!("blobs/sha256/{}", digest(&body)), body, 0o644)));
        tarball(&files)
    }

    fn config(&self, arch: Arch, layer: &str) -> Value {
        let labels: serde_json::Map<String, Value> =
            self.labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut config = json!({
            "architecture": arch.name(),
            "os": "linux",
            "config": {
                "Entrypoint": [format!("/{}", self.entrypoint)],
                "User": self.user,
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        });
        if let Some(created) = &self.created {
            config["created"] = json!(created);
        }
        config
    }
}

/// The files in the image of each architecture, layer by layer.
pub fn files_of(archive: &Path) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let outer = contents(fs::File::open(archive)?)?;
    let json = |path: &str| -> anyhow::Result<Value> {
        let file = outer.iter().find(|file| file.0 == path).with_context(|| format!("no {path}"))?;
        Ok(serde_json::from_slice(&file.1)?)
    };
    let blob = |digest: &Value| format!("blobs/{}", digest.as_str().unwrap_or_default().replace(':', "/"));
    let index = json(&blob(&json("index.json")?["manifests"][0]["digest"]))?;
    let mut images = Vec::new();
    for image in index["manifests"].as_array().context("no images")? {
        let manifest = json(&blob(&image["digest"]))?;
        let mut names = Vec::new();
        for layer in manifest["layers"].as_array().context("no layers")? {
            let path = blob(&layer["digest"]);
            let layer = outer.iter().find(|file| file.0 == path).context("a blob is missing")?;
            let layer = contents(flate2::read::GzDecoder::new(layer.1.as_slice()))?;
            names.extend(layer.into_iter().map(|file| file.0));
        }
        let arch = image["platform"]["architecture"].as_str().context("no architecture")?;
        images.push((arch.to_owned(), names));
    }
    Ok(images)
}

/// Unpacks an archive into a folder, which it creates.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    tar::Archive::new(fs::File::open(archive)?).unpack(folder)?;
    ensure!(folder.join("index.json").exists(), "{} is no OCI archive", archive.display());
    Ok(())
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

fn descriptor(body: &[u8], kind: &str) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{}", digest(body)),
        "size": body.len(),
    })
}

/// The SHA-256 digest as hexadecimal digits.
pub(crate) fn digest(body: &[u8]) -> String {
    format!("{:x}", Sha256::digest(body))
}

/// A tar archive of plain files (path, contents, mode), with times of 1970.
pub(crate) fn tarball(files: &[(String, Vec<u8>, u32)]) -> anyhow::Result<Vec<u8>> {
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

/// Compresses, without a time or a file's name in the header.
pub(crate) fn gzip(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image<'static> {
        Image {
            reference: "localhost/x:1",
            entrypoint: "agent",
            user: "0:0",
            labels: vec![("org.opencontainers.image.title", "agent".to_owned())],
            created: Some("2026-01-01T00:00:00Z".to_owned()),
            files: vec![("licenses/LICENSE".to_owned(), b"text".to_vec())],
        }
    }

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let make = |program: &[u8]| image().archive(&[(Arch::Amd64, program.to_vec())]).unwrap();
        assert_eq!(make(b"program"), make(b"program"));
        assert_ne!(make(b"program"), make(b"another"));
    }

    #[test]
    fn an_image_for_each_architecture_holds_the_program_and_the_licences() {
        let path = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        let programs = [(Arch::Amd64, b"x".to_vec()), (Arch::Arm64, b"y".to_vec())];
        fs::write(&path, image().archive(&programs).unwrap()).unwrap();
        let files = vec!["agent".to_owned(), "licenses/LICENSE".to_owned()];
        assert_eq!(
            files_of(&path).unwrap(),
            [("amd64".to_owned(), files.clone()), ("arm64".to_owned(), files)]
        );
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_config_names_user_entrypoint_and_architecture() {
        let config = image().config(Arch::Arm64, "abc");
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["config"]["User"], "0:0");
        assert_eq!(config["config"]["Entrypoint"], json!(["/agent"]));
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "agent");
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:abc"]));
    }
}
