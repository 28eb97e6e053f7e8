//! A registry for images and charts that the nodes reach: Debian's docker-registry, with TLS and a login. containerd on
//! each node trusts its certificate.
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::ByteString;
use serde_json::json;
use xtask::checkout;

use crate::{
    daemon::{self, Daemon},
    network, pki, wait,
};

/// The user of the login, and its password.
pub const LOGIN: (&str, &str) = ("puller", "only-for-this-test");
/// The same as a line of htpasswd's file: bcrypt is the only form that it takes.
const HTPASSWD: &str = "puller:$2a$05$MQeSzZxvZnwT5vOnzdRqGeBYI5RnUa8ytydJifhQNHUSRzZHd9Roi\n";

/// The registry's host and port.
pub fn host() -> String {
    format!("{}:5000", network::HOST)
}

/// Starts the registry, and waits until it answers.
pub fn up() -> anyhow::Result<()> {
    let (folder, keys) = (folder(), pki::folder());
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("htpasswd"), HTPASSWD)?;
    // JSON is YAML.
    let configuration = json!({
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": folder.join("data")}},
        "http": {
            "addr": host(),
            "tls": {"certificate": keys.join("registry.crt"), "key": keys.join("registry.key")},
        },
        "auth": {"htpasswd": {"realm": "timesync-e2e", "path": folder.join("htpasswd")}},
    });
    fs::write(folder.join("config.yml"), configuration.to_string())?;
    Daemon::new("registry", checkout::cache().join("docker-registry/usr/bin/docker-registry"))
        .args("serve")
        .arg(folder.join("config.yml").display().to_string())
        .start()?;
    wait::until("the registry", "1 s", Duration::from_secs(60), || {
        daemon::expect_running("registry")?;
        Ok(TcpStream::connect(host()).ok().map(drop))
    })
}

/// Ends the registry, and removes its data.
pub fn down() -> anyhow::Result<()> {
    daemon::end("registry", "-KILL")?;
    if folder().exists() {
        fs::remove_dir_all(folder())?;
    }
    Ok(())
}

/// Environment of a program that pushes and pulls as [`LOGIN`]: docker's folder with the credentials, and the authority
/// that Go's programs trust.
pub fn environment() -> anyhow::Result<[(&'static str, PathBuf); 2]> {
    let folder = folder().join("docker");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("config.json"), credentials())?;
    Ok([("DOCKER_CONFIG", folder), ("SSL_CERT_FILE", pki::folder().join("ca.crt"))])
}

/// The credentials as docker's config.json has them.
fn credentials() -> String {
    let (user, password) = LOGIN;
    // It serializes as base64.
    let auth = ByteString(format!("{user}:{password}").into_bytes());
    json!({"auths": {host(): {"auth": auth}}}).to_string()
}

/// Writes what a node's containerd has to know of the registry. `authority` is a path on the node.
pub(crate) fn trust(folder: &Path, authority: &Path) -> anyhow::Result<()> {
    let folder = folder.join(host());
    fs::create_dir_all(&folder)?;
    let text = format!("[host.\"https://{}\"]\n  ca = \"{}\"\n", host(), authority.display());
    Ok(fs::write(folder.join("hosts.toml"), text)?)
}

/// containerd's setting: where [`trust`] wrote, a path on the node.
pub(crate) fn containerd(folder: &str) -> String {
    format!("[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"{folder}\"\n")
}

fn folder() -> PathBuf {
    checkout::state().join("registry")
}
