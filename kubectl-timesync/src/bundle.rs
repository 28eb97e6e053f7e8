//! `bundle`: a support archive. It has the objects of timesync, what nodes and pods have to do with it, events, logs and
//! explanations. No Secret is read. What could not be read is named in the archive and on standard error.
mod archive;

mod redact;

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    fetch::{AGENTS, OPERATORS, Reader},
    observed::{NodeFacts, Observed, PodFacts, Reading, Unread, failed},
    output,
    screen::Screen,
    status,
    why::{self, Severity, Subject},
};
use archive::Archive;

/// Writes a support archive.
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The archive (tar.gz) [default: timesync-bundle-TIME.tar.gz here]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Add the logs of the agents of these nodes, too, not only of nodes with a trouble
    #[arg(long, value_name = "NODE")]
    logs_of: Vec<String>,
}

/// Agents whose logs are read because their node has a trouble.
const MOST_LOGS: usize = 20;

impl Bundle {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let name = format!("timesync-bundle-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let path = self.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
        let mut archive = Archive::create(&path, &name, self.force, now)?;
        let mut unread = Vec::new();
        self.fill(reader, &mut archive, &mut unread).await?;
        let text = about(now, &unread);
        archive.add("about.txt", &text)?;
        archive.finish()?;
        for line in &unread {
            output::remark(&format!("not in the archive: {line}\n"));
        }
        Ok(output::write(&format!("{}\n", path.display()))?)
    }

    async fn fill(
        &self,
        reader: &Reader,
        archive: &mut Archive,
        unread: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let mut observed = reader.clocks().await?;
        archive.add("timesyncpolicies.yaml", &list(&observed.policies)?)?;
        archive.add("nodeclocks.yaml", &list(&observed.clocks)?)?;
        unread.extend(observed.malformed.iter().cloned());
        let nodes = noted("nodes", reader.raw_nodes().await, unread);
        if let Ok(nodes) = &nodes {
            archive.add("nodes.yaml", &list(&nodes.iter().map(redact::node).collect::<Vec<_>>())?)?;
        }
        observed.nodes = nodes.map(|nodes| nodes.iter().map(NodeFacts::from).collect());
        let agents = noted("agents' pods", reader.raw_pods(&AGENTS).await, unread);
        let operators = noted("operator's pods", reader.raw_pods(&OPERATORS).await, unread);
        for (file, pods) in [("agents.yaml", &agents), ("operators.yaml", &operators)] {
            if let Ok(pods) = pods {
                archive.add(file, &list(pods)?)?;
            }
        }
        let pods: Vec<_> = agents.iter().chain(&operators).flatten().collect();
        let owners = redact::owners(&pods);
        let facts = |pods: Vec<Pod>| pods.iter().filter_map(PodFacts::of).collect();
        (observed.agents, observed.operators) = (agents.map(facts), operators.map(facts));
        match reader.profiles().await {
            Ok(profiles) => archive.add("profiles.yaml", &list(&Vec::from_iter(profiles))?)?,
            Err(why) => note("ConfigMap timesync-profiles", &why, unread),
        }
        // Events about nodes are in `default`, which can be the namespace of timesync as well.
        for namespace in BTreeSet::from(["default", observed.namespace.as_str()]) {
            let events = noted(&format!("events in {namespace}"), reader.raw_events(namespace).await, unread);
            let Ok(events) = events else { continue };
            let ours: Vec<_> = events.iter().filter(|event| redact::is_ours(event, &owners)).collect();
            archive.add(&format!("events-{namespace}.yaml"), &list(&ours)?)?;
        }
        let overview = status::overview(&observed);
        archive.add("status.txt", &status::text(&overview, observed.now, &Screen::of_file()))?;
        let troubled = explain(&observed, archive)?;
        for (pod, container) in self.pods_to_log(&observed, &troubled) {
            for (previous, suffix) in [(false, ""), (true, ".previous")] {
                match reader.log(&pod, container, previous).await {
                    Ok(log) => archive.add(&format!("logs/{pod}{suffix}.log"), &log)?,
                    // Most containers have not been restarted.
                    Err(_) if previous => {}
                    Err(why) => note(&format!("the log of {pod}"), &why, unread),
                }
            }
        }
        Ok(())
    }

    /// The operator's pods, and the agents of nodes with a trouble; each with the name of its container.
    fn pods_to_log(&self, observed: &Observed, troubled: &[String]) -> Vec<(String, &'static str)> {
        let operators = observed.operators.iter().flatten();
        let agents = observed.agents.iter().flatten().filter(|pod| {
            let mut wanted = troubled.iter().take(MOST_LOGS).chain(&self.logs_of);
            wanted.any(|name| pod.node.as_ref() == Some(name))
        });
        let operators = operators.map(|pod| (pod.name.clone(), "operator"));
        operators.chain(agents.map(|pod| (pod.name.clone(), "agent"))).collect()
    }
}

/// What was read, or why not, of which a note is made. It does not become an empty list: explanations would take what
/// may not be read for something that does not exist.
fn noted<T>(what: &str, reading: Reading<Vec<T>>, unread: &mut Vec<String>) -> Reading<Vec<T>> {
    reading.inspect_err(|why| note(what, why, unread))
}

fn note(what: &str, why: &Unread, unread: &mut Vec<String>) {
    unread.extend(failed([(what, Some(why))]));
}

/// Adds an explanation of each node that has a trouble. Returns their names.
fn explain(observed: &Observed, archive: &mut Archive) -> anyhow::Result<Vec<String>> {
    let mut troubled = Vec::new();
    for clock in &observed.clocks {
        let name = clock.name_any();
        let explanation = why::explain(&Subject::new(observed, &name), &Ok(Vec::new()));
        if explanation.chains.iter().any(|chain| chain.severity < Severity::Notice) {
            archive.add(
                &format!("why/{name}.txt"),
                &why::text(&explanation, observed.now, &Screen::of_file()),
            )?;
            troubled.push(name);
        }
    }
    Ok(troubled)
}

/// Objects as a YAML list, without what says nothing about timesync.
fn list<T: Serialize>(objects: &[T]) -> anyhow::Result<String> {
    let items = objects.iter().map(|object| Ok(redact::object(serde_json::to_value(object)?)));
    let items: Vec<Value> = items.collect::<anyhow::Result<_>>()?;
    Ok(serde_norway::to_string(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?)
}

fn about(now: Timestamp, unread: &[String]) -> String {
    let mut text = format!(
        "A support archive of timesync, made {now} by kubectl timesync {}.\nIt has no Secret. It has names and addresses of \
         nodes and of time servers.\n",
        env!("CARGO_PKG_VERSION")
    );
    text += if unread.is_empty() { "Everything was read.\n" } else { "Not read:\n" };
    for line in unread {
        text += &format!("  {line}\n");
    }
    text
}
