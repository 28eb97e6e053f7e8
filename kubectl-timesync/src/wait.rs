//! `wait --for …`: waits until clocks are synchronised, until their error bounds are small, or until policies are rolled
//! out. What is missing is a pure question about what was read; this file also asks it every two seconds.
use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use contract::Span;
use kube::ResourceExt;

use crate::{
    fetch::{Error, Reader},
    nodes::{self, Filter, NodeView, Order},
    observed::{Observed, rolled_out},
    output,
    words::{count, seconds, some},
};

/// Waits for clocks or policies.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// What to wait for: synchronized; bound=1ms (synchronised, with an error bound of at most that); rollout (every
    /// node runs its policy)
    #[arg(long = "for", value_name = "WHAT")]
    goal: Goal,
    /// Only these nodes, instead of all nodes that have a policy
    nodes: Vec<String>,
    /// Only this policy, and its nodes
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "5m")]
    timeout: Span,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    Synchronized,
    Bound(Span),
    Rollout,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "synchronized" => Ok(Self::Synchronized),
            None if text == "rollout" => Ok(Self::Rollout),
            Some(("bound", bound)) => {
                bound.parse().map(Self::Bound).map_err(|error: contract::SpanError| error.to_string())
            }
            _ => Err("wait for synchronized, rollout, or bound=TIME as in bound=1ms".to_owned()),
        }
    }
}

/// Between two readings.
const PAUSE: Duration = Duration::from_secs(2);

