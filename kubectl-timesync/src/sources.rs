//! `sources NODE`: the upstreams as one node sees them, and why some are not used.
use anyhow::Context;
use api::{NodeClockStatus, SourceStatus};
use clap::Args;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::{
    fetch::Reader,
    observed::{is_stale, state},
    output::{self, Form},
    screen::{Paint, Screen, of_state, printable},
    table::{Cell, Table},
    words::age,
};

/// Shows the upstreams of a node.
#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// The node
    node: String,
    /// Print for programs
    #[arg(long, short, value_enum)]
    output: Option<Form>,
}

/// The upstreams of a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourcesView<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_at: Option<Timestamp>,
    sources: &'a [SourceStatus],
}

impl Sources {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let observed = reader.clocks().await?;
        let clock = observed.clock(&self.node).and_then(|clock| clock.status.as_ref());
        let status = clock.with_context(|| {
            format!("there is no NodeClock of {0}: `kubectl timesync why {0}` says why", self.node)
        })?;
        let view = view(&self.node, status, observed.now);
        output::print(&view, self.output, || text(&view, status, observed.now, &Screen::of_stdout()))
    }
}

pub(crate) fn view<'a>(node: &'a str, status: &'a NodeClockStatus, now: Timestamp) -> SourcesView<'a> {
    SourcesView {
        node,
        policy: status.policy.as_deref(),
        state: state(status, now),
        reported_at: status.reported_at.as_ref().map(|time| time.0),
        sources: &status.sources,
    }
}

/// A line for each upstream, then a line for each that has something to say.
pub(crate) fn text(
    view: &SourcesView<'_>,
    status: &NodeClockStatus,
    now: Timestamp,
    screen: &Screen,
) -> String {
    let mut text = String::new();
    if view.sources.is_empty() {
        text += &format!("No upstreams are known of {0}: `kubectl timesync why {0}` says why.\n", view.node);
        return text;
    }
    let mut table =
        Table::new(&["SOURCE", "ADDRESS", "STATE", "STRATUM", "REACH", "POLL", "OFFSET", "DELAY", "JITTER"]);
    for source in view.sources {
        let poll = u32::try_from(source.poll).ok().and_then(|poll| 1_u64.checked_shl(poll));
        table.row(vec![
            source.name.as_str().into(),
            source.address.as_deref().into(),
            Cell::painted(&source.state, of_state(&source.state)),
            source.stratum.to_string().into(),
            source.reach.as_str().into(),
            poll.map_or(String::new(), |secs| format!("{secs}s")).into(),
            source.offset.as_deref().into(),
            source.delay.as_deref().into(),
            source.jitter.as_deref().into(),
        ]);
    }
    text += &table.text(screen, None);
    let said: Vec<_> = view.sources.iter().filter(|source| source.message.is_some()).collect();
    if !said.is_empty() {
        text.push('\n');
    }
    for source in said {
        let message = source.message.as_deref().unwrap_or_default();
        text += &screen.wrap(&format!("{}: ", printable(&source.name)), &printable(message));
    }
    let written = status.updated_at.as_ref().map_or("?".to_owned(), |time| age(now, time.0));
    let warning = if is_stale(status, now) { ": no operator renews it, so it may be outdated" } else { "" };
    let note = format!(
        "\nWritten {written} ago{warning}. An offset is this clock minus the time of the upstream.\n"
    );
    text + &screen.paint(&note, Paint::Faint)
}
