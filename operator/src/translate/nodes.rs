//! Translates upstreams with `nodes`: the tiers that a spec has, and the upstreams of the profile that the nodes of a
//! tier become. Pure.
use profile::{
    Profile, Upstream,
    ranges::{LONGEST_NAME_OF_NODES, MAX_NODES},
};

use crate::{
    tier::{Member, Tier, source_name},
    translate::{
        field::{FieldError, fit},
        label_selector::label_selector,
    },
};

/// The upstreams with nodes of a spec.
pub(crate) fn tiers(spec: &api::TimeSyncPolicySpec) -> Result<Vec<Tier>, FieldError> {
    let listed = spec.upstreams.iter().flatten().enumerate();
    let mut tiers = Vec::new();
    for (index, upstream) in listed {
        let Some(api::UpstreamNodes { selector, max }) = &upstream.nodes else { continue };
        tiers.push(Tier {
            upstream: upstream.name.clone(),
            index,
            selector: label_selector(&format!("upstreams[{index}].nodes.selector"), selector)?,
            most: fit(&format!("upstreams[{index}].nodes.max"), *max)?,
        });
    }
    for (index, upstream) in spec.upstreams.iter().flatten().enumerate() {
        let taken = |tier: &&Tier| {
            (MAX_NODES.least..=MAX_NODES.most).any(|slot| source_name(&tier.upstream, slot) == upstream.name)
        };
        if let Some(tier) = tiers.iter().find(taken) {
            let why = format!(
                "{:?} is the name of a node of {:?}: the nodes of an upstream have its name with a hyphen and a digit",
                upstream.name, tier.upstream
            );
            return Err(FieldError::new(format!("upstreams[{index}].name"), why));
        }
    }
    Ok(tiers)
}

/// The upstreams of the profile for this one of the spec: itself, or as many as it may have nodes.
pub(super) fn expected(
    index: usize,
    upstream: &api::Upstream,
    translated: Upstream,
) -> Result<Vec<Upstream>, FieldError> {
    let Some(api::UpstreamNodes { selector: _, max }) = &upstream.nodes else { return Ok(vec![translated]) };
    let field = |name: &str| format!("upstreams[{index}].{name}");
    let api::Upstream { server, pool, peer, device, .. } = upstream;
    if [server, pool, peer, device].into_iter().any(Option::is_some) {
        return Err(FieldError::new(
            field("server"),
            "set exactly one of server, peer, pool, nodes and device",
        ));
    }
    if upstream.nts.is_some() {
        return Err(FieldError::new(
            field("nts"),
            "cannot be combined with nodes, which are asked at their addresses: certificates are for names",
        ));
    }
    if upstream.prefer {
        return Err(FieldError::new(
            field("prefer"),
            "cannot be combined with nodes, which are several sources: use trust",
        ));
    }
    if upstream.name.len() > LONGEST_NAME_OF_NODES {
        return Err(FieldError::new(
            field("name"),
            format!(
                "{:?} is longer than {LONGEST_NAME_OF_NODES} characters: each node gets it with a hyphen and a digit",
                upstream.name
            ),
        ));
    }
    let most: u8 = fit(&field("nodes.max"), *max)?;
    if !MAX_NODES.contains(&most) {
        return Err(FieldError::new(field("nodes.max"), format!("{most} is not within {MAX_NODES}")));
    }
    let unknown = |slot| Upstream {
        name: source_name(&upstream.name, slot),
        server: Some(format!("node-{slot}.{}.invalid", upstream.name)),
        ..translated.clone()
    };
    Ok((1..=most).map(unknown).collect())
}

