//! Samples of a source from before the agent's restart. They take part in the vote until the source answers.
use std::net::{IpAddr, SocketAddr};

use crate::{
    Auth,
    source::{association::Association, recalled::Recalled},
};

impl Association {
    /// The name of the server or device in saved samples, and how its replies were authenticated: samples without
    /// authentication must not count for a source with authentication.
    pub(crate) fn asked(&self) -> Option<String> {
        let proof = match self.source.auth {
            Auth::None => "",
            Auth::Key(_) => " by key",
            Auth::Nts { .. } => " by NTS",
        };
        let address = self.address.map(|address| format!("{}{proof}", SocketAddr::new(address, self.port)));
        if self.device { Some(self.host.clone()) } else { address }
    }

    /// Takes its saved samples, if it has none yet.
    pub(crate) fn recall(&mut self, all: &mut Vec<Recalled>) {
        if self.server.is_some() || self.history.newest().is_some() || self.is_duplicate() {
            return;
        }
        let Some(asked) = self.asked() else { return };
        if let Some(index) = all.iter().position(|recalled| recalled.is(&self.source.name, &asked)) {
            let recalled = all.swap_remove(index);
            (self.server, self.history) = (Some(recalled.server), recalled.history);
        }
    }

    /// Returns true if it takes part in the vote with older samples: it has not answered since the restart, or not
    /// enough since it moved to another server, and it still may.
    pub(crate) fn awaited(&self) -> bool {
        let doubted = self.rejection.is_some() || self.mixture.is_some() || self.source.noselect;
        let doubted = doubted || self.is_duplicate();
        let moved = self.former.is_some() && self.history.estimate().is_none();
        (self.last_answer.is_none() || moved) && !self.unreachable() && !doubted
    }
}

/// The resolver's addresses, with those first that were asked before the restart.
pub(crate) fn known_first(addresses: &[IpAddr], all: &[Recalled]) -> Vec<IpAddr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_by_key(|address| !all.iter().any(|recalled| recalled.was_at(*address)));
    addresses
}
