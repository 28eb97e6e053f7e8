//! Agents and an API server on loopback. Some agents follow the annotation, others do not.
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, Uri},
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
        version: None,
    }
}

fn says(uid: &str, state: Option<BootPodState>) -> PollResult {
    let mut report = report();
    report.boot = state.map(|state| BootReport { state, message: String::new() });
    PollResult { node: String::new(), pod: uid.to_owned(), result: Ok(Box::new(report)) }
}

#[test]
fn each_agent_is_told_once_and_heard_until_it_is_done() {
    let agents = [agent("1", "n1"), agent("2", "n2"), agent("3", "n3")];
    let mut progress = Progress::default();
    assert!(!progress.is_done() && progress.open()["all"].contains("could not be listed"));
    for agent in progress.follow(&agents) {
        progress.note_annotation(agent, Ok(()));
    }
    assert!(progress.follow(&agents).is_empty(), "all were told");
    progress.note_report(&says("1", Some(BootPodState::Installed)));
    progress.note_report(&says("1", Some(BootPodState::Absent)));
    // An agent that does not know the feature has installed no static pod.
    progress.note_report(&says("2", None));
    assert!(!progress.is_done());
    progress.note_report(&PollResult {
        node: "n3".to_owned(),
        pod: "3".to_owned(),
        result: Err(Failure::Timeout),
    });
    assert_eq!(progress.open()["n3"], "its agent does not answer: no answer in time");
    progress.note_report(&says("3", Some(BootPodState::Failed)));
    assert!(progress.open()["n3"].contains("has not removed it yet"));
    // The agent's pod was replaced by another one.
    let agents = [agent("1", "n1"), agent("2", "n2"), agent("4", "n3")];
    let untold: Vec<_> = progress.follow(&agents).into_iter().map(|agent| agent.uid.as_str()).collect();
    assert_eq!(untold, ["4"]);
    progress.note_report(&says("4", Some(BootPodState::Absent)));
    assert!(!progress.is_done(), "it was not told yet, and may put it there again");
    progress.note_annotation(&agents[2], Ok(()));
    assert!(progress.is_done() && progress.open().is_empty());
    assert!({
        let mut none = Progress::default();
        none.follow(&[]);
        none.is_done()
    });
}

/// A cluster of three nodes: the first node's agent obeys its annotation, the second one's ignores it, and the third
/// one's keeps no static pod. There is one policy, and a NodeClock of the first node.
#[derive(Clone)]
struct Cluster {
    annotated: Arc<Mutex<Vec<(String, Value)>>>,
    port: u16,
    lease: Arc<Mutex<Value>>,
    written: Arc<Mutex<Vec<Written>>>,
}

/// A status that was written, and the Lease's holder at that time.
#[derive(Clone)]
struct Written {
    path: String,
    query: String,
    object: Value,
    holder: Value,
}

async fn pods(State(cluster): State<Cluster>) -> Json<Value> {
    let items = |field: &str| json!([{"path": "x", "fieldRef": {"fieldPath": field}}]);
    let pod = |name: &str, host: &str, field: &str| {
        let port = json!({"name": "http", "containerPort": cluster.port});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": format!("uid-{name}")},
               "spec": {"nodeName": format!("node-{name}"), "containers": [{"name": "agent", "ports": [port]}],
                        "volumes": [{"name": "profiles", "projected": {"sources": [
                            {"configMap": {"name": "timesync-profiles"}}, {"downwardAPI": {"items": items(field)}}]}}]},
               "status": {"phase": "Running", "hostIP": host}})
    };
    let (boot, other) =
        ("metadata.annotations['timesync.dev/boot']", "metadata.annotations['timesync.dev/profile']");
    let items =
        [pod("good", "127.0.0.1", boot), pod("bad", "127.0.0.2", boot), pod("deaf", "127.0.0.3", other)];
    Json(json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}))
}