/// The profile with the nodes of each tier in place of those expected. A node of the policy itself is a peer: it has no
/// time before the others have.
pub(crate) fn with_members(
    profile: &Profile,
    tiers: &[Tier],
    members: &[Vec<Member>],
    is_of_policy: &dyn Fn(&Member) -> bool,
) -> Profile {
    let expected = Counts::expected(tiers);
    let mut upstreams = Vec::new();
    let mut done = None;
    for (position, upstream) in profile.upstreams.iter().enumerate() {
        let (index, _) = expected.origin(position);
        let Some((tier, members)) = tiers.iter().zip(members).find(|(tier, _)| tier.index == index) else {
            upstreams.push(upstream.clone());
            continue;
        };
        if done.replace(index) == Some(index) {
            continue;
        }
        upstreams.extend(members.iter().map(|member| {
            let (host, peer) = (Some(member.address.to_string()), is_of_policy(member));
            Upstream {
                name: member.name(&tier.upstream),
                server: if peer { None } else { host.clone() },
                peer: if peer { host } else { None },
                ..upstream.clone()
            }
        }));
    }
    Profile { upstreams, ..profile.clone() }
}

/// How many upstreams of a profile each upstream with nodes became, by its index in the spec.
#[derive(Debug, Default)]
pub(crate) struct Counts(pub(crate) Vec<(usize, usize)>);

impl Counts {
    /// Those of a profile in which each tier has as many nodes as it may have.
    pub(crate) fn expected(tiers: &[Tier]) -> Self {
        Self(tiers.iter().map(|tier| (tier.index, tier.most.into())).collect())
    }

    /// The index in the spec of an upstream of the profile, and whether it is a node.
    fn origin(&self, position: usize) -> (usize, bool) {
        let (mut index, mut start) = (0, 0);
        loop {
            let of_tier = self.0.iter().find(|(tier, _)| *tier == index);
            start += of_tier.map_or(1, |(_, count)| *count);
            if position < start {
                return (index, of_tier.is_some());
            }
            index += 1;
        }
    }

