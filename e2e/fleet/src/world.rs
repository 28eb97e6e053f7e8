//! Stage, fleet, observer and operator together. Edits the policy, waits for the effects, and counts the writes.
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use api::TimeSyncPolicy;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use lab::{install, pki, readings, wait};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    agent::SOURCES,
    bill::Bill,
    fleet::Fleet,
    objects::Template,
    operator::{AMPLE_LIMIT, Operator},
    seen::{PolicySeen, Seen},
    stage::{self, Stage},
};

/// The policy of all nodes.
pub const POLICY: &str = "fleet";

/// All parts of a test.
pub struct World {
    /// Runs the asynchronous code.
    pub runtime: Runtime,
    /// A client with an administrator's rights, which the API server does not throttle.
    pub(crate) admin: Client,
    /// A client with the operator's rights.
    pub bare: Client,
    /// Nodes and agents.
    pub fleet: Arc<Fleet>,
    /// What the operator wrote.
    pub seen: Arc<Seen>,
    /// The operator, if one runs.
    pub operator: Option<Operator>,
    /// The soft limit of file descriptors of the next operator.
    pub descriptors: u32,
    stage: Stage,
    program: PathBuf,
    starts: usize,
    edits: usize,
    /// The generation of the policy after the last edit.
    generation: i64,
    /// The largest resident memory of the operators that have ended.
    peak_megabytes: f64,
}

/// The longest wait. It is generous, so that an operator that throttles itself can finish.
const PATIENCE: Duration = Duration::from_secs(600);

