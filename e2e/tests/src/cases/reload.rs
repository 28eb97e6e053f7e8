//! An edited policy runs everywhere; chronyd follows an agent; an agent's replies agree with its upstream.
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use lab::{
    daemon::{self, Daemon},
    network, ntp_query,
    under_test::{self, MS},
    upstream, vm, wait,
};
use xtask::{checkout, process};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let before = under_test::report(vm::VMS[0])?.profile;
    under_test::apply(&[&format!("name: only, server: {}", upstream::BENT[2])], "")?;
    let took = under_test::wait_for_profile(Duration::from_secs(60))?;
    eprintln!("  the edit runs after {took:.1} s");
    ensure!(under_test::report(vm::VMS[0])?.profile != before, "the profile did not change");
    for vm in vm::VMS {
        under_test::wait_for_report(vm, "to follow the other upstream", Duration::from_secs(60), |report| {
            report.clock.synchronized && report.clock.reference.as_deref() == Some("only")
        })?;
    }
    replies_track_the_upstream()?;
    chronyd_follows_an_agent()
}

fn replies_track_the_upstream() -> anyhow::Result<()> {
    let agent = vm::VMS[0].address();
    let upstream = upstream::BENT[2].parse::<std::net::Ipv4Addr>()?.octets();
    let first = ntp_query::ask(&agent)?;
    ensure!(first.stratum == 2 && first.leap == 0, "under a stratum 1 server: {first:?}");
    ensure!(first.reference == upstream, "the reference is the upstream's address: {first:?}");
    upstream::bend(2, "stratum=5 dispersion=0.03")?;
    wait::until(
        "stratum 6 and its dispersion in the agent's replies",
        "5 s",
        Duration::from_secs(60),
        || {
            let reply = ntp_query::ask(&agent)?;
            Ok((reply.stratum == 6 && reply.root_dispersion >= 0.03 && reply.reference == upstream)
                .then_some(()))
        },
    )?;
    upstream::bend(2, upstream::HONESTLY)?;
    wait::until("stratum 2 again", "5 s", Duration::from_secs(60), || {
        let reply = ntp_query::ask(&agent)?;
        Ok((reply.stratum == 2 && reply.root_dispersion < 0.03).then_some(()))
    })
}

/// Debian's chronyd in a namespace asks the agent, and says that it is synchronised to it, near the truth.
fn chronyd_follows_an_agent() -> anyhow::Result<()> {
    let (folder, agent) = (checkout::state().join("client"), vm::VMS[0].address());
    fs::create_dir_all(&folder)?;
    // chronyd makes its command socket only where no other process can come.
    fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    let here = folder.display();
    let lines = format!(
        "server {agent} iburst minpoll 0 maxpoll 1\ncmdport 0\nport 0\nbindcmdaddress {here}/chronyd.sock\npidfile {here}/pid\n"
    );
    fs::write(folder.join("chronyd.conf"), lines)?;
    Daemon::new("client-chronyd", "/usr/sbin/chronyd")
        .wrap(&network::inside(network::UPSTREAMS))
        .args(&format!("-x -d -u root -f {here}/chronyd.conf"))
        .start()?;
    let result = wait::until("chronyd to follow the agent", "10 s", Duration::from_secs(60), || {
        daemon::expect_running("client-chronyd")?;
        let socket = format!("{here}/chronyd.sock");
        let Ok(text) = process::run(Command::new("chronyc").args(["-h", &socket, "-c", "-n", "tracking"]))
        else {
            return Ok(None);
        };
        // Reference, address, stratum, time, system time, …; the last one is the leap status.
        let fields: Vec<_> = text.trim().split(',').collect();
        let follows = fields.get(1) == Some(&agent.as_str()) && fields.last() == Some(&"Normal");
        let offset: f64 = fields.get(4).and_then(|field| field.parse().ok()).unwrap_or(1.0);
        Ok((follows && fields.get(2) == Some(&"3")).then_some(offset))
    });
    daemon::end("client-chronyd", "-TERM")?;
    let offset = result?;
    ensure!(offset.abs() < 5e-3, "chronyd finds this machine's clock {offset} s off by the agent's time");
    under_test::expect_within(vm::VMS[0], 5 * MS, 0)
}
