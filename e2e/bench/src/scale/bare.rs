//! A client that only writes what the operator writes. It shows how many writes the API server can accept. It uses the
//! operator's library, rights and field manager, while the operator is stopped.
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use api::NodeClock;
use contract::Assignment;
use fleet::world::World;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use lab::install;
use serde_json::json;
use xtask::interrupt;

use crate::ratio::median;

/// Seconds that a bare client takes for one annotation on each pod, and for a NodeClock and an Event of a tenth: the best of
/// its widths, each the median of its rounds. No operator runs meanwhile.
pub(crate) struct Bare {
    pub(crate) annotated: f64,
    pub(crate) told: f64,
}

/// Measures the bare client.
pub(crate) fn measure(world: &mut World) -> anyhow::Result<Bare> {
    world.settle()?;
    world.stop("-TERM")?;
    let (pods, agents) = (world.fleet.annotated(), world.fleet.agents(&world.tenth()));
    let nodes: Vec<_> = agents.iter().map(|agent| agent.node.clone()).collect();
    let mut best = Bare { annotated: f64::INFINITY, told: f64::INFINITY };
    for width in WIDTHS {
        let (mut annotated, mut told) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            interrupt::check()?;
            annotated.push(world.runtime.block_on(annotate(
                &world.bare,
                install::NAMESPACE,
                &pods,
                width,
            ))?);
            told.push(world.runtime.block_on(tell(&world.bare, &nodes, width))?);
        }
        let (annotated, told) = (median(&mut annotated), median(&mut told));
        eprintln!(
            "  bare client, {width} at once: {annotated:.2} s for annotations, {told:.2} s for a tenth's news"
        );
        best = Bare { annotated: best.annotated.min(annotated), told: best.told.min(told) };
    }
    world.start()?;
    Ok(best)
}

const ROUNDS: usize = 3;

/// Writes under way at once that are tried.
const WIDTHS: [usize; 2] = [16, 32];

/// The operator's field manager, since the work of a server-side apply depends on the fields that a manager owns.
const MANAGER: &str = "timesync-operator";

/// Tells one run's values from another's.
static ROUND: AtomicUsize = AtomicUsize::new(0);

/// Seconds for one annotation on each pod. The profile stays what it is, so that the operator finds nothing to do.
async fn annotate(
    client: &Client,
    namespace: &str,
    pods: &[(String, String)],
    width: usize,
) -> anyhow::Result<f64> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (round, begun) = (ROUND.fetch_add(1, Ordering::Relaxed), Instant::now());
    let all = stream::iter(pods).map(async |(name, profile)| {
        let annotations = json!({Assignment::ANNOTATION: profile, "timesync.dev/bench": format!("round-{round}")});
        let wanted = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations}});
        let params = PatchParams::apply(MANAGER).force();
        api.patch_metadata(name, &params, &Patch::Apply(&wanted)).await.map(drop)
    });
    all.buffer_unordered(width).try_collect::<()>().await.context("annotating as a bare client")?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds for one status on the NodeClock, and one Event, of each of these nodes.
async fn tell(client: &Client, nodes: &[String], width: usize) -> anyhow::Result<f64> {
    let clocks: Api<NodeClock> = Api::all(client.clone());
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let stored = clocks.list(&ListParams::default()).await.context("NodeClocks")?;
    let those: Vec<_> = stored.items.into_iter().filter(|clock| nodes.contains(&clock.name_any())).collect();
    let (round, begun) = (ROUND.fetch_add(1, Ordering::Relaxed), Instant::now());
    let all = stream::iter(those).map(async |clock| {
        let name = clock.name_any();
        let mut status = clock.status.unwrap_or_default();
        status.error_bound = Some(format!("{}.1ms", 100 + round));
        let wanted = json!({
            "apiVersion": NodeClock::api_version(&()), "kind": NodeClock::kind(&()),
            "metadata": {"name": name}, "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        clocks.patch_status(&name, &params, &Patch::Apply(&wanted)).await?;
        events
            .create(&PostParams::default(), &event(&name, round)?)
            .await
            .map(drop)
            .map_err(anyhow::Error::from)
    });
    all.buffer_unordered(width).try_collect::<()>().await.context("telling as a bare client")?;
    Ok(begun.elapsed().as_secs_f64())
}

fn event(node: &str, round: usize) -> anyhow::Result<Event> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(now.as_secs())?)?;
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("{node}.bench.{round}"), "namespace": "default"},
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": node},
        "type": "Warning",
        "reason": "Bench",
        "action": "Synchronize",
        "note": "The error bound exceeds 100ms.",
        "eventTime": format!("{now:.6}"),
        "reportingController": MANAGER,
        "reportingInstance": MANAGER,
    }))?)
}
