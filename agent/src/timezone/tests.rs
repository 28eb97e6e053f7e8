//! A host's tree in a scratch folder, and what happens to its time zone.
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use super::*;
use crate::scratch::Scratch;

struct Host {
    folder: Scratch,
    keeper: TimezoneKeeper,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let folder = Scratch::new();
        let zones = folder.path().join("host/usr/share/zoneinfo/Asia");
        fs::create_dir_all(&zones).unwrap();
        fs::create_dir(folder.path().join("host/etc")).unwrap();
        for zone in ["Shanghai", "Tokyo"] {
            fs::write(zones.join(zone), "TZif2 and more").unwrap();
        }
        let keeper = keeper(&folder);
        Self { folder, keeper, now: Instant::now() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("host").join(path)
    }

    fn localtime(&self) -> Option<String> {
        fs::read_link(self.path("etc/localtime")).ok().map(|target| target.to_str().unwrap().to_owned())
    }

    fn name_file(&self) -> Option<String> {
        fs::read_to_string(self.path("etc/timezone")).ok()
    }

    fn link(&self, target: &str) {
        let _ = fs::remove_file(self.path("etc/localtime"));
        symlink(target, self.path("etc/localtime")).unwrap();
    }

    /// The news of the next look, and the report after it.
    fn reconcile(
        &mut self,
        desired: &DesiredZone,
    ) -> (Option<(TransitionKind, String)>, Option<TimezoneReport>) {
        self.now += INTERVAL;
        let TimezoneOutcome { report, done } =
            self.keeper.reconcile(desired.clone(), self.now).expect("it is time");
        (done, report)
    }

    fn changes(&mut self, desired: &DesiredZone, expected: &str) {
        let (done, _) = self.reconcile(desired);
        assert_eq!(done, Some((TransitionKind::TimezoneChanged, expected.to_owned())));
        assert_eq!(self.reconcile(desired).0, None, "it is done once");
    }

    fn fails(&mut self, desired: &DesiredZone, expected: &str) {
        let (done, report) = self.reconcile(desired);
        let Some((TransitionKind::TimezoneFailed, message)) = done else { panic!("{done:?}") };
        assert!(message.contains(expected), "{message}");
        assert_eq!(report.unwrap().message, message);
        let (done, report) = self.reconcile(desired);
        assert_eq!((done, report.unwrap().message), (None, message), "it is told once");
    }

    fn restart(&mut self) {
        self.keeper = keeper(&self.folder);
    }
}

fn keeper(folder: &Scratch) -> TimezoneKeeper {
    let state = Arc::new(State::open(&folder.path().join("state"), "boot"));
    TimezoneKeeper::new(HostRoot::new(folder.path().join("host")), state)
}

fn zone(name: &str) -> DesiredZone {
    DesiredZone::Zone(name.to_owned())
}

const SHANGHAI: &str = "../usr/share/zoneinfo/Asia/Shanghai";

#[test]
fn a_zone_is_set_and_the_former_one_comes_back() {
    let mut host = Host::new();
    host.link("/usr/share/zoneinfo/Europe/Berlin");
    fs::write(host.path("etc/timezone"), "Europe/Berlin\n").unwrap();
    host.changes(&zone("Asia/Shanghai"), "The time zone is Asia/Shanghai; it was Europe/Berlin");
    assert_eq!(host.localtime().as_deref(), Some(SHANGHAI));
    assert_eq!(host.name_file().as_deref(), Some("Asia/Shanghai\n"));
    assert_eq!(fs::read(host.path("etc/localtime")).unwrap(), b"TZif2 and more");
    let report = host.reconcile(&zone("Asia/Shanghai")).1.unwrap();
    assert_eq!((report.name.as_deref(), report.message.as_str()), (Some("Asia/Shanghai"), ""));
    // The first state is kept, whatever comes after it. A restart changes nothing.
    host.changes(&zone("Asia/Tokyo"), "The time zone is Asia/Tokyo; it was Asia/Shanghai");
    host.restart();
    assert_eq!(host.reconcile(&zone("Asia/Tokyo")).0, None);
    host.changes(&DesiredZone::Former, "The former time zone is back: Europe/Berlin");
    assert_eq!(host.localtime().as_deref(), Some("/usr/share/zoneinfo/Europe/Berlin"));
    assert_eq!(host.name_file().as_deref(), Some("Europe/Berlin\n"));
    let left = |folder: &str| fs::read_dir(host.path(folder)).unwrap().count();
    assert_eq!((left("etc"), left("../state")), (2, 0));
}

