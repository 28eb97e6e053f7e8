//! Certificates of a cluster, dated 1970 to 2099, so that nodes with wrong clocks can join; and one of the API server
//! that is valid from now, as in any real cluster, for nodes that shall not. Made by openssl.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use xtask::{checkout, process};

use crate::{control_plane, network, vm};

/// Nodes of the cluster; each has a certificate of its name.
pub const NODES: [&str; 3] = ["node1", "vm1", "vm2"];

/// A second name of the API server. Who asks for it is shown a certificate that is valid from now.
pub(crate) const VALID_FROM_NOW: &str = "valid-from-now.timesync-e2e";

/// The folder with the certificates.
pub fn folder() -> PathBuf {
    checkout::state().join("pki")
}

/// Makes the authority and every certificate.
pub fn make() -> anyhow::Result<()> {
    let pki = folder();
    fs::create_dir_all(&pki)?;
    let here = pki.display();
    fs::write(
        pki.join("ca.cnf"),
        format!(
            "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir={here}\ndatabase={here}/index.txt\nserial={here}/serial\n\
             default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\norganizationName=optional\n"
        ),
    )?;
    fs::write(pki.join("index.txt"), "")?;
    fs::write(pki.join("serial"), "01")?;
    request("ca", "/CN=timesync-e2e")?;
    sign("ca", "basicConstraints=critical,CA:TRUE", "-selfsign", ALWAYS)?;
    let names = format!(
        "subjectAltName=IP:127.0.0.1,IP:10.96.0.1,IP:{},IP:{},DNS:kubernetes.default.svc,DNS:localhost",
        network::HOST,
        control_plane::LOOPBACK
    );
    certificate("apiserver", "/CN=kube-apiserver", &names)?;
    request("valid-from-now", "/CN=kube-apiserver")?;
    // Without a start date openssl writes the time it is.
    sign("valid-from-now", &format!("subjectAltName=DNS:{VALID_FROM_NOW}"), "-cert ca.crt", "-days 365")?;
    let leaf = "basicConstraints=CA:FALSE";
    certificate("admin", "/O=system:masters/CN=admin", leaf)?;
    certificate("controller-manager", "/CN=system:kube-controller-manager", leaf)?;
    certificate("scheduler", "/CN=system:kube-scheduler", leaf)?;
    certificate("proxy", "/CN=system:kube-proxy", leaf)?;
    certificate("kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client", leaf)?;
    // For the time servers of the nodes.
    let servers = vm::VMS.map(|vm| format!("IP:{}", vm.address())).join(",");
    certificate("ntp", "/CN=ntp", &format!("subjectAltName={servers}"))?;
    for node in NODES {
        certificate(node, &format!("/O=system:nodes/CN=system:node:{node}"), leaf)?;
    }
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out sa.key")?;
    openssl("pkey -in sa.key -pubout -out sa.pub")
}

fn certificate(name: &str, subject: &str, extension: &str) -> anyhow::Result<()> {
    request(name, subject)?;
    sign(name, extension, "-cert ca.crt", ALWAYS)
}

fn request(name: &str, subject: &str) -> anyhow::Result<()> {
    openssl(&format!(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj {subject}"
    ))
}

/// Valid whatever a node's clock says.
const ALWAYS: &str = "-startdate 19700101000000Z -enddate 20991231235959Z";

fn sign(name: &str, extension: &str, by: &str, valid: &str) -> anyhow::Result<()> {
    fs::write(folder().join(format!("{name}.ext")), extension)?;
    openssl(&format!(
        "ca -batch -config ca.cnf {by} -keyfile ca.key -in {name}.csr -out {name}.crt {valid} -notext \
         -extfile {name}.ext"
    ))
}

fn openssl(words: &str) -> anyhow::Result<()> {
    process::run(Command::new("openssl").args(words.split_whitespace()).current_dir(folder()))?;
    Ok(())
}

/// A kubeconfig whose certificates lie in `folder` as seen by its reader.
pub(crate) fn kubeconfig(name: &str, folder: &Path) -> String {
    kubeconfig_for(name, folder, network::HOST)
}

/// The same, asking for the API server under this name.
pub(crate) fn kubeconfig_for(name: &str, folder: &Path, server_name: &str) -> String {
    kubeconfig_at(network::HOST, &user(name, folder), folder, server_name)
}

/// The credentials of one who has a certificate.
pub(crate) fn user(name: &str, folder: &Path) -> Value {
    let file = |suffix: &str| folder.join(format!("{name}.{suffix}")).display().to_string();
    json!({"client-certificate": file("crt"), "client-key": file("key")})
}

/// One for these credentials and an API server at this address.
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
