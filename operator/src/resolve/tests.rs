//! Tests of the step: policies and nodes in; profiles, statuses and refusals out.
use api::TierMember;

use super::*;
use crate::{fetch::Fetched, validate::validate};

mod world;

use world::World;

const CONTROL_PLANE: &str = "nodeSelector: {matchLabels: {role: control}}, priority: 10";
const TIER: &str = "upstreams: [{name: a, server: 192.0.2.1}, {name: tier, nodes: {selector: {matchLabels: {role: control}}}}]";

/// The sources of a policy that can be rolled out: `name=host`, with `peer` for peers.
fn sources(policy: &Policy) -> Vec<String> {
    let ready = policy.ready().unwrap_or_else(|| panic!("{policy:?}"));
    let upstreams = ready.profile().upstreams.iter();
    let shown = |each: &profile::Upstream| match (&each.server, &each.peer) {
        (Some(server), None) => format!("{}={server}", each.name),
        (None, Some(peer)) => format!("{}=peer {peer}", each.name),
        other => panic!("{other:?}"),
    };
    upstreams.map(shown).collect()
}

fn refusal(policy: &Policy) -> String {
    let error = policy.checked.as_ref().unwrap_err();
    assert_eq!(error.reason(), "TierRefusesNodes", "{error}");
    error.to_string()
}

const OUTSIDE: &str = "upstreams: [{name: o, server: 192.0.2.9}]";

#[test]
fn workers_ask_the_control_plane() {
    let mut world = World::new(OUTSIDE, TIER);
    let found = world.run(0);
    assert_eq!(sources(&found["workers"]), ["a=192.0.2.1", "tier-1=10.0.0.1", "tier-2=10.0.0.2"]);
    assert_eq!(sources(&found["control"]), ["o=192.0.2.9"]);
    assert_eq!(found["control"].tiers.chosen, []);
    let chosen = &found["workers"].tiers.chosen;
    let member = |name: &str, node: &str, address: &str| TierMember {
        name: name.to_owned(),
        node: node.to_owned(),
        address: address.to_owned(),
    };
    assert_eq!(
        *chosen,
        [api::TierStatus {
            upstream: "tier".to_owned(),
            members: vec![member("tier-1", "c1", "10.0.0.1"), member("tier-2", "c2", "10.0.0.2")]
        }]
    );
    assert_eq!(found["workers"].tiers.not_serving, None);
}

#[test]
fn members_have_the_first_address_of_the_clusters_primary_family() {
    let dual = |world: &mut World, ipv6_first: bool| {
        for (name, role, zone, ipv4, ipv6) in [
            ("c1", "control", "z1", "10.0.0.1", "2001:db8::1"),
            ("c2", "control", "z2", "10.0.0.2", "2001:db8::2"),
            ("w1", "worker", "z1", "10.0.1.1", "2001:db8::11"),
        ] {
            let mut addresses = [ipv4, ipv6];
            if ipv6_first {
                addresses.reverse();
            }
            world.node(name, role, zone, &addresses);
        }
        // One node alone says otherwise.
        world.node("w2", "worker", "z2", if ipv6_first { &["10.0.2.2"] } else { &["2001:db8::22"] });
    };
    for (ipv6_first, expected) in [
        (false, ["tier-1=10.0.0.1", "tier-2=10.0.0.2"]),
        (true, ["tier-1=2001:db8::1", "tier-2=2001:db8::2"]),
    ] {
        let mut world = World::new(OUTSIDE, TIER);
        dual(&mut world, ipv6_first);
        assert_eq!(sources(&world.run(0)["workers"])[1..], expected);
    }
}

#[test]
fn nodes_of_the_policy_itself_are_peers() {
    let mut world = World::new(&format!("{TIER}, stratum: {{local: 10, orphan: true}}"), TIER);
    let found = world.run(0);
    assert_eq!(sources(&found["control"]), ["a=192.0.2.1", "tier-1=peer 10.0.0.1", "tier-2=peer 10.0.0.2"]);
    assert_eq!(sources(&found["workers"])[1..], ["tier-1=10.0.0.1", "tier-2=10.0.0.2"]);
    // Of one policy for all nodes, too.
    world.policies.remove(0);
    assert_eq!(sources(&world.run(1)["workers"])[1..], ["tier-1=peer 10.0.0.1", "tier-2=peer 10.0.0.2"]);
}

