//! What tests begin with: a report of a synchronised node without faults, and the node's facts. Tests only.
use std::sync::Arc;

use contract::{
    Assignment, ClockReport, Mode, ProfileName, Reason, Report, RtcHealth, RtcReport, ServerReport,
};
use contract::{SourceReport, SourceState};

use crate::{
    build::{Prepared, PreparedNode},
    facts::{AgentPod, NodeFacts},
    fetch::Fetched,
    health::Health,
    metrics::Metrics,
    validate::validate,
    watch::ChangeNotifier,
};

/// A wake that nothing waits for.
pub(crate) fn notifier() -> ChangeNotifier {
    let errors = Metrics::new().expect("metrics have names of their own").api_errors();
    ChangeNotifier { notify: Arc::default(), health: Health::new(errors) }
}

/// The agent of a node, with uid `uid-<node>`.
pub(crate) fn agent(node: &str, annotation: Option<&str>) -> AgentPod {
    AgentPod {
        name: format!("agent-{node}"),
        uid: format!("uid-{node}"),
        node: node.to_owned(),
        created: None,
        address: None,
        annotation: annotation.map(str::to_owned),
        version: None,
    }
}

/// A cluster that the operator sees for the first time.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) fetched: Fetched,
    /// The nodes with their agents. A node's label `n` is its name.
    pub(crate) nodes: Vec<(String, Vec<AgentPod>)>,
}

impl Cluster {
    /// Plans every node of the cluster.
    pub(crate) fn prepare(self, prepared: &mut Prepared) {
        prepared.take(validate(self.fetched));
        for (name, agents) in self.nodes {
            let facts = NodeFacts {
                name: name.clone(),
                uid: format!("uid-{name}"),
                labels: [("n".to_owned(), name.clone())].into(),
                ..NodeFacts::default()
            };
            prepared.node(Arc::new(facts), agents.into_iter().map(Arc::new).collect(), true);
        }
    }
}

/// Node n1, with nothing to run and no agent.
pub(crate) fn prepared_node() -> PreparedNode {
    PreparedNode {
        facts: Arc::new(NodeFacts { name: "n1".to_owned(), uid: "u".to_owned(), ..NodeFacts::default() }),
        agents: vec![],
        planned: None,
        wanted: Assignment::None,
        lost: vec![],
        reached: true,
    }
}

/// The report of a node that runs `default` made of an empty text, follows source a and is 0.4 ms behind.
pub(crate) fn report() -> Report {
    let profile = ProfileName::of("default", "");
    Report {
        version: "0.1.0".to_owned(),
        boot_id: "boot".to_owned(),
        instance: "i1".to_owned(),
        sequence: 7,
        assignment: Assignment::Profile(profile.clone()),
        profile: Some(profile),
        profile_error: None,
        mode: Some(Mode::Discipline),
        clock: ClockReport {
            synchronized: true,
            reason: Reason::Synchronized,
            message: "2 of 2 sources agree.".to_owned(),
            leap: 0,
            stratum: 3,
            reference: Some("a".to_owned()),
            offset: Some(-412e-6),
            jitter: Some(30e-6),
            error_bound: Some(3.1e-3),
            root_delay: 1e-3,
            root_dispersion: 2e-3,
            frequency_ppm: -12.345,
            kernel_frequency_ppm: -12.0,
            last_update_age: Some(3.0),
            steps: 0,
            last_step: None,
            restored: 0,
            raised: 0,
            resumed: 0,
            external_steps: 0,
            last_external_step: None,
            start_phase: false,
            confirmed: true,
        },
        sources: vec![SourceReport {
            name: "a".to_owned(),
            address: Some("192.0.2.10".to_owned()),
            state: SourceState::Selected,
            message: String::new(),
            reach: 0o377,
            stratum: 2,
            offset: Some(-412e-6),
            delay: Some(200e-6),
            jitter: Some(30e-6),
            poll: 4,
            last_answer_age: Some(3.0),
            sent: 10,
            received: 10,
            rejected: 0,
        }],
        conflict: None,
        timezone: None,
        boot: None,
        state_error: None,
        rtc: RtcReport {
            present: true,
            health: RtcHealth::Healthy,
            message: "Within a second of the system clock.".to_owned(),
            offset: Some(0.1),
            drift_ppm: None,
            read_age: Some(10.0),
            writes: 1,
            write_failures: 0,
        },
        server: ServerReport { enabled: true, serving: true, ..ServerReport::default() },
        http_message: String::new(),
        transitions: vec![],
    }
}
