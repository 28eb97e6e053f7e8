//! Alerts with rarer causes. Upstreams say that they may be wrong by much. A hardware clock has local time. A certificate
//! is about to end. A client asks too often. The operator does not reach the agents, or lacks a right. A kubelet stands
//! still.
use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context;
use lab::{
    install::{self, NAMESPACE},
    kubectl, network, pki, under_test, upstream,
    vm::{self, Vm},
};
use serde_json::json;
use xtask::process;

use super::told;

const TLS_SECRET: &str = "ending";

pub(super) fn story() -> anyhow::Result<()> {
    let [first, second] = vm::VMS;
    // Half of thresholds.errorBound, which is 200 ms, is too much; the clocks stay synchronised.
    upstream::bend_all("dispersion=0.12")?;
    told("upstreams that may be 120 ms off", &["TimesyncErrorBound"])?;
    upstream::bend_all(upstream::HONESTLY)?;
    told("they are sure again", &[])?;

    first.run(&format!("printf '0 0 0\\n0\\nLOCAL\\n' > {ADJTIME}"))?;
    told("a hardware clock with local time", &["TimesyncRTCUnhealthy"])?;
    first.run(&format!("rm {ADJTIME}"))?;
    told("it has UTC again", &[])?;

    kubectl::apply(&pki::ending_tls_secret(NAMESPACE, TLS_SECRET)?.to_string())?;
    under_test::apply_four(&format!("  serve: {{nts: {{tlsSecret: {TLS_SECRET}}}}}\n"))?;
    told("a certificate for one more day", &["TimesyncCertificateExpiring"])?;
    under_test::apply_four("  restrict:\n  - {source: default, flags: [limited]}\n")?;
    told("it is not used any more", &[])?;
    while_asked(second, || told("a client that asks too often", &["TimesyncServerDropsRequests"]))?;
    told("the client has ended", &[])?;

    cut_off(true)?;
    told("an operator that does not reach agents", &["TimesyncOperatorBlind"])?;
    cut_off(false)?;
    told("it reaches them again", &[])?;

    without_right()?;
    told("an operator without a right", &["TimesyncOperatorErrors"])?;
    install::restore()?;
    told("it has the right again", &[])?;

    second.run("kill -STOP $(pidof kubelet)")?;
    under_test::apply_four("  serve: {enabled: false}\n")?;
    told("a kubelet that stands still", &["TimesyncRolloutStuck"])?;
    second.run("kill -CONT $(pidof kubelet)")?;
    told("it goes on", &[])
}

/// Undoes what a failure in the middle may have left.
pub(super) fn put_back() -> anyhow::Result<()> {
    cut_off(false)?;
    kubectl::sh(&format!("delete secret {TLS_SECRET} -n {NAMESPACE} --ignore-not-found"))?;
    for vm in vm::VMS {
        vm.run(&format!("rm -f {ADJTIME}; kill -CONT $(pidof kubelet) || :"))?;
    }
    Ok(())
}

const ADJTIME: &str = "/etc/adjtime";

/// Calls `check` while a client sends 20 requests per second.
fn while_asked(vm: Vm, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((vm.address(), 123))?;
    let mut request = [0; 48];
    request[0] = 4 << 3 | 3; // version 4, client (RFC 5905 §7.3)
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // What is not sent is not answered either.
                let _ = socket.send(&request);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let result = check();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

/// Drops what the operators' pods, on node1, send to the agents of the virtual machines, or no longer.
pub(in crate::cases) fn cut_off(cut: bool) -> anyhow::Result<()> {
    let rule = "FORWARD -p tcp --dport 9817 -j DROP";
    let inside = network::inside(network::NODE1);
    let script = if cut {
        format!("{inside} iptables -I {rule}")
    } else {
        format!("while {inside} iptables -D {rule} 2>/dev/null; do :; done")
    };
    process::run(std::process::Command::new("sh").args(["-c", &script])).map(drop)
}

/// Takes the right to write the status of NodeClocks from the operator.
fn without_right() -> anyhow::Result<()> {
    let mut role = kubectl::get("clusterrole timesync-operator")?;
    let rules = role["rules"].as_array_mut().context("rules")?;
    rules.retain(|rule| rule["resources"] != json!(["nodeclocks/status"]));
    kubectl::fed(&["replace", "-f", "-"], &role.to_string()).map(drop)
}
