//! Agents and an API server on loopback; the agents do as they are told, or not.
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, patch},
};
use contract::BootReport;
use serde_json::Value;
use timesync_http::{Gate, Limits, TokenFile};
use tokio::net::TcpListener;

use super::*;
use crate::{collect::Failure, fixtures::report};

fn agent(uid: &str, node: &str) -> AgentPod {
    AgentPod {
        name: format!("agent-{uid}"),
        uid: uid.to_owned(),
        node: node.to_owned(),
        created: None,
        address: None,
        annotation: None,
    }
}

fn says(uid: &str, state: Option<BootPodState>) -> Answer {
    let mut report = report();
    report.boot = state.map(|state| BootReport { state, message: String::new() });
    Answer { node: String::new(), pod: uid.to_owned(), result: Ok(Arc::new(report)) }
}

#[test]
fn each_agent_is_told_once_and_heard_until_it_is_done() {
    let agents = [agent("1", "n1"), agent("2", "n2"), agent("3", "n3")];
    let mut progress = Progress::default();
    assert!(!progress.is_done() && progress.open()["all"].contains("could not be listed"));
    for agent in progress.follow(&agents) {
        progress.told(agent, Some(Ok(())));
    }
    assert!(progress.follow(&agents).is_empty(), "all were told");
    progress.heard(&says("1", Some(BootPodState::Installed)));
    progress.heard(&says("1", Some(BootPodState::Absent)));
    // One that knows of no such thing has put nothing there.
    progress.heard(&says("2", None));
    assert!(!progress.is_done());
    progress.heard(&Answer { node: "n3".to_owned(), pod: "3".to_owned(), result: Err(Failure::Timeout) });
    assert_eq!(progress.open()["n3"], "its agent does not answer: no answer in time");
    progress.heard(&says("3", Some(BootPodState::Failed)));
    assert!(progress.open()["n3"].contains("has not removed it yet"));
    // Its pod went, and another came.
    let agents = [agent("1", "n1"), agent("2", "n2"), agent("4", "n3")];
    let untold: Vec<_> = progress.follow(&agents).into_iter().map(|agent| agent.uid.as_str()).collect();
    assert_eq!(untold, ["4"]);
    progress.heard(&says("4", Some(BootPodState::Absent)));
    assert!(!progress.is_done(), "it was not told yet, and may put it there again");
    progress.told(&agents[2], Some(Ok(())));
    assert!(progress.is_done() && progress.open().is_empty());
    assert!({
        let mut none = Progress::default();
        none.follow(&[]);
        none.is_done()
    });
}

/// A cluster of two nodes: the agent of the first does as its annotation says; that of the second does nothing.
#[derive(Clone)]
struct Cluster {
    annotated: Arc<Mutex<Vec<(String, Value)>>>,
    port: u16,
}

async fn pods(State(cluster): State<Cluster>) -> Json<Value> {
    let pod = |name: &str, host: &str| {
        let port = json!({"name": "http", "containerPort": cluster.port});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": format!("uid-{name}")},
               "spec": {"nodeName": format!("node-{name}"), "containers": [{"name": "agent", "ports": [port]}]},
               "status": {"phase": "Running", "hostIP": host}})
    };
    let items = [pod("good", "127.0.0.1"), pod("bad", "127.0.0.2")];
    Json(json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}))
}

async fn annotate(State(cluster): State<Cluster>, Path(name): Path<String>, body: String) -> Json<Value> {
    cluster.annotated.lock().unwrap().push((name.clone(), serde_json::from_str(&body).unwrap()));
    Json(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name}}))
}

/// Both agents are one server; the good one is asked at another address than the bad one, which hears nothing.
async fn status(State(cluster): State<Cluster>) -> Json<Value> {
    let told = cluster.annotated.lock().unwrap().iter().any(|(name, _)| name == "good");
    let mut report = report();
    let state = if told { BootPodState::Absent } else { BootPodState::Installed };
    report.boot = Some(BootReport { state, message: String::new() });
    Json(serde_json::to_value(report).unwrap())
}

#[tokio::test]
async fn the_annotation_reaches_each_pod_and_the_silent_are_named() {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let agents_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent_port = agents_listener.local_addr().unwrap().port();
    let annotated = Arc::<Mutex<Vec<_>>>::default();
    let cluster = Cluster { annotated: Arc::clone(&annotated), port: agent_port };
    let router = Router::new()
        .route("/api/v1/namespaces/ns/pods", get(pods))
        .route("/api/v1/namespaces/ns/pods/{name}", patch(annotate))
        .with_state(cluster.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let token_file = std::env::temp_dir().join(format!("timesync-uninstall-{}-{number}", std::process::id()));
    fs::write(&token_file, "sesame").unwrap();
    let gate = Gate::new("node-good".to_owned(), "i1".to_owned(), TokenFile::new(token_file.clone()));
    let agents = Router::new().route("/status", get(status)).with_state(cluster);
    let limits = Limits { connections: 8, per_address: 8, lifetime: Duration::from_secs(30) };
    let agents = tokio::spawn(timesync_http::serve(agents_listener, agents, limits, Some(Arc::new(gate))));
    let url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let uninstall = Uninstall {
        client: Client::try_from(kube::Config::new(url)).unwrap(),
        namespace: "ns".to_owned(),
        agent_selector: "app=agent".to_owned(),
        agent_port,
        token_file: token_file.clone(),
        patience: Duration::from_secs(5),
    };
    let open = uninstall.run().await;
    assert_eq!(open.keys().collect::<Vec<_>>(), ["node-bad"], "{open:?}");
    let annotated = annotated.lock().unwrap().clone();
    let names: Vec<_> = annotated.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["good", "bad"], "each is told once");
    assert_eq!(annotated[0].1["metadata"]["annotations"]["timesync.dev/boot"], "remove");
    assert_eq!(annotated[0].1["metadata"]["uid"], "uid-good");
    server.abort();
    agents.abort();
    fs::remove_file(token_file).unwrap();
}
