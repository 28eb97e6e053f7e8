//! `rollout pause`, `resume` and `abort`: writes the annotation by which a user asks the operator, and waits until the
//! operator has acted on it. What is asked for is decided from the policy's status; then one patch is sent.
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::{RolloutRequest, RolloutState, RolloutStatus, RolloutVerb, TimeSyncPolicy};
use clap::Args;
use k8s_openapi::jiff::Timestamp;

use crate::{fetch::Reader, output};

/// A request about the rollout of a policy.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// The policy
    policy: String,
}

/// How long the operator may take to act.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);

impl Request {
    pub(super) async fn send(&self, verb: RolloutVerb, reader: &Reader) -> anyhow::Result<()> {
        let name = &self.policy;
        let observed = reader.clocks().await?;
        let policy = observed.policy(name);
        let policy =
            policy.with_context(|| format!("there is no policy {name}: `kubectl get tsp` lists them"))?;
        let value = match value(policy, verb, observed.now)? {
            Order::Annotate(value) => value,
            Order::Done(state) => return Ok(output::write(&format!("{name}: {state} already\n"))?),
        };
        reader.annotate(name, &value).await?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            tokio::time::sleep(PAUSE).await;
            let observed = reader.clocks().await?;
            let rollout = observed.policy(name).and_then(rollout);
            if let Some(rollout) = rollout.filter(|rollout| rollout.acted.as_ref() == Some(&value)) {
                // The policy may have been edited in the meantime. Then the request was about another profile.
                let asked = RolloutRequest::of(&value).map(|request| request.hash);
                if asked != rollout.profile.rsplit('.').next() {
                    bail!(
                        "the policy was edited meanwhile, and {} goes out now: look at it, and ask again",
                        rollout.profile
                    );
                }
                return Ok(output::write(&format!("{name}: {:?}\n", rollout.state))?);
            }
        }
        bail!(
            "the operator has not acted on the annotation {value} within {} s: `kubectl timesync status` shows whether it \
             writes",
            PATIENCE.as_secs()
        )
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// Set the annotation to this value.
    Annotate(String),
    /// Nothing: this is so already.
    Done(&'static str),
}

/// The annotation's value for what is asked for, from the state of the rollout.
fn value(policy: &TimeSyncPolicy, verb: RolloutVerb, now: Timestamp) -> anyhow::Result<Order> {
    let rollout = rollout(policy).context(
        "the policy has no staged rollout: set spec.rollout, or its changes go to all nodes at once. `kubectl explain \
         tsp.spec.rollout` describes it",
    )?;
    match (verb, rollout.state) {
        (RolloutVerb::Pause, RolloutState::Paused) => return Ok(Order::Done("paused")),
        (RolloutVerb::Abort, RolloutState::Aborted) => return Ok(Order::Done("aborted")),
        (RolloutVerb::Resume, RolloutState::Progressing) => return Ok(Order::Done("in progress")),
        (_, RolloutState::Done) => {
            bail!("the rollout of {} is complete, so there is nothing to {}", rollout.profile, verb.as_str())
        }
        (RolloutVerb::Pause, RolloutState::Aborted) => {
            bail!("the rollout of {} was aborted, so there is nothing to pause", rollout.profile)
        }
        _ => {}
    }
    let hash = rollout.profile.rsplit('.').next().unwrap_or_default();
    // A value acts only once. The time makes it differ from an earlier one.
    Ok(Order::Annotate(format!("{}:{}", RolloutRequest { verb, hash }, now.as_second())))
}

fn rollout(policy: &TimeSyncPolicy) -> Option<&RolloutStatus> {
    policy.status.as_ref()?.rollout.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::fixture;

    #[test]
    fn a_request_becomes_an_annotation_if_there_is_something_to_do() {
        let check = |state: &str, verb: RolloutVerb, expected: Result<Order, &str>| {
            let mut policy = fixture("healthy").policies.remove(0);
            let rollout = serde_json::json!({"state": state, "profile": "default.5f0d11a2"});
            policy.status.as_mut().unwrap().rollout = Some(serde_json::from_value(rollout).unwrap());
            let found = value(&policy, verb, Timestamp::UNIX_EPOCH);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{state}"),
                (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
                (found, _) => panic!("{state}: {found:?}"),
            }
        };
        let annotate = |value: &str| Ok(Order::Annotate(value.to_owned()));
        check("Progressing", RolloutVerb::Pause, annotate("pause:5f0d11a2:0"));
        check("Paused", RolloutVerb::Resume, annotate("resume:5f0d11a2:0"));
        check("Aborted", RolloutVerb::Resume, annotate("resume:5f0d11a2:0"));
        check("Paused", RolloutVerb::Abort, annotate("abort:5f0d11a2:0"));
        check("Paused", RolloutVerb::Pause, Ok(Order::Done("paused")));
        check("Done", RolloutVerb::Abort, Err("is complete"));
        check("Aborted", RolloutVerb::Pause, Err("was aborted"));
        let without = fixture("healthy").policies.remove(0);
        assert!(value(&without, RolloutVerb::Pause, Timestamp::UNIX_EPOCH).is_err());
    }
}
