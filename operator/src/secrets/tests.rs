//! An API server on loopback with a few Secrets. It selects as the real one does, and records its requests.
use std::time::Instant;

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, header::ACCEPT},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use super::*;

/// The Secrets, and what was sent of them.
#[derive(Clone, Default)]
struct Server {
    secrets: Arc<Mutex<Vec<Value>>>,
    /// The names of Secrets whose data was sent.
    sent: Arc<Mutex<BTreeSet<String>>>,
    /// True after a change.
    changed: Arc<watch::Sender<bool>>,
}

fn secret(name: &str, type_: &str, labels: Value) -> Value {
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": "the data again"});
    let metadata = json!({"name": name, "namespace": "ns", "resourceVersion": "1", "labels": labels, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "data": {"k": "djE="}})
}

/// Returns true if the selectors of a query match a Secret. A selector that is not known here fails the test.
fn selects(query: &BTreeMap<String, String>, secret: &Value) -> bool {
    let fields = query.get("fieldSelector").into_iter().flat_map(|text| text.split(','));
    let labels = query.get("labelSelector").into_iter().flat_map(|text| text.split(','));
    let by_field = fields.into_iter().all(|term| {
        let (field, value, equal) = match term.split_once("!=") {
            Some((field, value)) => (field, value, false),
            None => term.split_once('=').map(|(field, value)| (field, value, true)).unwrap(),
        };
        let found = match field {
            "metadata.name" => &secret["metadata"]["name"],
            "type" => &secret["type"],
            other => panic!("field {other}"),
        };
        (found == value) == equal
    });
    let by_label = labels.into_iter().all(|term| {
        let (label, value) = term.split_once('=').unwrap();
        secret["metadata"]["labels"][label] == value
    });
    by_field && by_label
}

async fn answer(
    State(server): State<Server>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let selected = || -> Vec<Value> {
        server.secrets.lock().unwrap().iter().filter(|secret| selects(&query, secret)).cloned().collect()
    };
    if headers.get(ACCEPT).is_some_and(|form| form.to_str().unwrap().contains("as=Table")) {
        assert_eq!(query.get("includeObject").map(String::as_str), Some("None"));
        let rows: Vec<_> = selected()
            .iter()
            .map(|secret| json!({"cells": [secret["metadata"]["name"], secret["type"], 1, "1h"]}))
            .collect();
        let columns = ["Name", "Type", "Data", "Age"].map(|name| json!({"name": name, "type": "string"}));
        let rows = if rows.is_empty() { Value::Null } else { rows.into() };
        return Json(json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": {},
                           "columnDefinitions": columns, "rows": rows}))
        .into_response();
    }
    if query.contains_key("watch") {
        let server = server.clone();
        // Sends nothing until a change, and then the list.
        let events = futures::stream::once(async move {
            let changed = server.changed.subscribe().wait_for(|changed| *changed).await.is_ok();
            assert!(changed);
            let secrets: Vec<_> =
                server.secrets.lock().unwrap().iter().filter(|each| selects(&query, each)).cloned().collect();
            let text: String = secrets
                .iter()
                .map(|secret| format!("{}\n", json!({"type": "ADDED", "object": secret})))
                .collect();
            Ok::<_, std::io::Error>(text)
        });
        return Body::from_stream(futures::StreamExt::chain(events, futures::stream::pending()))
            .into_response();
    }
    let items = selected();
    let names = items.iter().map(|secret| secret["metadata"]["name"].as_str().unwrap().to_owned());
    server.sent.lock().unwrap().extend(names);
    Json(json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "1"}, "items": items})).into_response()
}

/// Waits until every named Secret was looked up.
async fn settled(
    watches: &SecretWatches,
    names: usize,
) -> (BTreeMap<String, Option<Data>>, BTreeMap<String, SecretRejection>) {
    let start = Instant::now();
    loop {
        let fetched = watches.fetch();
        if fetched.0.len() == names {
            return fetched;
        }
        // A look that failed is repeated after a while.
        assert!(start.elapsed() < Duration::from_secs(300), "{fetched:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn only_what_is_labelled_for_nodes_is_read() {
    let labelled = || json!({"timesync.dev/keys": "true"});
    let server = Server::default();
    let secrets = vec![
        secret("good", "Opaque", labelled()),
        secret("plain", "Opaque", json!({"app": "x"})),
        secret("off", "Opaque", json!({"timesync.dev/keys": "false"})),
        secret("account", "kubernetes.io/service-account-token", labelled()),
        secret("release", "helm.sh/release.v1", labelled()),
        secret("join", "bootstrap.kubernetes.io/token", json!({})),
        secret("timesync-keys", "Opaque", labelled()),
        secret(
            "token",
            "Opaque",
            json!({"timesync.dev/keys": "true", "app.kubernetes.io/part-of": "timesync"}),
        ),
        secret("unnamed", "Opaque", labelled()),
    ];
    *server.secrets.lock().unwrap() = secrets;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().route("/api/v1/namespaces/ns/secrets", get(answer)).with_state(server.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::try_from(kube::Config::new(url)).unwrap();
    let mut watches = SecretWatches::new(client, "ns", crate::fixtures::notifier());
    let names = ["good", "plain", "off", "account", "release", "join", "timesync-keys", "token", "absent"];
    watches.follow(&names.iter().map(|name| (*name).to_owned()).collect());

    let (named, rejected) = settled(&watches, names.len()).await;
    let taken: Vec<_> =
        named.iter().filter_map(|(name, data)| data.as_ref().map(|_| name.as_str())).collect();
    assert_eq!(taken, ["good"]);
    assert_eq!(named["good"].as_ref().unwrap()["k"].0.0, b"v1");
    // The token has the chart's label, so its data is sent, but not kept.
    assert_eq!(*server.sent.lock().unwrap(), BTreeSet::from(["good".to_owned(), "token".to_owned()]));
    let label = |name: &str| {
        SecretRejection::Unlabelled(format!(
            "Secret {name} has no label timesync.dev/keys: \"true\"; run `kubectl -n ns label secret {name} timesync.dev/keys=true`"
        ))
    };
    let type_ = |name: &str, type_: &str| {
        SecretRejection::Forbidden(format!("Secret {name} is of type {type_}, which is never given to nodes"))
    };
    let expected = [
        ("plain", label("plain")),
        ("off", label("off")),
        ("account", type_("account", "kubernetes.io/service-account-token")),
        ("release", type_("release", "helm.sh/release.v1")),
        ("join", type_("join", "bootstrap.kubernetes.io/token")),
        ("timesync-keys", own("timesync-keys")),
        ("token", own("token")),
    ];
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(name, why)| (name.to_owned(), why)).collect();
    assert_eq!(rejected, expected);

    // The label wakes the watch.
    server.secrets.lock().unwrap()[1]["metadata"]["labels"] = labelled();
    server.changed.send_replace(true);
    let start = Instant::now();
    while watches.fetch().0["plain"].is_none() {
        assert!(start.elapsed() < Duration::from_secs(300));
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!watches.fetch().1.contains_key("plain"));
    watches.follow(&BTreeSet::new());
    assert!(watches.fetch().0.is_empty());
    serving.abort();
}