    /// The field of the spec for a field of the profile.
    pub(super) fn in_the_spec(&self, field: &str) -> String {
        let parts = field.strip_prefix("upstreams[").and_then(|rest| rest.split_once(']'));
        let Some((position, rest)) = parts.and_then(|(n, rest)| Some((n.parse().ok()?, rest))) else {
            return field.to_owned();
        };
        let (index, is_node) = self.origin(position);
        let rest = match rest {
            ".server" | ".peer" if is_node => ".nodes",
            _ => rest,
        };
        format!("upstreams[{index}]{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::profile as translate_profile;

    const SPEC: &str = "{upstreams: [{name: a, server: h}, {name: t, nodes: {selector: {matchLabels: {l: v}}, max: 3}, \
                        port: 1123, iburst: true, trust: true, keyRef: {name: s, key: k}}, {name: b, pool: p}, \
                        {name: u, nodes: {selector: {}}}, {name: c, peer: q}]}";

    fn spec(yaml: &str) -> api::TimeSyncPolicySpec {
        serde_norway::from_str(yaml).unwrap()
    }

    fn member(slot: u8, node: &str, address: &str) -> Member {
        Member { slot, node: node.to_owned(), address: address.parse().unwrap() }
    }

    #[test]
    fn each_node_is_an_upstream_with_the_options_of_its_tier() {
        let spec = spec(SPEC);
        let (profile, tiers) = (translate_profile(&spec).unwrap(), tiers(&spec).unwrap());
        assert_eq!(profile.upstreams.len(), 3 + 3 + 5);
        assert_eq!(
            tiers.iter().map(|tier| (tier.upstream.as_str(), tier.index, tier.most)).collect::<Vec<_>>(),
            [("t", 1, 3), ("u", 3, 5)]
        );
        let members = [
            vec![member(2, "n2", "192.0.2.2"), member(3, "n3", "192.0.2.3")],
            vec![member(1, "n1", "2001:db8::1")],
        ];
        let whole = with_members(&profile, &tiers, &members, &|member| member.node == "n3");
        let names: Vec<_> = whole.upstreams.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(names, ["a", "t-2", "t-3", "b", "u-1", "c"]);
        let of_server =
            "name = 't-2'\nserver = '192.0.2.2'\nport = 1123\niburst = true\ntrust = true\nkey = 's_k'";
        assert_eq!(whole.upstreams[1], toml::from_str(of_server).unwrap());
        let of_peer =
            "name = 't-3'\npeer = '192.0.2.3'\nport = 1123\niburst = true\ntrust = true\nkey = 's_k'";
        assert_eq!(whole.upstreams[2], toml::from_str(of_peer).unwrap());
        assert!(profile::check(&whole).is_ok());
    }

    #[test]
    fn fields_of_the_profile_are_told_as_fields_of_the_spec() {
        let counts = Counts(vec![(1, 2), (3, 1)]);
        for (of_profile, of_spec) in [
            ("upstreams[0].server", "upstreams[0].server"),
            ("upstreams[1].server", "upstreams[1].nodes"),
            ("upstreams[2].peer", "upstreams[1].nodes"),
            ("upstreams[2].minPoll", "upstreams[1].minPoll"),
            ("upstreams[3].name", "upstreams[2].name"),
            ("upstreams[4].server", "upstreams[3].nodes"),
            ("upstreams[5].peer", "upstreams[4].peer"),
            ("upstreams", "upstreams"),
            ("serve.port", "serve.port"),
        ] {
            assert_eq!(counts.in_the_spec(of_profile), of_spec);
        }
        // A tier without nodes.
        assert_eq!(Counts(vec![(0, 0)]).in_the_spec("upstreams[0].name"), "upstreams[1].name");
    }

    #[test]
    fn what_nodes_cannot_be_combined_with_is_refused() {
        let why = |fields: &str| {
            let spec = spec(&format!("{{upstreams: [{{name: t, nodes: {{selector: {{}}}}, {fields}}}]}}"));
            translate_profile(&spec).unwrap_err().to_string()
        };
        assert!(why("server: h").starts_with("spec.upstreams[0].server: set exactly one"));
        assert!(why("nts: {}").starts_with("spec.upstreams[0].nts: cannot be combined with nodes"));
        assert!(why("prefer: true").starts_with("spec.upstreams[0].prefer: cannot be combined with nodes"));
        let long = "a".repeat(31);
        let spec_of = |name: &str, max: i32| {
            spec(&format!("{{upstreams: [{{name: {name}, nodes: {{selector: {{}}, max: {max}}}}}]}}"))
        };
        let why = |spec: &api::TimeSyncPolicySpec| translate_profile(spec).map_err(|error| error.to_string());
        assert!(why(&spec_of(&long, 5)).unwrap_err().contains("is longer than 30 characters"));
        assert!(why(&spec_of(&long[..30], 8)).is_ok());
        for max in [0, 9] {
            let expected = format!("spec.upstreams[0].nodes.max: {max} is not within 1 to 8");
            assert_eq!(why(&spec_of("t", max)), Err(expected));
        }
        let named = |other: &str| {
            let spec = spec(&format!(
                "{{upstreams: [{{name: {other}, server: h}}, {{name: t, nodes: {{selector: {{}}, max: 2}}}}]}}"
            ));
            tiers(&spec).map(drop).map_err(|error| error.to_string())
        };
        assert!(
            named("t-8")
                .unwrap_err()
                .starts_with("spec.upstreams[0].name: \"t-8\" is the name of a node of \"t\"")
        );
        for other in ["t-9", "t-0", "t-10", "t-", "tt-1", "t1"] {
            assert_eq!(named(other), Ok(()), "{other}");
        }
        let bad = spec("{upstreams: [{name: t, nodes: {selector: {matchLabels: {a b: c}}}}]}");
        let why = tiers(&bad).unwrap_err().to_string();
        assert!(why.starts_with("spec.upstreams[0].nodes.selector.matchLabels: \"a b\""), "{why}");
    }
}
