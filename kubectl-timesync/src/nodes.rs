//! `nodes`: a line for each node's clock. Nodes without a NodeClock are shown, too, if nodes can be read.
use std::cmp::Ordering;

use anyhow::bail;
use api::{NodeClock, NodeClockStatus};
use clap::{Args, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    fetch::Reader,
    observed::{Observed, condition, state},
    output::{self, TableForm},
    screen::{Paint, Screen, of_state},
    table::{Cell, Table},
    why::gives_time,
    words::{age, seconds},
};

/// Shows the clock of each node.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Print more columns, or for programs
    #[arg(long, short, value_enum)]
    output: Option<TableForm>,
}

/// Which nodes, and in which order.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only these nodes
    pub(crate) nodes: Vec<String>,
    /// Only nodes of this policy
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Only nodes in this state, such as Holdover or Unsynchronized
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    /// The order of the lines
    #[arg(long, value_enum, default_value = "name")]
    pub(crate) sort_by: Order,
}

/// An order of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// By name.
    #[default]
    Name,
    /// The largest offset first.
    Offset,
    /// The largest error bound first.
    Bound,
    /// Those that are not synchronised first.
    State,
}

/// The clock of a node.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeView {
    pub(crate) node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    pub(crate) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    pub(crate) conflict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stratum: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_bound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frequency: Option<String>,
    /// Upstreams that give time, of all.
    pub(crate) upstreams: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) updated_at: Option<Timestamp>,
    /// The reason of the condition Synchronized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl NodeView {
    /// Returns true if the clock is synchronised, or still counts as such.
    pub(crate) fn is_synchronized(&self) -> bool {
        ["Synchronized", "Holdover", "LocalReference"].contains(&self.state.as_str())
    }
}

impl Nodes {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let observed = reader.overview().await?;
        let views = views(&observed, &self.filter);
        let is_wide = self.output == Some(TableForm::Wide);
        let missing = missing(&observed, &self.filter.nodes);
        // Those that are there are shown all the same.
        if let (Some(missing), true) = (&missing, views.is_empty()) {
            bail!("{missing}");
        }
        output::print(&views, self.output.and_then(TableForm::form), || {
            if views.is_empty() {
                return "No nodes found.\n".to_owned();
            }
            text(&views, observed.now, is_wide, &Screen::of_stdout(), None)
        })?;
        match missing {
            Some(missing) => bail!("{missing}"),
            None => Ok(()),
        }
    }
}

/// That nodes which were asked for by name are not there, as kubectl says it; none if all are.
fn missing(observed: &Observed, names: &[String]) -> Option<String> {
    let is_there = |name: &str| {
        let is_node = observed.nodes.iter().flatten().any(|node| node.name == name);
        is_node || observed.clock(name).is_some()
    };
    let missing: Vec<_> = names.iter().map(String::as_str).filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return None;
    }
    let which = missing.join(", ");
    Some(match observed.nodes {
        Ok(_) => format!("NotFound: there is no node {which}. `kubectl timesync nodes` lists all"),
        Err(_) => format!(
            "NotFound: there is no NodeClock {which} that can be read. `kubectl timesync nodes` lists all"
        ),
    })
}

/// The clocks that the filter asks for, in its order.
pub(crate) fn views(observed: &Observed, filter: &Filter) -> Vec<NodeView> {
    let mut views: Vec<_> = observed.clocks.iter().map(|clock| view(clock, observed.now)).collect();
    let names = observed.nodes.iter().flatten().map(|node| node.name.as_str());
    let without = names.filter(|name| observed.clock(name).is_none());
    views.extend(without.map(|name| NodeView {
        node: name.to_owned(),
        state: "NoClock".to_owned(),
        ..NodeView::default()
    }));
    views.retain(|view| {
        (filter.nodes.is_empty() || filter.nodes.contains(&view.node))
            && filter.policy.as_ref().is_none_or(|policy| view.policy.as_ref() == Some(policy))
            && filter.state.as_ref().is_none_or(|state| view.state.eq_ignore_ascii_case(state))
    });
    views.sort_by(|a, b| by(filter.sort_by, a, b).then_with(|| a.node.cmp(&b.node)));
    views
}