impl World {
    /// Makes a stage with a fleet of `nodes`, without an operator. `program` is the operator's program.
    pub(crate) fn make(nodes: usize, program: PathBuf) -> anyhow::Result<Self> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let needed = 2 * nodes as u64 + 1000;
        ensure!(hard >= needed, "{nodes} agents need {needed} descriptors, and the hard limit is {hard}");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let stage = stage::up()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let connect = |path: PathBuf| {
            runtime.block_on(async {
                let kubeconfig = Kubeconfig::read_from(&path)?;
                let config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
                anyhow::Ok(Client::try_from(config)?)
            })
        };
        let (admin, bare) = (connect(pki::admin())?, connect(stage.kubeconfig.clone())?);
        let template = Template::of(&stage.daemon_set)?;
        let handle = runtime.handle().clone();
        let fleet =
            Fleet::new(handle.clone(), admin.clone(), install::NAMESPACE, template, stage.token.clone());
        let seen = Seen::start(&handle, &admin, install::NAMESPACE, &fleet);
        let world = Self {
            runtime,
            admin,
            bare,
            fleet,
            seen,
            operator: None,
            descriptors: AMPLE_LIMIT,
            stage,
            program,
            starts: 0,
            edits: 0,
            generation: 1,
            peak_megabytes: 0.0,
        };
        world.grow(nodes)?;
        world.live();
        Ok(world)
    }

    /// Adds nodes with an agent each.
    pub fn grow(&self, nodes: usize) -> anyhow::Result<()> {
        let (made, fleet) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&self.fleet));
        let counter = Arc::clone(&made);
        let task = self.runtime.spawn(async move {
            let count = || {
                counter.fetch_add(1, Ordering::Relaxed);
            };
            fleet.grow(nodes, count).await
        });
        let usually = format!("{} s", 5 + nodes / 30);
        wait::until(&format!("{nodes} nodes with an agent each"), &usually, PATIENCE, || {
            readings::note("nodes made", &made.load(Ordering::Relaxed).to_string());
            Ok(task.is_finished().then_some(()))
        })?;
        self.runtime.block_on(task)?
    }

    /// Changes the selected upstream of each node once in ten minutes, as it happens on real nodes.
    fn live(&self) {
        let fleet = Arc::clone(&self.fleet);
        self.runtime.spawn(async move {
            let mut turn: usize = 0;
            loop {
                let all = fleet.all_agents();
                tokio::time::sleep(
                    Duration::from_secs(600) / u32::try_from(all.len().max(1)).unwrap_or(u32::MAX),
                )
                .await;
                // A large prime as the stride, so that neighbours do not change together.
                turn = (turn + 7919) % all.len().max(1);
                if let Some(agent) = all.get(turn) {
                    agent.follow_another();
                }
            }
        });
    }

    /// Starts an operator.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.operator = Some(self.another()?);
        Ok(())
    }

    /// Starts one more operator. The caller owns it.
    pub fn another(&mut self) -> anyhow::Result<Operator> {
        self.starts += 1;
        Operator::start(&self.stage, &self.program, self.starts, self.descriptors)
    }

    /// Ends the operator by a signal such as `-TERM`.
    pub fn stop(&mut self, signal: &str) -> anyhow::Result<()> {
        self.peak_megabytes = self.peak_megabytes();
        self.operator.take().map_or(Ok(()), |operator| operator.end(signal))
    }

    /// The largest resident memory of an operator so far.
    pub fn peak_megabytes(&self) -> f64 {
        // If the operator has ended by itself, this is no error here: the function that waits for it reports that.
        let now = self.operator.as_ref().and_then(|operator| operator.usage().ok());
        now.map_or(0.0, |usage| usage.peak_megabytes).max(self.peak_megabytes)
    }

    /// The running operator.
    pub fn running(&self) -> anyhow::Result<&Operator> {
        self.operator.as_ref().context("no operator runs")
    }

    /// Nodes.
    pub fn count(&self) -> usize {
        self.fleet.len()
    }

    /// Every tenth slot: a tenth of the nodes, spread over the cluster.
    pub fn tenth(&self) -> Vec<usize> {
        (0..self.count()).step_by(10).collect()
    }

    /// The writes so far.
    pub fn bill(&self) -> anyhow::Result<Bill> {
        self.runtime.block_on(Bill::read(&self.admin))
    }

    /// Changes the policy of all nodes so that it gives another profile. Returns the new generation.
    pub fn edit(&mut self) -> anyhow::Result<i64> {
        self.edits += 1;
        let spec = policy(json!({"clock": {"maxSlewRate": 500 + self.edits}}));
        self.generation = self.apply(POLICY, &spec)?;
        Ok(self.generation)
    }

    /// Applies a policy. Returns its generation.
    pub fn apply(&self, name: &str, spec: &Value) -> anyhow::Result<i64> {
        let api: Api<TimeSyncPolicy> = Api::all(self.admin.clone());
        let object = json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "TimeSyncPolicy",
                            "metadata": {"name": name}, "spec": spec});
        let params = PatchParams::apply("bench").force();
        let applied = self.runtime.block_on(api.patch(name, &params, &Patch::Apply(&object)))?;
        applied.metadata.generation.context("a generation")
    }

    /// Waits until `poll` returns a value, and fails if the operator ends. `poll` may record readings.
    pub fn wait<T>(&self, what: &str, mut poll: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        wait::until(what, "", PATIENCE, || {
            if let Some(operator) = &self.operator {
                operator.expect_running()?;
            }
            Ok(poll())
        })
    }

    /// Waits until each pod is assigned the same profile, of this policy and not `before`. Returns its name, and when the
    /// last pod was written.
    pub fn wait_assigned(&self, policy: &str, before: &str) -> anyhow::Result<(String, Instant)> {
        let prefix = format!("{policy}.");
        self.wait_assigned_but(0, &|value| value != before && value.starts_with(&prefix))
    }

    /// Waits until all pods, or all but `missing`, are assigned the same profile, one for which `is_new` is true. Returns
    /// its name, and when the last of these pods was written.
    pub fn wait_assigned_but(
        &self,
        missing: usize,
        is_new: &dyn Fn(&str) -> bool,
    ) -> anyhow::Result<(String, Instant)> {
        self.wait("every annotation", || {
            let all = self.fleet.annotated();
            let new = all.iter().map(|(_, value)| value).find(|value| is_new(value))?;
            let (count, last) = self.fleet.assigned(&|value| value == new);
            readings::note("pods annotated", &format!("{count} of {}", all.len()));
            (count + missing >= all.len()).then_some((new.clone(), last?))
        })
    }

    /// Waits until `count` agents run a profile. Returns when the last of them began.
    pub fn wait_running(&self, profile: &str, count: usize) -> anyhow::Result<Instant> {
        self.wait("the agents to run it", || {
            let (now, last) = self.fleet.running(&|name| name == profile);
            readings::note("agents that run it", &now.to_string());
            if now >= count { last } else { None }
        })
    }

    /// Waits for a status of a policy. Returns the time at which it was seen.
    pub fn wait_policy(
        &self,
        name: &str,
        what: &str,
        since: Instant,
        wanted: impl Fn(&PolicySeen) -> bool,
    ) -> anyhow::Result<Instant> {
        self.wait(what, || {
            if let Some(now) = self.seen.policy_now(name) {
                let conditions = now.status.conditions.iter();
                let said: Vec<_> =
                    conditions.map(|c| format!("{} {} {}", c.type_, c.status, c.reason)).collect();
                let (counts, generation) = (&now.status.nodes, now.status.observed_generation);
                readings::note(name, &format!("{generation:?} {counts:?} {said:?}"));
            }
            self.seen.policy_since(name, since).iter().find(|seen| wanted(seen)).map(|seen| seen.at)
        })
    }

    /// Waits until the policy says that all nodes run this profile, of this generation.
    pub fn wait_rolled_out(&self, generation: i64, profile: &str, since: Instant) -> anyhow::Result<Instant> {
        let count = i32::try_from(self.count())?;
        self.wait_policy(POLICY, "the policy to be rolled out", since, |seen| {
            let status = &seen.status;
            status.observed_generation.is_some_and(|observed| observed >= generation)
                && status.profile.as_deref() == Some(profile)
                && status.nodes.as_ref().is_some_and(|nodes| nodes.applied == count && nodes.matched == count)
                && seen.condition("RolledOut") == "True"
        })
    }

    /// Waits until each NodeClock says that this profile runs. Returns when the last one did.
    pub(crate) fn wait_clocks(&self, profile: &str) -> anyhow::Result<Instant> {
        self.wait("the NodeClocks to say so", || self.clocks_say(profile))
    }

    /// When the last NodeClock began to say that this profile runs; none if one does not.
    fn clocks_say(&self, profile: &str) -> Option<Instant> {
        let (clocks, wanted) = (self.seen.clocks(), Some(profile.to_owned()));
        let agents = self.fleet.all_agents();
        let right = agents.iter().filter_map(|agent| {
            clocks.get(&agent.node).filter(|clock| clock.running == wanted && clock.wanted == wanted)
        });
        let right: Vec<_> = right.filter_map(|clock| clock.profile_since).collect();
        readings::note("NodeClocks that say so", &format!("{} of {}", right.len(), agents.len()));
        (right.len() == agents.len()).then(|| right.into_iter().max()).flatten()
    }

    /// Waits until the cluster is in its steady state: the policy is rolled out, every node is synchronised, and every
    /// NodeClock names the running profile.
    pub fn settle(&self) -> anyhow::Result<String> {
        let count = i32::try_from(self.count())?;
        self.wait("the fleet to settle", || {
            let now = self.seen.policy_now(POLICY)?;
            let (nodes, generation) = (now.status.nodes.clone()?, now.status.observed_generation);
            readings::note(POLICY, &format!("{generation:?} {nodes:?}"));
            let whole = nodes.matched == count && nodes.applied == count && nodes.synchronized == count;
            let told = now.condition("RolledOut") == "True" && now.condition("Synchronized") == "True";
            let profile =
                now.status.profile.filter(|_| whole && told && generation >= Some(self.generation))?;
            self.clocks_say(&profile).map(|_| profile)
        })
    }

    /// Fails if any write so far was wrong.
    pub fn expect_no_fault(&self) -> anyhow::Result<()> {
        let faults = self.fleet.faults();
        if let Some(first) = faults.first() {
            bail!("{} of what was written is wrong, as in: {first}", faults.len());
        }
        Ok(())
    }

    /// Fails if a transition of a present agent has no Event, or more than one.
    pub fn expect_each_event_once(&self) -> anyhow::Result<usize> {
        let agents = self.fleet.all_agents();
        let wanted: Vec<_> = agents.iter().flat_map(|agent| agent.events()).collect();
        let told = || {
            let mut counts = HashMap::new();
            for event in self.seen.events() {
                *counts.entry((event.object, event.reason, event.note)).or_insert(0) += 1;
            }
            counts
        };
        self.wait("an Event of each transition", || {
            let told = told();
            let missing = wanted.iter().filter(|each| !told.contains_key(each)).count();
            readings::note("Events that are missing", &missing.to_string());
            (missing == 0).then_some(())
        })?;
        let told = told();
        let twice = wanted.iter().filter(|each| told[each] > 1).count();
        ensure!(twice == 0, "{twice} Events were told more than once");
        Ok(wanted.len())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Otherwise the watches log errors once the API server has ended.
        self.seen.stop();
        if let Err(error) = stage::down() {
            eprintln!("stage: not taken down wholly: {error:#}");
        }
    }
}

/// The spec of a policy with the fleet's upstreams, and the fields of `besides`.
pub fn policy(besides: Value) -> Value {
    let server =
        |(index, name): (usize, &&str)| json!({"name": name, "server": format!("192.0.2.{}", 10 + index)});
    let upstreams: Vec<_> = SOURCES.iter().enumerate().map(server).collect();
    let mut spec = json!({"upstreams": upstreams});
    if let (Some(spec), Value::Object(besides)) = (spec.as_object_mut(), besides) {
        spec.extend(besides);
    }
    spec
}
