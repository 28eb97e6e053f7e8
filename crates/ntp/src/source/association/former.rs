//! A source whose name has moved to another server: what the former server said keeps its vote until the new one has said
//! enough. Without that, a source that is believed would be missing from the vote for some seconds at each such move.
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
    /// Asks another server from now on. If the present one is believed, it is heard until the other one has said enough.
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

    /// What it is to be voted on by.
    pub(crate) fn voting_estimate(&self) -> Option<(&Estimate, Server)> {
        match (self.history.estimate(), self.server, &self.former) {
            (Some(estimate), Some(server), _) => Some((estimate, server)),
            (_, _, Some(former)) => Some((former.history.estimate()?, former.server)),
            _ => None,
        }
    }

    /// Forgets the former server once the new one has said enough.
    pub(super) fn forget_former(&mut self) {
        if self.history.estimate().is_some() {
            self.former = None;
        }
    }
}

impl Former {
    /// Follows a change of the clock.
    pub(super) fn transform(&mut self, change: &Change) {
        self.history.transform(change.at, change.frequency, change.offset);
    }
}
