//! Starts and removes the whole cluster: control plane, one node in a namespace, two virtual machines, upstream
//! servers. Only one cluster runs at a time. If the start fails, everything is removed again.
use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use xtask::{checkout, image, interrupt, packages, process, tools};

use crate::{
    alone, calendar, control_plane, daemon, install, kubectl, network, node, pki, truth, upstream,
    vm::{self, Boot},
    vm_image, wait,
};

/// The hardware clocks are in 2020.
pub const IN_2020: Boot<'static> = Boot { rtc: "2020-01-01T00:00:00", ..Boot::PLAIN };

/// Starts a cluster for manual use.
pub fn up_and_leave(wrong: bool) -> anyhow::Result<()> {
    up(if wrong { IN_2020 } else { Boot::PLAIN })?;
    if wrong {
        set_clocks_off()?;
    }
    print_truth()?;
    println!("export KUBECONFIG={}", pki::admin().display());
    Ok(())
}

/// Removes a cluster that is left, and starts a new one. Both virtual machines are switched on as `boot` says; the third
/// node registers with the same taint. All nodes are Ready afterwards.
pub fn up(boot: Boot<'_>) -> anyhow::Result<()> {
    if !packages::is_root() {
        bail!("a cluster needs root: network namespaces, virtual machines, containers");
    }
    packages::ensure()?;
    tools::build(&[])?;
    image::build_helpers()?;
    let disk = vm_image::ready()?;
    down()?;
    let begun = Instant::now();
    eprintln!("cluster: coming up (usually 1 min)");
    let result = assemble(&disk, &boot);
    if result.is_err() {
        give_up();
    } else {
        eprintln!("cluster: all nodes Ready after {:.0} s", begun.elapsed().as_secs_f64());
    }
    result
}

fn assemble(disk: &std::path::Path, boot: &Boot<'_>) -> anyhow::Result<()> {
    fs::create_dir_all(checkout::state())?;
    pki::make(&vm::VMS.map(vm::Vm::address))?;
    network::up()?;
    upstream::up()?;
    // The virtual machines boot while the control plane starts.
    thread::scope(|scope| {
        let machines = scope.spawn(|| vm::VMS.iter().try_for_each(|vm| vm.start(disk, boot)));
        control_plane::up()?;
        node::up(boot.register_with_taint)?;
        machines.join().map_err(|_| anyhow::anyhow!("starting the virtual machines panicked"))?
    })?;
    for vm in vm::VMS {
        vm.wait_for_probe()?;
    }
    wait_for_nodes()
}

/// The offsets to which [`set_clocks_off`] sets the clocks of vm1 and vm2, nanoseconds.
pub const OFF: [i64; 2] = [3_210_000_000, -2_850_000_000];

/// Sets the virtual machines' clocks wrong by some seconds, one ahead and one behind. Does not change the hardware
/// clocks.
pub fn set_clocks_off() -> anyhow::Result<()> {
    vm::VMS.iter().zip(OFF).try_for_each(|(vm, offset)| vm.probe()?.set_off(offset))
}

/// Waits until every node is Ready.
pub fn wait_for_nodes() -> anyhow::Result<()> {
    wait::until("all nodes Ready", "50 s", Duration::from_secs(300), || {
        for vm in vm::VMS {
            daemon::expect_running(&vm.name())?;
        }
        for daemon in ["node1-containerd", "node1-kubelet", "node1-proxy"] {
            daemon::expect_running(daemon)?;
        }
        let nodes = kubectl::get("nodes")?;
        let ready = nodes["items"].as_array().into_iter().flatten().filter(|node| {
            let conditions = node["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
        });
        Ok((ready.count() == pki::NODES.len()).then_some(()))
    })
}

/// Keeps the logs and removes everything, after a failure that the caller reports.
pub fn give_up() {
    interrupt::forgive();
    // A demo that a test wants to fail must not replace the logs of a test that failed.
    if !alone::held_by_parent() {
        match keep_logs() {
            Ok(folder) => eprintln!("cluster: logs are in {folder}"),
            Err(error) => eprintln!("cluster: no logs kept: {error:#}"),
        }
    }
    if let Err(error) = down() {
        eprintln!("cluster: not taken down wholly: {error:#}");
    }
}

/// Copies logs of daemons, consoles and pods to target/e2e-logs.
pub fn keep_logs() -> anyhow::Result<String> {
    let folder = checkout::target().join("e2e-logs");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    process::run(Command::new("cp").arg("-r").arg(checkout::state().join("log")).arg(&folder))?;
    for vm in vm::VMS {
        let console = checkout::state().join(vm.name()).join("console.log");
        // A machine that never started has none.
        let _ = fs::copy(console, folder.join(format!("{}-console.log", vm.name())));
    }
    if daemon::running("apiserver") {
        for (file, words) in [
            ("objects.txt", "get nodes,pods,events,tsp,nclk -A -o wide --ignore-not-found"),
            ("nodeclocks.yaml", "get nclk -o yaml --ignore-not-found"),
            ("policies.yaml", "get tsp -o yaml --ignore-not-found"),
            ("agents.log", "logs -n timesync-system -l app.kubernetes.io/component=agent --prefix --tail=-1"),
            (
                "operators.log",
                "logs -n timesync-system -l app.kubernetes.io/component=operator --prefix --tail=-1",
            ),
        ] {
            let text = kubectl::sh(words).unwrap_or_else(|error| format!("{error:#}"));
            fs::write(folder.join(file), text)?;
        }
    }
    Ok(folder.display().to_string())
}

/// The newest lines that operators and agents logged in the last `span`, for the message of a failure.
pub fn logs_since(span: Duration) -> String {
    if !daemon::running("apiserver") {
        return "there is no cluster to ask for logs".to_owned();
    }
    let seconds = span.as_secs() + 1;
    let mut text = String::new();
    for component in ["operator", "agent"] {
        let words = format!(
            "logs -n {} -l app.kubernetes.io/component={component} --prefix --tail=60 --since={seconds}s",
            install::NAMESPACE
        );
        let said = kubectl::sh(&words).unwrap_or_else(|error| format!("{error:#}"));
        text += &format!("--- {component}, the last {seconds} s ---\n{said}\n");
    }
    text
}

/// Ends and removes everything that [`up`] made, if there is anything.
pub fn down() -> anyhow::Result<()> {
    let state = checkout::state();
    if state.exists() {
        daemon::end("vm", "-KILL")?;
        node::down()?;
        // A gentle stop of kube-apiserver takes a minute and a half.
        daemon::end("", "-KILL")?;
    }
    network::down()?;
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
    }
    // Removed only if they are empty.
    for folder in node::MOUNT_POINTS {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// Prints each virtual machine's clock and hardware clock, as seen from outside.
pub fn print_truth() -> anyhow::Result<()> {
    for vm in vm::VMS {
        let (clock, kernel, rtc) = (vm.probe()?.offset()?, vm.probe()?.kernel()?, vm.rtc()?);
        println!(
            "{}: clock {} ± {:.1} µs from the truth, kernel {:+.3} ppm{}, RTC {}",
            vm.name(),
            truth::shown(clock.offset),
            clock.uncertainty as f64 / 1e3,
            kernel.frequency_ppm,
            if kernel.synchronized { "" } else { " unsynchronised" },
            calendar::shown(rtc),
        );
    }
    Ok(())
}
