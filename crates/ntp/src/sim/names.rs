//! The resolver: a name goes in, and what it stands for at this moment comes out, as an answer for the engine.
use super::Sim;
use crate::{Auth, Event, SourceId};

impl Sim {
    /// Looks a name up; of a source with NTS the exchange of keys names the same addresses.
    pub(super) fn resolve(&mut self, source: SourceId, host: &str) {
        self.resolved += 1;
        if self.no_resolver {
            return;
        }
        let known = self.hosts.iter().find(|(name, _)| name == host);
        let addresses = known.map_or(&self.names, |(_, addresses)| addresses).clone();
        let exchanges = matches!(self.engine.auth(source), Some(Auth::Nts { .. }));
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
