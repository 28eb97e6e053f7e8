//! `rollout status`: how far each policy is on its nodes, and why a node does not run it yet. `request` pauses, resumes and
//! aborts staged rollouts.
mod request;

use api::{NodeClockStatus, RolloutState, RolloutStatus, RolloutVerb, TimeSyncPolicy};
use clap::{Args, Subcommand};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    fetch::Reader,
    observed::{Observed, condition, is_stale, rolled_out},
    output::{self, Form},
    screen::{Paint, Screen, printable},
    table::{Cell, Table},
};
use request::Request;

/// Rollouts of policies.
#[derive(Debug, Args)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how far policies are rolled out, and the nodes that do not run theirs yet.
    Status(StatusOf),
    /// Pause a staged rollout: no further node gets the new profile.
    Pause(Request),
    /// Let a paused or aborted rollout go on.
    Resume(Request),
    /// Abort a staged rollout: all nodes get the last good profile back.
    Abort(Request),
}

#[derive(Debug, Args)]
struct StatusOf {
    /// Only this policy
    policy: Option<String>,
    /// Print for programs
    #[arg(long, short, value_enum)]
    output: Option<Form>,
}

/// How far a policy is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RolloutView {
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    nodes: i32,
    applied: i32,
    /// Nodes that run the profile, of those that have an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
    /// The staged rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<RolloutStatus>,
    /// The condition RolledOut: its status, its reason, and its message.
    rolled_out: String,
    reason: String,
    message: String,
    /// Nodes that do not run the profile.
    behind: Vec<Behind>,
}

/// A node that does not run the profile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Behind {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<String>,
    why: String,
}

impl Rollout {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let StatusOf { policy, output } = match &self.verb {
            Verb::Status(status) => status,
            Verb::Pause(request) => return request.send(RolloutVerb::Pause, reader).await,
            Verb::Resume(request) => return request.send(RolloutVerb::Resume, reader).await,
            Verb::Abort(request) => return request.send(RolloutVerb::Abort, reader).await,
        };
        let observed = reader.clocks().await?;
        let mut views = views(&observed);
        if let Some(name) = policy {
            views.retain(|view| view.policy == *name);
            anyhow::ensure!(!views.is_empty(), "there is no policy {name}: `kubectl get tsp` lists them");
        }
        output::print(&views, *output, || text(&views, &Screen::of_stdout()))
    }
}

pub(crate) fn views(observed: &Observed) -> Vec<RolloutView> {
    observed.policies.iter().map(|policy| view(policy, observed)).collect()
}

fn view(policy: &TimeSyncPolicy, observed: &Observed) -> RolloutView {
    let status = policy.status.clone().unwrap_or_default();
    let nodes = status.nodes.unwrap_or_default();
    let name = policy.name_any();
    let (rolled_out, reason, message) = match rolled_out(policy) {
        Some(found) => (found.status.clone(), found.reason.clone(), found.message.clone()),
        None => {
            let message = "The operator has not read this version of the policy yet.".to_owned();
            ("Unknown".to_owned(), "NotReadYet".to_owned(), message)
        }
    };
    let clocks = observed.clocks.iter().filter_map(|clock| Some((clock.name_any(), clock.status.as_ref()?)));
    let its_clocks = clocks.filter(|(_, clock)| clock.policy.as_deref() == Some(name.as_str()));
    let behind = its_clocks.filter_map(|(node, clock)| {
        let why = why_behind(clock, status.profile.as_deref(), observed.now)?;
        let running = clock.profile.as_ref().and_then(|profile| profile.running.clone());
        Some(Behind { node, running, why })
    });
    RolloutView {
        behind: behind.collect(),
        policy: name,
        profile: status.profile,
        updated: status.updated,
        staged: status.rollout,
        nodes: nodes.matched,
        applied: nodes.applied,
        rolled_out,
        reason,
        message,
    }
}

/// Why a node does not run the profile; none if it does.
fn why_behind(clock: &NodeClockStatus, profile: Option<&str>, now: Timestamp) -> Option<String> {
    let running = clock.profile.as_ref().and_then(|profile| profile.running.as_deref());
    let error = clock.profile.as_ref().and_then(|profile| profile.error.clone());
    if running == profile && error.is_none() {
        return None;
    }
    if is_stale(clock, now) {
        return Some("its NodeClock is outdated".to_owned());
    }
    let unknown = condition(&clock.conditions, "Synchronized").filter(|each| each.status == "Unknown");
    Some(error.or_else(|| unknown.map(|each| each.reason.clone())).unwrap_or_else(|| "not yet".to_owned()))
}

pub(crate) fn text(views: &[RolloutView], screen: &Screen) -> String {
    if views.is_empty() {
        return "There is no TimeSyncPolicy.\n".to_owned();
    }
    let mut table = Table::new(&["POLICY", "PROFILE", "UPDATED", "STAGED", "ROLLED OUT", "REASON"]);
    for view in views {
        let paint = if view.rolled_out == "True" { Paint::Good } else { Paint::Doubtful };
        table.row(vec![
            view.policy.as_str().into(),
            view.profile.as_deref().into(),
            view.updated.clone().unwrap_or_else(|| format!("{}/{}", view.applied, view.nodes)).into(),
            view.staged.as_ref().map_or(String::new(), |staged| format!("{:?}", staged.state)).into(),
            Cell::painted(&view.rolled_out, paint),
            view.reason.as_str().into(),
        ]);
    }
    let mut text = table.text(screen, None);
    for view in views.iter().filter(|view| view.rolled_out != "True") {
        text += &format!("\n{}", screen.wrap(&format!("{}: ", view.policy), &printable(&view.message)));
        if view.staged.as_ref().is_some_and(|staged| staged.state == RolloutState::Paused) {
            text += &format!(
                "  kubectl timesync rollout resume {0}\n  kubectl timesync rollout abort {0}\n",
                view.policy
            );
        }
    }
    let behind: Vec<_> = views.iter().flat_map(|view| &view.behind).collect();
    if !behind.is_empty() {
        let mut table = Table::new(&["NODE", "RUNS", "WHY NOT THE NEW ONE"]);
        for node in behind {
            table.row(vec![
                node.node.as_str().into(),
                node.running.as_deref().into(),
                node.why.as_str().into(),
            ]);
        }
        text += &format!("\n{}", table.text(screen, None));
    }
    text
}
