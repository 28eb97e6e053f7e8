//! A node in QEMU (software emulation) with its own kernel, system clock and hardware clock. It joins after 30 to 50 s.
//! When idle it uses 0.4 of a core and 0.8 GB.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use xtask::{checkout, image, process};

use crate::{
    channel::Channel,
    daemon::{self, Daemon},
    network, node, pki, qmp, readings, registry,
    truth::Probe,
    vm_image, wait,
};

/// One of the virtual machines.
#[derive(Clone, Copy, Debug)]
pub struct Vm {
    /// 1 or 2.
    number: u8,
}

/// The certificate that the node's kubelet expects of the API server, by its validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Valid since 1970: a node can join with any clock.
    Always,
    /// Valid since the cluster was made: a node can join only with a correct clock.
    FromNow,
}

/// How a machine is switched on again.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The time that its hardware clock shows: `utc` for the right time, or a date.
    pub rtc: &'a str,
    /// The certificate of the API server that its kubelet is told to use.
    pub certificate: Certificate,
    /// The key of a taint NoSchedule with which its kubelet registers a new Node.
    pub register_with_taint: Option<&'a str>,
}

impl Boot<'static> {
    /// A hardware clock that is right, and a kubelet that can join with any clock.
    pub const PLAIN: Self = Self { rtc: "utc", certificate: Certificate::Always, register_with_taint: None };
}

/// Both of them.
pub const VMS: [Vm; 2] = [Vm { number: 1 }, Vm { number: 2 }];

impl Vm {
    /// The node's name.
    pub fn name(self) -> String {
        format!("vm{}", self.number)
    }

    /// The node's address.
    pub fn address(self) -> String {
        format!("172.30.0.{}", 100 + self.number)
    }

    fn folder(self) -> PathBuf {
        checkout::state().join(self.name())
    }

