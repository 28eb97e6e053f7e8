//! The sixth step: collects the agents' reports. Each agent has one long poll, in a task of its own. The report, or the
//! reason why there is none, goes into one channel. Conclusions are drawn in `reports`, not here.
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::Report;
use timesync_http::Token;
use tokio::{sync::mpsc::Sender, task::AbortHandle, time::sleep};

use crate::{facts::AgentPod, token::Tokens};

mod failure;

mod channel;

use channel::Channel;
pub(crate) use failure::{Failure, Impostor, Unproven};

/// An agent's report, or why there is none.
#[derive(Debug)]
pub(crate) struct PollResult {
    pub(crate) node: String,
    pub(crate) pod: String,
    pub(crate) result: Result<Box<Report>, Failure>,
}

/// The polls that run now.
pub(crate) struct Collector {
    polls: HashMap<String, ((String, u16), AbortHandle)>,
    pub(crate) tokens: Arc<Tokens>,
    answers: Sender<PollResult>,
}

impl Collector {
    /// Starts without polls; answers will go to `answers`.
    pub(crate) fn new(tokens: Arc<Tokens>, answers: Sender<PollResult>) -> Self {
        Self { polls: HashMap::new(), tokens, answers }
    }

    /// Polls exactly these agents from now on.
    pub(crate) fn follow<'a>(&mut self, agents: impl Iterator<Item = &'a AgentPod>) {
        let wanted: HashMap<_, _> =
            agents.filter_map(|agent| Some((agent.uid.as_str(), (agent, agent.address.as_ref()?)))).collect();
        self.polls.retain(|uid, (address, poll)| {
            let stays = wanted.get(uid.as_str()).is_some_and(|(_, wanted)| *wanted == address);
            if !stays {
                poll.abort();
            }
            stays
        });
        for (uid, (agent, address)) in wanted {
            if !self.polls.contains_key(uid) {
                let poll = Poll {
                    node: agent.node.clone(),
                    pod: agent.uid.clone(),
                    address: address.clone(),
                    tokens: Arc::clone(&self.tokens),
                    answers: self.answers.clone(),
                };
                let task = tokio::spawn(poll.run());
                self.polls.insert(uid.to_owned(), (address.clone(), task.abort_handle()));
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.polls.values().for_each(|(_, poll)| poll.abort());
    }
}

/// What the poll of one agent needs.
struct Poll {
    node: String,
    pod: String,
    address: (String, u16),
    tokens: Arc<Tokens>,
    answers: Sender<PollResult>,
}

/// Limits the load by an agent that has many changes, or that answers a long poll immediately.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
/// Well below the 90 s after which a node counts as silent.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(15);
/// Applies if another process may be answering. An unproven answer counts for 30 s, and at least two must come in that
/// time before it is reported.
const LONGEST_BACK_OFF_UNPROVEN: Duration = Duration::from_secs(5);

/// The agent holds its answer for at most 30 s. The rest is a margin for a slow node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// The same for the first answer on a connection, which the agent does not hold. Two failures must be reported within
/// 30 s.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a session ended.
enum End {
    /// The token has changed, so the newest token is to be tried.
    Renewed,
    Failed(Failure),
}

impl Poll {
    async fn run(self) {
        let mut back_off = Duration::from_secs(1);
        loop {
            let (heard, end) = self.session().await;
            if heard {
                back_off = Duration::from_secs(1);
            }
            let End::Failed(failure) = end else { continue };
            if matches!(failure, Failure::Unproven(_)) {
                back_off = back_off.min(LONGEST_BACK_OFF_UNPROVEN);
            }
            if self.answer(Err(failure)).await.is_err() {
                return;
            }
            sleep(back_off).await;
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    async fn answer(&self, result: Result<Box<Report>, Failure>) -> Result<(), ()> {
        let answer = PollResult { node: self.node.clone(), pod: self.pod.clone(), result };
        self.answers.send(answer).await.map_err(|_| ())
    }

    /// Polls on one connection until it fails. While a new token is on its way to the node, the agent still accepts the
    /// former one.
    async fn session(&self) -> (bool, End) {
        let tokens = match self.tokens.valid(Instant::now()) {
            Ok(tokens) => tokens,
            Err(error) => return (false, End::Failed(Failure::Token(error))),
        };
        let mut newest = None;
        for token in &tokens {
            match self.poll(token, &tokens).await {
                (heard, End::Failed(Failure::Unproven(refusal))) if refusal.why == Unproven::Refused => {
                    if heard {
                        // The agent accepted this token before, so its own token has changed.
                        return (heard, End::Renewed);
                    }
                    newest.get_or_insert(refusal);
                }
                other => return other,
            }
        }
        (false, End::Failed(newest.map_or(Failure::Timeout, Failure::Unproven)))
    }

    /// Polls until the connection fails. Sequence numbers belong to one run of the agent, and a connection does not
    /// outlive a run. So each connection begins with `after=0`.
    async fn poll(&self, token: &Token, tokens: &[Token]) -> (bool, End) {
        let (mut heard, mut after) = (false, 0);
        let (mut channel, mut session) = match Channel::open(&self.address, &self.node, token.clone()).await {
            Ok(open) => open,
            Err(failure) => return (heard, End::Failed(failure)),
        };
        loop {
            let target = format!("/status?after={after}&wait=30s");
            // The agent does not hold the first answer.
            let limit = if heard { ANSWER_TIMEOUT } else { FIRST_ANSWER_TIMEOUT };
            let body = channel.ask(&mut session, &target, limit).await;
            let body = body.map_err(|failure| if heard { failure } else { channel.before_proof(failure) });
            let report = body.and_then(|body| {
                serde_json::from_slice::<Report>(&body).map_err(|error| Failure::Decode(error.into()))
            });
            match report {
                Ok(mut report) => {
                    report.clamp();
                    heard = true;
                    after = report.sequence;
                    if self.answer(Ok(Box::new(report))).await.is_err() {
                        return (heard, End::Failed(Failure::Timeout));
                    }
                }
                Err(failure) => return (heard, End::Failed(failure)),
            }
            sleep(SHORTEST_INTERVAL).await;
            if self.tokens.valid(Instant::now()).is_ok_and(|now| now != tokens) {
                return (heard, End::Renewed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
