//! An upstream of a TimeSyncPolicy: whom or what nodes ask for the time, how, and how it proves who it is. Texts beside
//! fields become `kubectl explain`.
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Where time comes from: exactly one of server, pool, peer and device.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::ONE_PLACE).message("an upstream is exactly one of server, pool, peer and device").field_path(".server"),
    validation = Rule::new(rules::MAX_SOURCES_OF_POOL).message("maxSources is for a pool").field_path(".maxSources"),
    validation = Rule::new("self.minPoll <= self.maxPoll").message("minPoll must not be larger than maxPoll (absent, they are 4 and 6)").field_path(".minPoll"),
    validation = Rule::new(rules::NOSELECT_ALONE).message("noselect excludes prefer, trust and require: the upstream is never followed").field_path(".noselect"),
    validation = Rule::new(rules::ONE_PROOF).message("nts and keyRef exclude each other: a server proves who it is in one way").field_path(".nts"),
    validation = Rule::new(rules::NO_PROOF_OF_DEVICE).message("a device takes neither nts nor keyRef: there is nobody to prove anything").field_path(".device"),
    validation = Rule::new(rules::NTS_NEEDS_NAME).message("nts needs a host name, no address: certificates are for names").field_path(".nts"),
)]
pub struct Upstream {
    /// A name of your choice, unique in the policy: a label of metrics, and SOURCE in `kubectl get nclk`.
    #[schemars(length(min = 1, max = 32), regex(pattern = rules::UPSTREAM_NAME))]
    pub name: String,
    /// Host name or IP address of one server. A name is looked up on each node, and again once a day, when the server stops
    /// answering, and at once when it is not believed. One address and port has one vote, however many names lead there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(rules::SERVER).message("server must be a host name, or an IP address in its usual form, as in ntp.example.com, 192.0.2.10 or 2001:db8::1, without brackets; a port goes into the field port"),
        validation = Rule::new(rules::NOT_LINK_LOCAL).message("server must not be a link-local IPv6 address (fe80::), which means another host behind each interface: use a global or unique local address of that server, or its name"),
        validation = Rule::new(rules::ONE_SERVER).message("server must be the address of one server: an unspecified address (0.0.0.0, ::) is the node itself, and a broadcast or multicast address is that of many"),
        validation = Rule::new(rules::NO_CLOCK_DRIVER).message("server must not be in 127.127.0.0/16, ntp.conf's names for clocks of the machine: instead of 127.127.1.x write stratum.local, and for a PTP clock an upstream with device"),
    )]
    pub server: Option<String>,
    /// Host name that stands for several servers. Up to maxSources of them are asked, each with a vote of its own; one
    /// that falls silent or lies is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::POOL).message("pool must be a host name, as in pool.example.com; a port goes into the field port"))]
    pub pool: Option<String>,
    /// So many servers of the pool are asked at most. Absent: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub max_sources: Option<i32>,
    /// Host name or IP address of a server that in turn has this node among its upstreams, as ntp.conf's `peer`: each asks
    /// the other, and one that has lost all others follows it. A node never follows itself, or who follows it; so one list
    /// with all of them serves a group of nodes: each leaves out itself, and says so. With stratum.orphan they are those
    /// who elect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(rules::SERVER).message("peer must be a host name, or an IP address in its usual form, as in ntp.example.com, 192.0.2.10 or 2001:db8::1, without brackets; a port goes into the field port"),
        validation = Rule::new(rules::NOT_LINK_LOCAL).message("peer must not be a link-local IPv6 address (fe80::), which means another host behind each interface: use a global or unique local address of that server, or its name"),
        validation = Rule::new(rules::ONE_SERVER).message("peer must be the address of one server: an unspecified address (0.0.0.0, ::) is the node itself, and a broadcast or multicast address is that of many"),
        validation = Rule::new(rules::NO_CLOCK_DRIVER).message("peer must not be in 127.127.0.0/16, ntp.conf's names for clocks of the machine: instead of 127.127.1.x write stratum.local, and for a PTP clock an upstream with device"),
    )]
    pub peer: Option<String>,
    /// A PTP hardware clock of the node, such as /dev/ptp0, which something else keeps right, in UTC: a network card that
    /// is synchronised, or the host of a virtual machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 40), regex(pattern = rules::DEVICE))]
    pub device: Option<String>,
    /// UDP port of the server, pool or peer. Default: 123.
    #[serde(default = "ntp_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Ask eight times in quick succession when the server is not, or no longer, reached: a clock is right within
    /// seconds of the start instead of minutes. Default: false.
    #[serde(default)]
    pub iburst: bool,
    /// Ask several times in quick succession at each poll, for ways with much jitter. For servers of your own only:
    /// it is several times the load. Default: false.
    #[serde(default)]
    pub burst: bool,
    /// Ask for interleaved answers (RFC 9769), which tell exactly when the server sent the one before. For servers of
    /// your own that know it, such as chronyd, on a LAN where microseconds count; others answer as always.
    /// Default: false.
    #[serde(default)]
    pub interleaved: bool,
    /// Follow this server while it agrees with the majority. For one upstream at most. Default: false.
    #[serde(default)]
    pub prefer: bool,
    /// It is known to tell the truth: upstreams without trust are followed only where they agree with those that have
    /// it, however many they are. Where some upstreams prove who they are (nts, keyRef) and others do not, those that
    /// do have trust and require by themselves. Default: false.
    #[serde(default)]
    pub trust: bool,
    /// Unless one of the upstreams with require can be followed, none is. Default: false.
    #[serde(default)]
    pub require: bool,
    /// Measure and report it, and never follow it. Default: false.
    #[serde(default)]
    pub noselect: bool,
    /// Shortest interval between requests, as a power of two in seconds: 4 is 16 s. Default: 4.
    #[serde(default = "min_poll")]
    #[schemars(range(min = 0, max = 17))]
    pub min_poll: i32,
    /// Longest interval between requests, as a power of two in seconds: 6 is 64 s. Default: 6.
    #[serde(default = "max_poll")]
    #[schemars(range(min = 0, max = 17))]
    pub max_poll: i32,
    /// Network Time Security (RFC 8915): the server proves who it is by a certificate. An empty object trusts the
    /// public authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<Nts>,
    /// A key that is shared with the server: answers that are not made with it do not count. The value is one line, as in
    /// chrony's key file: `1 AES128 HEX:...` (id, type, key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<SecretKey>,
}

/// How a server proves who it is by certificates.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nts {
    /// Certificates (PEM) to trust instead of the public authorities, for servers with a certificate of your own
    /// making.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
    /// TCP port of the key exchange. Default: 4460.
    #[serde(default = "nts_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

pub(crate) fn nts_port() -> i32 {
    4460
}

/// A value in a Secret in the operator's namespace. The operator hands it to the agents; a change of it as well.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret, in the operator's namespace. It has the label timesync.dev/keys: "true".
    #[schemars(length(min = 1, max = 189), regex(pattern = rules::SECRET_NAME))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::SECRET_KEY))]
    pub key: String,
}

pub(crate) fn ntp_port() -> i32 {
    123
}

fn min_poll() -> i32 {
    4
}

fn max_poll() -> i32 {
    6
}
