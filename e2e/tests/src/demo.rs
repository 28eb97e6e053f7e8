//! The demo: a cluster whose nodes have wrong clocks, and one policy that sets them right. It measures all offsets that
//! it prints from outside, over shared memory; no offset comes from an agent. It fails unless both virtual machines are
//! within 1 ms of the upstream, and their hardware clocks within 1 s, before a time limit.
use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use lab::{calendar, cluster, install, kubectl, pki, truth, under_test, upstream, vm, wait};
use xtask::{checkout, image, interrupt, ticks::Ticks};

use crate::{demo_context, event};

/// Command line of the demo.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The policy's mode for the virtual machines. With Observe the demo must fail.
    #[arg(long, default_value = "Discipline")]
    mode: String,
    /// Stop the upstream before the policy is applied. Then the demo must fail.
    #[arg(long)]
    upstream_stopped: bool,
    /// The time limit from the apply until all clocks are right, seconds.
    #[arg(long, default_value_t = 120)]
    within: u64,
    /// Leave the cluster up after a failure too.
    #[arg(long)]
    keep: bool,
    /// A cluster of your own, by the name of its context in your kubeconfig.
    #[arg(long, env = "DEMO_CONTEXT")]
    context: Option<String>,
    #[command(flatten)]
    own: demo_context::OwnCluster,
}

/// Shows it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(context) = &options.context {
        return demo_context::run(context, &options.own);
    }
    image::build_all(&[image::OF_NODES])?;
    cluster::up(cluster::IN_2020)?;
    let result = show(options);
    let up = format!("export KUBECONFIG={}", pki::admin().display());
    match result {
        Ok(figures) => {
            println!("\nThe cluster is left up; `make demo-down` removes it.\n{up}\n\n{figures}");
            Ok(())
        }
        Err(error) if options.keep => {
            println!("\nThe cluster is left up all the same.\n{up}");
            Err(error)
        }
        Err(error) => {
            cluster::give_up();
            Err(error)
        }
    }
}

/// The clocks of a virtual machine, measured from outside.
struct Seen {
    /// Its clock minus this machine's, which the upstream serves; nanoseconds.
    clock: i64,
    /// Its hardware clock minus this machine's, nanoseconds.
    rtc: i64,
}

impl Seen {
    fn of(vm: vm::Vm) -> anyhow::Result<Self> {
        Ok(Self { clock: vm.probe()?.median_of_10()?.offset, rtc: vm.rtc_offset()? })
    }

    fn right(&self) -> bool {
        self.clock.abs() < 1_000_000 && self.rtc.abs() < 1_000_000_000
    }
}

/// How much two nodes' times of one event may differ while their clocks are right. Emulated network cards delay
/// packets.
const SAME_MOMENT: i64 = 50_000_000;

fn show(options: &Options) -> anyhow::Result<String> {
    heading("The nodes joined with their clocks in 2020; now vm1 is set some 3 s ahead, vm2 some 3 s behind");
    cluster::set_clocks_off()?;
    print_truth()?;
    event::start_loggers()?;
    show_event("before")?;

    heading("helm install timesync charts/timesync");
    install::chart(&[])?;
    print!("{}", kubectl::sh(&format!("get pods -n {} -o wide", install::NAMESPACE))?);
    wait::until("a NodeClock per node", "3 s", Duration::from_secs(60), || {
        let clocks = kubectl::get("nclk")?;
        Ok((clocks["items"].as_array().map_or(0, Vec::len) == pki::NODES.len()).then_some(()))
    })?;
    heading("kubectl get tsp,nclk");
    print!("{}", kubectl::sh("get tsp,nclk")?);
    print_truth()?;

    if options.upstream_stopped {
        upstream::stop_honest()?;
    }
    heading(
        "kubectl apply -f examples/demo.yaml, and for node1, which has this machine's clock, a policy that observes",
    );
    let policy = fs::read_to_string(checkout::root().join("examples/demo.yaml"))?;
    let policy = policy.replace("\nspec:\n", &format!("\nspec:\n  mode: {}\n", options.mode));
    print!("{policy}");
    kubectl::apply(&under_test::observe_node1())?;
    let applied = Instant::now();
    kubectl::apply(&policy)?;
    let result = wait_until_right(applied, Duration::from_secs(options.within));
    if result.is_ok() {
        wait_until_told()?;
    }

    heading("kubectl get tsp,nclk");
    print!("{}", kubectl::sh("get tsp,nclk")?);
    print_truth()?;
    let (seen, took) = result?;
    let apart = show_event("after")?;
    if apart.abs() > SAME_MOMENT {
        bail!("the two nodes' times of one event differ by {}", truth::shown(apart));
    }
    Ok(format!(
        "demo: vm1 {} and vm2 {} from the upstream, measured from outside (median of 10; before {} and {}); RTC {} and {} \
         (before: 2020); one event's times {} apart; {took:.1} s from apply to all within 1 ms",
        truth::shown(seen[0].clock),
        truth::shown(seen[1].clock),
        truth::shown(cluster::OFF[0]),
        truth::shown(cluster::OFF[1]),
        truth::shown(seen[0].rtc),
        truth::shown(seen[1].rtc),
        truth::shown(apart),
    ))
}

/// Waits until all clocks are right. Returns the measurements, and the seconds from the apply until they began.
fn wait_until_right(applied: Instant, within: Duration) -> anyhow::Result<(Vec<Seen>, f64)> {
    let mut ticks = Ticks::start("both clocks within 1 ms, both RTCs within 1 s", "20 s");
    loop {
        interrupt::check()?;
        let began = applied.elapsed();
        let mut near = true;
        for vm in vm::VMS {
            near &= vm.probe()?.offset()?.offset.abs() < 1_000_000;
        }
        if near {
            let seen = vm::VMS.into_iter().map(Seen::of).collect::<anyhow::Result<Vec<_>>>()?;
            if seen.iter().all(Seen::right) {
                ticks.done();
                return Ok((seen, began.as_secs_f64()));
            }
        }
        if applied.elapsed() > within {
            bail!("the clocks did not come right within {} s of the apply", within.as_secs());
        }
        ticks.tick();
        thread::sleep(Duration::from_millis(250));
    }
}

/// Waits until the NodeClocks agree with the measurement: they are written a moment later.
fn wait_until_told() -> anyhow::Result<()> {
    wait::until("NodeClock to say the same", "10 s", Duration::from_secs(90), || {
        for vm in vm::VMS {
            let status = kubectl::node_clock(&vm.name())?.and_then(|clock| clock.status).unwrap_or_default();
            if !status.synchronized || status.rtc.is_none_or(|rtc| rtc.health != "Healthy") {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

fn print_truth() -> anyhow::Result<()> {
    println!("measured from outside (shared memory; QEMU's monitor for the RTC):");
    for vm in vm::VMS {
        let clock = vm.probe()?.offset()?;
        println!(
            "  {}: clock {} ± {}, RTC {}",
            vm.name(),
            truth::shown(clock.offset),
            truth::shown(clock.uncertainty).trim_start_matches('+'),
            calendar::shown(vm.rtc()?)
        );
    }
    Ok(())
}

fn show_event(when: &str) -> anyhow::Result<i64> {
    println!("one broadcast, as both nodes logged it (kubectl logs --timestamps):");
    let (lines, apart) = event::show(&format!("event-{when}"))?;
    for line in lines {
        println!("  {line}");
    }
    println!("  apart: {}", truth::shown(apart));
    Ok(apart)
}

fn heading(text: &str) {
    println!("\n== {text}");
}