#[test]
fn a_restart_changes_nothing_and_a_lost_node_is_replaced() {
    let mut world = World::new(OUTSIDE, &TIER.replace("{role: control}}", "{role: control}}, max: 2"));
    let first = sources(&world.run(0)["workers"]);
    // A node that would have been preferred.
    world.node("c0", "control", "z0", &["10.0.0.0"]);
    world.synchronized.insert("c0");
    world.synchronized.insert("c2");
    assert_eq!(sources(&world.run(1)["workers"]), first);
    world.restart();
    assert_eq!(sources(&world.run(2)["workers"]), first);
    assert_eq!(sources(&world.run(61)["workers"]), first, "the hour began with the restart");
    let after = world.run(62);
    assert_eq!(sources(&after["workers"])[1..], ["tier-1=10.0.0.0", "tier-2=10.0.0.2"]);
    world.nodes.remove("c2");
    assert!(world.tiers.concerns("c2", None));
    assert!(!world.tiers.concerns("w1", world.nodes.get("w1").map(|facts| &**facts)));
    let after = world.run(63);
    assert_eq!(sources(&after["workers"])[1..], ["tier-1=10.0.0.0", "tier-2=10.0.0.1"]);
}

#[test]
fn without_a_match_the_set_stays_or_nothing_begins() {
    let missing = TIER.replace("role: control", "role: nobody");
    let mut world = World::new(OUTSIDE, &missing);
    let found = world.run(0);
    assert!(found["workers"].ready().is_none() && found["workers"].checked.is_ok());
    let TierAvailability::Missing(why) = &found["workers"].tiers.availability else { panic!() };
    assert!(why.contains("no node matches spec.upstreams[1].nodes.selector"), "{why}");
    assert!(world.tiers.concerns(
        "x",
        Some(&NodeFacts {
            labels: [("role".to_owned(), "nobody".to_owned())].into(),
            ..NodeFacts::default()
        })
    ));

    world.set("workers", TIER);
    let first = sources(&world.run(1)["workers"]);
    world.set("workers", &missing);
    world.restart();
    let found = world.run(2);
    assert_eq!(sources(&found["workers"]), first);
    assert!(matches!(&found["workers"].tiers.availability, TierAvailability::Kept(_)));
    assert_eq!(found["workers"].tiers.chosen[0].members.len(), 2);
    // A policy without tiers has none in its status.
    world.set("workers", OUTSIDE);
    assert_eq!(world.run(3)["workers"].tiers.chosen, []);
}

#[test]
fn a_refused_edit_keeps_the_set() {
    let mut world = World::new(OUTSIDE, TIER);
    let before = world.run(0)["workers"].tiers.chosen.clone();
    world.set("workers", &format!("{TIER}, clock: {{minSources: 4}}"));
    let found = world.run(1);
    let why = found["workers"].checked.as_ref().unwrap_err().to_string();
    assert!(why.contains("spec.clock.minSources: 4 sources can never agree: only 3"), "{why}");
    assert_eq!(found["workers"].tiers.chosen, before);
    world.set("workers", &format!("{TIER}, restrict: [{{source: 10.0.0.2, flags: [ignore]}}]"));
    let why = world.run(2)["workers"].checked.as_ref().unwrap_err().to_string();
    assert!(why.starts_with("spec.upstreams[1].nodes: 10.0.0.2 is covered by a restrict entry"), "{why}");
}

#[test]
fn one_address_has_one_vote() {
    let two = "upstreams: [{name: t, nodes: {selector: {matchLabels: {role: control}}, max: 1}}, \
               {name: u, nodes: {selector: {matchLabels: {role: control}}}}, {name: b, server: 10.0.0.2}]";
    let mut world = World::new(OUTSIDE, two);
    let found = world.run(0);
    assert!(
        matches!(&found["workers"].tiers.availability, TierAvailability::Missing(_)),
        "none is left for u"
    );
    world.node("c3", "control", "z3", &["10.0.0.3"]);
    assert_eq!(sources(&world.run(1)["workers"]), ["t-1=10.0.0.1", "u-1=10.0.0.3", "b=10.0.0.2"]);
}

