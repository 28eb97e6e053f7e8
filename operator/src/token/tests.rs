//! The operator and an API server on loopback that has at most one Secret.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::Client;
use serde_json::{Value, json};
use timesync_http::Token;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    apply::Target,
    fixtures::notifier,
    health::Health,
    term::{BootTime, Term},
};

const NAME: &str = "timesync-token";
const PATH: &str = "/api/v1/namespaces/ns/secrets";

fn secret(data: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> =
        data.iter().map(|(key, text)| (*key, ByteString(text.as_bytes().to_vec()))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "data": data,
           "metadata": {"name": NAME, "namespace": "ns", "resourceVersion": "1", "uid": "s"}})
}

#[test]
fn a_token_is_16_to_256_letters_digits_and_marks() {
    let check = |data: &[(&str, &str)], expected: Result<&str, NoToken>| {
        let found = read(NAME, &serde_json::from_value(secret(data)).unwrap());
        assert_eq!(found, expected.map(|text| Token::new(text.as_bytes()).unwrap()), "{data:?}");
    };
    let malformed = || Err(NoToken::Malformed(NAME.to_owned()));
    check(&[("token", "0123456789abc._~")], Ok("0123456789abc._~"));
    check(&[("token", " +/-3456789ABCDEF\n"), ("x", "y")], Ok("+/-3456789ABCDEF"));
    check(&[("token", &"x".repeat(256))], Ok(&"x".repeat(256)));
    check(&[("token", &"x".repeat(257))], malformed());
    check(&[("token", "0123456789abcde ")], malformed());
    check(&[("token", "0123456789 abcdef")], malformed());
    check(&[("token", "0123456789abcdé")], malformed());
    check(&[("token", "")], malformed());
    check(&[("Token", "0123456789abcdef")], Err(NoToken::NoKey(NAME.to_owned())));
    check(&[], Err(NoToken::NoKey(NAME.to_owned())));
}

/// The API server.
#[derive(Clone)]
struct Server {
    /// The events of the watch so far. Their number, plus one, is the version of a list.
    events: Arc<watch::Sender<Vec<String>>>,
    secret: Arc<Mutex<Option<Value>>>,
    /// What was sent to be created.
    created: Arc<Mutex<Vec<Value>>>,
    /// The answer to a creation in place of a success.
    refuses: Arc<Mutex<Option<(u16, &'static str)>>>,
}

impl Server {
    /// Changes the Secret; none deletes it.
    fn set(&self, secret: Option<Value>) {
        let before = std::mem::replace(&mut *self.secret.lock().unwrap(), secret.clone());
        let (type_, object) = match (before, secret) {
            (_, Some(secret)) => ("MODIFIED", secret),
            (Some(before), None) => ("DELETED", before),
            (None, None) => return,
        };
        let line = format!("{}\n", json!({"type": type_, "object": object}));
        self.events.send_modify(|events| events.push(line));
    }

    fn created(&self) -> Vec<Value> {
        self.created.lock().unwrap().clone()
    }
}

async fn list(State(server): State<Server>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    assert_eq!(query["fieldSelector"], "metadata.name=timesync-token");
    if !query.contains_key("watch") {
        let version = (server.events.borrow().len() + 1).to_string();
        let items: Vec<_> = server.secret.lock().unwrap().iter().cloned().collect();
        let list = json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": version}, "items": items});
        return Json(list).into_response();
    }
    let first: usize = query["resourceVersion"].parse().unwrap();
    let lines =
        futures::stream::unfold((server.events.subscribe(), first - 1), async |(mut events, next)| {
            let line = events.wait_for(|events| events.len() > next).await.ok()?[next].clone();
            Some((Ok::<_, std::io::Error>(line), (events, next + 1)))
        });
    Body::from_stream(lines).into_response()
}

async fn create(State(server): State<Server>, Json(mut secret): Json<Value>) -> Response {
    if server.secret.lock().unwrap().is_some() {
        return StatusCode::CONFLICT.into_response();
    }
    server.created.lock().unwrap().push(secret.clone());
    let refuses = *server.refuses.lock().unwrap();
    if let Some((code, message)) = refuses {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": code});
        return (StatusCode::from_u16(code).unwrap(), Json(status)).into_response();
    }
    secret["metadata"]["resourceVersion"] = json!("1");
    server.set(Some(secret.clone()));
    (StatusCode::CREATED, Json(secret)).into_response()
}

/// An operator that leads, with its API server.
struct Scene {
    server: Server,
    tokens: Arc<Tokens>,
    health: Health,
    _tasks: JoinSet<()>,
}

impl Scene {
    /// With this Secret at first, and with a ConfigMap of this uid.
    async fn new(secret: Option<Value>, create: bool, owner: Option<&str>) -> Self {
        Self::refusing(secret, create, owner, None).await
    }

