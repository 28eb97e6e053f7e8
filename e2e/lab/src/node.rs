//! A node that shares the host's kernel and clock: containerd, kubelet and kube-proxy in their own network namespace
//! and mount namespace, without CAP_SYS_TIME. It is ready after about 3 s, and needs about 140 MB.
use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Context;
use xtask::{checkout, image, process, tools};

use crate::{
    daemon::{self, Daemon},
    network, pki, registry, wait,
};

/// Folders of the host on which the node's own folders are mounted. The host needs them only as mount points.
pub(crate) const MOUNT_POINTS: [&str; 2] = ["/var/lib/timesync", "/var/run/clockbound"];

/// The node's address.
pub(crate) const ADDRESS: &str = "172.30.0.11";

/// Starts the node. `taint` is the key of a taint NoSchedule with which its kubelet registers it.
pub(crate) fn up(taint: Option<&str>) -> anyhow::Result<()> {
    let home = checkout::state().join("node1");
    for folder in ["cni", "varlib", "clockbound", "netns"] {
        fs::create_dir_all(home.join(folder))?;
    }
    network::namespace(network::NODE1, &[ADDRESS])?;
    process::sh(&format!("{} sysctl -qw net.ipv4.ip_forward=1", network::inside(network::NODE1)))?;
    write_files(taint)?;
    let (here, bin) = (home.display(), programs()?);
    let net = network::inside(network::NODE1);
    // The node has its own mount namespace. So mounts of pods end with it, and the host's files stay unchanged where
    // agents and containerd write: the agent's state folder and shared memory, /etc, and the names of the pods' network
    // namespaces. Its mounts are shared among its pods, as on a node with systemd. Otherwise containerd refuses a
    // volume with HostToContainer.
    let state = format!("{here}/varlib");
    for folder in MOUNT_POINTS {
        fs::create_dir_all(folder)?;
    }
    process::sh(&format!("rm -rf {here}/etc"))?;
    process::sh(&format!("cp -a /etc {here}/etc"))?;
    Daemon::new("node1-containerd", "unshare")
        .wrap(&net)
        .args("--mount --propagation private sh -c")
        .arg(format!(
            "mount --make-rshared / && mount --bind {state} /var/lib/timesync && mount --bind {here}/etc /etc && \
             mount --bind {here}/netns /run/netns && mount --bind {here}/clockbound /var/run/clockbound && \
             exec containerd -c {here}/containerd.toml"
        ))
        .env("PATH", &bin)
        .start()?;
    let socket = format!("{here}/containerd.sock");
    wait::until("containerd of node1", "1 s", Duration::from_secs(60), || {
        daemon::expect_running("node1-containerd")?;
        Ok(ctr(&socket, &["version"]).ok())
    })?;
    for archive in image::archives() {
        ctr(&socket, &["-n", "k8s.io", "images", "import", &archive.display().to_string()])?;
    }
    keep_sysctls(&home)?;
    start_kubelet()?;
    Daemon::new("node1-proxy", tools::path("kube-proxy")?)
        .wrap(&net)
        .args(&format!("--kubeconfig={here}/proxy.conf --hostname-override=node1 --proxy-mode=nftables"))
        // 0: do not change the host's limits. Without permission to change them kube-proxy would end.
        .args("--conntrack-max-per-core=0 --conntrack-min=0")
        .args("--conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0")
        .start()?;
    Ok(())
}

fn start_kubelet() -> anyhow::Result<()> {
    let home = checkout::state().join("node1");
    let (here, net) = (home.display(), network::inside(network::NODE1));
    let containerd = daemon::id("node1-containerd").context("containerd has a process id")?;
    Daemon::new("node1-kubelet", "kubelet")
        .wrap(&format!("{net} --mount=/proc/{containerd}/ns/mnt"))
        .args(&format!(
            "--config={here}/kubelet.yaml --kubeconfig={here}/kubelet.conf --root-dir={here}/kubelet"
        ))
        .args(&format!("--hostname-override=node1 --node-ip={ADDRESS}"))
        .env("PATH", &programs()?)
        .start()?;
    Ok(())
}

/// Ends the node's kubelet, and starts it again. Its pods keep running.
pub fn restart_kubelet() -> anyhow::Result<()> {
    daemon::end("node1-kubelet", "-TERM")?;
    start_kubelet()
}

/// Ends the node's containers, then its daemons: containers outlive containerd.
pub(crate) fn down() -> anyhow::Result<()> {
    daemon::end("node1-kubelet", "-KILL")?;
    daemon::end("node1-proxy", "-KILL")?;
    let socket = checkout::state().join("node1/containerd.sock").display().to_string();
    if daemon::running("node1-containerd") {
        for task in ctr(&socket, &["-n", "k8s.io", "tasks", "ls", "-q"]).unwrap_or_default().lines() {
            // If the container ends by itself in the meantime, the removal fails, which is no error.
            let _ = ctr(&socket, &["-n", "k8s.io", "tasks", "rm", "-f", task]);
        }
    }
    daemon::end("node1-containerd", "-KILL")?;
    restore_sysctls(&checkout::state().join("node1"))
}

/// The settings that the kubelet changes in the kernel, which is the host's here.
const SYSCTLS: [&str; 3] = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];

