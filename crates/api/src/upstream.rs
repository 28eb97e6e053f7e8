//! An upstream of a TimeSyncPolicy: a source of time, how nodes ask it, and how its replies are authenticated. `kubectl
//! explain` shows the comments of fields.
use kube::KubeSchema;
use profile::ranges;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{LabelSelector, rules};

/// A source of time: exactly one of server, pool, peer, nodes and device.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::ONE_PLACE).message("set exactly one of server, pool, peer, nodes and device").field_path(".server"),
    validation = Rule::new(rules::MAX_SOURCES_OF_POOL).message("maxSources is only for a pool").field_path(".maxSources"),
    validation = Rule::new("self.minPoll <= self.maxPoll").message("minPoll must not be larger than maxPoll (defaults: 4 and 6)").field_path(".minPoll"),
    validation = Rule::new(rules::NOSELECT_ALONE).message("noselect cannot be combined with prefer, trust and require: the upstream is never selected").field_path(".noselect"),
    validation = Rule::new(rules::ONE_PROOF).message("nts and keyRef cannot be combined: a server is authenticated in one way").field_path(".nts"),
    validation = Rule::new(rules::NO_PROOF_OF_DEVICE).message("a device cannot have nts or keyRef: it is not authenticated").field_path(".device"),
    validation = Rule::new(rules::NO_NTS_OF_NODES).message("nts cannot be combined with nodes, which are asked at their addresses: certificates are for names; use keyRef").field_path(".nts"),
    validation = Rule::new(rules::NO_PREFERRED_NODES).message("prefer cannot be combined with nodes, which are several sources: use trust").field_path(".prefer"),
    validation = Rule::new(rules::NAME_OF_NODES).message("the name of an upstream with nodes must have at most 30 characters: each node gets this name with a hyphen and a digit, as in tier-1").field_path(".name"),
    validation = Rule::new(rules::NTS_NEEDS_NAME).message("nts requires a host name, not an address: certificates are for names").field_path(".nts"),
)]
pub struct Upstream {
    /// A name of your choice, unique in the policy. It is a label of metrics, and the column SOURCE of `kubectl get
    /// nclk`.
    #[schemars(length(min = 1, max = ranges::LONGEST_NAME), regex(pattern = rules::UPSTREAM_NAME))]
    pub name: String,
    /// Host name or IP address of one server. Each node looks the name up: at the start, once a day, when the server
    /// stops answering, and at once when the server is not believed. One address and port has one vote, also if several
    /// names resolve to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(rules::SERVER).message("server must be a host name, or an IP address in its usual form, as in ntp.example.com, 192.0.2.10 or 2001:db8::1, without brackets; write the port in the field port"),
        validation = Rule::new(rules::NOT_LINK_LOCAL).message("server must not be a link-local IPv6 address (fe80::), which is a different host on each interface: use a global or unique local address of that server, or its name"),
        validation = Rule::new(rules::ONE_SERVER).message("server must be the address of one server: an unspecified address (0.0.0.0, ::) is the node itself, and a broadcast or multicast address is not one server"),
        validation = Rule::new(rules::NO_CLOCK_DRIVER).message("server must not be in 127.127.0.0/16, ntp.conf's names for clocks of the machine: instead of 127.127.1.x write stratum.local, and for a PTP clock an upstream with device"),
    )]
    pub server: Option<String>,
    /// Host name that resolves to several servers. Up to maxSources of them are asked, and each has its own vote. A
    /// server that stops answering or is a falseticker is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::POOL).message("pool must be a host name, as in pool.example.com; write the port in the field port"))]
    pub pool: Option<String>,
    /// The largest number of servers of the pool that are asked. Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = ranges::MAX_SOURCES.least, max = ranges::MAX_SOURCES.most))]
    pub max_sources: Option<i32>,
    /// Host name or IP address of a server that has this node among its upstreams, too, like `peer` in ntp.conf. Each
    /// of the two asks the other. If one loses all its other upstreams, it follows the other. A node never follows
    /// itself, nor a node that follows it. So a group of nodes can use one list of all its members: each node skips
    /// itself, and reports that. With stratum.orphan the peers elect the node that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(rules::SERVER).message("peer must be a host name, or an IP address in its usual form, as in ntp.example.com, 192.0.2.10 or 2001:db8::1, without brackets; write the port in the field port"),
        validation = Rule::new(rules::NOT_LINK_LOCAL).message("peer must not be a link-local IPv6 address (fe80::), which is a different host on each interface: use a global or unique local address of that server, or its name"),
        validation = Rule::new(rules::ONE_SERVER).message("peer must be the address of one server: an unspecified address (0.0.0.0, ::) is the node itself, and a broadcast or multicast address is not one server"),
        validation = Rule::new(rules::NO_CLOCK_DRIVER).message("peer must not be in 127.127.0.0/16, ntp.conf's names for clocks of the machine: instead of 127.127.1.x write stratum.local, and for a PTP clock an upstream with device"),
    )]
    pub peer: Option<String>,
    /// Nodes of this cluster, whose agents are asked at their InternalIP: a tier between the servers outside and the
    /// other nodes. All nodes of the policy ask the same ones, and status.tiers names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<UpstreamNodes>,
    /// A PTP hardware clock of the node, such as /dev/ptp0. It must have UTC, and be kept right by something else: by a
    /// synchronised network card, or by the host of a virtual machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 40), regex(pattern = rules::DEVICE))]
    pub device: Option<String>,
    /// UDP port of the server, pool, peer or nodes. Default: 123.
    #[serde(default = "ntp_port")]
    #[schemars(range(min = ranges::PORT.least, max = ranges::PORT.most))]
    pub port: i32,
    /// Send eight requests in quick succession while the server is not reached. So a clock is right within seconds
    /// after the start instead of minutes. Default: false.
    #[serde(default)]
    pub iburst: bool,
    /// Send several requests in quick succession at each poll. Useful for network paths with much jitter. Use it only
    /// with your own servers, since it multiplies their load. Default: false.
    #[serde(default)]
    pub burst: bool,
    /// Use interleaved mode (RFC 9769), in which a reply contains the exact time at which the server sent the previous
    /// reply. Useful with your own servers that support it, such as chronyd, on a LAN where microseconds matter. Other
    /// servers answer in basic mode. Default: false.
    #[serde(default)]
    pub interleaved: bool,
    /// Select this upstream while it agrees with the majority. At most one upstream may have prefer. Default: false.
    #[serde(default)]
    pub prefer: bool,
    /// Trusted upstreams decide alone: upstreams without trust are used only if they agree with the trusted ones,
    /// regardless of their number. If some upstreams have authentication (nts, keyRef) and others do not, those with
    /// authentication get trust and require automatically. Default: false.
    #[serde(default)]
    pub trust: bool,
    /// No upstream is selected unless at least one upstream with require agrees. Default: false.
    #[serde(default)]
    pub require: bool,
    /// Measure and report this upstream, but never select it. Default: false.
    #[serde(default)]
    pub noselect: bool,
    /// Shortest interval between requests, as a power of two in seconds: 4 means 16 s. Default: 4.
    #[serde(default = "min_poll")]
    #[schemars(range(min = ranges::POLL.least, max = ranges::POLL.most))]
    pub min_poll: i32,
    /// Longest interval between requests, as a power of two in seconds: 6 means 64 s. Default: 6.
    #[serde(default = "max_poll")]
    #[schemars(range(min = ranges::POLL.least, max = ranges::POLL.most))]
    pub max_poll: i32,
    /// Authenticate the server with Network Time Security (RFC 8915), by its certificate. An empty object trusts the
    /// public certificate authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<Nts>,
    /// Authenticate the server with a shared key: replies without a valid MAC are not used. The value is one line, as
    /// in chrony's key file: `1 AES128 HEX:...` (id, type, key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<SecretKey>,
}