    async fn refusing(
        secret: Option<Value>,
        create_secret: bool,
        owner: Option<&str>,
        refuses: Option<(u16, &'static str)>,
    ) -> Self {
        let server = Server {
            events: Arc::new(watch::channel(vec![]).0),
            secret: Arc::new(Mutex::new(secret)),
            created: Arc::default(),
            refuses: Arc::new(Mutex::new(refuses)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let owners: Vec<_> = owner
            .map(|uid| json!({"metadata": {"name": "timesync-profiles", "namespace": "ns", "uid": uid}}))
            .into_iter()
            .collect();
        let owners = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}, "items": owners});
        let config_maps = async |Query(query): Query<BTreeMap<String, String>>| {
            assert_eq!(query["fieldSelector"], "metadata.name=timesync-profiles");
            Json(owners)
        };
        let router = Router::new()
            .route(PATH, get(list).post(create))
            .route("/api/v1/namespaces/ns/configmaps", get(config_maps))
            .with_state(server.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = Client::try_from(kube::Config::new(url)).unwrap();
        let target = Target { client, namespace: "ns".to_owned(), term: Term::default() };
        target.term.renew(BootTime::now(), Duration::from_secs(600));
        let (tokens, health) = (Arc::new(Tokens::new()), notifier().health);
        let secret = TokenSecret { name: NAME.to_owned(), create: create_secret };
        Keeper::start(target, secret, Arc::clone(&tokens), health.clone(), &mut tasks);
        Self { server, tokens, health, _tasks: tasks }
    }

    /// Waits until these tokens are valid, the newest first; empty: none.
    async fn expect(&self, expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(|text| Token::new(text.as_bytes()).unwrap()).collect();
        let same = async {
            while self.tokens.valid(Instant::now()).unwrap_or_default() != expected {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, same).await.expect("other tokens are valid");
    }

    /// Waits until the operator has sent `count` Secrets.
    async fn expect_created(&self, count: usize) {
        let sent = async {
            while self.server.created().len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, sent).await.expect("no Secret was sent");
    }

    /// Waits until /readyz says this.
    async fn expect_trouble(&self, expected: &str) {
        let same = async {
            while self.health.troubles() != expected {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let same = timeout(LIMIT, same).await;
        assert!(same.is_ok(), "{}", self.health.troubles());
    }
}

/// Longer than anything takes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

fn token_of(secret: &Value) -> String {
    let secret: Secret = serde_json::from_value(secret.clone()).unwrap();
    String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
}

#[tokio::test]
async fn without_a_secret_a_token_is_made_and_again_after_a_deletion() {
    let scene = Scene::new(None, true, Some("owner")).await;
    scene.expect_created(1).await;
    let made = scene.server.created()[0].clone();
    let first = token_of(&made);
    scene.expect(&[&first]).await;
    assert!(scene.tokens.take_renewed() && !scene.tokens.take_renewed(), "agents that run already lack it");
    assert!(first.len() == 40 && first.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{first}");
    assert_eq!((&made["type"], &made["metadata"]["name"]), (&json!("Opaque"), &json!(NAME)));
    let labels = json!({"app.kubernetes.io/name": "timesync", "app.kubernetes.io/part-of": "timesync",
                        "app.kubernetes.io/managed-by": "timesync-operator"});
    assert_eq!(made["metadata"]["labels"], labels);
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "timesync-profiles", "uid": "owner"}]);
    assert_eq!(made["metadata"]["ownerReferences"], owner);
    scene.server.set(None);
    scene.expect_created(2).await;
    let second = token_of(&scene.server.created()[1]);
    assert_ne!(first, second);
    scene.expect(&[&second, &first]).await;
    assert!(scene.tokens.take_renewed());
    scene.expect_trouble("").await;
    assert_eq!(scene.server.created().len(), 2);
}

#[tokio::test]
async fn the_token_of_another_replica_is_used() {
    let refuses = Some((409, "secrets \"timesync-token\" already exists"));
    let scene = Scene::refusing(None, true, None, refuses).await;
    scene.expect_created(1).await;
    assert_eq!(scene.server.created()[0]["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(scene.health.troubles(), "");
    scene.server.set(Some(secret(&[("token", "made-by-another-one")])));
    scene.expect(&["made-by-another-one"]).await;
    assert!(scene.tokens.take_renewed());
}

#[tokio::test]
async fn a_secret_that_exists_is_never_overwritten() {
    let scene = Scene::new(Some(secret(&[("token", "short")])), true, Some("owner")).await;
    let form = "16 to 256 letters, digits or any of . _ ~ + / -";
    scene
        .expect_trouble(&format!(
            "token: the token in Secret timesync-token is malformed; replace it by {form}\n"
        ))
        .await;
    scene.expect(&[]).await;
    scene.server.set(Some(secret(&[("key", "0123456789abcdef")])));
    let no_key = "Secret timesync-token has no key `token`; put the agents' token there";
    scene.expect_trouble(&format!("token: {no_key}: {form}\n")).await;
    scene.server.set(Some(secret(&[("token", "0123456789abcdef")])));
    scene.expect(&["0123456789abcdef"]).await;
    scene.expect_trouble("").await;
    scene.server.set(Some(secret(&[("token", "0123456789 abcdef")])));
    scene
        .expect_trouble(&format!(
            "token: the token in Secret timesync-token is malformed; replace it by {form}\n"
        ))
        .await;
    scene.expect(&["0123456789abcdef"]).await;
    assert!(scene.server.created().is_empty());
}

#[tokio::test]
async fn a_changed_token_is_used_without_restart() {
    let scene = Scene::new(Some(secret(&[("token", "first-0123456789")])), false, None).await;
    scene.expect(&["first-0123456789"]).await;
    assert!(!scene.tokens.take_renewed(), "agents have had it for long");
    scene.server.set(Some(secret(&[("token", "second-0123456789")])));
    scene.expect(&["second-0123456789", "first-0123456789"]).await;
    assert!(scene.tokens.take_renewed());
}

#[tokio::test]
async fn an_operator_that_makes_no_secret_waits_for_one() {
    let scene = Scene::new(None, false, Some("owner")).await;
    let absent = "token: Secret timesync-token with the agents' token does not exist; run `kubectl -n ns create secret generic \
                  timesync-token --from-literal=token=$(openssl rand -hex 20)`, or start the operator with --create-token-secret\n";
    scene.expect_trouble(absent).await;
    assert_eq!(scene.tokens.valid(Instant::now()).unwrap_err().to_string(), absent[7..].trim_end());
    scene.server.set(Some(secret(&[("token", "made-by-a-person")])));
    scene.expect(&["made-by-a-person"]).await;
    scene.expect_trouble("").await;
    assert!(scene.tokens.take_renewed());
    assert!(scene.server.created().is_empty());
}

#[tokio::test]
async fn a_missing_right_is_told_and_tried_again() {
    let scene = Scene::refusing(None, true, None, Some((403, "not allowed"))).await;
    scene
        .expect_trouble("token: cannot create Secret timesync-token for the agents' token: not allowed\n")
        .await;
    *scene.server.refuses.lock().unwrap() = None;
    scene.expect_trouble("").await;
    let created = scene.server.created();
    assert!(created.len() > 1);
    scene.expect(&[&token_of(created.last().unwrap())]).await;
}
