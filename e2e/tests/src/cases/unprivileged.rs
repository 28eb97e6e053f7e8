//! Agents without privileges (`agent.privileged: false`): they set, steer and serve the time as before, and report what
//! they lack and how to get it. Afterwards the agents are privileged again.
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::{Mode, Report};
use lab::{
    install::{self, NAMESPACE},
    kubectl, ntp_query,
    under_test::{self, MS},
    vm::{self, Vm},
    vm_image::ZONES,
    wait,
};
use serde_json::Value;

const HOUR: i64 = 3_600_000_000_000;

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let put_back = || {
        privilege(true)?;
        under_test::begin_anew()
    };
    under_test::or_else(without_privileges(), put_back)
}

fn without_privileges() -> anyhow::Result<()> {
    privilege(false)?;
    for vm in vm::VMS {
        expect_least_rights(vm)?;
    }
    under_test::settle()?;
    for vm in vm::VMS {
        let steers = |report: &Report| report.mode == Some(Mode::Discipline) && report.clock.synchronized;
        under_test::wait_for_report(vm, "to steer", Duration::from_secs(60), steers)?;
        says_what_it_lacks(vm)?;
    }
    disciplines(vm::VMS[0])?;
    for vm in vm::VMS {
        let reply = ntp_query::ask(&vm.address())?;
        ensure!(reply.leap != 3 && reply.stratum > 0, "{} serves {reply:?}", vm.name());
        // So the kernel keeps the hardware clock.
        ensure!(vm.probe()?.kernel()?.synchronized, "the kernel of {} is not synchronised", vm.name());
    }
    cannot_set_the_time_zone()?;
    privilege(true)?;
    for vm in vm::VMS {
        let reads = |report: &Report| report.rtc.offset.is_some();
        under_test::wait_for_report(vm, "to read its hardware clock again", Duration::from_secs(60), reads)?;
    }
    install::wait_for_pods()?;
    under_test::settle()
}

/// Upgrades the chart, and waits until the machines' agents are as wanted. On node1 an agent that asks for CAP_SYS_TIME
/// cannot start, since the container runtime there does not have it. All agents are replaced at once.
fn privilege(wanted: bool) -> anyhow::Result<()> {
    let setting = format!("agent.privileged={wanted}");
    install::upgrade(&[&setting, "agent.maxUnavailable=100%"])?;
    wait_for_agents(wanted, &setting)?;
    // The chart's default again. The pods stay as they are.
    install::upgrade(&["agent.maxUnavailable=34%"])
}

fn wait_for_agents(wanted: bool, setting: &str) -> anyhow::Result<()> {
    wait::until(&format!("agents with {setting} on both machines"), "30 s", Duration::from_secs(400), || {
        for vm in vm::VMS {
            let Some(pod) = agent_pod(vm)? else { return Ok(None) };
            let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ready = conditions.iter().any(|each| each["type"] == "Ready" && each["status"] == "True");
            if !ready || container(&pod)["securityContext"]["privileged"] != wanted {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

fn agent_pod(vm: Vm) -> anyhow::Result<Option<Value>> {
    let pods = kubectl::get(&format!(
        "pods -n {NAMESPACE} -l app.kubernetes.io/component=agent --field-selector spec.nodeName={}",
        vm.name()
    ))?;
    let mut pods = pods["items"].as_array().into_iter().flatten();
    Ok(pods.find(|pod| pod["metadata"]["deletionTimestamp"].is_null()).cloned())
}

fn container(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}

/// Checks the pod, and the process on the node.
fn expect_least_rights(vm: Vm) -> anyhow::Result<()> {
    let pod = agent_pod(vm)?.with_context(|| format!("no agent on {}", vm.name()))?;
    let context = &container(&pod)["securityContext"];
    let list = |name: &str| {
        let words = context["capabilities"][name].as_array().into_iter().flatten();
        let mut words: Vec<_> = words.filter_map(Value::as_str).collect();
        words.sort_unstable();
        words
    };
    ensure!(list("drop") == ["ALL"] && list("add") == ["NET_BIND_SERVICE", "SYS_TIME"], "{context}");
    ensure!(pod["spec"]["hostPID"] != true, "the agent of {} sees the node's processes", vm.name());

    let found = vm.run(
        "for p in $(pidof timesync-agent); do tr '\\0' ' ' </proc/$p/cmdline | grep -q ' run ' || continue; \
         grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/$p/status | tr '\\t' ' '; ls /proc/$p/root/dev; done",
    )?;
    // CAP_NET_BIND_SERVICE and CAP_SYS_TIME, bits 10 and 25; a filter of system calls.
    for line in ["CapEff: 0000000002000400", "NoNewPrivs: 1", "Seccomp: 2"] {
        ensure!(found.lines().any(|each| each == line), "{line:?} is not in {found}");
    }
    ensure!(!found.lines().any(|each| each.starts_with("rtc")), "it has the hardware clock: {found}");
    Ok(())
}

fn says_what_it_lacks(vm: Vm) -> anyhow::Result<()> {
    under_test::wait_for_condition(vm, "RTCHealthy", "Unknown", "NoAccess", Duration::from_secs(60))?;
    let message = under_test::message(vm, "RTCHealthy")?;
    eprintln!("  said: {message}");
    ensure!(message.contains("agent.privileged: true"), "it does not say what to do: {message}");
    Ok(())
}

/// Another program sets the clock back by an hour. It is set right, and both clocks stay right.
fn disciplines(moved: Vm) -> anyhow::Result<()> {
    moved.probe()?.step(-HOUR)?;
    under_test::wait_within(MS, 0, Duration::from_secs(120))?;
    let right = |report: &Report| report.clock.synchronized && report.clock.restored > 0;
    under_test::wait_for_report(moved, "to be synchronised again", Duration::from_secs(60), right)?;
    wait::holds_for("both clocks are right", Duration::from_secs(10), || {
        vm::VMS.into_iter().try_for_each(|vm| under_test::expect_within(vm, 2 * MS, 0))
    })
}

/// The node's files are read-only for the agent, and the node reports that.
fn cannot_set_the_time_zone() -> anyhow::Result<()> {
    under_test::apply_four(&format!("  timezone: {}\n", ZONES[1]))?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    for vm in vm::VMS {
        let what = format!("{} to say why it keeps its time zone", vm.name());
        wait::until(&what, "2 s", Duration::from_secs(60), || {
            let status = kubectl::node_clock(&vm.name())?.and_then(|clock| clock.status).unwrap_or_default();
            let message = status.timezone.and_then(|zone| zone.message).unwrap_or_default();
            Ok((message.contains("read-only") && message.contains("agent.privileged: true")).then_some(()))
        })?;
    }
    under_test::settle()
}
