//! What a profile says of the server on UDP 123: who may ask, how often, and how it proves who it is. Raw but typed, as the
//! rest of the profile.
use serde::{Deserialize, Serialize};

use crate::{profile::nts_port, ranges};

/// One line of the access list; of all that cover an address the most specific alone supplies the flags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restrict {
    /// `default`, an IP address, a CIDR without host bits, or `source`: a template for the addresses of the upstreams.
    pub source: String,
    /// What is denied or limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
}

impl Restrict {
    /// What holds when nothing is said: time for everybody at a limited rate, everything for the node itself.
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
    /// Drop every packet, replies of our own upstreams included.
    Ignore,
    /// Answer part of the excess with a kiss-o'-death; needs `limited`.
    Kod,
    /// Limit the rate per address.
    Limited,
    /// Taken and without effect: there are no traps.
    Lowpriotrap,
    /// Taken and without effect: no request is signed by a domain controller.
    Mssntp,
    /// Taken and without effect: no association is ever made from a packet.
    Noepeer,
    /// Taken and without effect: nothing can be modified over the network.
    Nomodify,
    /// Taken and without effect: the list of clients cannot be asked for.
    Nomrulist,
    /// Taken and without effect: no association is ever made from a packet.
    Nopeer,
    /// Drop queries of mode 6 (`ntpq`, `ntpstat`).
    Noquery,
    /// Drop time requests.
    Noserve,
    /// Taken and without effect: there are no traps.
    Notrap,
    /// Drop requests that are not authenticated.
    Notrust,
    /// Drop packets of another NTP version than 4.
    Version,
    /// The entry is for packets from source port 123 only, and beats its like without this flag.
    Ntpport,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Serve {
    /// True if time is served at all.
    pub enabled: bool,
    /// UDP port.
    pub port: u16,
    /// Addresses of the node on which the port is opened; empty: all. `0.0.0.0` stands for all IPv4 addresses, `::` for all
    /// IPv6 addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Limits for addresses whose entry says `limited`.
    pub rate_limit: RateLimit,
    /// Threads that answer requests, 1 to 16; absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u8>,
    /// Shared keys by which clients may ask for proven answers: names of files in the agent's `keys_directory`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Network Time Security for clients; absent: it is not offered.
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

/// Network Time Security for clients (RFC 8915). Names are those of files in the agent's `keys_directory`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeNts {
    /// The certificate chain (PEM), the server's own first.
    pub certificate: String,
    /// Its private key (PEM).
    pub private_key: String,
    /// Keys that cookies are sealed with, shared by all servers that share the file; absent: keys of the agent's own,
    /// kept in its state.
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
    /// A token comes each 2^interval seconds; -6 to 12.
    pub interval: i8,
    /// Most tokens that an address can have saved; 1 to 255.
    pub burst: u8,
    /// One in 2^leak of the excess is answered all the same, so that a forger cannot silence a client; 1 to 4.
    pub leak: u8,
    /// So many addresses are remembered, 1024 to 1048576; absent: 16384. The one that was silent the longest is
    /// forgotten first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clients: Option<u32>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { interval: 3, burst: 8, leak: 2, max_clients: None }
    }
}