    /// Switches it on for the first time.
    pub(crate) fn start(self, disk: &Path, boot: &Boot<'_>) -> anyhow::Result<()> {
        let folder = self.folder();
        fs::create_dir_all(folder.join("conf/images"))?;
        self.write_configuration(boot)?;
        let base = disk.join("root.ext4").display().to_string();
        process::run(Command::new("qemu-img").current_dir(&folder).args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            &base,
            "-F",
            "raw",
            "disk.qcow2",
        ]))?;
        network::tap(&self.name())?;
        self.switch_on(disk, boot.rtc)
    }

    /// Cuts its power, sets its hardware clock, and switches it on again. The disk has what the kernel had written to it.
    pub fn power_cycle(self, boot: &Boot<'_>) -> anyhow::Result<()> {
        // QEMU ends immediately and does not inform the guest. Data that the guest has written to its disk is kept.
        daemon::end(&self.name(), "-TERM")?;
        // Keeps the console of the former boot apart, since callers wait for lines of the new boot.
        fs::rename(self.folder().join("console.log"), self.folder().join("console-before.log"))?;
        self.write_configuration(boot)?;
        self.switch_on(&vm_image::ready()?, boot.rtc)
    }

    fn switch_on(self, disk: &Path, rtc: &str) -> anyhow::Result<()> {
        let folder = self.folder();
        fs::write(folder.join("shm"), vec![0; 1 << 20])?;
        let (name, here, disk) = (self.name(), folder.display(), disk.display());
        let tap = network::tap_name(&name);
        // tsc=reliable: without it, the guest abandons its clock source when the host is busy. hpet=off: with an HPET,
        // the kernel would poll for the RTC's second instead of using its interrupt. GenuineIntel: on an AMD CPU the
        // kernel does not reset the RTC's phase when it sets the RTC.
        let kernel = format!(
            "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off e2e.name={name} e2e.address={}",
            self.address()
        );
        Daemon::new(&name, "qemu-system-x86_64")
            .args("-nodefaults -no-user-config -display none -M pc,hpet=off -accel tcg,thread=multi")
            .args("-cpu max,vendor=GenuineIntel -smp 1 -m 1024M")
            .args(&format!("-kernel {disk}/vmlinuz -initrd {disk}/initrd -append"))
            .arg(kernel)
            .args(&format!("-rtc base={rtc},clock=vm -serial file:{here}/console.log"))
            .args(&format!("-qmp unix:{here}/qmp.sock,server=on,wait=off"))
            .args(&format!("-drive file={here}/disk.qcow2,if=virtio,cache=unsafe"))
            .args(&format!("-drive file={here}/conf.ext4,if=virtio,format=raw,readonly=on"))
            .args(&format!("-netdev tap,id=n0,ifname={tap},script=no,downscript=no"))
            .args(&format!("-device virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:78:00:0{}", self.number))
            .args(&format!("-object memory-backend-file,id=shm,size=1M,share=on,mem-path={here}/shm"))
            .args("-device ivshmem-plain,memdev=shm -device virtio-serial-pci")
            .args(&format!("-chardev socket,id=hand,path={here}/hand.sock,server=on,wait=off"))
            .args("-device virtserialport,chardev=hand,name=e2e.hand")
            .start()?;
        Ok(())
    }

    /// A probe that measures the guest's clock from outside.
    pub fn probe(self) -> anyhow::Result<Probe> {
        Probe::open(&self.name(), &self.folder().join("shm"))
    }

    /// Waits until the guest answers questions about its clock.
    pub fn wait_for_probe(self) -> anyhow::Result<()> {
        wait::until(&format!("{} to boot", self.name()), "15 s", Duration::from_secs(180), || {
            daemon::expect_running(&self.name())?;
            Ok(self.console().contains("clockprobe: ready").then_some(()))
        })
    }

    /// Runs a shell script on the node as root, without its network. Returns what the script printed, or an error if it
    /// failed.
    pub fn run(self, script: &str) -> anyhow::Result<String> {
        let (code, output) = Channel::at(self.folder().join("hand.sock")).run(script, 60)?;
        readings::note(&format!("{}: {script}", self.name()), &format!("exit code {code}: {output}"));
        ensure!(code == 0, "{}: `{script}` ended with {code}: {}", self.name(), output.trim());
        Ok(output)
    }

    /// Writes a file on the node, without its network.
    pub fn put(self, path: &str, contents: &[u8], mode: &str) -> anyhow::Result<()> {
        Channel::at(self.folder().join("hand.sock")).put(path, contents, mode)
    }

    /// The console output since it was switched on.
    pub fn console(self) -> String {
        let console = fs::read(self.folder().join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&console).into_owned()
    }

    /// The time of the hardware clock in whole seconds since 1970. QEMU gives it, not the guest.
    pub fn rtc(self) -> anyhow::Result<i64> {
        qmp::rtc(&self.folder().join("qmp.sock"))
    }

    /// Its hardware clock minus the host's clock, nanoseconds. Reads until the second changes, so the error is a few
    /// milliseconds.
    pub fn rtc_offset(self) -> anyhow::Result<i64> {
        qmp::rtc_offset(&self.folder().join("qmp.sock"))
    }

    fn write_configuration(self, boot: &Boot<'_>) -> anyhow::Result<()> {
        let (conf, keys, name) = (self.folder().join("conf"), pki::folder(), self.name());
        for file in ["ca.crt".to_owned(), format!("{name}.crt"), format!("{name}.key")] {
            fs::copy(keys.join(&file), conf.join(&file))?;
        }
        for archive in image::archives() {
            if let Some(file) = archive.file_name().filter(|file| *file != "operator.tar") {
                fs::copy(&archive, conf.join("images").join(file))?;
            }
        }
        let api_server = match boot.certificate {
            Certificate::Always => network::HOST,
            Certificate::FromNow => pki::VALID_FROM_NOW,
        };
        fs::write(conf.join("kubelet.conf"), pki::kubeconfig_for(&name, Path::new("/k"), api_server))?;
        let pods = format!(
            r#"{{"cniVersion":"1.0.0","name":"pods","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,
"ipam":{{"type":"host-local","ranges":[[{{"subnet":"10.244.{}.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}}]}}"#,
            100 + self.number
        );
        fs::write(conf.join("10.conflist"), pods)?;
        let containerd = format!(
            "version = 3\n{}[plugins.'io.containerd.cri.v1.runtime'.cni]\n  bin_dirs = [\"/usr/lib/cni\"]\n  \
             conf_dir = \"/etc/cni/net.d\"\n{}{}",
            node::sandbox_image(),
            node::runc(),
            registry::containerd("/k/certs.d")
        );
        registry::trust(&conf.join("certs.d"), Path::new("/k/ca.crt"))?;
        fs::write(conf.join("containerd.toml"), containerd)?;
        let kubelet = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailSwapOn: false\n\
             cgroupDriver: cgroupfs\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n\
             staticPodPath: {}\n{}{}",
            vm_image::STATIC_PODS,
            node::kubelet_taints(boot.register_with_taint),
            node::kubelet_access("/k/ca.crt")
        );
        fs::write(conf.join("kubelet.yaml"), kubelet)?;
        // A disk of its own, which /init2 mounts.
        let words = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", "conf", "conf.ext4", "128M"];
        process::run(Command::new("mke2fs").current_dir(self.folder()).args(words))?;
        Ok(())
    }
}
