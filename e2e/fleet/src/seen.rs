//! Observes the operator's writes: a watch each of pods, ConfigMap, NodeClocks, policies and Events records when each
//! change arrived. Changes of pods and of the ConfigMap also go to the fleet, which acts on them like kubelets.
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use api::{NodeClock, NodeClockStatus, TimeSyncPolicy, TimeSyncPolicyStatus};
use futures::StreamExt;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Pod},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{runtime::Handle, task::AbortHandle};

use crate::fleet::Fleet;

/// All that was seen.
#[derive(Default)]
pub struct Seen {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clocks: HashMap<String, ClockSeen>,
    policies: HashMap<String, Vec<PolicySeen>>,
    events: Vec<EventSeen>,
    watches: Vec<AbortHandle>,
}

/// A NodeClock as it is now.
#[derive(Clone, Debug, Default)]
pub struct ClockSeen {
    /// The assigned profile in its status.
    pub(crate) wanted: Option<String>,
    /// The running profile in its status.
    pub(crate) running: Option<String>,
    /// Status of its condition Synchronized.
    pub synchronized: String,
    /// When `wanted` and `running` got their present values.
    pub(crate) profile_since: Option<Instant>,
    /// When `synchronized` got its present value.
    pub synchronized_since: Option<Instant>,
}

/// A policy as it was at a time.
#[derive(Clone, Debug)]
pub struct PolicySeen {
    pub at: Instant,
    pub status: TimeSyncPolicyStatus,
}

impl PolicySeen {
    /// Status of a condition; empty if there is none.
    pub fn condition(&self, type_: &str) -> &str {
        condition(&self.status.conditions, type_)
    }

    /// Message of a condition; empty if there is none.
    pub fn message(&self, type_: &str) -> &str {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == type_);
        found.map_or("", |condition| &condition.message)
    }
}

/// An Event.
#[derive(Clone, Debug)]
pub struct EventSeen {
    pub at: Instant,
    pub object: String,
    pub reason: String,
    pub(crate) note: String,
}

impl Seen {
    /// Begins to watch.
    pub(crate) fn start(runtime: &Handle, client: &Client, namespace: &str, fleet: &Arc<Fleet>) -> Arc<Self> {
        let seen = Arc::new(Self::default());
        let all = watcher::Config::default();
        let (keeper, gone) = (Arc::clone(fleet), Arc::clone(fleet));
        let agents = all.clone().labels("app.kubernetes.io/component=agent");
        let pods = watcher(Api::<PartialObjectMeta<Pod>>::namespaced(client.clone(), namespace), agents);
        let pods = follow(runtime, pods, move |pod| keeper.pod(&pod), move |pod| gone.pod_gone(&pod));

        let keeper = Arc::clone(fleet);
        let profiles = all.clone().fields("metadata.name=timesync-profiles");
        let maps = watcher(Api::<ConfigMap>::namespaced(client.clone(), namespace), profiles);
        let maps = follow(runtime, maps, move |map| keeper.config(&map), |_| {});

        let (keeper, gone) = (Arc::clone(&seen), Arc::clone(&seen));
        let clocks = watcher(Api::<NodeClock>::all(client.clone()), all.clone());
        let clocks =
            follow(runtime, clocks, move |clock| keeper.clock(&clock), move |clock| gone.clock_gone(&clock));

        let keeper = Arc::clone(&seen);
        let policies = watcher(Api::<TimeSyncPolicy>::all(client.clone()), all.clone());
        let policies = follow(runtime, policies, move |policy| keeper.policy(&policy), |_| {});

        let keeper = Arc::clone(&seen);
        let events = watcher(Api::<Event>::namespaced(client.clone(), "default"), all);
        let events = follow(runtime, events, move |event| keeper.event(&event), |_| {});
        seen.state().watches = vec![pods, maps, clocks, policies, events];
        seen
    }

    fn clock_gone(&self, clock: &NodeClock) {
        self.state().clocks.remove(&clock.name_any());
    }

    fn clock(&self, clock: &NodeClock) {
        let now = Instant::now();
        let NodeClockStatus { profile, conditions, .. } = clock.status.clone().unwrap_or_default();
        let (wanted, running) = profile.map(|profile| (profile.wanted, profile.running)).unwrap_or_default();
        let synchronized = condition(&conditions, "Synchronized").to_owned();
        let mut state = self.state();
        let seen = state.clocks.entry(clock.name_any()).or_default();
        if (&seen.wanted, &seen.running) != (&wanted, &running) {
            (seen.wanted, seen.running, seen.profile_since) = (wanted, running, Some(now));
        }
        if seen.synchronized != synchronized {
            (seen.synchronized, seen.synchronized_since) = (synchronized, Some(now));
        }
    }

    fn policy(&self, policy: &TimeSyncPolicy) {
        let seen = PolicySeen { at: Instant::now(), status: policy.status.clone().unwrap_or_default() };
        self.state().policies.entry(policy.name_any()).or_default().push(seen);
    }

    /// Takes an Event of a Node or a policy. Each Event of a Node exists a second time for its NodeClock. That copy is
    /// ignored.
    fn event(&self, event: &Event) {
        let kind = event.regarding.as_ref().and_then(|object| object.kind.as_deref());
        if kind == Some("NodeClock") {
            return;
        }
        let object = event.regarding.as_ref().and_then(|object| object.name.clone()).unwrap_or_default();
        let (reason, note) =
            (event.reason.clone().unwrap_or_default(), event.note.clone().unwrap_or_default());
        self.state().events.push(EventSeen { at: Instant::now(), object, reason, note });
    }

    /// The NodeClocks now, by node.
    pub fn clocks(&self) -> HashMap<String, ClockSeen> {
        self.state().clocks.clone()
    }

    /// The states of a policy since a time, in order.
    pub(crate) fn policy_since(&self, name: &str, since: Instant) -> Vec<PolicySeen> {
        let state = self.state();
        let all = state.policies.get(name).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|seen| seen.at >= since).cloned().collect()
    }

    /// The present state of a policy.
    pub fn policy_now(&self, name: &str) -> Option<PolicySeen> {
        self.state().policies.get(name).and_then(|all| all.last()).cloned()
    }

    /// All Events so far.
    pub fn events(&self) -> Vec<EventSeen> {
        self.state().events.clone()
    }

    /// Ends the watches.
    pub(crate) fn stop(&self) {
        self.state().watches.iter().for_each(AbortHandle::abort);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn condition<'a>(conditions: &'a [Condition], type_: &str) -> &'a str {
    conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.status)
}

fn follow<K>(
    runtime: &Handle,
    events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    applied: impl Fn(K) + Send + 'static,
    deleted: impl Fn(K) + Send + 'static,
) -> AbortHandle
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let task = runtime.spawn(async move {
        let mut events = std::pin::pin!(events.default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => applied(object),
                Ok(watcher::Event::Delete(object)) => deleted(object),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => eprintln!("    a watch of the observer: {error}"),
            }
        }
    });
    task.abort_handle()
}
