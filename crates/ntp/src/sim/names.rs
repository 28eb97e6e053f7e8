//! The resolver: a name goes in, and what it stands for at this moment comes out, as an answer for the engine.
use super::Sim;
use crate::{Auth, Event, SourceId};

impl Sim {
    /// Looks a name up. Of a source with NTS keys are exchanged: with all servers of the name, or with the one that is the
    /// member of a pool, which names the server `exchanges` if there is one, else itself.
    pub(super) fn resolve(&mut self, source: SourceId, host: &str) {
        self.resolved += 1;
        if self.no_resolver {
            return;
        }
        let known = |host: &str| self.hosts.iter().find(|(name, _)| name == host).map(|(_, to)| to.clone());
        let exchanges = matches!(self.engine.auth(source), Some(Auth::Nts { .. }));
        let addresses = match self.engine.exchange_with(source).filter(|_| exchanges) {
            Some(member) => known("exchanges").unwrap_or_else(|| vec![member]),
            None => known(host).unwrap_or_else(|| self.names.clone()),
        };
        if exchanges && !addresses.is_empty() {
            self.exchange(source);
        }
        self.give(match addresses.as_slice() {
            [] => Event::Unresolved { source, why: "no such name" },
            addresses if exchanges => Event::Keyed { source, addresses, port: None },
            addresses => Event::Resolved { source, addresses },
        });
    }
}
