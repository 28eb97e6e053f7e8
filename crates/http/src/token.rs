//! The token, and the file that holds it. The file is in a Kubernetes volume: it may appear late, and it changes at
//! another time on each node. So it is read at each use, and the former token stays valid for some minutes. The operator
//! reads the token from the API server instead.
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    /// The token in a text, without white space around it; none if nothing else is in the text.
    pub fn new(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        (!text.is_empty()).then(|| Self(text.to_vec()))
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file holds no token.
    #[error("{path} is empty", path = .0.display())]
    Empty(PathBuf),
}

/// The token file, and the token that it held before.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    known: Mutex<RecentTokens>,
}

/// The present token, and the one before it, which stays valid for some minutes.
#[derive(Debug, Default)]
pub struct RecentTokens {
    present: Option<Token>,
    former: Option<(Token, Instant)>,
}

/// The kubelet renews a mounted Secret within 81 s (measured). The rest is a margin for busy nodes.
const FORMER_VALID_FOR: Duration = Duration::from_secs(300);

impl RecentTokens {
    /// Sets the present token; none if there is none at present. Returns true if it differs from the one before.
    pub fn set(&mut self, present: Option<Token>, now: Instant) -> bool {
        let differs = self.present != present;
        if differs && let Some(former) = std::mem::replace(&mut self.present, present) {
            self.former = Some((former, now));
        }
        differs
    }

    /// The tokens that are valid at `now`, the newest first.
    pub fn valid(&mut self, now: Instant) -> Vec<Token> {
        self.former.take_if(|(_, since)| now.saturating_duration_since(*since) > FORMER_VALID_FOR);
        let former = self.former.as_ref().map(|(token, _)| token);
        self.present.iter().chain(former).cloned().collect()
    }
}

/// Larger than any token.
const MOST_BYTES: u64 = 4096;

impl TokenFile {
    /// A file that is not read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens that are valid at `now`, the newest first; at least one.
    ///
    /// # Errors
    /// If there is none.
    pub fn tokens(&self, now: Instant) -> Result<Vec<Token>, NoToken> {
        let read = self.read();
        let mut known = self.known();
        known.set(read.as_ref().ok().cloned(), now);
        let tokens = known.valid(now);
        if tokens.is_empty() { read.map(|token| vec![token]) } else { Ok(tokens) }
    }

    // Tokens are replaced as a whole, so the value is valid even after a thread panicked.
    fn known(&self) -> MutexGuard<'_, RecentTokens> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Token, NoToken> {
        let mut text = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text))
            .map_err(|source| NoToken::Read { path: self.path.clone(), source })?;
        Token::new(&text).ok_or_else(|| NoToken::Empty(self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_former_token_counts_for_some_minutes() {
        let path = std::env::temp_dir().join(format!("timesync-http-token-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let (file, start) = (TokenFile::new(path.clone()), Instant::now());
        let check = |secs: u64, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().filter_map(|text| Token::new(text.as_bytes())).collect();
            let tokens = file.tokens(start + Duration::from_secs(secs)).unwrap_or_default();
            assert!(tokens == expected, "at {secs} s");
        };
        check(0, &[]);
        assert!(file.tokens(start).unwrap_err().to_string().contains("No such file"));
        fs::write(&path, "first\n").unwrap();
        check(1, &["first"]);
        fs::write(&path, " second\n\n").unwrap();
        check(10, &["second", "first"]);
        check(310, &["second", "first"]);
        check(311, &["second"]);
        // The Secret is created again: for a moment the file does not exist.
        fs::remove_file(&path).unwrap();
        check(320, &["second"]);
        fs::write(&path, "third").unwrap();
        check(330, &["third", "second"]);
        fs::write(&path, " \n").unwrap();
        check(340, &["third"]);
        check(641, &[]);
        assert!(file.tokens(start + Duration::from_secs(642)).unwrap_err().to_string().ends_with("is empty"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::new(b"secret")), "Some(Token)");
    }
}