fn keep_sysctls(home: &Path) -> anyhow::Result<()> {
    for (number, name) in SYSCTLS.iter().enumerate() {
        fs::write(home.join(format!("sysctl-{number}")), fs::read(Path::new("/proc/sys").join(name))?)?;
    }
    Ok(())
}

fn restore_sysctls(home: &Path) -> anyhow::Result<()> {
    for (number, name) in SYSCTLS.iter().enumerate() {
        let kept = home.join(format!("sysctl-{number}"));
        if kept.exists() {
            fs::write(Path::new("/proc/sys").join(name), fs::read(kept)?)?;
        }
    }
    Ok(())
}

/// Process ids of a container of this node.
pub fn processes(container: &str) -> anyhow::Result<Vec<String>> {
    let socket = checkout::state().join("node1/containerd.sock").display().to_string();
    let text = ctr(&socket, &["-n", "k8s.io", "tasks", "ps", container])?;
    Ok(text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn ctr(socket: &str, words: &[&str]) -> anyhow::Result<String> {
    process::run(Command::new(tools::path("ctr")?).args(["-a", socket]).args(words))
}

/// PATH with the cached programs first.
fn programs() -> anyhow::Result<String> {
    let folder = |name: &str| -> anyhow::Result<String> {
        Ok(tools::path(name)?.parent().context("a program lies in a folder")?.display().to_string())
    };
    let own = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{}:{}:{own}:/usr/sbin:/sbin", folder("kubelet")?, folder("containerd")?))
}

fn write_files(taint: Option<&str>) -> anyhow::Result<()> {
    let home = checkout::state().join("node1");
    let (here, keys) = (home.display(), pki::folder());
    let pods = format!(
        r#"{{"cniVersion":"1.0.0","name":"pods","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,
"ipMasq":true,"ipam":{{"type":"host-local","dataDir":"{here}/cni-data","ranges":[[{{"subnet":"10.244.1.0/24"}}]],
"routes":[{{"dst":"0.0.0.0/0"}}]}}}},{{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    );
    fs::write(home.join("cni/10.conflist"), pods)?;
    // restrict_oom_score_adj: otherwise, if root has no CAP_SYS_RESOURCE, runc fails with "can't get final child's
    // PID".
    let containerd = format!(
        "version = 3\nroot = \"{here}/ctrd\"\nstate = \"{here}/ctrd-state\"\n\
         [grpc]\n  address = \"{here}/containerd.sock\"\n{}\
         [plugins.'io.containerd.cri.v1.runtime']\n  restrict_oom_score_adj = true\n\
         [plugins.'io.containerd.cri.v1.runtime'.cni]\n  bin_dirs = [\"/usr/lib/cni\"]\n  conf_dir = \"{here}/cni\"\n{}{}",
        sandbox_image(),
        runc(),
        registry::containerd(&format!("{here}/certs.d"))
    );
    registry::trust(&home.join("certs.d"), &keys.join("ca.crt"))?;
    fs::write(home.join("containerd.toml"), containerd)?;
    // failCgroupV1: otherwise the kubelet refuses a host with cgroup v1. No cgroup per QoS: they would conflict with
    // those of another kubelet on the host.
    let kubelet = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailCgroupV1: false\n\
         failSwapOn: false\ncgroupDriver: cgroupfs\ncgroupsPerQOS: false\nenforceNodeAllocatable: []\n\
         containerRuntimeEndpoint: unix://{here}/containerd.sock\naddress: {ADDRESS}\n\
         healthzBindAddress: {ADDRESS}\n{}{}podLogsDir: {here}/podlogs\nvolumePluginDir: {here}/volplugins\n",
        kubelet_taints(taint),
        kubelet_access(&keys.join("ca.crt").display().to_string())
    );
    fs::write(home.join("kubelet.yaml"), kubelet)?;
    fs::write(home.join("kubelet.conf"), pki::kubeconfig("node1", &keys))?;
    fs::write(home.join("proxy.conf"), pki::kubeconfig("proxy", &keys))?;
    Ok(())
}

/// containerd's setting for the image that keeps a pod's namespaces.
pub(crate) fn sandbox_image() -> String {
    format!(
        "[plugins.'io.containerd.cri.v1.images']\n  snapshotter = \"overlayfs\"\n\
         [plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = \"{}\"\n",
        image::PAUSE
    )
}

/// containerd's setting for the runtime.
pub(crate) fn runc() -> &'static str {
    "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
     [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n  BinaryName = \"/usr/sbin/runc\"\n  \
     SystemdCgroup = false\n"
}

/// The kubelet's setting for the taint with which it registers its node.
pub(crate) fn kubelet_taints(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!("registerWithTaints: [{{key: {key}, effect: NoSchedule}}]\n"))
}

/// The kubelet's settings for authentication, and for full disks.
pub(crate) fn kubelet_access(authority: &str) -> String {
    format!(
        "authentication: {{anonymous: {{enabled: false}}, x509: {{clientCAFile: {authority}}}, \
         webhook: {{enabled: false}}}}\nauthorization: {{mode: AlwaysAllow}}\n\
         evictionHard: {{imagefs.available: \"1%\", nodefs.available: \"1%\"}}\n"
    )
}