#[test]
fn nodes_that_will_not_answer_are_told() {
    let told = |control_plane: &str, tier: &str| {
        let mut world = World::new(control_plane, tier);
        let found = world.run(0);
        assert!(found["workers"].ready().is_some());
        found["workers"].tiers.not_serving.clone().unwrap_or_default()
    };
    assert_eq!(told(OUTSIDE, TIER), "");
    assert_eq!(
        told(&format!("{OUTSIDE}, serve: {{enabled: false}}"), TIER),
        "policy control of node c1 serves no time (serve.enabled), policy control of node c2 serves no time (serve.enabled)"
    );
    assert!(
        told(&format!("{OUTSIDE}, serve: {{port: 1123}}"), TIER)
            .contains("serves time at port 1123, not 123")
    );
    let other_port = TIER.replace("{name: tier,", "{name: tier, port: 1123,");
    assert_eq!(told(&format!("{OUTSIDE}, serve: {{port: 1123}}"), &other_port), "");
    let only = |address: &str| format!("{OUTSIDE}, serve: {{addresses: ['{address}']}}");
    assert!(
        told(&only("10.0.0.1"), TIER)
            .starts_with("policy control of node c2 does not serve time at 10.0.0.2")
    );
    assert_eq!(told(&only("0.0.0.0"), TIER), "");
    let with_key = TIER.replace("{name: tier,", "{name: tier, keyRef: {name: s, key: k},");
    assert!(told(OUTSIDE, &with_key).contains("policy control of node c2 does not know the key of keyRef"));
    let closed = format!(
        "{OUTSIDE}, restrict: [{{source: default, flags: [notrust]}}], serve: {{keys: [{{name: s, key: k}}]}}"
    );
    assert_eq!(told(&closed, &with_key), "");
    let mut world = World::new(OUTSIDE, TIER);
    world.policies.remove(0);
    world.set("workers", &format!("nodeSelector: {{matchLabels: {{role: worker}}}}, {TIER}"));
    let found = world.run(0);
    let why = found["workers"].tiers.not_serving.clone().unwrap();
    assert_eq!(why, "node c1 is under no policy, node c2 is under no policy");
}

/// Every example of a tier, in a cluster of three control-plane nodes and a worker.
#[test]
fn the_examples_become_profiles() {
    let resolved = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let mut world = World::new("mode: Observe", "mode: Observe");
        world.nodes.clear();
        for (name, address) in
            [("c1", "10.20.0.11"), ("c2", "10.20.0.12"), ("c3", "10.20.0.13"), ("w", "10.20.1.1")]
        {
            world.node(name, "any", "z", &[address]);
            let facts = Arc::make_mut(world.nodes.get_mut(name).unwrap());
            if name != "w" {
                facts.labels.insert("node-role.kubernetes.io/control-plane".to_owned(), String::new());
            }
        }
        let policies = text.split("\n---\n").map(|policy| Arc::new(serde_norway::from_str(policy).unwrap()));
        let mut validated = validate(Fetched { policies: policies.collect(), ..Fetched::default() });
        let cluster = ClusterNodes { nodes: &world.nodes, readiness: &|_| Readiness::Present };
        Tiers::default().resolve(&mut validated, &cluster, world.start);
        for policy in &validated.policies {
            assert!(policy.checked.as_ref().unwrap().hints().is_empty(), "{file}: {policy:?}");
            assert_eq!(policy.tiers.not_serving, None, "{file}");
        }
        let named = |policy: Policy| {
            // The Secrets are not what this is about.
            let profile = policy.checked.unwrap().profile().clone();
            let hosts = profile.upstreams.into_iter().map(|each| match (each.server, each.peer) {
                (Some(host), None) => host,
                (None, Some(host)) => format!("peer {host}"),
                other => panic!("{other:?}"),
            });
            (policy.name, hosts.collect::<Vec<_>>().join(", "))
        };
        validated.policies.into_iter().map(named).collect::<BTreeMap<_, _>>()
    };
    let control_plane = resolved("tiers-control-plane.yaml");
    assert_eq!(control_plane["default"], "10.20.0.11, 10.20.0.12, 10.20.0.13");
    assert!(control_plane["control-plane"].starts_with("nts1.example.com, "));
    let air_gapped = resolved("tiers-air-gapped.yaml");
    assert_eq!(air_gapped["default"], "10.20.0.11, 10.20.0.12, 10.20.0.13");
    assert_eq!(air_gapped["reference"], "peer 10.20.0.11, peer 10.20.0.12, peer 10.20.0.13");
}

