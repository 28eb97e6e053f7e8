//! `status`: the cluster in one screen: policies, clocks by state, the worst nodes, and what to look at first.
use std::collections::BTreeMap;

use api::TimeSyncPolicy;
use clap::Args;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    fetch::Reader,
    nodes::{self, Filter, NodeView, Order},
    observed::{Observed, STALE, condition, failed, is_read},
    output::{self, Form},
    screen::{Paint, Screen, of_state, printable},
    table::{Cell, Table},
    why::{self, Severity, Subject},
    words::{count, seconds, some, span},
};

/// Shows the cluster in one screen.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print for programs
    #[arg(long, short, value_enum)]
    output: Option<Form>,
}

/// The cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    /// Nodes whose clock is synchronised, and all.
    synchronized: usize,
    nodes: usize,
    /// Numbers of clocks by state.
    states: BTreeMap<String, usize>,
    policies: Vec<PolicyView>,
    /// Synchronised clocks with the largest error bounds.
    worst: Vec<NodeView>,
    /// What to look at first.
    look_at: Vec<Trouble>,
    operator: String,
    operator_writes: bool,
    /// Versions of agents, and on how many nodes each runs.
    agents: BTreeMap<String, usize>,
    /// A remark on this machine's clock, if it is not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    this_machine: Option<String>,
    /// Objects that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    malformed: Vec<String>,
    /// What this user may not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

/// A policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyView {
    policy: String,
    mode: String,
    nodes: i32,
    applied: i32,
    synchronized: i32,
    holdover: i32,
    conflicting: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    worst: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<String>,
    ready: String,
    /// Conditions that are not as they should be.
    troubles: Vec<String>,
}

/// One cause, and the nodes that have it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trouble {
    severity: Severity,
    /// What is seen, by the cause's word.
    id: &'static str,
    /// What is behind it.
    cause: &'static str,
    /// Both as a sentence, of the first of the nodes.
    what: String,
    /// The nodes that have it; none if it is the cluster's.
    nodes: Vec<String>,
    /// The command that says more.
    command: String,
}

impl Status {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let observed = reader.overview().await?;
        let overview = overview(&observed);
        output::print(&overview, self.output, || text(&overview, observed.now, &Screen::of_stdout()))
    }
}

impl Overview {
    /// Returns true if the clocks of policies are known, and nothing is wrong with them.
    fn is_well(&self) -> bool {
        let is_well = |policy: &PolicyView| policy.troubles.is_empty() && policy.ready == "True";
        let is_known = self.operator_writes && self.nodes > 0 && self.malformed.is_empty();
        is_known && self.look_at.is_empty() && !self.policies.is_empty() && self.policies.iter().all(is_well)
    }
}

pub(crate) fn overview(observed: &Observed) -> Overview {
    let all = nodes::views(observed, &Filter::default());
    let mut states = BTreeMap::new();
    let mut agents = BTreeMap::new();
    for view in &all {
        *states.entry(view.state.clone()).or_default() += 1;
        if let Some(version) = &view.agent_version {
            *agents.entry(version.clone()).or_default() += 1;
        }
    }
    let mut worst = nodes::views(observed, &Filter { sort_by: Order::Bound, ..Filter::default() });
    worst.retain(|view| view.is_synchronized() && view.error_bound.as_deref().and_then(seconds).is_some());
    worst.truncate(MOST_WORST);
    let (operator, operator_writes) = operator(observed);
    Overview {
        synchronized: all.iter().filter(|view| view.is_synchronized()).count(),
        nodes: all.len(),
        states,
        policies: observed.policies.iter().map(policy).collect(),
        worst,
        look_at: of_cluster(observed, &all).into_iter().chain(troubles(observed, &all)).collect(),
        operator,
        operator_writes,
        agents,
        this_machine: observed.ahead.map(this_machine),
        malformed: observed.malformed.clone(),
        unread: failed([
            ("nodes", observed.nodes.as_ref().err()),
            ("pods", observed.operators.as_ref().err()),
        ]),
    }
}

fn this_machine(ahead: SignedDuration) -> String {
    let which = if ahead.is_negative() { "behind" } else { "ahead of" };
    format!(
        "The clock of this machine is {} {which} the API server's. Ages are by the API server's.",
        span(ahead.abs())
    )
}

/// Worst nodes, and troubles, that are shown.
const MOST_WORST: usize = 3;
const MOST_TROUBLES: usize = 8;

