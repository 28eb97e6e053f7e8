//! A source whose name now resolves to another server. The samples of the former server keep their vote until the new
//! server has enough samples. Otherwise each such change would take an agreeing source out of the vote for some
//! seconds.
use std::net::IpAddr;

use super::Association;
use crate::{
    Action, Mono,
    clock::slew::Change,
    source::{
        filter::{Estimate, History},
        reply::Server,
    },
};

/// The former server of a source.
#[derive(Clone, Debug)]
pub(super) struct Former {
    history: History,
    server: Server,
}

impl Association {
    /// Switches to another address. If the present server is believed, its samples keep their vote until the new server
    /// has enough.
    pub(super) fn switch_keeping_votes(&mut self, address: IpAddr, now: Mono) -> Option<Action> {
        let believed = self.reach != 0 && self.history.estimate().is_some() && !self.is_doubted();
        let former = self.server.filter(|_| believed).map(|server| {
            let history = std::mem::take(&mut self.history);
            Former { history, server }
        });
        let action = self.switch_address(address, now);
        self.former = former;
        action
    }

    /// The estimate and the server data with which the source takes part in the vote.
    pub(crate) fn voting_estimate(&self) -> Option<(&Estimate, Server)> {
        match (self.history.estimate(), self.server, &self.former) {
            (Some(estimate), Some(server), _) => Some((estimate, server)),
            (_, _, Some(former)) => Some((former.history.estimate()?, former.server)),
            _ => None,
        }
    }

    /// Drops the former server once the new one has an estimate.
    pub(super) fn forget_former(&mut self) {
        if self.history.estimate().is_some() {
            self.former = None;
        }
    }
}

impl Former {
    /// Converts the samples after a change of the clock.
    pub(super) fn transform(&mut self, change: &Change) {
        self.history.transform(change.at, change.frequency, change.offset);
    }
}
