//! What a TimeSyncPolicy says of the NTP server on each node: who may ask, how often, and how it proves who it is. Texts
//! beside fields become `kubectl explain`.
use kube::KubeSchema;
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
    validation = Rule::new(rules::TEMPLATE_ANSWERS).message("the entry `source` is for the upstreams, and `ignore` would drop their answers").field_path(".flags"),
    validation = Rule::new(rules::TEMPLATE_ANY_PORT).message("the entry `source` is for every port: it takes no ntpport").field_path(".flags"),
)]
pub struct Restrict {
    /// Whom the entry is for: `default` (everybody whom no other entry covers), an IP address, a CIDR (0.0.0.0/0 is
    /// everybody of IPv4), or `source`: the address of each upstream that has no entry of its own, host names and pools
    /// included, so that their answers come in where a wider entry says `ignore`.
    #[schemars(length(min = 1, max = 64), regex(pattern = rules::SOURCE))]
    pub source: String,
    /// What is denied or limited; empty: nothing is. As in ntp.conf: ignore (drop every packet, answers of upstreams
    /// included), noserve (no time), limited (limit the rate, see serve.rateLimit), kod (with limited: tell some of
    /// the excess to slow down), noquery (no answers to ntpq and ntpstat), notrust (drop what is not authenticated),
    /// version (drop NTP versions other than 4), ntpport (the entry is for requests from port 123 only); nomodify, nopeer,
    /// noepeer, nomrulist, notrap, lowpriotrap and mssntp are taken and have nothing to forbid.
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
    /// Answer part of the excess with a kiss-o'-death.
    Kod,
    /// Limit the rate per address.
    Limited,
    /// Without effect: there are no traps.
    Lowpriotrap,
    /// Without effect: no request is signed by a domain controller.
    Mssntp,
    /// Without effect: no association is made from a packet.
    Noepeer,
    /// Without effect: nothing can be modified over the network.
    Nomodify,
    /// Without effect: the list of clients cannot be asked for.
    Nomrulist,
    /// Without effect: no association is made from a packet.
    Nopeer,
    /// Drop queries of mode 6 (ntpq, ntpstat).
    Noquery,
    /// Drop time requests.
    Noserve,
    /// Without effect: there are no traps.
    Notrap,
    /// Drop requests that are not authenticated.
    Notrust,
    /// Drop packets of another NTP version than 4.
    Version,
    /// For packets from source port 123 only.
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
    /// True if time is served at all. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// UDP port. Default: 123.
    #[serde(default = "ntp_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Addresses of the nodes on which time is served. Each node listens on those of them that it has. An address that it
    /// gets later, such as a virtual IP, is served as soon as the node has it. `0.0.0.0` stands for all IPv4 addresses, `::`
    /// for all IPv6 addresses. Absent: all addresses of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 45)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub addresses: Option<Vec<String>>,
    /// Limits for addresses whose restrict entry says `limited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Threads that answer requests. Absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub workers: Option<i32>,
    /// Keys that are shared with clients: a request that is made with one gets an answer that is made with it. Each
    /// value is one line, as in chrony's key file: `1 AES128 HEX:...` (id, type, key); each has an id of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into(), "key".into()]))]
    pub keys: Option<Vec<SecretKey>>,
    /// Network Time Security (RFC 8915) for clients: they know from a certificate whom they ask. Absent: not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<ServeNts>,
}

fn yes() -> bool {
    true
}

/// How the server proves who it is by a certificate. What its cookies are sealed with, the operator makes, changes every
/// day, and gives to all nodes: a client may go on with another node than the one that it began with.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServeNts {
    /// A Secret of type kubernetes.io/tls in the operator's namespace, as cert-manager makes them: the certificate, with
    /// the names that clients know the nodes by, under tls.crt, its key under tls.key. A renewed one reaches the nodes by
    /// itself.
    #[schemars(length(min = 1, max = 189), regex(pattern = rules::SECRET_NAME))]
    pub tls_secret: String,
    /// TCP port of the key exchange, on the same addresses. Default: 4460.
    #[serde(default = "nts_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

/// How much an address may ask: a token bucket.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// One request in so much time is answered in the long run; a power of two in seconds: 3 is 8 s. Default: 3.
    #[serde(default = "interval")]
    #[schemars(range(min = -6, max = 12))]
    pub interval: i32,
    /// So many requests at once are answered after a silence. Default: 8.
    #[serde(default = "burst")]
    #[schemars(range(min = 1, max = 255))]
    pub burst: i32,
    /// Of the excess one request in 2^leak is answered all the same, so that a forger of addresses cannot cut a client
    /// off. Default: 2.
    #[serde(default = "leak")]
    #[schemars(range(min = 1, max = 4))]
    pub leak: i32,
    /// So many addresses are remembered on each node; the one that was silent the longest is forgotten first.
    /// Absent: 16384.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_clients: Option<i32>,
}

fn interval() -> i32 {
    3
}

fn burst() -> i32 {
    8
}

fn leak() -> i32 {
    2
}
