//! What clients get from the nodes: time authenticated by a key, time authenticated by a certificate (with cookie keys
//! of the operator), and answers to ntpq. A client without permission gets none of it.
use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use anyhow::ensure;
use lab::{install::NAMESPACE, kubectl, network, pki, under_test, upstream, vm, wait};
use serde_json::json;
use xtask::{checkout, process};

use super::chronyd::answered;

const SECRET: &str = "server-keys";
const TLS_SECRET: &str = "server-tls";
/// A kubelet that ignores nudges updates its volumes about once a minute.
const UNTIL_READ: Duration = Duration::from_secs(150);
/// How long a query by chronyd waits for an answer (s): for none, and for one that must come.
const LIMIT: &str = "8";
const AMPLE: &str = "30";
/// A client without restrictions, and one whose requests must be authenticated.
const FRIEND: (&str, &str) = ("tse2e-friend", "172.30.0.224");
const STRANGER: (&str, &str) = ("tse2e-alien", "172.30.0.226");

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    for (namespace, address) in [FRIEND, STRANGER] {
        network::namespace(namespace, &[address])?;
    }
    let result = with_secrets();
    kubectl::sh(&format!("delete secret {SECRET} {TLS_SECRET} -n {NAMESPACE} --ignore-not-found"))?;
    result?;
    under_test::settle()
}

fn with_secrets() -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE, "labels": {"timesync.dev/keys": "true"}},
        "stringData": {"site": upstream::KEY},
    });
    kubectl::apply(&secret.to_string())?;
    kubectl::apply(&pki::tls_secret(NAMESPACE, TLS_SECRET)?.to_string())?;
    under_test::apply_four(&format!(
        "  restrict:\n  - {{source: default, flags: [notrust, noquery]}}\n  - {{source: {}}}\n  \
         serve: {{keys: [{{name: {SECRET}, key: site}}], nts: {{tlsSecret: {TLS_SECRET}}}}}\n",
        FRIEND.1
    ))?;
    under_test::wait_for_profile(Duration::from_secs(60))?;

    let keys = checkout::state().join("client.keys");
    fs::write(&keys, format!("{}\n", upstream::KEY))?;
    let keyfile = format!("keyfile {}", keys.display());
    let trusted = format!("ntstrustedcerts {}", pki::folder().join("ca.crt").display());
    for vm in vm::VMS {
        let plain = format!("server {} iburst", vm.address());
        wait_answered(STRANGER.0, &[&format!("{plain} key 1"), &keyfile])?;
        wait_answered(STRANGER.0, &[&format!("{plain} nts"), &trusted])?;
        ensure!(answered(FRIEND.0, AMPLE, &[&plain])?, "{plain}: who may ask without proof got no answer");
        ensure!(!answered(STRANGER.0, LIMIT, &[&plain])?, "{plain}: a request without proof was answered");
        let shown = wait::until("ntpq to show who is followed", "2 s", Duration::from_secs(60), || {
            let output = ntpq(FRIEND.0, &vm.address())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().any(|line| line.starts_with('*')).then_some(text))
        })?;
        for server in upstream::BENT {
            ensure!(shown.contains(server), "{server} is not in\n{shown}");
        }
        let refused = ntpq(STRANGER.0, &vm.address())?;
        ensure!(
            refused.stdout.is_empty(),
            "a stranger is shown {}",
            String::from_utf8_lossy(&refused.stdout)
        );
    }
    Ok(())
}

/// The files of keys reach a node some time after the profile.
fn wait_answered(namespace: &str, directives: &[&str]) -> anyhow::Result<()> {
    let what = format!("an answer to chronyd with `{}`", directives.join("`, `"));
    wait::until(&what, "10 s", UNTIL_READ, || Ok(answered(namespace, LIMIT, directives)?.then_some(())))
}

fn ntpq(namespace: &str, server: &str) -> anyhow::Result<Output> {
    let program = checkout::cache().join("ntpsec/usr/bin/ntpq");
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(network::inside(namespace).split(' '))
        .arg(program)
        .args(["-pn", server]);
    process::output(&mut command)
}
