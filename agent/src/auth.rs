//! Authentication of servers: proves that an answer comes from the server that was asked. A request and its source's
//! `ntp::Auth` in; the octets to send out. A datagram in; whether it is authentic out. The formats are in the `ntp`
//! crate. Here are the files with keys (`key`), the cryptography (`digest`, `siv`), cookies (`session`) and the key
//! exchange (`exchange`, `certificate`).
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ntp::{Auth, RequestId, SourceId, nts, packet::HEADER_LEN};

pub(crate) mod exchange;

mod certificate;
mod digest;
mod key;
mod session;
mod siv;

use exchange::{Exchanger, PendingExchange};
pub(crate) use key::{Key, KeyFile};
pub(crate) use session::Session;
pub(crate) use siv::SivKey;

/// The keys and sessions of all sources, and the proofs that are expected of answers.
pub(crate) struct Authenticator {
    directory: PathBuf,
    exchanger: Option<Exchanger>,
    /// Key exchanges that are under way.
    exchanging: BTreeMap<SourceId, PendingExchange>,
    key_files: BTreeMap<String, KeyFile>,
    sessions: BTreeMap<SourceId, Session>,
    /// The requests on their way: each one's source, and how its answer must be proven.
    expected: BTreeMap<RequestId, (SourceId, Expected)>,
}

/// How the answer to a request must be proven.
#[derive(Debug)]
enum Expected {
    Mac(Key),
    Seal(nts::UniqueId),
}

/// Why a datagram is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AuthFailure {
    /// The reason, for a reader.
    pub(crate) why: String,
    /// The source whose server does not accept its cookies any more.
    pub(crate) lost: Option<SourceId>,
}

