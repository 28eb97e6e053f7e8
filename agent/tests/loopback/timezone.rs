//! The host's time zone, by an agent that may not set the clock: it observes, whatever its profile says.
use std::{fs, os::unix::fs::symlink};

use crate::{
    bench::{Agent, Folder, free_udp_port, wait_for},
    files,
};

#[test]
fn who_may_only_observe_leaves_the_time_zone_alone_and_says_so() {
    let folder = Folder::new();
    let host = folder.path().join("host");
    fs::create_dir_all(host.join("etc")).unwrap();
    fs::create_dir_all(host.join("usr/share/zoneinfo/Asia")).unwrap();
    fs::write(host.join("usr/share/zoneinfo/Asia/Shanghai"), "TZif2").unwrap();
    symlink("/usr/share/zoneinfo/Europe/Berlin", host.join("etc/localtime")).unwrap();
    let own = files::alone_with(&format!("hostRoot = {:?}\n", host), free_udp_port(), free_udp_port());
    for mode in ["Observe", "Discipline"] {
        let text =
            own.replace("mode = \"Observe\"", &format!("mode = \"{mode}\"\ntimezone = \"Asia/Shanghai\""));
        let agent = Agent::start(&folder, &text);
        wait_for("the time zone reported", || agent.report().timezone.is_some());
        let report = agent.report().timezone.unwrap();
        assert_eq!(report.name.as_deref(), Some("Europe/Berlin"));
        assert_eq!(report.message, "Asia/Shanghai is not set in mode Observe");
        let (_, status) = agent.command(&["status"]);
        let line = "Time zone       : Europe/Berlin: Asia/Shanghai is not set in mode Observe\n";
        assert!(status.contains(line), "{status}");
        agent.rewrite(&text.replace("Asia/Shanghai", "../passwd"));
        wait_for("the name refused", || agent.error() == "ProfileInvalid");
        assert_eq!(agent.stop(), 0);
        let link = fs::read_link(host.join("etc/localtime")).unwrap();
        assert_eq!(link.to_str(), Some("/usr/share/zoneinfo/Europe/Berlin"));
    }
}
