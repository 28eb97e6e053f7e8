//! What an agent is: one process that starts no other, one binary in its image. What NodeClock says of a clock is true.
use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use lab::{install, kubectl, node, truth, under_test, vm, wait};
use xtask::{checkout, image};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    the_image_holds_one_binary()?;
    the_pod_is_one_process()?;
    for vm in vm::VMS {
        node_clock_is_true(vm)?;
    }
    Ok(())
}

fn the_image_holds_one_binary() -> anyhow::Result<()> {
    for name in ["agent", "operator"] {
        let images = image::files_of(&checkout::images().join(format!("{name}.tar")))?;
        ensure!(!images.is_empty(), "the archive {name} holds no image");
        for (arch, files) in images {
            let programs: Vec<_> = files.iter().filter(|file| !file.starts_with("licenses/")).collect();
            ensure!(programs == [&format!("timesync-{name}")], "the image {name} for {arch} holds {files:?}");
        }
    }
    Ok(())
}

/// On node1, whose processes we see; the program is the same everywhere.
fn the_pod_is_one_process() -> anyhow::Result<()> {
    let pod = kubectl::get(&format!("pod {} -n {}", install::agent_on("node1")?, install::NAMESPACE))?;
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().context("a container")?;
    let container = container.trim_start_matches("containerd://");
    let processes = processes_but_probes(container)?;
    ensure!(processes.len() == 1, "the agent's container has the processes {processes:?}");
    let pid = &processes[0];
    wait::holds_for("the agent has no child", Duration::from_secs(5), || {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            ensure!(children.is_empty(), "the agent started {children}");
        }
        let now = processes_but_probes(container)?;
        ensure!(now == processes, "another process appeared: {now:?}");
        Ok(())
    })
}

/// The processes of a container but for those that kubelet runs in it to ask how it is, which last for a moment.
fn processes_but_probes(container: &str) -> anyhow::Result<Vec<String>> {
    let is_probe = |pid: &String| {
        // One that has ended meanwhile was a probe, too: the agent's own would be missed by the caller.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|octet| *octet == 0).filter(|word| !word.is_empty()).collect();
        words.is_empty() || words.contains(&&b"healthy"[..]) || words.last() == Some(&&b"init"[..])
    };
    Ok(node::processes(container)?.into_iter().filter(|pid| !is_probe(pid)).collect())
}

/// NodeClock's offset is the outside truth, within NodeClock's own error bound.
fn node_clock_is_true(vm: vm::Vm) -> anyhow::Result<()> {
    let status = kubectl::node_clock(&vm.name())?.and_then(|clock| clock.status).context("a NodeClock")?;
    let told = seconds(&status.offset.context("an offset")?)?;
    let bound = seconds(&status.error_bound.context("an error bound")?)?;
    let seen = under_test::median(vm)?.offset;
    #[allow(clippy::cast_precision_loss, reason = "an offset of less than a day")]
    let apart = (told - seen as f64 / 1e9).abs();
    eprintln!("  {}: told {told:.6} s within {bound:.6} s, seen {}", vm.name(), truth::shown(seen));
    ensure!(bound < 0.2, "{}: a bound of {bound} s says nothing", vm.name());
    // The operator writes the offset again once it has changed by more than the bound.
    ensure!(
        apart <= 2.0 * bound,
        "{}: told {told} s, seen {}, bound {bound} s",
        vm.name(),
        truth::shown(seen)
    );
    Ok(())
}

/// `-412us`, `3.1ms`, `0s` in seconds.
fn seconds(text: &str) -> anyhow::Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let factor = match &text[digits.len()..] {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        unit => anyhow::bail!("{text}: no unit {unit}"),
    };
    Ok(digits.parse::<f64>()? * factor)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lengths_of_time() {
        assert_eq!(super::seconds("-412us").unwrap(), -412e-6);
        assert!(super::seconds("12 parsecs").is_err());
    }
}
