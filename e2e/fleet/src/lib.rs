//! The operator among thousands of agents: a control plane alone, a fleet of simulated agents in this process, the real
//! operator, and an observer of what it writes. The number of nodes in; a [`World`] out, by which tests change the
//! fleet and read its state.
#![forbid(unsafe_code)]
use lab::cluster;
use serde_json::json;
use xtask::image;

mod objects;

pub mod agent;

mod fleet;

mod stage;

pub mod operator;

mod seen;

pub mod bill;

pub mod denial;

pub mod world;

pub mod measure;

use world::{POLICY, World, policy};

/// Runs something on a fleet with a policy and no operator, and takes all down; after a failure logs are kept.
pub fn on_a_world<T>(nodes: usize, run: impl FnOnce(&mut World) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut world = World::make(nodes, image::program("timesync-operator"))?;
    world.apply(POLICY, &policy(json!({})))?;
    let result = run(&mut world);
    if result.is_err() {
        match cluster::keep_logs() {
            Ok(folder) => eprintln!("scale: logs are in {folder}"),
            Err(error) => eprintln!("scale: no logs kept: {error:#}"),
        }
    }
    result
}
