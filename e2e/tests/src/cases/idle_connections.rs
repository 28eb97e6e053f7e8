//! Connections that send half a request and then nothing, to the port of agents and of the operator, more than either
//! keeps at a time: no probe fails, no pod is restarted, the operator still hears every agent, and metrics are served.
use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lab::{agent_http::Agent, install, kubectl, under_test, vm, wait};
use xtask::interrupt;

/// Connections to each agent: three times what it once kept.
const CONNECTIONS: usize = 200;

/// Longer than kubelet waits until it restarts a container whose liveness probe fails: twice 30 s and the time for an answer.
const LONG_ENOUGH: Duration = Duration::from_secs(100);

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let before = restarts()?;
    let mut idle = Idle::default();
    idle.open()?;
    let begun = Instant::now();
    wait::holds_for("no pod is restarted or not ready", LONG_ENOUGH, || {
        // Those that were closed are opened again, as an attacker would.
        idle.open()?;
        ensure!(restarts()? == before, "a container was restarted: {:?}, before {before:?}", restarts()?);
        for vm in vm::VMS {
            let agent = Agent::at(&vm.address())?;
            agent.metric("timesync_synchronized").context("the metrics of an agent under attack")?;
        }
        Ok(())
    })?;
    ensure!(begun.elapsed() >= LONG_ENOUGH, "the attack was too short");
    // The operator gives orders, and hears that they are followed.
    under_test::apply_four("  thresholds: {offset: 40ms}\n")?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    idle.open()?;
    wait::until("the policy's status to count both nodes", "2 s", Duration::from_secs(60), || {
        interrupt::check()?;
        let nodes = kubectl::policy(under_test::POLICY)?.status.and_then(|status| status.nodes);
        Ok(nodes.filter(|nodes| nodes.applied == 2 && nodes.synchronized == 2).map(|_| ()))
    })?;
    drop(idle);
    under_test::settle()
}

/// Half-open requests, some seconds old at most.
#[derive(Default)]
struct Idle {
    open: Vec<TcpStream>,
}

impl Idle {
    /// Opens all of them anew where the other side has closed them.
    fn open(&mut self) -> anyhow::Result<()> {
        self.open.retain(|stream| {
            let mut octet = [0];
            // An open connection on which nothing came would block.
            matches!(stream.peek(&mut octet), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        for address in vm::VMS.map(vm::Vm::address) {
            let theirs =
                |stream: &&TcpStream| stream.peer_addr().is_ok_and(|peer| peer.ip().to_string() == address);
            let count = self.open.iter().filter(theirs).count();
            for _ in count..CONNECTIONS {
                let mut stream = TcpStream::connect((address.as_str(), 9817))
                    .with_context(|| format!("a connection to the agent of {address}"))?;
                stream.set_nonblocking(true)?;
                // One that was closed at once is as good as one that stays.
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ");
                self.open.push(stream);
            }
        }
        Ok(())
    }
}

/// Name, restarts and readiness of each container of the release.
fn restarts() -> anyhow::Result<Vec<(String, i64, bool)>> {
    let pods = kubectl::get(&format!("pods -n {} -l app.kubernetes.io/name=timesync", install::NAMESPACE))?;
    let mut found = Vec::new();
    for pod in pods["items"].as_array().context("a list of pods")? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for container in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let count = container["restartCount"].as_i64().context("a count of restarts")?;
            found.push((name.to_owned(), count, container["ready"] == true));
        }
    }
    ensure!(found.len() > vm::VMS.len(), "too few containers: {found:?}");
    Ok(found)
}
