//! The source of the keys that seal cookies: a file that agents share, or else this agent's own keys. A path and the
//! state folder in; keys out, and whether they have changed.
use std::path::Path;

use tracing::info;

use crate::{
    clock,
    cookie_keys::{self, CookieKeys, RawKey},
    key_server::own_keys::OwnKeys,
    load,
    state::State,
};

/// The source of the keys, and the keys that were last read.
pub(super) struct KeySource {
    read: Read,
    keys: CookieKeys,
}

/// What was read.
#[derive(PartialEq)]
enum Read {
    Shared(Vec<RawKey>),
    Own(OwnKeys),
}

/// Why there are no keys, or no new ones.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Read(#[from] load::Error),
    #[error("file {file}: {source}")]
    Parse { file: String, source: cookie_keys::Error },
    #[error("no random number: {0}")]
    Random(#[from] sys::Error),
}

impl KeySource {
    /// The keys in the file `shared`; without a file, the agent's own keys.
    pub(super) fn open(shared: Option<&Path>, state: &State) -> Result<Self, Error> {
        let read = Read::from(shared, state, None)?;
        Ok(Self { keys: read.keys(), read })
    }

    /// Reads again. Returns true if the keys have changed. After an error the old keys stay.
    pub(super) fn refresh(&mut self, shared: Option<&Path>, state: &State) -> Result<bool, Error> {
        let read = Read::from(shared, state, Some(&self.read))?;
        let changed = read != self.read;
        if changed {
            self.keys = read.keys();
            self.read = read;
            info!(keys = ?self.keys, "Cookie keys changed");
        }
        Ok(changed)
    }

    /// The keys.
    pub(super) fn keys(&self) -> CookieKeys {
        self.keys.clone()
    }
}

impl Read {
    fn from(shared: Option<&Path>, state: &State, before: Option<&Self>) -> Result<Self, Error> {
        let Some(path) = shared else {
            let before = match before {
                Some(Self::Own(own)) => Some(own.clone()),
                _ => state.cookie_keys().as_deref().and_then(OwnKeys::from_text),
            };
            let own = OwnKeys::renewed(before.clone(), clock::now().wall)?;
            if before.as_ref() != Some(&own) {
                state.save_cookie_keys(&own.text());
            }
            return Ok(Self::Own(own));
        };
        let file = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let keys =
            cookie_keys::parse(&load::read(path)?).map_err(|source| Error::Parse { file: file(), source })?;
        Ok(Self::Shared(keys))
    }

    fn keys(&self) -> CookieKeys {
        CookieKeys::new(match self {
            Self::Shared(keys) => keys,
            Self::Own(own) => own.keys(),
        })
    }
}
