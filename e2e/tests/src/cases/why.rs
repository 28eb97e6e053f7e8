//! `kubectl timesync why` on a real cluster: for each of these faults it names the cause that is behind all.
use std::time::Duration;

use lab::{
    install::{self, NAMESPACE},
    kubectl, under_test, upstream,
    vm::{self, Vm},
    wait,
};

use super::{alerts, conflict, plugin::Plugin};

const HOUR: i64 = 3_600_000_000_000;

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let plugin = Plugin::admin()?;
    under_test::or_else(story(&plugin), || {
        alerts::cut_off(false)?;
        conflict::stop_chronyd(vm::VMS[1])?;
        install::restore()?;
        under_test::begin_anew()
    })?;
    under_test::settle()
}

fn story(plugin: &Plugin) -> anyhow::Result<()> {
    let [first, second] = vm::VMS;
    let blamed = |vm: Vm, what: &str, cause: &str| {
        // What the operator wrote last counts for six minutes.
        wait::until(&format!("{what}: {cause}"), "30 s", Duration::from_secs(600), || {
            Ok((plugin.root_cause(vm)? == cause).then_some(()))
        })
    };
    let all_right = |vm| blamed(vm, "all is right again", "Healthy");
    let well = || all_right(first);
    well()?;

    for (what, words, cause) in [
        ("servers that are not synchronised", upstream::alone("stratum=16"), "UpstreamUnsynchronized"),
        ("servers that may be 3 s off", "dispersion=3".to_owned(), "UpstreamTooDistant"),
        ("silent servers", "silent=1".to_owned(), "NoReply"),
    ] {
        upstream::bend_all(&words)?;
        blamed(first, what, cause)?;
        upstream::bend_all(upstream::HONESTLY)?;
        well()?;
    }
    upstream::bend(0, "offset=0.3")?;
    blamed(first, "one server that lies", "Falseticker")?;
    upstream::bend(1, "offset=0.3")?;
    blamed(first, "two against two", "UpstreamsDiffer")?;
    for number in 0..2 {
        upstream::bend(number, upstream::HONESTLY)?;
    }
    well()?;

    under_test::apply(&["name: a, server: no-such-server.invalid"], "")?;
    blamed(first, "a name without an address", "NameUnresolved")?;
    for (what, upstream, cause) in [
        (
            "a first policy whose Secret is missing",
            "server: 192.0.2.1, keyRef: {name: gone, key: k}",
            "SecretMissing",
        ),
        ("a first policy whose tier is empty", "nodes: {selector: {matchLabels: {no: node}}}", "TierEmpty"),
    ] {
        kubectl::sh(&format!("delete tsp {}", under_test::POLICY))?;
        blamed(first, "no policy", "NoPolicySelects")?;
        under_test::apply(&[&format!("name: a, {upstream}")], "")?;
        blamed(first, what, cause)?;
    }
    under_test::apply_four("")?;
    well()?;

    conflict::start_chronyd(second, "port 0")?;
    blamed(second, "a second daemon", "OtherDaemon")?;
    conflict::stop_chronyd(second)?;
    first.probe()?.step(-HOUR)?;
    blamed(first, "a clock set an hour back", "ExternalStep")?;

    install::keep_agent_off(&second.name())?;
    blamed(second, "a node without its agent", "NoAgentPod")?;
    install::restore()?;
    alerts::cut_off(true)?;
    blamed(second, "an operator that does not reach agents", "PortUnreachable")?;
    alerts::cut_off(false)?;
    all_right(second)?;
    kubectl::sh(&format!("scale deploy timesync-operator -n {NAMESPACE} --replicas=0"))?;
    blamed(second, "no operator", "OperatorNotReady")?;
    install::restore()
}