async fn annotate(State(cluster): State<Cluster>, Path(name): Path<String>, body: String) -> Json<Value> {
    cluster.annotated.lock().unwrap().push((name.clone(), serde_json::from_str(&body).unwrap()));
    Json(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name}}))
}

const TOKEN: &str = "the-token-of-agents";

async fn token() -> Json<Value> {
    let data = BTreeMap::from([("token", k8s_openapi::ByteString(TOKEN.as_bytes().to_vec()))]);
    Json(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "timesync-token"}, "data": data}))
}

async fn lease(State(cluster): State<Cluster>) -> Json<Value> {
    Json(cluster.lease.lock().unwrap().clone())
}

async fn replace_lease(
    State(cluster): State<Cluster>,
    Json(lease): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let mut held = cluster.lease.lock().unwrap();
    if lease["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"] {
        return Err(StatusCode::CONFLICT);
    }
    *held = lease.clone();
    Ok(Json(lease))
}

fn condition(type_: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": "Well", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// Two pages of NodeClocks; the second one cannot be read.
async fn node_clocks(Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let first = !query.contains_key("continue");
    let status = json!({"synchronized": true, "stratum": 3, "offset": "1us", "conditions": [condition("Synchronized")]});
    let unreadable = json!({"synchronized": "yes"});
    let (name, status) = if first { ("node-good", status) } else { ("node-bad", unreadable) };
    let clock = json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "NodeClock", "metadata": {"name": name, "uid": "c"}, "status": status});
    let metadata = if first { json!({"continue": "2"}) } else { json!({}) };
    Json(
        json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "NodeClockList", "metadata": metadata, "items": [clock]}),
    )
}

async fn policies() -> Json<Value> {
    let status = json!({"nodes": {"matched": 1, "applied": 1, "synchronized": 1, "stepped": 0}, "spread": "1us",
                        "conditions": [condition("Accepted"), condition("Synchronized")]});
    let policy = json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "TimeSyncPolicy", "metadata": {"name": "default", "uid": "p"},
                        "spec": {}, "status": status});
    Json(
        json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "TimeSyncPolicyList", "metadata": {}, "items": [policy]}),
    )
}

async fn write_status(State(cluster): State<Cluster>, uri: Uri, body: String) -> Json<Value> {
    let object: Value = serde_json::from_str(&body).unwrap();
    let holder = cluster.lease.lock().unwrap()["spec"]["holderIdentity"].clone();
    let query = uri.query().unwrap_or_default().to_owned();
    let path = uri.path().to_owned();
    cluster.written.lock().unwrap().push(Written { path, query, object: object.clone(), holder });
    Json(object)
}

/// One server answers for both agents, each at an address of its own. The bad agent ignores the annotation.
async fn status(State(cluster): State<Cluster>) -> Json<Value> {
    let told = cluster.annotated.lock().unwrap().iter().any(|(name, _)| name == "good");
    let mut report = report();
    let state = if told { BootPodState::Absent } else { BootPodState::Installed };
    report.boot = Some(BootReport { state, message: String::new() });
    Json(serde_json::to_value(report).unwrap())
}

