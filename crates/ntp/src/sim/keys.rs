//! Key exchanges, which always succeed, and cookies: each request of a source with NTS uses one, and each reply brings
//! the missing ones.
use std::collections::BTreeMap;

use super::Sim;
use crate::{Auth, Event, RequestId, SendError, SourceId, wire::nts::COOKIES};

/// The cookies of the sources with NTS.
#[derive(Default)]
pub(super) struct Keys {
    cookies: BTreeMap<SourceId, usize>,
    spent: BTreeMap<RequestId, SourceId>,
}

impl Sim {
    /// Exchanges keys for a source.
    pub(super) fn exchange(&mut self, source: SourceId) {
        self.exchanges += 1;
        self.keys.cookies.insert(source, COOKIES);
    }

    /// Uses a cookie for a request. Returns false if there is none; then the engine is notified.
    pub(super) fn spend_cookie(&mut self, request: RequestId, source: SourceId) -> bool {
        if !self.has_nts(source) {
            return true;
        }
        let cookies = self.keys.cookies.entry(source).or_default();
        if *cookies == 0 {
            self.give(Event::Unproven { source, why: "No cookies are left." });
            self.give(Event::SendFailed { request, why: SendError::Unproven });
            return false;
        }
        *cookies -= 1;
        self.keys.spent.insert(request, source);
        true
    }

    /// A reply has arrived.
    pub(super) fn refill_cookies(&mut self, request: RequestId) {
        if let Some(source) = self.keys.spent.remove(&request) {
            self.keys.cookies.insert(source, COOKIES);
        }
    }

    fn has_nts(&self, source: SourceId) -> bool {
        matches!(self.engine.auth(source), Some(Auth::Nts { .. }))
    }
}
