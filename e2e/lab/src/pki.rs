//! The certificates of a cluster. They are valid from 1970 to 2099, so that nodes with wrong clocks can join. A second
//! one of the API server is valid from now, as in any real cluster: with it, nodes with wrong clocks cannot join.
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use serde_json::{Value, json};
use xtask::checkout;

use crate::network;

/// The nodes of the cluster. Each has a certificate for its name.
pub const NODES: [&str; 3] = ["node1", "vm1", "vm2"];

/// A second name of the API server. Clients that use it get a certificate that is valid from now.
pub(crate) const VALID_FROM_NOW: &str = "valid-from-now.timesync-e2e";

/// The folder with the certificates.
pub fn folder() -> PathBuf {
    checkout::state().join("pki")
}

/// A Secret with the certificate of the nodes' NTS servers.
pub fn tls_secret(namespace: &str, name: &str) -> anyhow::Result<Value> {
    let read = |name: &str| fs::read_to_string(folder().join(name)).with_context(|| name.to_owned());
    Ok(secret(namespace, name, &read("ntp.crt")?, &read("ntp.key")?))
}

/// A Secret with a certificate that is a month old, and ends in a day. No authority has signed it.
pub fn ending_tls_secret(namespace: &str, name: &str) -> anyhow::Result<Value> {
    let (mut ending, key) = (parameters("ntp", [])?, KeyPair::generate()?);
    let now = date_time_ymd(1970, 1, 1) + since_1970()?;
    ending.not_before = now - 30 * DAY;
    ending.not_after = now + DAY;
    Ok(secret(namespace, name, &ending.self_signed(&key)?.pem(), &key.serialize_pem()))
}

fn secret(namespace: &str, name: &str, certificate: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace, "labels": {"timesync.dev/keys": "true"}},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    })
}

/// The administrator's kubeconfig.
pub fn admin() -> PathBuf {
    checkout::state().join("admin.conf")
}

/// Makes the authority and every certificate; one of them for time servers at these addresses.
pub fn make(time_servers: &[String]) -> anyhow::Result<()> {
    fs::create_dir_all(folder())?;
    let (mut own, key) = (parameters("timesync-e2e", [])?, KeyPair::generate()?);
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.key", &key.serialize_pem())?;
    let authority = CertifiedIssuer::self_signed(own, key)?;
    write("ca.crt", &authority.pem())?;
    let names =
        ["127.0.0.1", "10.96.0.1", network::HOST, network::LOOPBACK, "kubernetes.default.svc", "localhost"];
    sign("apiserver", parameters("kube-apiserver", names.map(str::to_owned))?, &authority)?;
    let mut from_now = parameters("kube-apiserver", [VALID_FROM_NOW.to_owned()])?;
    from_now.not_before = date_time_ymd(1970, 1, 1) + since_1970()?;
    from_now.not_after = from_now.not_before + 365 * DAY;
    sign("valid-from-now", from_now, &authority)?;
    sign("admin", client("admin", Some("system:masters"))?, &authority)?;
    sign("controller-manager", client("system:kube-controller-manager", None)?, &authority)?;
    sign("scheduler", client("system:kube-scheduler", None)?, &authority)?;
    sign("proxy", client("system:kube-proxy", None)?, &authority)?;
    let kubelet_client = client("apiserver-kubelet-client", Some("system:masters"))?;
    sign("kubelet-client", kubelet_client, &authority)?;
    sign("ntp", parameters("ntp", time_servers)?, &authority)?;
    sign("registry", parameters("registry", [network::HOST.to_owned()])?, &authority)?;
    for node in NODES {
        sign(node, client(&format!("system:node:{node}"), Some("system:nodes"))?, &authority)?;
    }
    let accounts = KeyPair::generate()?;
    write("sa.key", &accounts.serialize_pem())?;
    write("sa.pub", &accounts.public_key_pem())
}

const DAY: Duration = Duration::from_secs(86_400);

fn since_1970() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// A certificate of a user, with the user's group in Kubernetes.
fn client(name: &str, group: Option<&str>) -> anyhow::Result<CertificateParams> {
    let mut parameters = parameters(name, [])?;
    if let Some(group) = group {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    parameters.is_ca = IsCa::ExplicitNoCa;
    Ok(parameters)
}

/// A server's certificate is for these host names and addresses. It is valid with any time of a node's clock.
fn parameters(name: &str, hosts: impl Into<Vec<String>>) -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(hosts)?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = date_time_ymd(1970, 1, 1);
    parameters.not_after = date_time_ymd(2099, 12, 31);
    Ok(parameters)
}

fn sign(name: &str, parameters: CertificateParams, authority: &Issuer<'_, KeyPair>) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    write(&format!("{name}.crt"), &parameters.signed_by(&key, authority)?.pem())?;
    write(&format!("{name}.key"), &key.serialize_pem())
}

/// Writes a file; no other user can read a key.
fn write(file: &str, text: &str) -> anyhow::Result<()> {
    let mode = if file.ends_with(".key") { 0o600 } else { 0o644 };
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(folder().join(file))?;
    Ok(file.write_all(text.as_bytes())?)
}

/// A kubeconfig with certificates in `folder`, a path that is valid for its reader.
pub(crate) fn kubeconfig(name: &str, folder: &Path) -> String {
    kubeconfig_for(name, folder, network::HOST)
}

/// The same, with this name of the API server.
pub(crate) fn kubeconfig_for(name: &str, folder: &Path, server_name: &str) -> String {
    kubeconfig_at(network::HOST, &user(name, folder), folder, server_name)
}

/// The credentials of a user with a certificate.
pub(crate) fn user(name: &str, folder: &Path) -> Value {
    let file = |suffix: &str| folder.join(format!("{name}.{suffix}")).display().to_string();
    json!({"client-certificate": file("crt"), "client-key": file("key")})
}

/// A kubeconfig for these credentials and an API server at this address.
pub fn kubeconfig_at(host: &str, user: &Value, folder: &Path, server_name: &str) -> String {
    // JSON is YAML.
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "timesync-e2e", "cluster": {
            "server": format!("https://{host}:6443"), "tls-server-name": server_name,
            "certificate-authority": folder.join("ca.crt").display().to_string()}}],
        "users": [{"name": "timesync-e2e", "user": user}],
        "contexts": [{"name": "timesync-e2e", "context": {"cluster": "timesync-e2e", "user": "timesync-e2e"}}],
        "current-context": "timesync-e2e",
    })
    .to_string()
}
