//! Why upstreams give no time: from a source in a NodeClock to what happens to its datagrams. The agent's messages say
//! what is so; this file adds what it means, and commands to find out more.
use api::{NodeClockStatus, SourceStatus, Upstream, nts_port};

use crate::{
    why::cause::{Action, Chain, Severity, Subject},
    words::sentence,
};

/// Returns true if it answers, and can be used.
pub(crate) fn gives_time(source: &SourceStatus) -> bool {
    source.reach != "0" && !matches!(source.state.as_str(), "Unusable" | "Unresolved" | "Unreachable")
}

/// Its name, with its address.
pub(super) fn named(source: &SourceStatus) -> String {
    match &source.address {
        Some(address) if *address != source.name => format!("{} ({address})", source.name),
        _ => source.name.clone(),
    }
}

/// Adds the causes of all upstreams that give no time, below the last cause.
pub(super) fn lost(subject: &Subject<'_>, status: &NodeClockStatus, chain: Chain) -> Chain {
    let depth = chain.below();
    let lost: Vec<_> = status.sources.iter().filter(|source| !gives_time(source)).collect();
    add(subject, &lost, depth, chain)
}

/// The chain if some upstreams are not used although the clock follows others.
pub(super) fn some_unused(subject: &Subject<'_>, status: &NodeClockStatus) -> Option<Chain> {
    let is_wrong = |source: &&SourceStatus| {
        !gives_time(source) && source.state != "Measuring" || source.state == "Falseticker"
    };
    let wrong: Vec<_> = status.sources.iter().filter(is_wrong).collect();
    if wrong.is_empty() || wrong.len() == status.sources.len() {
        return None;
    }
    let what = format!("{} of {} upstreams are not used.", wrong.len(), status.sources.len());
    let chain = Chain::new(Severity::Degraded, "SomeUpstreamsUnused", what)
        .means("The clock follows the others. If they fail too, it is in holdover.");
    Some(add(subject, &wrong, 1, chain))
}

/// A cause for each group of upstreams with the same message.
fn add(subject: &Subject<'_>, sources: &[&SourceStatus], depth: usize, mut chain: Chain) -> Chain {
    let mut groups: Vec<(&'static Diagnosis, String, Vec<&SourceStatus>)> = Vec::new();
    for source in sources {
        let diagnosis = diagnose(source);
        let message = said(source);
        match groups.iter_mut().find(|(known, text, _)| known.id == diagnosis.id && *text == message) {
            Some((_, _, members)) => members.push(source),
            None => groups.push((diagnosis, message, vec![source])),
        }
    }
    for (diagnosis, message, members) in groups {
        let names: Vec<_> = members.iter().map(|source| named(source)).collect();
        chain = chain
            .because(depth, diagnosis.id, format!("{}: {message}", names.join(", ")))
            .means(diagnosis.means);
        for todo in diagnosis.todo {
            chain = chain.act(filled(subject, members[0], todo));
        }
    }
    chain
}

/// What the agent says of it, or its state.
fn said(source: &SourceStatus) -> String {
    match (&source.message, source.state.as_str()) {
        (Some(message), _) => sentence(message),
        (None, "Falseticker") => "It contradicts the majority of the upstreams.".to_owned(),
        (None, state) => format!("{state}."),
    }
}

/// The action, with `{server}`, `{address}`, `{port}`, `{exchange_port}` (of keys), `{offset}` and `{query}` (a command of
/// the agent) replaced. The command follows a line break.
fn filled(subject: &Subject<'_>, source: &SourceStatus, todo: &str) -> Action {
    let upstream = upstream_of(subject, &source.name);
    let server = upstream.and_then(|each| each.server.as_ref().or(each.pool.as_ref()).or(each.peer.as_ref()));
    let address = source.address.as_deref().filter(|address| is_host(address));
    let address = address.or(server.map(String::as_str)).unwrap_or("ADDRESS");
    let port = upstream.map_or(123, |upstream| upstream.port);
    let nts = upstream.and_then(|upstream| upstream.nts.as_ref());
    let exchange_port = nts.map_or_else(nts_port, |nts| nts.port);
    let fill = |text: &str| {
        text.replace("{query}", &subject.on_agent("query {address}"))
            .replace("{server}", server.map_or(address, String::as_str))
            .replace("{address}", address)
            .replace("{port}", &port.to_string())
            .replace("{exchange_port}", &exchange_port.to_string())
            .replace("{offset}", source.offset.as_deref().unwrap_or("an unknown length"))
    };
    match todo.split_once('\n') {
        Some((text, command)) => Action { text: fill(text), command: Some(fill(command)) },
        None => Action { text: fill(todo), command: None },
    }
}

/// Returns true if the text can be part of a command. It comes from a node, and a user may paste the command.
fn is_host(text: &str) -> bool {
    !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || ".:%_-[]".contains(c))
}

