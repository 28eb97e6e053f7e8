//! The engine's sources: made from the configuration, with one vote for each server, and the members of pools.
use std::net::IpAddr;

use crate::{
    Action, Auth, Mono, Now, Source, SourceId,
    engine::Engine,
    source::{
        association::Association,
        duplicate::{self, TakenOver, hand_over_all},
        pool::{Pool, Surroundings},
    },
};

/// Sources are asked one after the other, seconds apart, so that their answers do not meet in one queue.
const SPACING: f64 = 0.02;

impl Engine {
    /// Makes the associations match the configuration. Returns the actions that end those that are gone.
    pub(super) fn associate(&mut self, now: Now) -> Vec<Action> {
        let mut old = std::mem::take(&mut self.associations);
        let mut first = now.mono;
        let mut pools = std::mem::take(&mut self.pools);
        for source in self.config.sources_in_force() {
            let pool = match pools.iter().position(|pool| pool.serves(&source)) {
                Some(kept) => Some(pools.swap_remove(kept).with(&source)),
                None => Pool::new(SourceId(self.next_source), &source, first),
            };
            let id = pool.as_ref().map(|pool| pool.id);
            // Samples that were not authenticated the same way must not count, so other authentication makes another source.
            let what = (&source.name, &source.upstream, &source.auth);
            let same = |a: &Association| (&a.source.name, &a.source.upstream, &a.source.auth) == what;
            let belongs = |a: &Association| a.pool == id && (id.is_some() || same(a));
            let (kept, rest): (Vec<_>, Vec<_>) = old.into_iter().partition(belongs);
            old = rest;
            let known = !kept.is_empty();
            for mut association in kept {
                let name = association.source.name.clone();
                association.reconfigure(Source { name, ..source.clone() }, now.mono);
                self.associations.push(association);
            }
            if !known {
                self.seeking = now.mono;
                let orders = pool.as_ref().map_or(source, |pool| pool.member(1));
                let own = self.new_source();
                let mut new = Association::new(id.map_or(own, |_| self.new_source()), orders, first);
                new.pool = id;
                self.associations.push(new);
                first = first.plus(SPACING);
            }
            self.pools.extend(pool);
        }
        let mut actions: Vec<Action> = old.iter_mut().filter_map(Association::close).collect();
        self.settle_duplicates(now.mono, &mut actions);
        let taken_over = hand_over_all(&mut self.associations, &mut old, now.mono);
        self.follow_successors(&taken_over);
        self.restore_samples();
        actions
    }

    /// Makes one source count of all at one address and port, and none of those that are this node itself.
    pub(super) fn settle_duplicates(&mut self, now: Mono, actions: &mut Vec<Action>) {
        let taken_over = duplicate::settle(&mut self.associations, &self.own, now, actions);
        self.follow_successors(&taken_over);
    }

    /// If the source that was followed has given its samples away, their new owner is the one that is followed.
    pub(super) fn follow_successors(&mut self, taken_over: &[TakenOver]) {
        for TakenOver { from, to } in taken_over {
            if let Some(reference) = &mut self.discipline.reference
                && reference.source == *from
            {
                reference.source = *to;
            }
        }
    }

    /// Returns how a source's answers are authenticated; `None` if there is no such source.
    pub fn auth(&self, source: SourceId) -> Option<&Auth> {
        self.associations.iter().find(|a| a.id == source).map(|a| &a.source.auth)
    }

    fn new_source(&mut self) -> SourceId {
        let id = SourceId(self.next_source);
        self.next_source += 1;
        id
    }

    /// Takes the resolver's answer. Returns false if `id` is not a pool.
    pub(super) fn pool_resolved(&mut self, id: SourceId, addresses: &[IpAddr]) -> bool {
        let Some(pool) = self.pools.iter_mut().find(|pool| pool.id == id) else { return false };
        pool.resolved(addresses);
        true
    }

    /// Returns true if a source or a pool has this id.
    pub fn has(&self, source: SourceId) -> bool {
        self.associations.iter().any(|a| a.id == source) || self.pools.iter().any(|pool| pool.id == source)
    }

    /// Returns the address with which keys are exchanged for a source; `None` if any address of its name will do.
    pub fn exchange_with(&self, source: SourceId) -> Option<IpAddr> {
        self.associations.iter().find(|a| a.id == source).and_then(Association::exchange_with)
    }

    /// The resolver has no address for the name of the source or pool.
    pub(super) fn unresolved(&mut self, id: SourceId, why: &str, now: Mono) {
        let asked = |a: &&mut Association| a.id == id || a.pool == Some(id) && a.address().is_none();
        self.associations.iter_mut().filter(asked).for_each(|a| a.unresolved(why, now));
    }

    /// Gives each pool the members that its name has addresses for.
    pub(super) fn maintain_pools(&mut self, now: Now, actions: &mut Vec<Action>) {
        let heard = self.associations.iter().filter_map(|a| a.last_answer).max();
        for index in 0..self.pools.len() {
            let spread = self.spread();
            let mut around = Surroundings {
                associations: &mut self.associations,
                heard,
                own: &self.own,
                next_source: &mut self.next_source,
                now: now.mono,
            };
            actions.extend(
                self.pools
                    .get_mut(index)
                    .map(|pool| pool.maintain(&mut around, spread))
                    .into_iter()
                    .flatten(),
            );
        }
    }
}
