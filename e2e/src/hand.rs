//! The harness's hand on a virtual machine: a shell as root on the node itself, through a privileged pod that has the
//! node's processes, network and files. What an administrator, or another program of the node, does to it is done here.
//! In: shell commands. Out: what they print.
use std::time::Duration;

use anyhow::ensure;

use crate::{image, kubectl, vm::Vm, wait};

/// Starts the pod, if it does not run yet.
pub(crate) fn start(vm: Vm) -> anyhow::Result<()> {
    let node = vm.name();
    // The image is only there to be started; the program is the node's.
    kubectl::apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: hand-{node}}}\nspec:\n  nodeName: {node}\n  hostNetwork: true\n  \
         hostPID: true\n  terminationGracePeriodSeconds: 0\n  tolerations: [{{operator: Exists}}]\n  containers:\n  - \
         name: hand\n    image: '{}'\n    imagePullPolicy: Never\n    \
         command: [/host/bin/busybox, sleep, '1000000']\n    \
         securityContext: {{privileged: true}}\n    volumeMounts: [{{name: host, mountPath: /host}}]\n  volumes:\n  - \
         {{name: host, hostPath: {{path: /}}}}\n",
        image::PAUSE
    ))?;
    wait::until(&format!("a shell on {node}"), "3 s", Duration::from_secs(120), || {
        Ok(sh(vm, "echo ready").ok().filter(|text| text == "ready\n"))
    })?;
    Ok(())
}

/// Removes the pod, and what was started in it.
pub(crate) fn stop(vm: Vm) -> anyhow::Result<()> {
    kubectl::sh(&format!("delete pod hand-{} --ignore-not-found --wait=true", vm.name()))?;
    Ok(())
}

/// Runs shell commands on the node, to their end; a failure of the last is an error.
pub(crate) fn sh(vm: Vm, commands: &str) -> anyhow::Result<String> {
    let commands = format!("export PATH=/usr/bin:/usr/sbin:/bin:/sbin; {commands}");
    let pod = format!("hand-{}", vm.name());
    let words = ["exec", &pod, "--", "/host/bin/busybox", "chroot", "/host", "/bin/sh", "-c", &commands];
    kubectl::run(&words)
}

/// An error if a file of the node is there, or is not, against `wanted`.
pub(crate) fn expect_file(vm: Vm, path: &str, wanted: bool) -> anyhow::Result<()> {
    let found = sh(vm, &format!("ls -d {path} 2>/dev/null || true"))?;
    ensure!(found.is_empty() != wanted, "{path} on {}: {found:?}", vm.name());
    Ok(())
}
