//! The part of a profile for the server on UDP 123: access list, rate limit and authentication. As in the rest of the
//! profile, the types here only give each field its type.
use serde::{Deserialize, Serialize};

use crate::ranges;

/// An entry of the access list. Of all entries that contain an address only the most specific one applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restrict {
    /// `default`, an IP address, a CIDR without host bits, or `source`: a template for the addresses of the upstreams.
    pub source: String,
    /// The flags of these addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
}

impl Restrict {
    /// The access list if the profile has none: time for all addresses at a limited rate, and no limits for the node
    /// itself.
    pub fn safe_default() -> Vec<Self> {
        let entry = |source: &str, flags: &[Flag]| Self { source: source.to_owned(), flags: flags.to_vec() };
        vec![
            entry("default", &[Flag::Kod, Flag::Limited, Flag::Nomodify, Flag::Nopeer, Flag::Noquery]),
            entry("127.0.0.1", &[]),
            entry("::1", &[]),
        ]
    }
}

/// A flag of ntp.conf's `restrict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// Drop every packet, replies of upstreams included.
    Ignore,
    /// Answer a part of the excess with a kiss-o'-death. Requires `limited`.
    Kod,
    /// Limit the rate per address.
    Limited,
    /// Accepted, but has no effect: there are no traps.
    Lowpriotrap,
    /// Accepted, but has no effect: no request is signed by a domain controller.
    Mssntp,
    /// Accepted, but has no effect: a packet never creates an association.
    Noepeer,
    /// Accepted, but has no effect: nothing can be modified over the network.
    Nomodify,
    /// Accepted, but has no effect: the list of clients cannot be queried.
    Nomrulist,
    /// Accepted, but has no effect: a packet never creates an association.
    Nopeer,
    /// Drop queries of mode 6 (`ntpq`, `ntpstat`).
    Noquery,
    /// Drop time requests.
    Noserve,
    /// Accepted, but has no effect: there are no traps.
    Notrap,
    /// Drop requests that are not authenticated.
    Notrust,
    /// Drop packets of another NTP version than 4.
    Version,
    /// The entry is only for packets from source port 123. It takes precedence over an entry for the same network
    /// without this flag.
    Ntpport,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Serve {
    /// True if the agent serves time.
    pub enabled: bool,
    /// UDP port.
    pub port: u16,
    /// Addresses of the node on which the port is opened. If empty, all addresses. `0.0.0.0` stands for all IPv4 addresses, `::` for all
    /// IPv6 addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The rate limit for addresses whose entry has `limited`.
    pub rate_limit: RateLimit,
    /// The number of threads that answer requests, 1 to 16. If absent, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u8>,
    /// Shared keys with which clients can get authenticated replies: names of files in the agent's `keys_directory`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Network Time Security for clients. If absent, it is not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<ServeNts>,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            enabled: true,
            port: ranges::NTP_PORT,
            addresses: Vec::new(),
            rate_limit: RateLimit::default(),
            workers: None,
            keys: Vec::new(),
            nts: None,
        }
    }
}

/// Network Time Security for clients (RFC 8915). Values are names of files in the agent's `keys_directory`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeNts {
    /// The certificate chain (PEM), the server's certificate first.
    pub certificate: String,
    /// Its private key (PEM).
    pub private_key: String,
    /// Keys with which cookies are encrypted, shared by all servers that have the same file. If absent, the agent makes
    /// its own keys and keeps them in its state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_keys: Option<String>,
    /// TCP port of the key exchange.
    #[serde(default = "nts_port")]
    pub port: u16,
}

/// A token bucket per address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimit {
    /// A token is added every 2^interval seconds; -6 to 12.
    pub interval: i8,
    /// The capacity of a bucket, tokens; 1 to 255.
    pub burst: u8,
    /// One in 2^leak of the excess is answered nevertheless, so that an attacker who forges a client's address cannot
    /// cut that client off; 1 to 4.
    pub leak: u8,
    /// The largest number of addresses that are remembered, 1024 to 1048576. If absent, 16384. The address that was
    /// silent the longest is dropped first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clients: Option<u32>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { interval: 3, burst: 8, leak: 2, max_clients: None }
    }
}

fn nts_port() -> u16 {
    ranges::NTS_PORT
}
