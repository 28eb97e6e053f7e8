//! An agent with the rights that the chart leaves it with `agent.privileged: false`: it measures and serves, and each
//! part that lacks a right says so once, with what to do.
use std::{fs, net::UdpSocket};

use contract::{BootPodState, RtcHealth};

use crate::{
    bench::{Agent, Chronyd, Folder, namespace::alone, wait_for},
    files,
};

#[test]
fn an_agent_without_privileges_serves_and_says_what_it_lacks() {
    alone(|| {
        let folder = Folder::new();
        let upstream = Chronyd::start(&folder, 3);
        let holder = UdpSocket::bind("0.0.0.0:123").unwrap();
        let lines = format!(
            "hostRoot = {:?}\nrtcDevice = \"/dev/no-such-rtc\"\n\
             [agent.boot]\nstaticPod = true\nimage = \"i\"\nmanifestDirectory = \"/manifests\"\n",
            folder.path().join("host")
        );
        let agent = Agent::start_unprivileged(&folder, &files::alone_with(&lines, upstream.port, 123));
        wait_for("synchronized", || agent.report().clock.synchronized);

        let taken =
            "by a process that cannot be seen from here: `ss -lunp 'sport = :123'` on the node names it";
        wait_for("the taken port reported", || agent.report().server.message.contains(taken));
        wait_for("the RTC reported", || agent.report().rtc.health == RtcHealth::NoAccess);
        let rtc = agent.report().rtc;
        assert!(rtc.present && rtc.message.contains("set agent.privileged: true"), "{rtc:?}");
        let failed = |state| state == BootPodState::Failed;
        wait_for("the static pod reported", || agent.report().boot.is_some_and(|boot| failed(boot.state)));
        let boot = agent.report().boot.unwrap().message;
        assert!(boot.starts_with("/manifests/timesync-boot.yaml cannot be changed: "), "{boot}");

        drop(holder);
        wait_for("served", || agent.report().server.serving);
        let (code, answer) = agent.run(&["query", "127.0.0.1:123"]);
        assert!(code == 0 && answer.contains("stratum 4"), "{code} {answer}");
        let (_, status) = agent.command(&["status"]);
        for line in
            ["RTC             : NoAccess: The node has an RTC, ", "Boot pod        : Failed: /manifests/"]
        {
            assert!(status.contains(line), "{line:?} is not in {status}");
        }
        // Each part has tried several times by now.
        let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
        for line in ["RTC is not accessible", "Static pod for the next boot is not in place"] {
            assert_eq!(log.matches(line).count(), 1, "{log}");
        }
    });
}