impl Wait {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        if self.goal == Goal::Rollout && !self.nodes.is_empty() {
            bail!("a rollout is a policy's: use --policy NAME instead of names of nodes");
        }
        let begun = Instant::now();
        let mut told = String::new();
        loop {
            let missing = match reader.clocks().await {
                Ok(observed) => match missing(&observed, self.goal, &self.nodes, self.policy.as_deref()) {
                    Ok(done) => return Ok(output::write(&format!("{done}\n"))?),
                    Err(missing) => match stopped(&observed, self.policy.as_deref()) {
                        Some(why) if self.goal == Goal::Rollout => bail!("{why}"),
                        _ => missing,
                    },
                },
                // An API server that restarts must not end a wait that has begun.
                Err(error @ Error::Request { .. }) if !told.is_empty() => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if begun.elapsed() >= self.timeout.as_duration() {
                bail!("timed out after {}: {missing}", self.timeout);
            }
            if missing != told {
                output::remark(&format!("waiting: {missing}\n"));
                told = missing;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Why a rollout does not go on by itself; none if it does.
fn stopped(observed: &Observed, policy: Option<&str>) -> Option<String> {
    let policies = observed.policies.iter().filter(|each| policy.is_none_or(|name| each.name_any() == name));
    let mut stopped = policies.filter_map(|policy| {
        let found = rolled_out(policy)?;
        let is_stopped = ["Paused", "Aborted"].contains(&found.reason.as_str());
        is_stopped.then(|| format!("{}: {}: {}", policy.name_any(), found.reason, found.message))
    });
    stopped.next()
}

/// What is reached, or else what is missing.
fn missing(
    observed: &Observed,
    goal: Goal,
    names: &[String],
    policy: Option<&str>,
) -> Result<String, String> {
    if let Some(policy) = policy.filter(|name| observed.policy(name).is_none()) {
        return Err(format!("there is no policy {policy}"));
    }
    let policies = observed.policies.iter().filter(|each| policy.is_none_or(|name| each.name_any() == name));
    let policies: Vec<_> = policies.collect();
    if policies.is_empty() {
        return Err("there is no policy".to_owned());
    }
    let behind = policies.iter().filter_map(|policy| {
        match rolled_out(policy) {
            None => Some(format!("{}: the operator has not read it yet", policy.name_any())),
            // A policy without nodes has nothing to roll out.
            Some(found) if found.status == "True" || found.reason == "NoNodes" => None,
            Some(found) => Some(format!("{}: {}: {}", policy.name_any(), found.reason, found.message)),
        }
    });
    let behind: Vec<_> = behind.collect();
    if goal == Goal::Rollout {
        return match behind.as_slice() {
            [] => {
                Ok(format!("rolled out: {}", count(policies.len(), "policy").replace("policys", "policies")))
            }
            behind => Err(behind.join("; ")),
        };
    }
    if let Some(first) = behind.first().filter(|_| names.is_empty()) {
        // Nodes that do not run the policy yet may be synchronised by the one before.
        return Err(first.clone());
    }
    clocks_missing(observed, goal, names, policy)
}

fn clocks_missing(
    observed: &Observed,
    goal: Goal,
    names: &[String],
    policy: Option<&str>,
) -> Result<String, String> {
    let filter = Filter {
        nodes: names.to_vec(),
        policy: policy.map(str::to_owned),
        state: None,
        sort_by: Order::Name,
    };
    let mut views = nodes::views(observed, &filter);
    if names.is_empty() {
        views.retain(|view| view.policy.is_some());
    }
    if let Some(name) = names.iter().find(|name| views.iter().all(|view| view.node != **name)) {
        return Err(format!("there is no NodeClock of {name} under that policy"));
    }
    if views.is_empty() {
        return Err("no node has a policy".to_owned());
    }
    let not_yet: Vec<_> =
        views.iter().filter_map(|view| Some(format!("{} ({})", view.node, why_not(view, goal)?))).collect();
    if not_yet.is_empty() {
        let what = match goal {
            Goal::Bound(bound) => format!("within {bound}"),
            Goal::Synchronized | Goal::Rollout => "synchronised".to_owned(),
        };
        return Ok(format!("{what}: {}", count(views.len(), "node")));
    }
    let done = views.len() - not_yet.len();
    let which = some(not_yet.iter().map(String::as_str), 4);
    Err(format!("{done} of {}; not yet {which}", count(views.len(), "node")))
}

/// Why a clock is not as it is to be; none if it is.
fn why_not(view: &NodeView, goal: Goal) -> Option<String> {
    if !view.is_synchronized() {
        let reason = view.reason.as_deref().filter(|_| view.state == "Unsynchronized");
        return Some(reason.unwrap_or(&view.state).to_owned());
    }
    let Goal::Bound(limit) = goal else { return None };
    // The bound is that of a local clock's time, whose distance from UTC is not known.
    if view.state == "LocalReference" {
        return Some(view.state.clone());
    }
    let bound = view.error_bound.as_deref().unwrap_or("unknown");
    let is_small = seconds(bound).is_some_and(|bound| bound <= limit.as_secs_f64());
    (!is_small).then(|| format!("bound {bound}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::fixture;

    #[test]
    fn goals_are_read() {
        assert_eq!("synchronized".parse(), Ok(Goal::Synchronized));
        assert_eq!("rollout".parse(), Ok(Goal::Rollout));
        assert_eq!("bound=1ms".parse(), Ok(Goal::Bound(Span::from_millis(1))));
        assert!("bound=1".parse::<Goal>().is_err() && "ready".parse::<Goal>().is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |case: &str, goal: &str, names: &[&str], expected: Result<&str, &str>| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let found = missing(&fixture(case), goal.parse().unwrap(), &names, None);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{case} {goal}");
        };
        check("healthy", "synchronized", &[], Ok("synchronised: 1 node"));
        check("healthy", "bound=10ms", &["n1"], Ok("within 10ms: 1 node"));
        check("healthy", "bound=1ms", &[], Err("0 of 1 node; not yet n1 (bound 3.1ms)"));
        check("healthy", "rollout", &[], Ok("rolled out: 1 policy"));
        check("healthy", "synchronized", &["n9"], Err("there is no NodeClock of n9 under that policy"));
        check("error-bound", "synchronized", &[], Err("0 of 1 node; not yet n1 (ErrorBound)"));
        check("operator-down", "synchronized", &["n1"], Err("0 of 1 node; not yet n1 (Outdated)"));
        check("no-policy", "rollout", &[], Ok("rolled out: 1 policy"));
        check("no-policy", "synchronized", &[], Err("no node has a policy"));
        check(
            "secret-missing",
            "rollout",
            &[],
            Err("default: SecretMissing: Profile default.811c9dc5 goes on: Secret ntp-keys has no key key1."),
        );
    }

    #[test]
    fn a_pause_of_the_version_before_does_not_end_the_wait() {
        let mut observed = fixture("secret-missing");
        let policy = &mut observed.policies[0];
        let conditions = &mut policy.status.as_mut().unwrap().conditions;
        let found = conditions.iter_mut().find(|each| each.type_ == "RolledOut").unwrap();
        (found.reason, found.message) = ("Paused".to_owned(), "NoAnswer".to_owned());
        assert_eq!(stopped(&observed, None), Some("default: Paused: NoAnswer".to_owned()));
        let policy = &mut observed.policies[0];
        policy.metadata.generation = policy.metadata.generation.map(|generation| generation + 1);
        assert_eq!(stopped(&observed, None), None);
        let found = missing(&observed, Goal::Rollout, &[], None);
        assert_eq!(found, Err("default: the operator has not read it yet".to_owned()));
    }
}
