//! Proof that an answer comes from whom we asked. A request without proof and its source's `ntp::Auth` in, the octets
//! to send out; a datagram in, and whether it may be believed. Formats are the `ntp` crate's; here are the files with
//! keys (`key`), the cryptography (`digest`, `siv`), cookies (`session`) and the key exchange (`exchange`, `certificate`).
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

use exchange::{Exchanger, Pending};
pub(crate) use key::{Key, KeyFile};
pub(crate) use session::Session;
pub(crate) use siv::SivKey;

/// What is known of proofs, source by source and request by request.
pub(crate) struct Proofs {
    directory: PathBuf,
    exchanger: Option<Exchanger>,
    /// Exchanges that are under way.
    exchanging: BTreeMap<SourceId, Pending>,
    key_files: BTreeMap<String, KeyFile>,
    sessions: BTreeMap<SourceId, Session>,
    /// Of requests on their way: whose, and how their answers are proven.
    expected: BTreeMap<RequestId, (SourceId, Expected)>,
}

/// What proves the answer to a request.
#[derive(Debug)]
enum Expected {
    Mac(Key),
    Seal(nts::UniqueId),
}

/// Why a datagram is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// For a reader.
    pub(crate) why: String,
    /// The source whose server does not take our cookies any more.
    pub(crate) lost: Option<SourceId>,
}

impl Proofs {
    /// With the files in `directory`. Without `exchanger` there is no NTS.
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

    /// Where a file with certificates is.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Completes a request.
    ///
    /// # Errors
    /// Why there is nothing to prove it with, for a reader; none if that was said already, by a failed exchange.
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

    /// Whether a datagram that answers `request` may be believed.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn verify(&mut self, request: RequestId, datagram: &[u8]) -> Result<(), Refused> {
        let Some((source, expected)) = self.expected.get(&request) else { return Ok(()) };
        match expected {
            Expected::Mac(key) => ntp::mac::verify(datagram, key.id, key).map_err(|refusal| {
                let why = format!("Its answers fail authentication (key {}): {refusal}.", key.id);
                Refused { why, lost: None }
            }),
            Expected::Seal(id) => {
                let session = self.sessions.get_mut(source);
                let opened = session.map_or(Err(nts::Refusal::OtherRequest), |s| s.open(datagram, id));
                opened.map_err(|refusal| Refused {
                    why: format!("Its answers fail authentication (NTS): {refusal}."),
                    lost: (refusal == nts::Refusal::CookieUnknown).then_some(*source),
                })
            }
        }
    }

    /// The request is over.
    pub(crate) fn close(&mut self, request: RequestId) {
        self.expected.remove(&request);
    }

    /// Has keys exchanged, unless that is under way. Answers whether it can be done at all.
    pub(crate) fn exchange(&mut self, question: exchange::Question) -> bool {
        let Some(exchanger) = &mut self.exchanger else { return false };
        if self.exchanging.get(&question.source).is_none_or(Pending::is_over) {
            self.exchanging.insert(question.source, exchanger.ask(question));
        }
        true
    }

    /// The exchange is over; a session of before goes on if no new one came of it.
    pub(crate) fn exchanged(&mut self, source: SourceId, session: Option<Session>) {
        self.exchanging.remove(&source);
        if let Some(session) = session {
            self.sessions.insert(source, session);
        }
    }

    /// How many cookies of a source are left; none if it has no use for them.
    pub(crate) fn cookies(&self, source: SourceId) -> Option<usize> {
        self.sessions.get(&source).map(Session::cookies)
    }

    /// Whether keys were ever exchanged with this source.
    pub(crate) fn has_session(&self, source: SourceId) -> bool {
        self.sessions.contains_key(&source)
    }

    /// Only these sources are left.
    pub(crate) fn keep(&mut self, present: impl Fn(SourceId) -> bool) {
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
        let mut proofs = Proofs::new(folder.path(), None);
        let auth = Auth::Key("web".to_owned());
        let mut complete = |n| proofs.complete(RequestId(n), SOURCE, &auth, HEADER);
        let missing = complete(1).unwrap_err().unwrap();
        assert!(missing.starts_with("Key file web: ") && missing.contains("No such file"), "{missing}");
        fs::write(folder.path().join("web"), "7 AES128 HEX:000102030405060708090a0b0c0d0e0f\n").unwrap();
        let first = complete(2).unwrap();
        assert_eq!((first.len(), &first[48..52]), (68, &[0, 0, 0, 7][..]));
        fs::write(folder.path().join("web"), "8 SHA256 HEX:000102030405060708090a0b0c0d0e0f\n").unwrap();
        let second = complete(3).unwrap();
        assert_eq!((second.len(), &second[48..52]), (72, &[0, 0, 0, 8][..]));
        // A request's answer is proven by the key that the request was signed with.
        assert_eq!(proofs.verify(RequestId(2), &first), Ok(()));
        assert_eq!(proofs.verify(RequestId(3), &second), Ok(()));
        let why = proofs.verify(RequestId(3), &first).unwrap_err().why;
        assert_eq!(
            why,
            "Its answers fail authentication (key 8): they are by another key, or of another type."
        );
        proofs.close(RequestId(3));
        assert_eq!(proofs.expected.len(), 1);
    }

    #[test]
    fn without_an_exchange_nothing_is_sent() {
        let mut proofs = Proofs::new(Path::new("/nowhere"), None);
        let auth = Auth::Nts { ca: None, port: 4460 };
        assert_eq!(proofs.complete(RequestId(1), SOURCE, &auth, HEADER), Err(None));
    }

    #[test]
    fn without_proof_asked_for_all_is_as_it_was() {
        let mut proofs = Proofs::new(Path::new("/nowhere"), None);
        let request = packet::client_request(NtpTimestamp(5));
        assert_eq!(proofs.complete(RequestId(1), SOURCE, &Auth::None, request), Ok(request.to_vec()));
        assert_eq!(proofs.verify(RequestId(1), b"anything"), Ok(()));
    }
}
