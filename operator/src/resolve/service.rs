//! Whether the nodes of a tier will answer the nodes that ask them, by the policies that both are under: is time served
//! at the port, with the key, on the address; and does an entry of the access list drop the requests. Pure.
//!
//! If a node does not serve time as it is asked to, the asking policy says so, and goes on. If an access list would drop
//! the requests, one of the policies is refused: the serving one if its edit causes it, or else the asking one if it is
//! new or edited. If neither was edited (nodes or addresses changed), the asking policy only says so.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use contract::ProfileName;
use profile::{AccessSource, Checked, Flag, Place, Source};

use crate::{
    condition::{self, ACCEPTED},
    facts::NodeFacts,
    fetch::Profiles,
    message::some,
    tier::{Member, Tier},
    validate::{Policy, PolicyError},
};

/// What is known of the cluster.
pub(super) struct Service<'a> {
    /// The policy of each node.
    pub(super) in_force: &'a BTreeMap<&'a str, String>,
    pub(super) nodes: &'a BTreeMap<String, Arc<NodeFacts>>,
    /// The stored profiles.
    pub(super) profiles: &'a Profiles,
}

/// What a tier's nodes do with the requests.
#[derive(Default)]
struct Findings {
    not_serving: BTreeSet<String>,
    /// Policies that are refused, and why.
    refused: BTreeMap<String, String>,
}

impl Findings {
    fn refuse(&mut self, policy: &Policy, why: String) {
        self.refused.entry(policy.name.clone()).or_insert(why);
    }
}

/// A policy's nodes ask nodes of another policy, or of the same one.
struct Question<'a> {
    asking: &'a Policy,
    tier: &'a Tier,
    /// The options of the upstream.
    port: u16,
    key: Option<&'a str>,
}

impl Service<'_> {
    /// Notes the faults in the policies. `members` are the nodes of the tiers of each policy.
    pub(super) fn judge(&self, policies: &mut [Policy], members: &BTreeMap<&str, Vec<&[Member]>>) {
        let mut all = BTreeMap::new();
        let mut refused = BTreeMap::new();
        for policy in policies.iter().filter(|policy| policy.ready().is_some()) {
            let Some(sets) = members.get(policy.name.as_str()) else { continue };
            let mut findings = Findings::default();
            for (tier, members) in policy.tiers.asked.iter().zip(sets) {
                self.judge_tier(policies, policy, tier, members, &mut findings);
            }
            refused.extend(findings.refused);
            if !findings.not_serving.is_empty() {
                all.insert(policy.name.clone(), some(findings.not_serving.into_iter()));
            }
        }
        for policy in policies {
            policy.tiers.not_serving = all.remove(&policy.name);
            if let Some(why) = refused.remove(&policy.name) {
                policy.checked = Err(PolicyError::TierRefusesNodes(why));
            }
        }
    }

    fn judge_tier(
        &self,
        policies: &[Policy],
        asking: &Policy,
        tier: &Tier,
        members: &[Member],
        findings: &mut Findings,
    ) {
        // Each node has the same options.
        let Some(upstream) = members.first().and_then(|member| {
            let name = member.name(&tier.upstream);
            asking.checked.as_ref().ok()?.profile().upstreams.iter().find(|each| each.name == name)
        }) else {
            return;
        };
        let question = Question { asking, tier, port: upstream.port, key: upstream.key.as_deref() };
        // What the access list of each policy drops is the same for all its nodes.
        let mut lists: BTreeMap<(&str, bool), AccessLists> = BTreeMap::new();
        for member in members.iter().filter(|member| self.nodes.contains_key(&member.node)) {
            let serving = self.in_force.get(member.node.as_str());
            let Some(serving) = serving.and_then(|name| policies.iter().find(|policy| policy.name == **name))
            else {
                findings.not_serving.insert(format!("node {} is under no policy", member.node));
                continue;
            };
            let ipv4 = member.address.is_ipv4();
            let lists = lists
                .entry((&serving.name, ipv4))
                .or_insert_with(|| self.access_lists(&question, serving, ipv4));
            let Some(checked) = serving.checked.as_ref().ok().or(lists.stored.as_ref()) else { continue };
            if let Some(fault) = not_serving(&question, member, serving, checked) {
                findings.not_serving.insert(fault);
            } else if let Some(drop) = lists.present.others(member) {
                let newly_dropped = lists.newly_dropped(member).filter(|_| asking.in_force().is_some());
                if let Some(drop) = newly_dropped {
                    findings.refuse(serving, drop.for_serving(asking));
                } else if runs_as_it_is(asking) {
                    findings.not_serving.insert(drop.told(member, serving));
                } else {
                    findings.refuse(asking, drop.for_asking(&question, member, serving));
                }
            }
        }
    }

    fn access_lists(&self, question: &Question<'_>, serving: &Policy, ipv4: bool) -> AccessLists {
        let stored = self.stored_profile(serving);
        let of = |checked: Option<&Checked>| {
            checked.map(|checked| self.drops(question, checked, ipv4)).unwrap_or_default()
        };
        let edited = serving.checked.as_ref().ok();
        AccessLists {
            present: of(edited.or(stored.as_ref())),
            before: edited.and(stored.as_ref()).map(|before| of(Some(before))),
            stored,
        }
    }

    /// The profile in force of a policy, as it is stored.
    fn stored_profile(&self, policy: &Policy) -> Option<Checked> {
        let name: ProfileName = policy.in_force()?;
        let text = self.profiles.data.get(&name.key()).filter(|text| name.names(text))?;
        profile::check(&toml::from_str(text).ok()?).ok()
    }

    /// What an access list drops of the requests of the asking policy's nodes.
    fn drops(&self, question: &Question<'_>, serving: &Checked, ipv4: bool) -> Drops {
        let place = |source: &Source| match &source.place {
            Place::Server { host } => host.parse().ok(),
            Place::Pool { .. } | Place::Device { .. } => None,
        };
        let upstreams: BTreeSet<IpAddr> = serving.sources().iter().filter_map(place).collect();
        let mut drops = Drops::default();
        let asking = self.in_force.iter().filter(|(_, policy)| **policy == question.asking.name);
        for (node, _) in asking {
            let addresses = self.nodes.get(*node).map(|facts| &facts.addresses);
            let mut addresses = addresses.into_iter().flatten();
            let Some(address) = addresses.find(|address| address.is_ipv4() == ipv4) else { continue };
            let is_upstream = upstreams.contains(address);
            let has_key = question.key.is_some();
            let dropped = profile::drops_request(serving.access(), *address, is_upstream, has_key);
            drops.0.extend(dropped.map(|(source, flag)| (source, flag, (*node).to_owned())));
        }
        drops
    }
}

