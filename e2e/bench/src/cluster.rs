//! Measures a cluster of its own, and writes its part of docs/benchmarks.md: the time to start the cluster, the time
//! from an apply until all nodes run the profile, the time from a clock's first answer until it is within a
//! millisecond, and the resources of an idle agent.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lab::{
    agent_http::Agent,
    cluster, install, kubectl, node, pki,
    under_test::{self, MS},
    upstream, vm, wait,
};
use xtask::{image, interrupt, page};

use crate::usage;

/// The number of rounds of each measurement that can be repeated.
const ROUNDS: usize = 6;

/// Starts a cluster, measures, removes the cluster, and writes this part of the page.
pub(crate) fn run() -> anyhow::Result<()> {
    image::build_all(&[image::OF_NODES])?;
    let begun = Instant::now();
    cluster::up(cluster::IN_2020)?;
    let up = begun.elapsed().as_secs_f64();
    let result = measure(up);
    if result.is_err() {
        cluster::give_up();
    } else {
        cluster::down()?;
    }
    let part = result?;
    print!("{part}");
    page::put("bench", &part)
}

fn measure(up: f64) -> anyhow::Result<String> {
    cluster::set_clocks_off()?;
    let begun = Instant::now();
    install::chart(&[])?;
    let installed = begun.elapsed().as_secs_f64();
    let starts = first_answer_to_1_ms()?;
    under_test::settle()?;
    let edits = (0..ROUNDS).map(edit_runs_everywhere).collect::<anyhow::Result<Vec<_>>>()?;
    under_test::settle()?;
    let rest = at_rest()?;
    Ok(part(up, installed, &starts, &edits, &rest))
}

/// For each virtual machine, whose clock is wrong by some seconds before: the seconds from the first answer that its
/// agent used until its clock was within 1 ms of true time. Checks every 50 ms.
fn first_answer_to_1_ms() -> anyhow::Result<Vec<f64>> {
    under_test::apply_four("")?;
    let mut seen: Vec<(Option<Instant>, Option<f64>)> = vec![(None, None); vm::VMS.len()];
    let agents = vm::VMS.iter().map(|vm| Agent::at(&vm.address())).collect::<anyhow::Result<Vec<_>>>()?;
    wait::until("both clocks to come right", "10 s", Duration::from_secs(120), || {
        for ((vm, agent), (answered, right)) in vm::VMS.iter().zip(&agents).zip(&mut seen) {
            if answered.is_none() && agent.report()?.sources.iter().any(|source| source.received > 0) {
                *answered = Some(Instant::now());
            }
            if right.is_none() && vm.probe()?.offset()?.offset.abs() < MS {
                *right = Some(answered.map_or(0.0, |at| at.elapsed().as_secs_f64()));
            }
        }
        thread::sleep(Duration::from_millis(50));
        Ok(seen.iter().all(|(_, right)| right.is_some()).then_some(()))
    })?;
    Ok(seen.into_iter().filter_map(|(_, right)| right).collect())
}

/// Seconds from `kubectl apply` of an edit until every virtual machine's agent runs it, kubectl's own time included.
fn edit_runs_everywhere(round: usize) -> anyhow::Result<f64> {
    let agents = vm::VMS.iter().map(|vm| Agent::at(&vm.address())).collect::<anyhow::Result<Vec<_>>>()?;
    let name = format!("round-{round}");
    let begun = Instant::now();
    under_test::apply(&[&format!("name: {name}, server: {}", upstream::BENT[round % 4])], "")?;
    wait::until("the edit to run on all nodes", "1 s", Duration::from_secs(60), || {
        for agent in &agents {
            if agent.report()?.sources.iter().all(|source| source.name != name) {
                return Ok(None);
            }
        }
        Ok(Some(begun.elapsed().as_secs_f64()))
    })
}

/// The resources of the agent on node1 at poll 4 to 6: resident megabytes, and processor time per second over a minute.
struct Rest {
    megabytes: f64,
    cpu_ratio: f64,
}

fn at_rest() -> anyhow::Result<Rest> {
    let policy = "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {name: observe-node1}\nspec:\n  \
                  priority: 100\n  nodeSelector: {matchLabels: {kubernetes.io/hostname: node1}}\n  mode: Observe\n  \
                  upstreams:\n  - {name: upstream, server: 172.30.0.201, iburst: true}\n";
    kubectl::apply(policy)?;
    let pod = kubectl::get(&format!("pod {} -n {}", install::agent_on(pki::NODES[0])?, install::NAMESPACE))?;
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().context("a container")?;
    let pids = node::processes(container.trim_start_matches("containerd://"))?;
    ensure!(pids.len() == 1, "the agent is not one process: {pids:?}");
    let pid = &pids[0];
    thread::sleep(Duration::from_secs(20));
    let (before, begun) = (usage::processor_seconds(pid)?, Instant::now());
    wait::holds_for("the agent rests", Duration::from_secs(60), || Ok(()))?;
    let cpu_ratio = (usage::processor_seconds(pid)? - before) / begun.elapsed().as_secs_f64();
    interrupt::check()?;
    Ok(Rest { megabytes: usage::megabytes(pid)?, cpu_ratio })
}

fn part(up: f64, installed: f64, starts: &[f64], edits: &[f64], rest: &Rest) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let slowest = starts.iter().copied().fold(0.0, f64::max);
    let mut sorted = edits.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    let missed = if rest.megabytes > 12.0 { " **missed**" } else { "" };
    format!(
        "`make bench` writes this part. The last run was on a machine with {cores} cores and no KVM, which carried \
         the control plane,\none node in a namespace and two nodes in emulated virtual machines at once: take the figures as upper \
         bounds.\n\n| what | figure | aim |\n|---|---|---|\n\
         | cluster: nothing to three nodes Ready | {up:.0} s | – |\n\
         | `helm install` to all pods ready | {installed:.0} s | – |\n\
         | `kubectl apply` of an edit to all agents running it: median of {rounds} (least, most) | {median:.1} s ({least:.1}, {most:.1}) | 5 s |\n\
         | first answer to the clock within 1 ms, from 3 s off, slower of two nodes, measured from outside | {slowest:.1} s | 3 s |\n\
         | agent at rest, one upstream, polls 4 to 6: resident memory | {mb:.1} MB | 12 MB{missed} |\n\
         | the same: processor time, of one core | {cpu:.2} % | – |\n",
        rounds = edits.len(),
        mb = rest.megabytes,
        cpu = rest.cpu_ratio * 100.0,
    )
}