fn operator(observed: &Observed) -> (String, bool) {
    let pods = observed.operators.as_ref().ok().map(|pods| {
        let ready = pods.iter().filter(|pod| pod.ready).count();
        format!(", {} ready", count(ready, "pod"))
    });
    let pods = pods.unwrap_or_default();
    match observed.silence_of_operator() {
        None if observed.clocks.is_empty() && !observed.malformed.is_empty() => {
            (format!("has written nothing that can be read{pods}"), false)
        }
        None => (format!("has written nothing yet{pods}"), false),
        Some(silence) if silence > STALE => (
            format!("has written nothing for {}, so what is shown may be outdated{pods}", span(silence)),
            false,
        ),
        Some(silence) => (format!("wrote {} ago{pods}", span(silence)), true),
    }
}

fn policy(policy: &TimeSyncPolicy) -> PolicyView {
    let status = policy.status.clone().unwrap_or_default();
    let nodes = status.nodes.unwrap_or_default();
    let ready = condition(&status.conditions, "Ready");
    let is_unread =
        (!is_read(policy)).then(|| "The operator has not read this version of it yet.".to_owned());
    let bad = status.conditions.iter().filter(|each| is_bad(&each.type_, &each.status));
    let bad = bad.map(|each| format!("{}={} ({}): {}", each.type_, each.status, each.reason, each.message));
    PolicyView {
        policy: policy.name_any(),
        mode: format!("{:?}", policy.spec.mode),
        nodes: nodes.matched,
        applied: nodes.applied,
        synchronized: nodes.synchronized,
        holdover: nodes.holdover,
        conflicting: nodes.conflicting,
        worst: status.worst.map(|worst| format!("{} ({})", worst.offset, worst.node)),
        spread: status.spread,
        ready: ready.map_or("Unknown".to_owned(), |ready| match ready.status.as_str() {
            "True" => "True".to_owned(),
            status => format!("{status} ({})", ready.reason),
        }),
        troubles: is_unread.into_iter().chain(bad).collect(),
    }
}

/// Returns true if a condition of this type and status is a trouble. Ready repeats others.
fn is_bad(type_: &str, status: &str) -> bool {
    match type_ {
        "Accepted" | "RolledOut" | "Synchronized" | "UpstreamsReachable" => status == "False",
        "Conflict" | "TaintsHeld" => status == "True",
        _ => false,
    }
}

/// What keeps nodes from being known at all, so that no node can tell it.
fn of_cluster(observed: &Observed, all: &[NodeView]) -> Vec<Trouble> {
    let mut found = Vec::new();
    if !observed.malformed.is_empty() {
        found.push(Trouble {
            severity: Severity::Broken,
            id: "NotReadable",
            cause: "NotReadable",
            what: format!(
                "Not in this picture: {} that this plugin cannot read, named below. Operator and plugin may have \
                 different versions; this plugin has {}.",
                count(observed.malformed.len(), "object"),
                env!("CARGO_PKG_VERSION")
            ),
            nodes: Vec::new(),
            command: format!("kubectl -n {} get pods -L app.kubernetes.io/version", observed.namespace),
        });
    }
    let is_down = observed.operators.as_ref().is_ok_and(|pods| pods.iter().all(|pod| !pod.ready));
    // A node that is known has a chain of its own, in which the operator is. Without a policy there may be nothing to
    // write.
    let is_asked = all.is_empty() && (!observed.policies.is_empty() || is_down);
    let silent = why::nothing_written(observed).filter(|_| is_asked);
    found.extend(silent.and_then(|chain| {
        let (seen, root) = (chain.causes.first()?, chain.root()?);
        let command = root.todo.iter().find_map(|action| action.command.clone());
        Some(Trouble {
            severity: chain.severity,
            id: seen.id,
            cause: root.id,
            what: root.what.clone(),
            nodes: Vec::new(),
            command: command.unwrap_or_default(),
        })
    }));
    found
}

/// The most important chain of each node, grouped by what is behind it; the worst and most frequent first.
fn troubles(observed: &Observed, all: &[NodeView]) -> Vec<Trouble> {
    let mut found: BTreeMap<(Severity, &'static str, &'static str), Trouble> = BTreeMap::new();
    for view in all {
        let subject = Subject::new(observed, &view.node);
        let Some(chain) = why::chains(&subject).into_iter().next() else { continue };
        let (Some(seen), Some(root)) = (chain.causes.first(), chain.root()) else { continue };
        if chain.severity == Severity::Fine {
            continue;
        }
        let trouble = found.entry((chain.severity, seen.id, root.id)).or_insert_with(|| Trouble {
            severity: chain.severity,
            id: seen.id,
            cause: root.id,
            what: if seen.id == root.id { seen.what.clone() } else { root.what.clone() },
            nodes: Vec::new(),
            command: format!("kubectl timesync why {}", view.node),
        });
        trouble.nodes.push(view.node.clone());
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|trouble| (trouble.severity, std::cmp::Reverse(trouble.nodes.len())));
    found
}