fn by(order: Order, a: &NodeView, b: &NodeView) -> Ordering {
    let size = |text: &Option<String>| text.as_deref().and_then(seconds).map_or(-1.0, f64::abs);
    match order {
        Order::Name => Ordering::Equal,
        Order::Offset => size(&b.offset).total_cmp(&size(&a.offset)),
        Order::Bound => size(&b.error_bound).total_cmp(&size(&a.error_bound)),
        Order::State => rank(&a.state)
            .cmp(&rank(&b.state))
            .then_with(|| size(&b.error_bound).total_cmp(&size(&a.error_bound))),
    }
}

/// The worst first.
fn rank(state: &str) -> u8 {
    match state {
        "Unsynchronized" => 0,
        "Unknown" | "Outdated" | "NoClock" => 1,
        "Holdover" => 2,
        "LocalReference" => 3,
        _ => 4,
    }
}

/// The clock of a node in a few words.
pub(crate) fn view(clock: &NodeClock, now: Timestamp) -> NodeView {
    let default = NodeClockStatus::default();
    let status = clock.status.as_ref().unwrap_or(&default);
    let good = status.sources.iter().filter(|source| gives_time(source)).count();
    NodeView {
        node: clock.name_any(),
        policy: status.policy.clone(),
        state: state(status, now).to_owned(),
        mode: status.mode.clone(),
        conflict: status.conflict.is_some(),
        stratum: status.stratum,
        source: status.reference.clone(),
        offset: status.offset.clone(),
        error_bound: status.error_bound.clone(),
        frequency: status.frequency.clone(),
        upstreams: format!("{good}/{}", status.sources.len()),
        rtc: status.rtc.as_ref().map(|rtc| rtc.health.clone()),
        profile: status.profile.as_ref().and_then(|profile| profile.running.clone()),
        agent_version: status.agent.as_ref().map(|agent| agent.version.clone()),
        updated_at: status.updated_at.as_ref().map(|time| time.0),
        reason: condition(&status.conditions, "Synchronized").map(|condition| condition.reason.clone()),
    }
}

/// A line for each clock.
pub(crate) fn text(
    views: &[NodeView],
    now: Timestamp,
    is_wide: bool,
    screen: &Screen,
    most: Option<usize>,
) -> String {
    let mut headings =
        vec!["NODE", "POLICY", "STATE", "CONFLICT", "STRATUM", "SOURCE", "OFFSET", "BOUND", "RTC", "UPDATED"];
    if is_wide {
        headings.extend(["REASON", "UPSTREAMS", "FREQUENCY", "PROFILE", "AGENT"]);
    }
    let mut table = Table::new(&headings);
    for view in views {
        let conflict = if view.conflict { Cell::painted("True", Paint::Bad) } else { "".into() };
        let mut cells = vec![
            view.node.as_str().into(),
            view.policy.as_deref().into(),
            Cell::painted(&view.state, of_state(&view.state)),
            conflict,
            view.stratum.map_or(String::new(), |stratum| stratum.to_string()).into(),
            view.source.as_deref().into(),
            view.offset.as_deref().into(),
            view.error_bound.as_deref().into(),
            view.rtc.as_deref().into(),
            view.updated_at.map_or(String::new(), |time| age(now, time)).into(),
        ];
        if is_wide {
            cells.extend([
                view.reason.as_deref().into(),
                view.upstreams.as_str().into(),
                view.frequency.as_deref().into(),
                view.profile.as_deref().into(),
                view.agent_version.as_deref().into(),
            ]);
        }
        table.row(cells);
    }
    table.text(screen, most)
}