#[tokio::test]
async fn agents_are_told_and_statuses_are_withdrawn() {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let agents_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent_port = agents_listener.local_addr().unwrap().port();
    let annotated = Arc::<Mutex<Vec<_>>>::default();
    let free = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                      "metadata": {"name": "timesync-operator", "resourceVersion": "1"}});
    let (lease_now, written) = (Arc::new(Mutex::new(free)), Arc::default());
    let cluster = Cluster {
        annotated: Arc::clone(&annotated),
        port: agent_port,
        lease: Arc::clone(&lease_now),
        written: Arc::clone(&written),
    };
    let router = Router::new()
        .route(
            "/apis/coordination.k8s.io/v1/namespaces/ns/leases/timesync-operator",
            get(lease).put(replace_lease),
        )
        .route("/apis/timesync.dev/v1alpha1/nodeclocks", get(node_clocks))
        .route("/apis/timesync.dev/v1alpha1/nodeclocks/{name}/status", patch(write_status))
        .route("/apis/timesync.dev/v1alpha1/timesyncpolicies", get(policies))
        .route("/apis/timesync.dev/v1alpha1/timesyncpolicies/{name}/status", patch(write_status))
        .route("/api/v1/namespaces/ns/secrets/timesync-token", get(token))
        .route("/api/v1/namespaces/ns/pods", get(pods))
        .route("/api/v1/namespaces/ns/pods/{name}", patch(annotate))
        .with_state(cluster.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let token_file = std::env::temp_dir().join(format!("timesync-uninstall-{}-{number}", std::process::id()));
    fs::write(&token_file, TOKEN).unwrap();
    let gate = Gate::new("node-good".to_owned(), "i1".to_owned(), TokenFile::new(token_file.clone()));
    let agents = Router::new().route("/status", get(status)).with_state(cluster);
    let limits = Limits { connections: 8, per_address: 8, lifetime: Duration::from_secs(30) };
    let agents = tokio::spawn(timesync_http::serve(agents_listener, agents, limits, Some(Arc::new(gate))));
    let url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let client = Client::try_from(kube::Config::new(url)).unwrap();
    let uninstall = Uninstall {
        client: client.clone(),
        namespace: "ns".to_owned(),
        agent_selector: "app=agent".to_owned(),
        agent_port,
        token_secret: "timesync-token".to_owned(),
        node_writes: NodeWrites::default(),
        patience: Duration::from_secs(5),
    };
    let open = uninstall.run().await;
    assert_eq!(open.keys().collect::<Vec<_>>(), ["node-bad"], "{open:?}");
    let annotated = annotated.lock().unwrap().clone();
    let mut names: Vec<_> = annotated.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bad", "good"], "each is told once, and none that cannot hear");
    for (name, change) in &annotated {
        assert_eq!(change["metadata"]["annotations"]["timesync.dev/boot"], "remove");
        assert_eq!(change["metadata"]["uid"], format!("uid-{name}"));
    }

    let written = written.lock().unwrap().clone();
    let paths: Vec<_> = written.iter().map(|each| each.path.rsplit('/').nth(1).unwrap()).collect();
    assert_eq!(paths, ["default", "node-good", "node-bad"]);
    for Written { path, query, object, holder } in &written {
        assert_eq!(holder, "timesync-uninstall", "{path}: the operator may still write");
        assert!(query.contains("fieldManager=timesync-operator") && query.contains("force=true"), "{query}");
        let conditions = object["status"]["conditions"].as_array();
        for condition in conditions.into_iter().flatten() {
            assert_eq!(
                (&condition["status"], &condition["reason"]),
                (&json!("Unknown"), &json!("Uninstalled"))
            );
        }
        let said: Vec<_> = object["status"].as_object().unwrap().keys().map(String::as_str).collect();
        let expected: &[_] = match object["metadata"]["name"].as_str() {
            Some("default") => &["conditions"],
            Some("node-good") => &["conditions", "state", "synchronized"],
            _ => &["synchronized"],
        };
        assert_eq!(said, expected);
        assert_ne!(object["status"]["synchronized"], true);
    }

    // If the operator has the Lease, it is taken too. Then follows a wait, since the operator may still write.
    *lease_now.lock().unwrap() = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "timesync-operator", "resourceVersion": "7"},
        "spec": {"holderIdentity": "operator-1", "leaseDurationSeconds": 15, "leaseTransitions": 3}});
    let before = Instant::now();
    let alone = lease::take(&client, "ns", before + Duration::from_secs(5)).await.unwrap();
    assert!(alone >= before + Duration::from_secs(15));
    let spec = lease_now.lock().unwrap()["spec"].clone();
    assert_eq!(
        (&spec["holderIdentity"], &spec["leaseTransitions"]),
        (&json!("timesync-uninstall"), &json!(4))
    );
    assert_eq!(spec["leaseDurationSeconds"], 300);
    server.abort();
    agents.abort();
    fs::remove_file(token_file).unwrap();
}
