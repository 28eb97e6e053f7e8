//! The driver: fetch → validate → plan → build → apply → collect → status, whenever something changed, and nothing else.
//! One reconciler for the whole cluster: the ConfigMap is one object, and the order of its writes matters. What a step
//! must remember of earlier rounds is in [`Memory`]; all of it can be lost.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use contract::ProfileName;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::{
    sync::{Notify, mpsc::Receiver},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    apply::{self, Applied, annotate, apply},
    build::{self, build},
    collect::{Answer, Collector},
    cookie_keys::{self, CookieKeys},
    fetch::Watches,
    metrics::Metrics,
    node_clock::Known,
    nudge::Nudges,
    plan::plan,
    publish::{self, Publisher},
    reports::Reports,
    status::{Deviations, status},
    validate::{Validated, validate},
};

/// Everything that a round needs.
pub(crate) struct Controller {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) watches: Watches,
    pub(crate) wake: Arc<Notify>,
    pub(crate) answers: Receiver<Answer>,
    pub(crate) collector: Collector,
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Memory,
}

/// What outlives a round.
#[derive(Default)]
pub(crate) struct Memory {
    reports: Reports,
    /// Texts that the ConfigMap held or was given: what somebody deletes by hand comes back.
    known: BTreeMap<ProfileName, String>,
    cookie_keys: CookieKeys,
    nudges: Nudges,
    deviations: Deviations,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot make a key for cookies")]
    CookieKeys(#[source] getrandom::Error),
    #[error(transparent)]
    Build(#[from] build::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
    #[error("cannot nudge pod {pod}")]
    Nudge { pod: String, source: kube::Error },
    #[error(transparent)]
    Publish(#[from] publish::Error),
    #[error("the API server takes too long")]
    Timeout,
}

impl Error {
    /// One word, for the metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::CookieKeys(_) => "CookieKeys",
            Self::Build(_) => "Build",
            Self::Apply(_) => "Apply",
            Self::Nudge { .. } => "Nudge",
            Self::Publish(_) => "Publish",
            Self::Timeout => "Timeout",
        }
    }
}

/// Changes come in swarms (a DaemonSet's rollout, an edit of several objects): one round for all of them.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Silence, lasting deviations and nudges are due by time and not by change.
const TICK: Duration = Duration::from_secs(1);
/// A round of a large cluster writes some thousand objects; one that hangs must not hang for ever.
const LONGEST_ROUND: Duration = Duration::from_secs(120);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

impl Controller {
    /// Works until the program ends. Returns only if the watches do.
    pub(crate) async fn run(mut self) {
        if self.watches.ready().await.is_err() {
            return;
        }
        info!("Watching");
        let mut back_off = TICK;
        loop {
            self.wait().await;
            let start = Instant::now();
            let round = timeout(LONGEST_ROUND, self.reconcile()).await.unwrap_or(Err(Error::Timeout));
            self.metrics.reconciled(start.elapsed());
            match round {
                Ok(()) => back_off = TICK,
                Err(error) => {
                    self.metrics.failed(error.reason());
                    warn!(error = %publish::chain(&error), retry_in = ?back_off, "Round failed");
                    sleep(back_off).await;
                    back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                }
            }
        }
    }

