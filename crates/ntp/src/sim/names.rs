//! The resolver: a name goes in; an event with its present addresses comes out.
use super::Sim;
use crate::{Auth, Event, SourceId};

impl Sim {
    /// Looks up a name. For a source with NTS it exchanges keys, with all servers of the name, or with the address of
    /// the pool's member. An exchange names the server in `exchanges` if that is set, else the same address.
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
