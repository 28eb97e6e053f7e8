//! The NTP server on each node in a TimeSyncPolicy: access list, rate limit and authentication. `kubectl explain` shows
//! the comments of fields.
use kube::KubeSchema;
use profile::ranges;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    SecretKey, rules,
    upstream::{ntp_port, nts_port},
};

/// An entry of the access list.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::SOURCE_FORM).message("source must be `default`, `source`, an IP address or a CIDR").field_path(".source"),
    validation = Rule::new(rules::NO_HOST_BITS).message("source has host bits set: write the network's own address, as in 10.0.0.0/8").field_path(".source"),
    validation = Rule::new(rules::TEMPLATE_ANSWERS).message("the entry `source` is for the upstreams, and `ignore` would drop their replies").field_path(".flags"),
    validation = Rule::new(rules::TEMPLATE_ANY_PORT).message("the entry `source` applies to every port: remove ntpport").field_path(".flags"),
)]
pub struct Restrict {
    /// The addresses of the entry: `default` (all addresses that no other entry contains), an IP address, a CIDR
    /// (0.0.0.0/0 is all of IPv4), or `source`: the address of each upstream without its own entry, host names and
    /// pools included, so that their replies are accepted although a wider entry has `ignore`.
    #[schemars(length(min = 1, max = 64), regex(pattern = rules::SOURCE))]
    pub source: String,
    /// What is denied or limited. Empty: nothing. The flags are those of ntp.conf: ignore (drop every packet, replies
    /// of upstreams included), noserve (no time), limited (limit the rate, see serve.rateLimit), kod (with limited:
    /// answer a part of the excess with a kiss-o'-death, which asks the client to slow down), noquery (no answers to
    /// ntpq and ntpstat), notrust (drop requests without valid authentication), version (drop NTP versions other than
    /// 4), ntpport (the entry is only for requests from port 123). nomodify, nopeer, noepeer, nomrulist, notrap,
    /// lowpriotrap and mssntp are accepted, but have no effect.
    #[serde(default)]
    #[schemars(length(max = 15))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub flags: Vec<Flag>,
}

/// A flag of ntp.conf's `restrict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// Drop every packet.
    Ignore,
    /// Answer a part of the excess with a kiss-o'-death.
    Kod,
    /// Limit the rate per address.
    Limited,
    /// No effect: there are no traps.
    Lowpriotrap,
    /// No effect: no request is signed by a domain controller.
    Mssntp,
    /// No effect: a packet never creates an association.
    Noepeer,
    /// No effect: nothing can be modified over the network.
    Nomodify,
    /// No effect: the list of clients cannot be queried.
    Nomrulist,
    /// No effect: a packet never creates an association.
    Nopeer,
    /// Drop queries of mode 6 (ntpq, ntpstat).
    Noquery,
    /// Drop time requests.
    Noserve,
    /// No effect: there are no traps.
    Notrap,
    /// Drop requests that are not authenticated.
    Notrust,
    /// Drop packets of another NTP version than 4.
    Version,
    /// The entry is only for packets from source port 123.
    Ntpport,
}

/// The NTP server on each node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::SERVE_ADDRESSES).message("addresses are IP addresses of nodes, as in 192.0.2.1 or 2001:db8::1: no networks, names, multicast, broadcast or link-local addresses").field_path(".addresses"),
    validation = Rule::new(rules::NO_ADDRESS_TWICE).message("an address is listed twice").field_path(".addresses"),
)]
pub struct Serve {
    /// If false, nodes serve no time. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// UDP port. Default: 123.
    #[serde(default = "ntp_port")]
    #[schemars(range(min = ranges::PORT.least, max = ranges::PORT.most))]
    pub port: i32,
    /// The addresses on which time is served. Each node listens on those of them that it has. A node that gets one of them
    /// later, such as a virtual IP, listens on it within a second. `0.0.0.0` stands for all IPv4 addresses, `::` for all IPv6
    /// addresses. If absent, nodes listen on all their addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ranges::MOST_SERVE_ADDRESSES), inner(length(min = 1, max = 45)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub addresses: Option<Vec<String>>,
    /// The rate limit for addresses whose restrict entry has `limited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// The number of threads that answer requests. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = ranges::WORKERS.least, max = ranges::WORKERS.most))]
    pub workers: Option<i32>,
    /// Keys that are shared with clients. A request that is authenticated with one of them gets a reply that is
    /// authenticated with the same key. Each value is one line, as in chrony's key file: `1 AES128 HEX:...` (id, type,
    /// key). Each key must have its own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ranges::MOST_SERVE_KEYS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into(), "key".into()]))]
    pub keys: Option<Vec<SecretKey>>,
    /// Network Time Security (RFC 8915) for clients, which authenticate the node by its certificate. If absent, it is
    /// not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<ServeNts>,
}

fn yes() -> bool {
    true
}

/// Network Time Security of the server. The operator makes the keys of cookies, changes them every day, and distributes
/// them to all nodes. So a client can continue with another node than the one with which it exchanged keys.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServeNts {
    /// Name of a Secret of type kubernetes.io/tls in the operator's namespace, such as cert-manager makes it: the
    /// certificate, for the names by which clients ask the nodes, in tls.crt, and its key in tls.key. A renewed
    /// certificate is distributed to the nodes automatically.
    #[schemars(length(min = 1, max = 189), regex(pattern = rules::SECRET_NAME))]
    pub tls_secret: String,
    /// TCP port of the key exchange, on the same addresses. Default: 4460.
    #[serde(default = "nts_port")]
    #[schemars(range(min = ranges::PORT.least, max = ranges::PORT.most))]
    pub port: i32,
}

/// The rate limit of an address: a token bucket.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// On average one request in this time is answered. A power of two in seconds: 3 means 8 s. Default: 3.
    #[serde(default = "interval")]
    #[schemars(range(min = ranges::RATE_INTERVAL.least, max = ranges::RATE_INTERVAL.most))]
    pub interval: i32,
    /// The number of requests that are answered at once after a long pause. Default: 8.
    #[serde(default = "burst")]
    #[schemars(range(min = ranges::RATE_BURST.least, max = ranges::RATE_BURST.most))]
    pub burst: i32,
    /// Of the requests beyond the limit, one in 2^leak is answered nevertheless, so that an attacker who forges a
    /// client's address cannot cut that client off. Default: 2.
    #[serde(default = "leak")]
    #[schemars(range(min = ranges::RATE_LEAK.least, max = ranges::RATE_LEAK.most))]
    pub leak: i32,
    /// The number of addresses that are remembered on each node. The one that was silent the longest is dropped first.
    /// Default: 16384.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = ranges::MAX_CLIENTS.least, max = ranges::MAX_CLIENTS.most))]
    pub max_clients: Option<i32>,
}

fn interval() -> i32 {
    profile::RateLimit::default().interval.into()
}

fn burst() -> i32 {
    profile::RateLimit::default().burst.into()
}

fn leak() -> i32 {
    profile::RateLimit::default().leak.into()
}