pub(crate) fn text(overview: &Overview, now: Timestamp, screen: &Screen) -> String {
    let mut text = head(overview, screen);
    if let Some(remark) = &overview.this_machine {
        text += &screen.wrap("Notice:    ", remark);
    }
    let heading = |text: &str| format!("\n{}\n", screen.paint(text, Paint::Bold));
    if overview.policies.is_empty() {
        text += "\nThere is no TimeSyncPolicy, so no clock is corrected. Create one: it names your time servers.\n";
    } else {
        text.push('\n');
        text += &policies(&overview.policies, screen);
        for policy in &overview.policies {
            for trouble in &policy.troubles {
                text += &screen.wrap(&format!("  {}: ", policy.policy), &printable(trouble));
            }
        }
    }
    if !overview.worst.is_empty() {
        text += &heading("Largest error bounds");
        text += &nodes::text(&overview.worst, now, false, screen, None);
    }
    if !overview.look_at.is_empty() {
        text += &heading("Look at first");
    } else if overview.is_well() {
        // Nodes that may not be read can lack a NodeClock.
        text +=
            if overview.unread.is_empty() { "\nAll is well.\n" } else { "\nAll that was read is well.\n" };
    }
    for trouble in overview.look_at.iter().take(MOST_TROUBLES) {
        let paint = if trouble.severity == Severity::Broken { Paint::Bad } else { Paint::Doubtful };
        let names = some(trouble.nodes.iter().map(String::as_str), 3);
        let nodes = match trouble.nodes.len() {
            0 => String::new(),
            number => format!(" {}: {names}", count(number, "node")),
        };
        text += &format!("  {}{nodes}\n", screen.paint(trouble.id, paint));
        text += &screen.wrap("    ", &printable(&trouble.what));
        text += &format!("    {}\n", trouble.command);
    }
    if let Some(more) = overview.look_at.len().checked_sub(MOST_TROUBLES).filter(|more| *more > 0) {
        text += &format!("  And {more} more: `kubectl timesync status -o yaml`.\n");
    }
    for malformed in &overview.malformed {
        text += &screen.wrap("", &format!("Cannot be read: {}", printable(malformed)));
    }
    if !overview.unread.is_empty() {
        text += &screen
            .wrap("\n", &format!("Not read, so something may be missing: {}.", overview.unread.join(", ")));
    }
    text
}

fn head(overview: &Overview, screen: &Screen) -> String {
    let states = overview
        .states
        .iter()
        .map(|(state, number)| screen.paint(&format!("{number} {state}"), of_state(state)));
    let states: Vec<_> = states.collect();
    let paint = if overview.operator_writes { Paint::Plain } else { Paint::Bad };
    let agents: Vec<_> = overview
        .agents
        .iter()
        .map(|(version, number)| format!("{version} on {}", count(*number, "node")))
        .collect();
    let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
    format!(
        "Clocks:    {} of {} synchronised{}\nOperator:  {}\nAgents:    {}\n",
        overview.synchronized,
        count(overview.nodes, "node"),
        states,
        screen.paint(&overview.operator, paint),
        if agents.is_empty() { "none has reported".to_owned() } else { agents.join(", ") },
    )
}

fn policies(policies: &[PolicyView], screen: &Screen) -> String {
    let headings =
        ["POLICY", "MODE", "NODES", "APPLIED", "SYNCED", "HOLDOVER", "CONFLICTS", "WORST", "SPREAD", "READY"];
    let mut table = Table::new(&headings);
    for policy in policies {
        let ready = if policy.ready == "True" { Paint::Good } else { Paint::Bad };
        table.row(vec![
            policy.policy.as_str().into(),
            policy.mode.as_str().into(),
            policy.nodes.to_string().into(),
            policy.applied.to_string().into(),
            policy.synchronized.to_string().into(),
            policy.holdover.to_string().into(),
            policy.conflicting.to_string().into(),
            policy.worst.as_deref().into(),
            policy.spread.as_deref().into(),
            Cell::painted(&policy.ready, ready),
        ]);
    }
    table.text(screen, None)
}