#[test]
fn a_file_or_nothing_comes_back_as_it_was() {
    let mut host = Host::new();
    host.changes(&zone("Asia/Tokyo"), "The time zone is Asia/Tokyo; it was UTC, by no file");
    assert_eq!(host.name_file(), None, "a host without /etc/timezone gets none");
    host.changes(&DesiredZone::Former, "The former time zone is back: UTC, by no file");
    assert_eq!(host.localtime(), None);
    assert!(!host.path("etc/localtime").exists());

    let octets: Vec<u8> = (0..=255).collect();
    fs::write(host.path("etc/localtime"), &octets).unwrap();
    fs::set_permissions(host.path("etc/localtime"), fs::Permissions::from_mode(0o640)).unwrap();
    host.changes(&zone("Asia/Tokyo"), "The time zone is Asia/Tokyo; it was a plain file");
    host.restart();
    host.changes(&DesiredZone::Former, "The former time zone is back: a plain file");
    assert_eq!(fs::read(host.path("etc/localtime")).unwrap(), octets);
    let mode = fs::symlink_metadata(host.path("etc/localtime")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn what_is_right_already_is_not_ours() {
    let mut host = Host::new();
    host.link("/usr/share/zoneinfo/Asia/Tokyo");
    assert_eq!(host.reconcile(&zone("Asia/Tokyo")).0, None);
    assert_eq!(host.reconcile(&DesiredZone::Former), (None, None));
    assert_eq!(host.localtime().as_deref(), Some("/usr/share/zoneinfo/Asia/Tokyo"));
}

#[test]
fn observing_touches_nothing_and_says_so() {
    let mut host = Host::new();
    host.link("/usr/share/zoneinfo/Asia/Tokyo");
    let (done, report) = host.reconcile(&DesiredZone::Observed("Asia/Shanghai".to_owned()));
    let report = report.unwrap();
    assert_eq!((done, report.name.as_deref()), (None, Some("Asia/Tokyo")));
    assert_eq!(report.message, "Asia/Shanghai is not set in mode Observe");
    assert_eq!(host.reconcile(&DesiredZone::Observed("Asia/Tokyo".to_owned())).1.unwrap().message, "");
    assert_eq!(host.reconcile(&DesiredZone::Untouched), (None, None));
    // What was set before stays.
    host.changes(&zone("Asia/Shanghai"), "The time zone is Asia/Shanghai; it was Asia/Tokyo");
    assert_eq!(host.reconcile(&DesiredZone::Untouched), (None, None));
    assert_eq!(host.localtime().as_deref(), Some(SHANGHAI));
}

#[test]
fn who_changes_it_is_answered_twice_in_ten_minutes() {
    let mut host = Host::new();
    let ours = zone("Asia/Shanghai");
    host.link("/usr/share/zoneinfo/Asia/Tokyo");
    host.changes(&ours, "The time zone is Asia/Shanghai; it was Asia/Tokyo");
    for _ in 0..2 {
        host.link("/usr/share/zoneinfo/Europe/Berlin");
        host.changes(&ours, "The time zone is Asia/Shanghai again; another process had set Europe/Berlin");
    }
    host.link("/usr/share/zoneinfo/Europe/Berlin");
    host.fails(&ours, "again and again");
    host.now += CHANGES_WITHIN;
    assert_eq!(host.reconcile(&ours).0, None);
    assert_eq!(host.localtime().as_deref(), Some("/usr/share/zoneinfo/Europe/Berlin"));
    // If a process restores the zone, its next change is answered again.
    host.link(SHANGHAI);
    assert_eq!(host.reconcile(&ours).1.unwrap().message, "");
    host.link("/usr/share/zoneinfo/Europe/Berlin");
    host.changes(&ours, "The time zone is Asia/Shanghai again; another process had set Europe/Berlin");
    // The former zone does not replace one that another process has set.
    host.link("/usr/share/zoneinfo/Europe/Berlin");
    host.changes(&DesiredZone::Former, "The time zone stays Europe/Berlin, which another process has set");
    assert_eq!(host.localtime().as_deref(), Some("/usr/share/zoneinfo/Europe/Berlin"));
}

#[test]
fn rare_changes_are_always_answered() {
    let mut host = Host::new();
    let ours = zone("Asia/Shanghai");
    host.reconcile(&ours);
    for _ in 0..5 {
        host.now += CHANGES_WITHIN / 2;
        host.link("/usr/share/zoneinfo/Europe/Berlin");
        host.changes(&ours, "The time zone is Asia/Shanghai again; another process had set Europe/Berlin");
    }
}

#[test]
fn a_name_that_somebody_else_changes_is_put_right_too() {
    let mut host = Host::new();
    fs::write(host.path("etc/timezone"), "Etc/UTC\n").unwrap();
    host.reconcile(&zone("Asia/Shanghai"));
    fs::write(host.path("etc/timezone"), "Europe/Berlin\n").unwrap();
    assert!(host.reconcile(&zone("Asia/Shanghai")).0.is_some());
    assert_eq!(host.name_file().as_deref(), Some("Asia/Shanghai\n"));
    fs::write(host.path("etc/timezone"), "Europe/Berlin\n").unwrap();
    host.reconcile(&DesiredZone::Former);
    assert_eq!((host.localtime(), host.name_file().as_deref()), (None, Some("Europe/Berlin\n")));
}

#[test]
fn a_zone_that_the_host_has_not_is_named() {
    let mut host = Host::new();
    host.link("/usr/share/zoneinfo/Asia/Tokyo");
    fs::write(host.path("usr/share/zoneinfo/tzdata.zi"), "# version").unwrap();
    fs::write(host.path("usr/share/zoneinfo/empty"), "").unwrap();
    fs::write(host.folder.path().join("outside"), "TZif2").unwrap();
    symlink("../../../../outside", host.path("usr/share/zoneinfo/escape")).unwrap();
    for name in ["Asia/Mars", "tzdata.zi", "empty", "Asia", "Asia/Tokyo/x", "../../../../outside", "escape"] {
        host.fails(&zone(name), "the host has no time zone");
        assert_eq!(host.localtime().as_deref(), Some("/usr/share/zoneinfo/Asia/Tokyo"), "{name}");
    }
    // An alias that leads through the host's own root is a zone too.
    symlink("/usr/share/zoneinfo/Asia/Shanghai", host.path("usr/share/zoneinfo/PRC")).unwrap();
    host.changes(&zone("PRC"), "The time zone is PRC; it was Asia/Tokyo");
    fs::remove_dir_all(host.path("usr/share/zoneinfo")).unwrap();
    host.fails(&zone("Asia/Shanghai"), "the host has no time zone");
    // A link to a missing target is restored all the same.
    host.changes(&DesiredZone::Former, "The former time zone is back: Asia/Tokyo");
}

#[test]
fn what_cannot_be_kept_is_not_changed() {
    let mut host = Host::new();
    host.link("/usr/share/zoneinfo/Asia/Tokyo");
    fs::remove_dir(host.folder.path().join("state")).unwrap();
    fs::write(host.folder.path().join("state"), "a file in place of the folder").unwrap();
    host.fails(&zone("Asia/Shanghai"), "the former time zone cannot be kept");
    assert_eq!(host.localtime().as_deref(), Some("/usr/share/zoneinfo/Asia/Tokyo"));

    let mut host = Host::new();
    fs::write(host.folder.path().join("state/timezone"), "localtime link x").unwrap();
    host.fails(&zone("Asia/Shanghai"), "damaged");
    host.fails(&DesiredZone::Former, "damaged");
    assert_eq!(host.localtime(), None);

    let mut host = Host::new();
    fs::create_dir(host.path("etc/localtime")).unwrap();
    host.fails(&zone("Asia/Shanghai"), "neither a link nor a small plain file");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_and_tried_again() {
    let mut host = Host::new();
    fs::remove_dir(host.path("etc")).unwrap();
    // Not even root can create a file here.
    symlink("/proc", host.path("etc")).unwrap();
    host.fails(&zone("Asia/Shanghai"), "/etc/localtime: ");
    fs::remove_file(host.path("etc")).unwrap();
    fs::create_dir(host.path("etc")).unwrap();
    host.changes(&zone("Asia/Shanghai"), "The time zone is Asia/Shanghai; it was UTC, by no file");
}

#[test]
fn a_change_that_failed_leaves_nothing_to_put_back() {
    let mut host = Host::new();
    fs::remove_dir(host.path("etc")).unwrap();
    symlink("/proc", host.path("etc")).unwrap();
    host.fails(&zone("Asia/Shanghai"), "/etc/localtime: ");
    let (done, report) = host.reconcile(&DesiredZone::Former);
    assert!(done.is_none() && report.is_none(), "{done:?} {report:?}");
    assert!(host.keeper.former().unwrap().is_none());
}

#[test]
fn a_crash_between_note_and_deed_is_survived() {
    let mut host = Host::new();
    host.link("/usr/share/zoneinfo/Europe/Berlin");
    host.reconcile(&zone("Asia/Shanghai"));
    let noted = host.keeper.former().unwrap().unwrap();
    let mut about_to = noted.clone();
    about_to.will_set("Asia/Tokyo");
    host.keeper.state.save_former_timezone(&about_to.to_text()).unwrap();
    symlink("half done", host.path("etc/.localtime.timesync")).unwrap();
    host.restart();
    host.changes(&DesiredZone::Former, "The former time zone is back: Europe/Berlin");
}

#[test]
fn looks_are_seconds_apart_but_for_new_orders() {
    let mut host = Host::new();
    assert!(host.keeper.reconcile(zone("Asia/Tokyo"), host.now).is_some());
    assert!(host.keeper.reconcile(zone("Asia/Tokyo"), host.now).is_none());
    assert!(host.keeper.reconcile(zone("Asia/Shanghai"), host.now).is_some());
    assert_eq!(host.localtime().as_deref(), Some(SHANGHAI));
}
