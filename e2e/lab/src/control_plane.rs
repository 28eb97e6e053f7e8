//! etcd, kube-apiserver, controller-manager and scheduler, only on the bridge's address. Or only etcd and
//! kube-apiserver, on a loopback address, for tests without nodes. The API server is ready after about 7 s.
use std::{fs, time::Duration};

use xtask::{checkout, tools};

use crate::{
    daemon::{self, Daemon},
    kubectl, network, pki, wait,
};

/// Starts all four, and waits until the API server is ready.
pub(crate) fn up() -> anyhow::Result<()> {
    let (state, host, keys) = (checkout::state(), network::HOST, pki::folder());
    for name in ["controller-manager", "scheduler"] {
        fs::write(state.join(format!("{name}.conf")), pki::kubeconfig(name, &keys))?;
    }
    let (state, keys) = (state.display(), keys.display());
    api(host, "--enable-admission-plugins=NodeRestriction")?;
    Daemon::new("controller-manager", tools::path("kube-controller-manager")?)
        .args(&format!("--kubeconfig={state}/controller-manager.conf --bind-address={host}"))
        .args(&format!("--root-ca-file={keys}/ca.crt --service-account-private-key-file={keys}/sa.key"))
        .args("--use-service-account-credentials --leader-elect=false")
        .start()?;
    Daemon::new("scheduler", tools::path("kube-scheduler")?)
        .args(&format!("--kubeconfig={state}/scheduler.conf --bind-address={host} --leader-elect=false"))
        .start()?;
    ready()
}

/// Starts etcd and kube-apiserver alone, and waits until the API server is ready. Pods need no ServiceAccount there,
/// since no controller makes one for a namespace.
pub fn alone() -> anyhow::Result<()> {
    api(network::LOOPBACK, "--disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none")?;
    ready()
}

fn api(host: &str, more: &str) -> anyhow::Result<()> {
    let (state, keys, advertised) = (checkout::state(), pki::folder(), network::HOST);
    let admin_user = pki::user("admin", &keys);
    fs::write(pki::admin(), pki::kubeconfig_at(host, &admin_user, &keys, host))?;
    let (state, keys) = (state.display(), keys.display());
    Daemon::new("etcd", "etcd")
        .args(&format!("--data-dir {state}/etcd --unsafe-no-fsync --listen-client-urls http://{host}:2379"))
        .args(&format!("--advertise-client-urls http://{host}:2379 --listen-peer-urls http://{host}:2380"))
        .args(&format!(
            "--initial-advertise-peer-urls http://{host}:2380 --initial-cluster default=http://{host}:2380"
        ))
        .start()?;
    Daemon::new("apiserver", tools::path("kube-apiserver")?)
        .args(&format!("--etcd-servers=http://{host}:2379 --bind-address={host} --secure-port=6443"))
        .args(&format!("--advertise-address={advertised} --service-cluster-ip-range=10.96.0.0/16"))
        .args(&format!("--cert-dir={keys}"))
        .args(&format!("--tls-cert-file={keys}/apiserver.crt --tls-private-key-file={keys}/apiserver.key"))
        .args(&format!(
            "--tls-sni-cert-key={keys}/valid-from-now.crt,{keys}/valid-from-now.key:{}",
            pki::VALID_FROM_NOW
        ))
        .args(&format!("--client-ca-file={keys}/ca.crt"))
        .args(&format!("--kubelet-client-certificate={keys}/kubelet-client.crt"))
        .args(&format!("--kubelet-client-key={keys}/kubelet-client.key"))
        // Otherwise exec, logs and proxy resolve the node's name by DNS.
        .args("--kubelet-preferred-address-types=InternalIP")
        .args("--service-account-issuer=https://kubernetes.default.svc")
        .args(&format!(
            "--service-account-key-file={keys}/sa.pub --service-account-signing-key-file={keys}/sa.key"
        ))
        .args(&format!("--authorization-mode=Node,RBAC {more} --allow-privileged=true"))
        .start()?;
    Ok(())
}

fn ready() -> anyhow::Result<()> {
    wait::until("the API server", "7 s", Duration::from_secs(120), || {
        daemon::expect_running("etcd")?;
        daemon::expect_running("apiserver")?;
        Ok(kubectl::run(&["get", "--raw", "/readyz"]).ok())
    })?;
    Ok(())
}