/// The entry of the policy. A server of a pool has a number after its name.
fn upstream_of<'a>(subject: &Subject<'a>, name: &str) -> Option<&'a Upstream> {
    let name = name.split('#').next().unwrap_or(name);
    subject.policy()?.spec.upstreams.as_ref()?.iter().find(|upstream| upstream.name == name)
}

/// What a message of the agent means.
struct Diagnosis {
    id: &'static str,
    /// Words of the agent's message, all of them.
    marks: &'static [&'static str],
    means: &'static str,
    todo: &'static [&'static str],
}

fn diagnose(source: &SourceStatus) -> &'static Diagnosis {
    let message = source.message.as_deref().unwrap_or_default();
    let by_message = DIAGNOSES.iter().find(|each| each.marks.iter().all(|mark| message.contains(mark)));
    by_message.filter(|_| !message.is_empty()).unwrap_or(match source.state.as_str() {
        "Falseticker" => &FALSETICKER,
        "Measuring" => &MEASURING,
        "Unreachable" => &SILENT,
        _ => &OTHER,
    })
}

const SILENT: Diagnosis = Diagnosis {
    id: "NoReply",
    marks: &["It does not answer"],
    means: "Requests leave the node, and no datagram comes back: the server is down, or a firewall on the way drops UDP.",
    todo: &[
        "Ask it once more from this node.\n{query}",
        "Let UDP port {port} through from the node to {address} and back: security groups, firewalls, network policies.",
        "Do other nodes reach it? If none does, look at the server itself.",
    ],
};

const FALSETICKER: Diagnosis = Diagnosis {
    id: "Falseticker",
    marks: &["contradicts"],
    means: "The majority of the upstreams tells another time, so this one is outvoted and not followed.",
    todo: &["It differs from this clock by {offset}: repair that server, or remove it from the policy."],
};

const MEASURING: Diagnosis = Diagnosis {
    id: "Measuring",
    marks: &["samples yet"],
    means: "A few answers are needed before it is used.",
    todo: &[],
};

const OTHER: Diagnosis =
    Diagnosis { id: "NotUsed", marks: &["\0"], means: "", todo: &["Ask it from this node.\n{query}"] };

