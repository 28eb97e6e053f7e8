//! Staged rollout: a new profile goes to a few nodes first, and then in batches, each after the one before it has
//! proven it. Pure: policies, nodes, reports and time in; for each node the profile that it may have now, and for each
//! policy the status of its rollout, out.
//!
//! Which nodes have the profile is not remembered here: their annotations say it. So an operator that begins again
//! continues where the former one was. Only the time for which a node was well begins again.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use api::{RolloutState, TimeSyncPolicyStatus};
use contract::ProfileName;

mod judge;
mod order;
mod settings;
mod stage;
mod step;
mod told;

pub(crate) use judge::Demands;
pub(crate) use settings::Settings;
pub(crate) use stage::Rollout;
pub(crate) use step::Member;

/// The rollouts of all policies with `rollout`.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    /// By the policy's name, with its UID: a policy that was deleted and made again is another one.
    all: BTreeMap<String, (Option<String>, Rollout)>,
}

impl Rollouts {
    /// Takes the present profile of a policy, with its generation. `stored` is its status, from which a former operator's
    /// rollout is continued; `is_there` returns true if the text of a profile is known.
    pub(crate) fn follow(
        &mut self,
        policy: (&str, Option<&str>),
        settings: Settings,
        target: (ProfileName, Option<i64>),
        stored: &TimeSyncPolicyStatus,
        is_there: &dyn Fn(&ProfileName) -> bool,
    ) {
        let (name, uid) = policy;
        match self.all.get_mut(name) {
            Some((known, rollout)) if known.as_deref() == uid => rollout.follow(settings, target),
            _ => {
                let rollout = Rollout::restored(settings, target, stored, is_there);
                self.all.insert(name.to_owned(), (uid.map(str::to_owned), rollout));
            }
        }
    }

    /// Forgets the policies for whose name and UID `stays` is false.
    pub(crate) fn retain(&mut self, stays: impl Fn(&str, Option<&str>) -> bool) {
        self.all.retain(|policy, (uid, _)| stays(policy, uid.as_deref()));
    }

    /// The rollout of a policy, if it has one.
    pub(crate) fn of(&self, policy: &str) -> Option<&Rollout> {
        self.all.get(policy).map(|(_, rollout)| rollout)
    }

    /// Returns true if the policy takes no node, since its first rollout was aborted.
    pub(crate) fn is_withdrawn(&self, policy: &str) -> bool {
        self.of(policy).is_some_and(Rollout::is_withdrawn)
    }

    /// The node came to the policy because its own labels changed: it does not wait for its turn.
    pub(crate) fn came_by_label(&mut self, policy: &str, node: &str) {
        if let Some((_, rollout)) = self.all.get_mut(policy) {
            rollout.immediate.insert(node.to_owned());
        }
    }

    /// The profiles that must stay stored, since nodes may get them again. Of a completed rollout none is needed but the
    /// one that the nodes have.
    pub(crate) fn last_good(&self) -> impl Iterator<Item = &ProfileName> {
        let under_way = self.all.values().filter(|(_, rollout)| rollout.state != RolloutState::Done);
        under_way.filter_map(|(_, rollout)| rollout.last_good.as_ref())
    }

    /// Moves the rollout of a policy on; without `demands` it only does what a user asks for. Returns the nodes whose
    /// profile may be another one now.
    pub(crate) fn step(
        &mut self,
        policy: &str,
        members: &[Member<'_>],
        request: Option<&str>,
        demands: Option<Demands>,
        now: Instant,
    ) -> BTreeSet<String> {
        let rollout = self.all.get_mut(policy);
        rollout.map(|(_, rollout)| rollout.step(members, request, demands, now)).unwrap_or_default()
    }
}
