//! Watches the Secret with the token, and passes on what it holds. If the operator is to create the Secret and there is
//! none, creates it with a random token. A Secret that exists is never changed. A fault is shown at /readyz and logged
//! once.
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::reflector::Store,
};
use timesync_http::Token;
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tracing::{info, warn};

use super::known::{KEY, NoToken, Tokens, read};
use crate::{
    apply::{FIELD_MANAGER, Target},
    fetch::CONFIG_MAP,
    health::Health,
    message::chain,
    secrets,
    term::{WriteError, limited},
    watch::ChangeNotifier,
};

/// The Secret with the token.
#[derive(Clone, Debug)]
pub(crate) struct TokenSecret {
    /// Its name, in the operator's namespace.
    pub(crate) name: String,
    /// Whether to create it if there is none.
    pub(crate) create: bool,
}

/// The task that watches the Secret.
pub(crate) struct Keeper {
    target: Target,
    secret: TokenSecret,
    store: Store<Secret>,
    tokens: Arc<Tokens>,
    changed: Arc<Notify>,
    health: Health,
}

/// Its name at /readyz.
const WHAT: &str = "token";

/// The API server answers within this time, or the attempt counts as failed.
const REQUEST: Duration = Duration::from_secs(10);

/// Pause before the next attempt to create the Secret.
const RETRY: Duration = Duration::from_secs(5);

impl Keeper {
    /// Watches the Secret in `tasks` from now on.
    pub(crate) fn start(
        target: Target,
        secret: TokenSecret,
        tokens: Arc<Tokens>,
        health: Health,
        tasks: &mut JoinSet<()>,
    ) {
        let notifier = ChangeNotifier { notify: Arc::default(), health: health.clone() };
        let store = secrets::watch_one(&target.client, &target.namespace, &secret.name, &notifier, tasks);
        let keeper = Self { target, secret, store, tokens, changed: notifier.notify, health };
        tasks.spawn(keeper.run());
    }

    /// Runs as long as the watches do.
    async fn run(self) {
        // A store wakes only the task that began to wait last (kube's DelayedInit has one waker). So this task uses no
        // store of the controller.
        if self.store.wait_until_ready().await.is_err() {
            return;
        }
        let (mut was_absent, mut fault) = (false, None);
        loop {
            let stored = self.store.state().first().map(|secret| read(&self.secret.name, secret));
            was_absent |= stored.is_none();
            let found = match stored {
                Some(found) => Some(found),
                None if self.secret.create => self.create().await.transpose(),
                None => Some(Err(NoToken::Absent {
                    namespace: self.target.namespace.clone(),
                    name: self.secret.name.clone(),
                })),
            };
            if let Some(found) = found {
                let why = found.as_ref().err().cloned();
                self.health.set(WHAT, why.as_ref().map_or(Ok(()), |why| Err(why.to_string())));
                if let Some(why) = why.as_ref().filter(|why| fault.as_ref() != Some(*why)) {
                    warn!(error = %why, "No valid token for /status of the agents; they are not polled");
                }
                self.tokens.note(found, was_absent, Instant::now());
                was_absent &= why.is_some();
                fault = why;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                // Counts a lasting fault again, and looks for a Secret that another process was about to create.
                () = sleep(RETRY), if fault.is_some() || self.secret.create && self.store.is_empty() => {}
            }
        }
    }

    /// Creates the Secret. Returns none if another process has just created it: then the watch will show that one.
    async fn create(&self) -> Result<Option<Token>, NoToken> {
        let not_created = |why| NoToken::NotCreated { name: self.secret.name.clone(), why };
        let text = draw().map_err(|error| not_created(error.to_string()))?;
        let api: Api<Secret> = Api::namespaced(self.target.client.clone(), &self.target.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let owner = self.owner().await.map_err(|error| not_created(chain(&error)))?;
        let secret = self.new_secret(&text, owner);
        match self.target.term.write(api.create(&params, &secret)).await {
            Ok(_) => {
                info!(secret = self.secret.name, "Token for the agents created");
                Ok(Token::new(&text))
            }
            Err(error) if error.code() == Some(409) => Ok(None),
            Err(error) => Err(not_created(chain(&error))),
        }
    }

    /// The operator's ConfigMap, which is removed with the release; then Kubernetes deletes the Secret too. If there is
    /// no ConfigMap, the Secret has no owner.
    async fn owner(&self) -> Result<Option<OwnerReference>, WriteError> {
        let api: Api<ConfigMap> = Api::namespaced(self.target.client.clone(), &self.target.namespace);
        // The operator may list the ConfigMap of this name, and no other.
        let params = ListParams::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let found = limited(REQUEST, api.list(&params)).await?.items.into_iter().next();
        Ok(found.and_then(|map| map.metadata.uid).map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: CONFIG_MAP.to_owned(),
            uid,
            ..OwnerReference::default()
        }))
    }

    /// A Secret with this token.
    fn new_secret(&self, text: &[u8], owner: Option<OwnerReference>) -> Secret {
        let labels = [("name", "timesync"), ("part-of", "timesync"), ("managed-by", FIELD_MANAGER)];
        let labels = labels.map(|(label, value)| (format!("app.kubernetes.io/{label}"), value.to_owned()));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.name.clone()),
                labels: Some(BTreeMap::from(labels)),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(text.to_vec()))])),
            ..Secret::default()
        }
    }
}

/// Length of a token that the operator creates: 238 bits.
const DRAWN: usize = 40;
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Draws a token from the operating system's random numbers.
fn draw() -> Result<Vec<u8>, getrandom::Error> {
    let mut text = Vec::with_capacity(DRAWN);
    while text.len() < DRAWN {
        let mut random = [0; 64];
        getrandom::fill(&mut random)?;
        // 248 is four times 62. Larger numbers are not used, so that all letters are equally likely.
        let letters = random.iter().filter(|number| **number < 248);
        text.extend(letters.map(|number| LETTERS[usize::from(*number % 62)]).take(DRAWN - text.len()));
    }
    Ok(text)
}