/// What the access list of a policy drops now, and what its profile in force drops, if the policy is an edit of it.
struct AccessLists {
    present: Drops,
    before: Option<Drops>,
    stored: Option<Checked>,
}

impl AccessLists {
    /// What the list drops only since it was edited.
    fn newly_dropped(&self, member: &Member) -> Option<Drop> {
        let before: BTreeSet<_> = self.before.as_ref()?.0.iter().map(|(.., node)| node).collect();
        self.present.of(|node| *node != member.node && !before.contains(node))
    }
}

/// The nodes whose requests are dropped, each with the entry and the flag.
#[derive(Default)]
struct Drops(Vec<(AccessSource, Flag, String)>);

impl Drops {
    /// Those of other nodes than this one, which does not ask itself.
    fn others(&self, member: &Member) -> Option<Drop> {
        self.of(|node| *node != member.node)
    }

    /// Those of the nodes for which `counts` is true.
    fn of(&self, counts: impl Fn(&String) -> bool) -> Option<Drop> {
        let others: Vec<_> = self.0.iter().filter(|(.., node)| counts(node)).collect();
        let (source, flag, _) = others.first()?;
        let nodes = others.iter().map(|(.., node)| node.clone()).collect();
        Some(Drop { source: *source, flag: *flag, nodes })
    }
}

/// Requests that an access list drops, and the first entry that does so.
struct Drop {
    source: AccessSource,
    flag: Flag,
    nodes: Vec<String>,
}

impl Drop {
    fn entry(&self) -> String {
        let source = match self.source {
            AccessSource::Everybody => "default".to_owned(),
            AccessSource::Upstreams => "source".to_owned(),
            AccessSource::Network(network) => format!("{}/{}", network.address(), network.bits()),
        };
        let flag = format!("{:?}", self.flag).to_lowercase();
        format!("the restrict entry for {source} has {flag}")
    }

    fn nodes(&self) -> String {
        let word = if self.nodes.len() == 1 { "node" } else { "nodes" };
        format!("{word} {}", some(self.nodes.iter().cloned()))
    }

    /// The message for the policy that asks.
    fn for_asking(&self, question: &Question<'_>, member: &Member, serving: &Policy) -> String {
        format!(
            "spec.upstreams[{}].nodes: in policy {} {}, so {} would get no answer from node {}: add an entry for their \
             addresses to that policy",
            question.tier.index,
            serving.name,
            self.entry(),
            self.nodes(),
            member.node
        )
    }

    /// The message for a policy that asks and goes on.
    fn told(&self, member: &Member, serving: &Policy) -> String {
        format!(
            "in policy {} of node {} {}, so {} would get no answer",
            serving.name,
            member.node,
            self.entry(),
            self.nodes()
        )
    }

    /// The message for the policy whose access list was edited.
    fn for_serving(&self, asking: &Policy) -> String {
        format!(
            "spec.restrict: {}, so {} of policy {} would get no answer any more, and that policy asks nodes of this one: \
             add an entry for their addresses",
            self.entry(),
            self.nodes(),
            asking.name
        )
    }
}

/// Returns true if the policy was accepted as it is now, and has a profile.
fn runs_as_it_is(policy: &Policy) -> bool {
    let accepted = condition::find(&policy.status.conditions, ACCEPTED);
    let is_accepted = accepted.is_some_and(|accepted| {
        accepted.status == "True"
            && accepted.observed_generation.is_some()
            && accepted.observed_generation == policy.generation
    });
    is_accepted && policy.in_force().is_some()
}

/// Why a member does not serve what is asked of it.
fn not_serving(
    question: &Question<'_>,
    member: &Member,
    serving: &Policy,
    checked: &Checked,
) -> Option<String> {
    let serve = checked.serve();
    let policy = &serving.name;
    if !serve.enabled {
        return Some(format!("policy {policy} of node {} serves no time (serve.enabled)", member.node));
    }
    if serve.port != question.port {
        return Some(format!(
            "policy {policy} of node {} serves time at port {}, not {}",
            member.node, serve.port, question.port
        ));
    }
    let open = |address: &IpAddr| {
        *address == member.address
            || (address.is_unspecified() && address.is_ipv4() == member.address.is_ipv4())
    };
    if !checked.addresses().iter().any(open) {
        return Some(format!(
            "policy {policy} of node {} does not serve time at {} (serve.addresses)",
            member.node, member.address
        ));
    }
    let has_key = |key: &str| serve.keys.iter().any(|known| known == key);
    question.key.filter(|key| !has_key(key)).map(|_| {
        format!("policy {policy} of node {} does not know the key of keyRef (serve.keys)", member.node)
    })
}