    /// Waits for a change, an answer or the tick, and a moment longer for what comes with it.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.wake.notified() => sleep(DEBOUNCE).await,
            Some(answer) = self.answers.recv() => {
                self.note(answer);
                sleep(DEBOUNCE).await;
            }
            () = sleep(TICK) => {}
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.note(answer);
        }
    }

    fn note(&mut self, answer: Answer) {
        let failed = self.memory.reports.fails(&answer.node);
        match &answer.result {
            Err(failure) => {
                self.metrics.not_collected(failure.reason());
                if !failed {
                    warn!(node = answer.node, error = %publish::chain(failure), "Agent not reached; trying again");
                }
            }
            Ok(_) if failed => info!(node = answer.node, "Agent reached"),
            Ok(_) => {}
        }
        self.memory.reports.note(answer, Instant::now(), Timestamp::now());
    }

    /// One round, in the order of the data.
    async fn reconcile(&mut self) -> Result<(), Error> {
        let (now, time) = (Instant::now(), Timestamp::now());
        let fetched = self.watches.fetch();
        self.memory.learn(&fetched.profiles);

        let mut validated = validate(fetched);
        self.memory.turn_cookie_keys(&mut validated, now, time)?;
        self.watches.secrets.follow(&validated.secrets_named());
        self.memory.reports.listen_to(&validated.nodes.iter().map(|node| node.name.as_str()).collect(), now);
        let node_clocks = validated.node_clocks.clone();
        let reported = self.memory.reported(&node_clocks);
        let plan = plan(&validated);
        let prepared = build(validated, plan, &self.memory.known, &reported)?;
        let applied = apply(&self.client, &self.namespace, prepared).await?;
        self.memory.known = applied.profiles.clone();

        self.collector.follow(applied.nodes.iter().flat_map(|node| &node.agents));
        self.nudge(&applied, now).await?;

        let Memory { reports, deviations, .. } = &mut self.memory;
        let statuses = status(&applied, reports, deviations, now, time);
        self.metrics.policies(&statuses);
        self.publisher.publish(&applied, &node_clocks, reports, &statuses, now, time).await?;
        Ok(())
    }

    /// Touches the pods whose volumes lag behind.
    async fn nudge(&mut self, applied: &Applied, now: Instant) -> Result<(), Error> {
        let agents = applied.nodes.iter().flat_map(|node| node.agents.iter().map(move |agent| (node, agent)));
        let there: BTreeSet<_> = agents.clone().map(|(_, agent)| agent.uid.as_str()).collect();
        let Memory { nudges, reports, .. } = &mut self.memory;
        nudges.retain(|pod| there.contains(pod));
        for (node, agent) in agents {
            if node.keys_changed {
                nudges.keys_changed(&agent.uid, now);
            }
            let report = reports.of_pod(&node.name, &agent.uid, now);
            if nudges.due(&agent.uid, &node.wanted, report, now) {
                let value = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
                info!(node = node.name, pod = agent.name, profile = %node.wanted, "Profile or key is late; nudging the kubelet");
                annotate(&self.client, &self.namespace, agent, &node.wanted, Some(value))
                    .await
                    .map_err(|source| Error::Nudge { pod: agent.name.clone(), source })?;
            }
        }
        Ok(())
    }
}

impl Memory {
    /// Takes every text of the ConfigMap that is what its name says.
    fn learn(&mut self, profiles: &BTreeMap<String, String>) {
        for (key, text) in profiles {
            if let Some(name) = ProfileName::from_key(key).filter(|name| name.names(text)) {
                self.known.entry(name).or_insert_with(|| text.clone());
            }
        }
    }

    /// Decides what the keys that cookies are sealed with are to be.
    fn turn_cookie_keys(
        &mut self,
        validated: &mut Validated,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), Error> {
        let wanted = validated.wants_cookie_keys();
        let held = validated.secrets.held.get(cookie_keys::FILE);
        let draw = || {
            let mut random = [0; cookie_keys::DRAWN];
            getrandom::fill(&mut random).map(|()| random)
        };
        let keys = self.cookie_keys.turn(held, wanted, now, time, draw).map_err(Error::CookieKeys)?;
        validated.secrets.cookie_keys = keys;
        Ok(())
    }

    /// Every profile that an agent runs as far as is known: by its report, or by what an earlier operator wrote.
    fn reported(&self, node_clocks: &BTreeMap<String, Known>) -> BTreeSet<ProfileName> {
        let mut all = self.reports.profiles();
        all.extend(node_clocks.iter().filter_map(|(node, clock)| {
            let heard = self.reports.of(node, Instant::now()).report().is_some();
            let running = clock.status.profile.as_ref().and_then(|profile| profile.running.as_ref());
            running.filter(|_| !heard)?.parse::<ProfileName>().ok()
        }));
        all
    }
}
