//! What the operator knows of the token: the valid ones for polls, or why there is none. Pure, except that it is shared
//! by threads, and that [`Tokens::wait`] waits.
use std::{
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use timesync_http::{RecentTokens, Token};
use tokio::{sync::Notify, time::timeout};

/// The key of the token in its Secret. Agents read it as a file of this name.
pub(super) const KEY: &str = "token";

/// Bytes of a token. The chart's schema has the same limits for `token.value`.
const LENGTH: RangeInclusive<usize> = 16..=256;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoToken {
    /// The Secret was not read yet.
    #[error("the API server has not yet said whether there is a Secret with the agents' token")]
    Unread,
    /// There is no such Secret, and this operator is not to create it.
    #[error(
        "Secret {name} with the agents' token does not exist; run `kubectl -n {namespace} create secret generic {name} \
         --from-literal=token=$(openssl rand -hex 20)`, or start the operator with --create-token-secret"
    )]
    Absent {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The Secret has no such key. It is never overwritten.
    #[error("Secret {0} has no key `token`; put the agents' token there: {form}", form = FORM)]
    NoKey(String),
    /// The Secret holds something else. It is never overwritten.
    #[error("the token in Secret {0} is malformed; replace it by {form}", form = FORM)]
    Malformed(String),
    /// The Secret could not be created.
    #[error("cannot create Secret {name} for the agents' token: {why}")]
    NotCreated {
        /// Its name.
        name: String,
        /// What the API server says.
        why: String,
    },
    /// The Secret could not be read.
    #[error("cannot read Secret {name} with the agents' token: {why}")]
    NotRead {
        /// Its name.
        name: String,
        /// What the API server says.
        why: String,
    },
}

const FORM: &str = "16 to 256 letters, digits or any of . _ ~ + / -";

/// Reads the token in the Secret of this name. White space around it does not count, as for agents.
pub(crate) fn read(name: &str, secret: &Secret) -> Result<Token, NoToken> {
    let content = secret.data.as_ref().and_then(|data| data.get(KEY));
    let text = content.ok_or_else(|| NoToken::NoKey(name.to_owned()))?.0.trim_ascii();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~+/-".contains(byte);
    let sound = LENGTH.contains(&text.len()) && text.iter().all(allowed);
    Token::new(text).filter(|_| sound).ok_or_else(|| NoToken::Malformed(name.to_owned()))
}

/// The valid tokens, shared by all polls.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: Mutex<Known>,
    /// Notified when the Secret was read.
    read: Notify,
}

#[derive(Debug)]
struct Known {
    recent: RecentTokens,
    /// Why there is no present token.
    why: NoToken,
    /// True after a change that agents may not know yet.
    renewed: bool,
}

/// A list that takes longer than this is reported at /readyz.
const FIRST_READ: Duration = Duration::from_secs(10);

impl Tokens {
    /// Without a token.
    pub(crate) fn new() -> Self {
        let known = Known { recent: RecentTokens::default(), why: NoToken::Unread, renewed: false };
        Self { known: Mutex::new(known), read: Notify::new() }
    }

    /// Waits until the Secret was read, for some seconds at most. Otherwise the first poll of each agent would fail.
    pub(crate) async fn wait(&self) {
        // After a timeout the polls say that the Secret was not read.
        let _ = timeout(FIRST_READ, self.read.notified()).await;
    }

    /// Records the present token, or why there is none. `was_absent` says that the Secret did not exist before.
    pub(crate) fn note(&self, found: Result<Token, NoToken>, was_absent: bool, now: Instant) {
        let mut known = self.known();
        let first = known.why == NoToken::Unread && known.recent.valid(now).is_empty();
        match found {
            Ok(token) => {
                let differs = known.recent.set(Some(token), now);
                known.renewed |= differs && (was_absent || !first);
            }
            Err(why) => {
                known.recent.set(None, now);
                known.why = why;
            }
        }
        self.read.notify_one();
    }

    /// The tokens that are valid at `now`, the newest first; at least one. The former one stays valid for five minutes,
    /// since agents get a new one later.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn valid(&self, now: Instant) -> Result<Vec<Token>, NoToken> {
        let mut known = self.known();
        let tokens = known.recent.valid(now);
        if tokens.is_empty() { Err(known.why.clone()) } else { Ok(tokens) }
    }

    /// Returns true once after each change that agents which run already may not know yet.
    pub(crate) fn take_renewed(&self) -> bool {
        std::mem::take(&mut self.known().renewed)
    }

    // Each field is replaced as a whole, so the value is valid even after a thread panicked.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