/// In this order: the first whose words are in the message applies. A message about a key exchange can contain the words
/// of a later one.
const DIAGNOSES: &[Diagnosis] = &[
    Diagnosis {
        id: "NTSCertificate",
        marks: &["Key exchange with", "certificate"],
        means: "Without a key exchange there are no cookies, so no authenticated request can be sent to it.",
        todo: &[
            "Look at the certificate.\nopenssl s_client -connect {server}:{exchange_port} -alpn ntske/1 </dev/null | openssl x509 -noout -dates \
             -issuer -ext subjectAltName",
            "Expired or not valid yet: renew it, and make sure that the node's own date is about right. Another name: put the \
             certificate's name into the policy. Not trusted: name the authority's certificate in nts.ca.",
        ],
    },
    Diagnosis {
        id: "NTSKeyExchange",
        marks: &["Key exchange with"],
        means: "Without a key exchange there are no cookies, so no authenticated request can be sent to it.",
        todo: &[
            "Let TCP port {exchange_port} through from the node to {server}, and make sure that the server speaks NTS.",
        ],
    },
    Diagnosis {
        id: "NotAuthentic",
        marks: &["fail authentication"],
        means: "It answers, but not with the key of the policy. An attacker may be forging its answers.",
        todo: &[
            "Compare id, type and octets of the key on the server with those in the Secret that the policy names.",
        ],
    },
    Diagnosis {
        id: "KeyUnusable",
        marks: &["Key file"],
        means: "No request can be authenticated, so none is sent.",
        todo: &[
            "Correct the value in the Secret that the policy names: one line `id type key`, such as `1 AES128 HEX:…`.",
        ],
    },
    Diagnosis {
        id: "NameUnresolved",
        marks: &["does not resolve"],
        means: "Without an address no request can be sent to it.",
        todo: &[
            "Check the name in the policy: {server}.",
            "Ask the resolver that the agent uses, on the node.\ngetent hosts {server}",
            "If it is the name of a Service of the cluster, set agent.dnsPolicy: ClusterFirstWithHostNet in the chart's values.",
        ],
    },
    Diagnosis {
        id: "NameLookedUp",
        marks: &["is being looked up"],
        means: "Without an address no request can be sent to it.",
        todo: &[
            "Repeat this command in a minute. If it is still so, the resolver of the node does not answer.",
        ],
    },
    SILENT,
    Diagnosis {
        id: "PortClosed",
        marks: &["ECONNREFUSED"],
        means: "The host answers by ICMP that nothing listens on that port.",
        todo: &["Start the NTP server on {address}, or correct address and port in the policy."],
    },
    Diagnosis {
        id: "SendForbidden",
        marks: &["EPERM"],
        means: "The datagrams do not leave the node.",
        todo: &["Let UDP port {port} out, in the firewall of the node and in network policies."],
    },
    Diagnosis {
        id: "NoRoute",
        marks: &["no route"],
        means: "The datagrams do not leave the node.",
        todo: &["Look at the routes, on the node.\nip route get {address}"],
    },
    Diagnosis {
        id: "StrayReplies",
        marks: &["none of them answers a request"],
        means: "A device on the way changes or repeats datagrams, or an attacker forges answers.",
        todo: &["Capture the datagrams, on the node.\ntcpdump -ni any udp port {port} and host {address}"],
    },
    Diagnosis {
        id: "UpstreamUnsynchronized",
        marks: &["is not synchronised"],
        means: "It says itself (leap indicator 3, or stratum 0 or 16) that its own clock is not right.",
        todo: &[
            "Find out why on that server (`ntpq -p`, `chronyc tracking`), or name another one in the policy.",
            "See its answer.\n{query}",
        ],
    },
    Diagnosis {
        id: "UpstreamUnsynchronized",
        marks: &["16 s or more"],
        means: "Its own distance from a reference clock is so large that NTP counts it as not synchronised.",
        todo: &[
            "Find out why on that server (`ntpq -p`, `chronyc tracking`), or name another one in the policy.",
            "See its answer.\n{query}",
        ],
    },
    Diagnosis {
        id: "UpstreamTooDistant",
        marks: &["root distance"],
        means: "It answers, but may itself be wrong by more than the policy allows for a source.",
        todo: &[
            "Name a server nearer to a reference clock. If this one is what there is (a Windows domain controller, for example), \
             raise clock.maxDistance and thresholds.errorBound.",
        ],
    },
    Diagnosis {
        id: "RateLimited",
        marks: &["RATE"],
        means: "It refuses requests that come too often. Many nodes behind one address count as one client.",
        todo: &["Raise minPoll in the policy, or let a few nodes ask it, and the others ask those nodes."],
    },
    Diagnosis {
        id: "Denied",
        marks: &["refuses to serve"],
        means: "Its access rules exclude the address from which the node asks.",
        todo: &["Allow the node's address on {server} (`restrict` in ntp.conf, `allow` in chrony.conf)."],
    },
    Diagnosis {
        id: "IgnoredHere",
        marks: &["flag ignore"],
        means: "The policy's own access list drops its answers.",
        todo: &["Change spec.restrict of the policy as the message says."],
    },
    Diagnosis {
        id: "FollowsThisNode",
        marks: &["It follows this clock"],
        means: "Its time is this node's own, so it cannot correct it.",
        todo: &["Give {server} an upstream of its own that is not this node."],
    },
    MEASURING,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent's words, from its sources: a message that changes there must change here.
    #[test]
    fn the_agent_says_these_words() {
        let sources = [
            include_str!("../../../crates/ntp/src/source/cause.rs"),
            include_str!("../../../agent/src/auth.rs"),
            include_str!("../../../agent/src/auth/exchange/client.rs"),
            include_str!("../../../agent/src/report/words.rs"),
        ];
        let says =
            |mark: &str| sources.iter().any(|text| text.replace("\\\n                 ", "").contains(mark));
        for mark in DIAGNOSES.iter().flat_map(|each| each.marks).chain([&super::super::clock::CORRECTING]) {
            assert!(says(mark), "no agent says {mark:?}");
        }
    }

    #[test]
    fn a_key_exchange_that_fails_for_a_name_is_no_unresolved_name() {
        let source = |state: &str, message: &str| SourceStatus {
            state: state.to_owned(),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            ..SourceStatus::default()
        };
        let check = |state: &str, message: &str, expected: &str| {
            assert_eq!(diagnose(&source(state, message)).id, expected, "{message}");
        };
        check(
            "Unusable",
            "Key exchange with a (TCP port 4460): the name does not resolve: x.",
            "NTSKeyExchange",
        );
        check(
            "Unusable",
            "Key exchange with a (TCP port 4460): the certificate has expired.",
            "NTSCertificate",
        );
        check("Unresolved", "The name a does not resolve: x.", "NameUnresolved");
        check("Unreachable", "", "NoReply");
        check("Falseticker", "", "Falseticker");
        check("Unusable", "Something new.", "NotUsed");
    }
}