/// Nodes of the cluster whose agents are asked.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamNodes {
    /// Selects the nodes by their labels. Use labels that a kubelet cannot set on its own Node, so that a node cannot
    /// make itself a source of time: node-role.kubernetes.io/... or node-restriction.kubernetes.io/... The policy of
    /// these nodes must serve time at this upstream's port.
    #[schemars(schema_with = "short_selector")]
    #[x_kube(merge_strategy = StructMerge::Atomic)]
    pub selector: LabelSelector,
    /// The largest number of nodes that are asked. If the selector matches more, the operator chooses them, spread over
    /// zones (topology.kubernetes.io/zone), and keeps them: it replaces one whose Node or address is gone, or that was
    /// not synchronised for an hour while others were. Default: 5.
    #[serde(default = "max_nodes")]
    #[schemars(range(min = ranges::MAX_NODES.least, max = ranges::MAX_NODES.most))]
    pub max: i32,
}

/// There may be 16 of these selectors, so each has fewer requirements: otherwise its rules would cost too much.
fn short_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = LabelSelector::json_schema(generator);
    if let Some(most) = schema.pointer_mut("/properties/matchExpressions/maxItems") {
        *most = 16.into();
    }
    schema
}

fn max_nodes() -> i32 {
    ranges::DEFAULT_MAX_NODES.into()
}

/// Network Time Security of an upstream.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nts {
    /// Certificates (PEM) to trust instead of the public certificate authorities, for servers with a certificate of
    /// your own authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
    /// TCP port of the key exchange. Default: 4460.
    #[serde(default = "nts_port")]
    #[schemars(range(min = ranges::PORT.least, max = ranges::PORT.most))]
    pub port: i32,
}

/// The TCP port of the key exchange unless a policy names another one (RFC 8915 §6).
pub fn nts_port() -> i32 {
    ranges::NTS_PORT.into()
}

/// A value in a Secret in the operator's namespace. The operator distributes the value and its changes to the agents.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret in the operator's namespace. The Secret must have the label timesync.dev/keys: "true".
    #[schemars(length(min = 1, max = 189), regex(pattern = rules::SECRET_NAME))]
    pub name: String,
    /// The key in the data of the Secret.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::SECRET_KEY))]
    pub key: String,
}

pub(crate) fn ntp_port() -> i32 {
    ranges::NTP_PORT.into()
}

fn min_poll() -> i32 {
    ranges::DEFAULT_POLL.least.into()
}

fn max_poll() -> i32 {
    ranges::DEFAULT_POLL.most.into()
}