impl Authenticator {
    /// Uses the files in `directory`. Without `exchanger` there is no NTS.
    pub(crate) fn new(directory: &Path, exchanger: Option<Exchanger>) -> Self {
        Self {
            directory: directory.to_owned(),
            exchanger,
            exchanging: BTreeMap::new(),
            key_files: BTreeMap::new(),
            sessions: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// The path of a file with certificates.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Completes a request.
    ///
    /// # Errors
    /// Why there is no proof to add, for a reader; none if a failed exchange has reported that already.
    pub(crate) fn complete(
        &mut self,
        request: RequestId,
        source: SourceId,
        auth: &Auth,
        header: [u8; HEADER_LEN],
    ) -> Result<Vec<u8>, Option<String>> {
        let (datagram, expected) = match auth {
            Auth::None => return Ok(header.to_vec()),
            Auth::Key(file) => {
                let path = self.path(file);
                let key = self.key_files.entry(file.clone()).or_default().key(&path);
                let key = key.map_err(|error| Some(format!("Key file {file}: {error}.")))?;
                let mut datagram = header.to_vec();
                ntp::mac::sign(&mut datagram, key.id, &key);
                (datagram, Expected::Mac(key))
            }
            Auth::Nts { .. } => {
                let session = self.sessions.get_mut(&source).ok_or(None)?;
                let (datagram, id) = session.request(&header).map_err(|error| Some(error.to_string()))?;
                (datagram, Expected::Seal(id))
            }
        };
        self.expected.insert(request, (source, expected));
        Ok(datagram)
    }

    /// Checks the proof of a datagram that answers `request`.
    ///
    /// # Errors
    /// Why the datagram may not be believed.
    pub(crate) fn verify(&mut self, request: RequestId, datagram: &[u8]) -> Result<(), AuthFailure> {
        let Some((source, expected)) = self.expected.get(&request) else { return Ok(()) };
        match expected {
            Expected::Mac(key) => ntp::mac::verify(datagram, key.id, key).map_err(|refusal| {
                let why = format!("Its answers fail authentication (key {}): {refusal}.", key.id);
                AuthFailure { why, lost: None }
            }),
            Expected::Seal(id) => {
                let session = self.sessions.get_mut(source);
                let opened = session.map_or(Err(nts::NtsError::OtherRequest), |s| s.open(datagram, id));
                opened.map_err(|refusal| AuthFailure {
                    why: format!("Its answers fail authentication (NTS): {refusal}."),
                    lost: (refusal == nts::NtsError::CookieUnknown).then_some(*source),
                })
            }
        }
    }

    /// Forgets a request that has ended.
    pub(crate) fn close(&mut self, request: RequestId) {
        self.expected.remove(&request);
    }

    /// Begins a key exchange, unless one is under way. Returns false if that is not possible at all.
    pub(crate) fn exchange(&mut self, request: exchange::ExchangeRequest) -> bool {
        let Some(exchanger) = &mut self.exchanger else { return false };
        if self.exchanging.get(&request.source).is_none_or(PendingExchange::is_over) {
            self.exchanging.insert(request.source, exchanger.request(request));
        }
        true
    }

    /// Takes the end of a key exchange. If it brought no new session, an earlier session stays in use.
    pub(crate) fn exchanged(&mut self, source: SourceId, session: Option<Session>) {
        self.exchanging.remove(&source);
        if let Some(session) = session {
            self.sessions.insert(source, session);
        }
    }

    /// The number of cookies that are left of a source; none if it uses no cookies.
    pub(crate) fn cookies(&self, source: SourceId) -> Option<usize> {
        self.sessions.get(&source).map(Session::cookies)
    }

    /// Returns true if keys were ever exchanged with this source.
    pub(crate) fn has_session(&self, source: SourceId) -> bool {
        self.sessions.contains_key(&source)
    }

    /// Forgets all sources except those for which `present` returns true.
    pub(crate) fn retain(&mut self, present: impl Fn(SourceId) -> bool) {
        self.exchanging.retain(|source, _| present(*source));
        self.sessions.retain(|source, _| present(*source));
        self.expected.retain(|_, (source, _)| present(*source));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ntp::{NtpTimestamp, packet};

    use super::*;
    use crate::scratch::Scratch;

    const HEADER: [u8; HEADER_LEN] = [0x24; HEADER_LEN];
    const SOURCE: SourceId = SourceId(3);

    #[test]
    fn a_key_file_may_come_and_change_while_we_run() {
        let folder = Scratch::new();
        let mut authenticator = Authenticator::new(folder.path(), None);
        let auth = Auth::Key("web".to_owned());
        let mut complete = |n| authenticator.complete(RequestId(n), SOURCE, &auth, HEADER);
        let missing = complete(1).unwrap_err().unwrap();
        assert!(missing.starts_with("Key file web: ") && missing.contains("No such file"), "{missing}");
        fs::write(folder.path().join("web"), "7 AES128 HEX:000102030405060708090a0b0c0d0e0f\n").unwrap();
        let first = complete(2).unwrap();
        assert_eq!((first.len(), &first[48..52]), (68, &[0, 0, 0, 7][..]));
        fs::write(folder.path().join("web"), "8 SHA256 HEX:000102030405060708090a0b0c0d0e0f\n").unwrap();
        let second = complete(3).unwrap();
        assert_eq!((second.len(), &second[48..52]), (72, &[0, 0, 0, 8][..]));
        // The answer to a request is proven with the key that signed the request.
        assert_eq!(authenticator.verify(RequestId(2), &first), Ok(()));
        assert_eq!(authenticator.verify(RequestId(3), &second), Ok(()));
        let why = authenticator.verify(RequestId(3), &first).unwrap_err().why;
        assert_eq!(
            why,
            "Its answers fail authentication (key 8): they are made with another key, or another type of key."
        );
        authenticator.close(RequestId(3));
        assert_eq!(authenticator.expected.len(), 1);
    }

    #[test]
    fn without_an_exchange_nothing_is_sent() {
        let mut authenticator = Authenticator::new(Path::new("/nowhere"), None);
        let auth = Auth::Nts { ca: None, port: 4460 };
        assert_eq!(authenticator.complete(RequestId(1), SOURCE, &auth, HEADER), Err(None));
    }

    #[test]
    fn without_proof_asked_for_all_is_as_it_was() {
        let mut authenticator = Authenticator::new(Path::new("/nowhere"), None);
        let request = packet::client_request(NtpTimestamp(5));
        assert_eq!(authenticator.complete(RequestId(1), SOURCE, &Auth::None, request), Ok(request.to_vec()));
        assert_eq!(authenticator.verify(RequestId(1), b"anything"), Ok(()));
    }
}
