//! A host's folders in a scratch folder, and the static pod's files in them.
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use serde_json::Value;

use super::*;
use crate::{scratch::Scratch, state::Booted};

struct Host {
    folder: Scratch,
    file: AgentFile,
    keeper: BootPodKeeper,
    now: Instant,
}

const MANIFEST: &str = "host/etc/kubernetes/manifests/timesync-boot.yaml";
const PROGRAM: &str = "state/bin/timesync-agent";

impl Host {
    fn new() -> Self {
        let folder = Scratch::new();
        fs::create_dir_all(folder.path().join("host/etc/kubernetes/manifests")).unwrap();
        let boot = BootPod {
            static_pod: true,
            manifest_directory: "/etc/kubernetes/manifests".into(),
            host_state_directory: "/srv/timesync".into(),
            image: "registry.example.com/timesync-agent:1".to_owned(),
            namespace: "timesync-system".to_owned(),
            labels: [("app.kubernetes.io/component".to_owned(), "boot".to_owned())].into(),
            log_level: "info".to_owned(),
            order_file: Some(folder.path().join("order")),
        };
        let agent = Agent {
            state_directory: folder.path().join("state"),
            host_root: folder.path().join("host"),
            boot: Some(boot),
            ..Agent::default()
        };
        let file = AgentFile { agent, profile: Some(profile::Profile::default()) };
        let keeper = keeper(&file).unwrap();
        Self { folder, file, keeper, now: Instant::now() }
    }

    fn orders(&mut self) -> &mut BootPod {
        self.file.agent.boot.as_mut().unwrap()
    }

    /// Starts the agent again, as after an upgrade, or a change of its file.
    fn restart(&mut self) {
        self.keeper = keeper(&self.file).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The news of the next look.
    fn reconcile(&mut self) -> Option<(BootPodState, String)> {
        self.now += INTERVAL;
        self.keeper.reconcile(self.now).map(|report| (report.state, report.message))
    }

    fn becomes(&mut self, state: BootPodState, message: &str) {
        let (found, said) = self.reconcile().expect("something new");
        assert!(found == state && said.contains(message), "{found:?} {said}");
        assert_eq!(self.reconcile(), None, "it is told once");
    }

    fn installs(&mut self) {
        self.becomes(BootPodState::Installed, "");
        assert!(self.has(MANIFEST) && self.has(PROGRAM) && self.has("state/boot.toml"));
    }

    fn is_clean(&self) -> bool {
        let state: Vec<_> =
            fs::read_dir(self.path("state")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(state.is_empty(), "{state:?}");
        !self.has(MANIFEST)
    }
}

fn keeper(file: &AgentFile) -> Option<BootPodKeeper> {
    BootPodKeeper::new(file, Arc::new(State::open(&file.agent.state_directory, "boot")))
}

#[test]
fn the_manifest_is_a_pod_that_needs_nothing_of_the_api() {
    let mut host = Host::new();
    (host.file.agent.state_directory, host.file.agent.host_root) =
        ("/var/lib/timesync".into(), "/host".into());
    let text = manifest::text(&host.orders().clone(), &host.file.agent);
    let golden = include_str!("golden.yaml");
    assert!(text == golden, "agent/src/boot_pod/golden.yaml is to be:\n{text}");
    let pod: Value = serde_norway::from_str(&text).unwrap();
    let spec = &pod["spec"];
    assert_eq!((&pod["kind"], &pod["metadata"]["name"]), (&json("Pod"), &json("timesync-boot")));
    for volume in spec["volumes"].as_array().unwrap() {
        assert!(volume.get("hostPath").is_some_and(|_| volume.as_object().unwrap().len() == 2), "{volume}");
    }
    assert!(spec.get("serviceAccountName").is_none() && spec["containers"][0].get("envFrom").is_none());
    assert_eq!((&spec["restartPolicy"], &spec["dnsPolicy"]), (&json("OnFailure"), &json("Default")));
    assert_eq!(spec["containers"][0]["command"][0], json("/var/lib/timesync/bin/timesync-agent"));
    // No image and no label can add fields to the manifest.
    host.orders().image = "x\nhostNetwork: false # \"".to_owned();
    let pod: Value =
        serde_norway::from_str(&manifest::text(&host.orders().clone(), &host.file.agent)).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], json("x\nhostNetwork: false # \""));
}