const CLOSED: &str =
    "restrict: [{source: default, flags: [kod, limited]}, {source: 10.0.2.0/24, flags: [noserve]}]";

#[test]
fn a_policy_that_asks_nodes_which_refuse_it_is_refused() {
    let mut world = World::new(&format!("{OUTSIDE}, {CLOSED}"), TIER);
    let found = world.run(0);
    assert_eq!(
        refusal(&found["workers"]),
        "spec.upstreams[1].nodes: in policy control the restrict entry for 10.0.2.0/24 has noserve, so node w2 would get \
         no answer from node c1: add an entry for their addresses to that policy"
    );
    assert!(found["control"].ready().is_some() && found["workers"].tiers.chosen.is_empty());
    world.set(
        "control",
        &format!("{CONTROL_PLANE}, {OUTSIDE}, {CLOSED}").replace("10.0.2.0/24", "10.0.3.0/24"),
    );
    assert_eq!(sources(&world.run(1)["workers"]).len(), 3);
    let flags = |flags: &str| {
        let closed =
            format!("{OUTSIDE}, restrict: [{{source: default, flags: [{flags}]}}, {{source: 192.0.2.0/24}}]");
        World::new(&closed, TIER).run(0)["workers"].checked.is_ok()
    };
    assert!(flags("kod, limited, noquery, nomodify, version") && flags("ntpport, noserve"));
    assert!(!flags("ignore") && !flags("notrust"));
}

#[test]
fn an_edit_that_would_shut_workers_out_is_refused() {
    let mut world = World::new(OUTSIDE, TIER);
    let before = world.run(0);
    world.set("control", &format!("{CONTROL_PLANE}, {OUTSIDE}, {CLOSED}"));
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        let found = world.run(1);
        assert_eq!(
            refusal(&found["control"]),
            "spec.restrict: the restrict entry for 10.0.2.0/24 has noserve, so node w2 of policy workers would get no \
             answer any more, and that policy asks nodes of this one: add an entry for their addresses"
        );
        assert_eq!(sources(&found["workers"]), sources(&before["workers"]));
        assert_eq!(found["workers"].tiers.not_serving, None);
    }
    // As soon as no policy asks its nodes, the edit is accepted.
    world.set("workers", OUTSIDE);
    assert!(world.run(2)["control"].ready().is_some());
    // And then it is the policy that asks which has to wait.
    world.set("workers", TIER);
    assert!(refusal(&world.run(3)["workers"]).contains("node w2"));
}

#[test]
fn a_node_that_joins_does_not_refuse_a_policy_that_runs() {
    let open = "restrict: [{source: default, flags: [noserve]}, {source: 10.0.0.0/16}]";
    let mut world = World::new(&format!("{OUTSIDE}, {open}"), TIER);
    let before = world.run(0);
    assert!(before["workers"].ready().is_some() && before["control"].ready().is_some());
    world.node("w3", "worker", "z1", &["10.1.0.5"]);
    for minute in 1..4 {
        let found = world.run(minute);
        assert_eq!(sources(&found["workers"]), sources(&before["workers"]));
        assert!(found["control"].ready().is_some());
        let told = found["workers"].tiers.not_serving.clone().unwrap();
        let why = "in policy control of node c1 the restrict entry for default has noserve, so node w3 would get no answer";
        assert!(told.starts_with(why), "{told}");
    }
    // One node without an answer is no reason to take it from the others.
    world.set(
        "control",
        &format!("{CONTROL_PLANE}, {OUTSIDE}, restrict: [{{source: default, flags: [noserve]}}]"),
    );
    let why = refusal(&world.run(4)["control"]);
    assert!(why.contains("so nodes w1, w2 of policy workers would get no answer any more"), "{why}");
    world.set("control", &format!("{CONTROL_PLANE}, {OUTSIDE}, {open}"));
    assert!(world.run(5)["control"].ready().is_some());
    // An edit of the policy that asks is refused, and stays so.
    world.set("workers", &TIER.replace("192.0.2.1}", "192.0.2.7}"));
    for minute in 6..8 {
        assert!(refusal(&world.run(minute)["workers"]).contains("node w3"));
    }
}
