//! One event in the logs of both virtual machines: a broadcast packet. A pod on each machine logs the time of its
//! arrival by the node's clock. Returns the two log lines, as `kubectl logs --timestamps` prints them.
use std::{net::UdpSocket, time::Duration};

use anyhow::Context;
use lab::{calendar, kubectl, network, vm, wait};
use xtask::image;

const PORT: u16 = 9;

/// Starts the pod on each virtual machine.
pub(crate) fn start_loggers() -> anyhow::Result<()> {
    for vm in vm::VMS {
        let node = vm.name();
        kubectl::apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: events-{node}}}\nspec:\n  nodeName: {node}\n  \
             hostNetwork: true\n  terminationGracePeriodSeconds: 0\n  tolerations: [{{operator: Exists}}]\n  \
             containers:\n  - {{name: log, image: '{}', imagePullPolicy: Never, args: ['{PORT}']}}\n",
            image::EVENTLOG
        ))?;
    }
    wait::until("the event loggers", "5 s", Duration::from_secs(120), || {
        let listening = |vm: &vm::Vm| {
            kubectl::sh(&format!("logs events-{}", vm.name())).is_ok_and(|text| text.contains("listening"))
        };
        Ok(vm::VMS.iter().all(listening).then_some(()))
    })
}

/// Sends one broadcast. Returns each node's line, and the difference of their times, vm1 minus vm2, nanoseconds.
pub(crate) fn show(text: &str) -> anyhow::Result<(Vec<String>, i64)> {
    let socket = UdpSocket::bind((network::HOST, 0))?;
    socket.set_broadcast(true)?;
    socket.send_to(text.as_bytes(), (network::BROADCAST, PORT))?;
    let (mut lines, mut times) = (Vec::new(), Vec::new());
    for vm in vm::VMS {
        let name = vm.name();
        let what = format!("the event in the log of {name}");
        let line = wait::until(&what, "", Duration::from_secs(30), || {
            let log = kubectl::sh(&format!("logs events-{name} --timestamps --tail=5"))?;
            Ok(log.lines().find(|line| line.ends_with(text)).map(str::to_owned))
        })?;
        let stamp =
            line.split(' ').nth(1).and_then(nanoseconds).with_context(|| format!("no time in {line}"))?;
        lines.push(format!("{name}: {line}"));
        times.push(stamp);
    }
    Ok((lines, times[0] - times[1]))
}

/// Parses a time such as `2026-01-01T00:00:00.000000Z` as nanoseconds since 1970.
fn nanoseconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.strip_suffix('Z')?.split_once('.')?;
    let number = |from: usize, to: usize| whole.get(from..to)?.parse().ok();
    let date = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = calendar::seconds(date, (number(11, 13)?, number(14, 16)?, number(17, 19)?));
    Some(seconds * 1_000_000_000 + fraction.parse::<i64>().ok()? * 1000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_of_log_lines() {
        assert_eq!(super::nanoseconds("1970-01-01T00:00:01.000002Z"), Some(1_000_002_000));
        assert_eq!(super::nanoseconds("yesterday"), None);
    }
}