fn json(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn all_of_it_is_put_there_and_kept() {
    let mut host = Host::new();
    host.installs();
    let ours = fs::read("/proc/self/exe").unwrap();
    assert_eq!(fs::read(host.path(PROGRAM)).unwrap(), ours);
    assert_eq!(fs::metadata(host.path(PROGRAM)).unwrap().permissions().mode() & 0o777, 0o755);
    // The program can read the file with which kubelet would start it.
    let written = load::agent_file(&host.path("state/boot.toml")).unwrap();
    assert_eq!(
        (&written.agent.state_directory, &written.profile),
        (&host.file.agent.state_directory, &host.file.profile)
    );
    // Nothing is written if nothing has changed.
    let before = fs::metadata(host.path(PROGRAM)).unwrap().modified().unwrap();
    host.restart();
    host.installs();
    assert_eq!(fs::metadata(host.path(PROGRAM)).unwrap().modified().unwrap(), before);
    // A file that was removed or changed is restored.
    fs::remove_file(host.path(MANIFEST)).unwrap();
    let length = ours.len() as u64;
    fs::write(host.path(PROGRAM), "").unwrap();
    fs::OpenOptions::new().write(true).open(host.path(PROGRAM)).unwrap().set_len(length).unwrap();
    assert_eq!(host.reconcile(), None);
    assert!(host.has(MANIFEST));
    assert_eq!(fs::read(host.path(PROGRAM)).unwrap(), ours);
    let names: Vec<_> = fs::read_dir(host.path(MANIFEST).parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["timesync-boot.yaml"], "nothing else lies in kubelet's folder");
}

#[test]
fn an_upgrade_changes_it_and_another_folder_moves_it() {
    let mut host = Host::new();
    host.installs();
    host.orders().image = "registry.example.com/timesync-agent:2".to_owned();
    fs::create_dir(host.path("host/etc/other")).unwrap();
    host.orders().manifest_directory = "/etc/other".into();
    host.restart();
    host.becomes(BootPodState::Installed, "");
    let text = fs::read_to_string(host.path("host/etc/other/timesync-boot.yaml")).unwrap();
    assert!(text.contains("timesync-agent:2") && !host.has(MANIFEST), "{text}");
    host.orders().static_pod = false;
    // The new orders may name another folder.
    host.orders().manifest_directory = "/etc/none".into();
    host.restart();
    host.becomes(BootPodState::Absent, "");
    assert!(!host.has("host/etc/other/timesync-boot.yaml") && host.is_clean());
}

#[test]
fn it_goes_when_it_is_switched_off_or_ordered_away() {
    let mut host = Host::new();
    host.installs();
    fs::write(host.path("order"), "remove").unwrap();
    host.becomes(BootPodState::Absent, "timesync.dev/boot");
    assert!(host.is_clean());
    // A new pod has no such annotation.
    fs::write(host.path("order"), "").unwrap();
    host.installs();
    host.orders().static_pod = false;
    host.restart();
    host.becomes(BootPodState::Absent, "");
    assert!(host.is_clean());
    host.file.agent.boot = None;
    assert!(keeper(&host.file).is_none());
}

#[test]
fn a_folder_that_is_not_there_is_named_and_not_made() {
    let mut host = Host::new();
    fs::remove_dir(host.path("host/etc/kubernetes/manifests")).unwrap();
    host.becomes(BootPodState::Failed, "there is no folder /etc/kubernetes/manifests");
    assert!(!host.has("host/etc/kubernetes/manifests") && !host.has(PROGRAM));
    fs::create_dir(host.path("host/etc/kubernetes/manifests")).unwrap();
    host.installs();
    // Without the folder there is nothing to remove in it.
    fs::remove_dir_all(host.path("host/etc/kubernetes")).unwrap();
    host.orders().static_pod = false;
    host.restart();
    host.becomes(BootPodState::Absent, "");
    assert!(host.is_clean());
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut host = Host::new();
    fs::write(host.path(MANIFEST), "kind: Pod\n").unwrap();
    host.becomes(BootPodState::Failed, "not a file of ours");
    host.orders().static_pod = false;
    host.restart();
    host.becomes(BootPodState::Absent, "");
    assert_eq!(fs::read_to_string(host.path(MANIFEST)).unwrap(), "kind: Pod\n");

    let mut host = Host::new();
    fs::write(host.path("victim"), "text").unwrap();
    symlink(host.path("victim"), host.path(MANIFEST)).unwrap();
    symlink(host.path("victim"), host.path("host/etc/kubernetes/manifests/.timesync-boot.yaml.new")).unwrap();
    host.becomes(BootPodState::Failed, "not a file of ours");
    fs::remove_file(host.path(MANIFEST)).unwrap();
    host.installs();
    assert_eq!(fs::read_to_string(host.path("victim")).unwrap(), "text");
}

#[test]
fn a_kubelet_that_reads_another_folder_is_noticed() {
    let mut host = Host::new();
    host.installs();
    host.now += KUBELET_TIMEOUT;
    host.becomes(BootPodState::Failed, "kubelet has not started it");
    State::open(&host.file.agent.state_directory, "boot").save_booted(Booted::Began);
    host.becomes(BootPodState::Installed, "");
}

#[test]
fn a_pod_that_nobody_came_for_takes_all_away() {
    let mut host = Host::new();
    host.installs();
    let file = load::agent_file(&host.path("state/boot.toml")).unwrap();
    remove_unclaimed(&file, Arc::new(State::open(&file.agent.state_directory, "boot"))).unwrap();
    assert!(host.is_clean());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_state_folder_that_others_may_write_gets_no_static_pod() {
    let mut host = Host::new();
    host.installs();
    // The agent does not close a folder that has files of others.
    fs::create_dir(host.path("state/another program")).unwrap();
    set_mode(&host.path("state"), 0o777);
    host.becomes(BootPodState::Failed, "state may be written by others (mode 0777)");
    assert!(!host.has(MANIFEST) && !host.has(PROGRAM), "what others may have changed is not run");
    set_mode(&host.path("state"), 0o755);
    host.installs();
    // A folder on the path to it, as the host has it.
    fs::create_dir_all(host.path("host/srv/timesync")).unwrap();
    set_mode(&host.path("host/srv"), 0o775);
    host.becomes(BootPodState::Failed, "host/srv may be written by others");
    assert!(!host.has(MANIFEST));
    set_mode(&host.path("host/srv"), 0o755);
    host.installs();
}

#[test]
fn what_another_user_left_in_the_state_folder_is_not_run() {
    let mut host = Host::new();
    fs::create_dir_all(host.path("elsewhere")).unwrap();
    symlink(host.path("elsewhere"), host.path("state/bin")).unwrap();
    host.installs();
    assert!(!host.has("elsewhere/timesync-agent"), "a link is not followed");

    // The file has the right octets, but a second name, by which another user may write it.
    fs::hard_link(host.path(PROGRAM), host.path("elsewhere/name")).unwrap();
    let number = |path: &str| fs::metadata(host.path(path)).unwrap().ino();
    let before = number(PROGRAM);
    host.restart();
    host.installs();
    let number = |path: &str| fs::metadata(host.path(path)).unwrap().ino();
    assert_ne!(number(PROGRAM), before);

    set_mode(&host.path("state/bin"), 0o777);
    fs::write(host.path("state/bin/other"), "x").unwrap();
    host.restart();
    host.installs();
    assert!(!host.has("state/bin/other"));
    let mode = fs::metadata(host.path("state/bin")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o755);
}
