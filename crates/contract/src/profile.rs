//! A profile: all that an agent needs to know of a policy, as the operator writes it and the agent reads it (TOML).
//!
//! Raw but typed: ranges and names are checked by the agent's `check`, which makes types that carry proof.
use serde::{Deserialize, Serialize};

use crate::Span;

/// What one node is to do. Every field has a default but what nobody can guess: the upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Whether the clock may be moved.
    pub mode: Mode,
    /// Where time comes from, at most 16.
    pub upstreams: Vec<Upstream>,
    /// Who may do what; empty means [`Restrict::safe_default`].
    pub restrict: Vec<Restrict>,
    /// Serving without upstreams.
    pub stratum: Stratum,
    /// The server on UDP 123.
    pub serve: Serve,
    /// How the clock may be moved.
    pub clock: Clock,
    /// What happens to the hardware clock.
    pub rtc: Rtc,
    /// From when on a deviation counts.
    pub thresholds: Thresholds,
}

/// Whether the clock may be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Measure, report, and steer the clock.
    #[default]
    Discipline,
    /// Measure and report; move nothing.
    Observe,
}

/// Where time comes from: exactly one of `server`, `pool`, `peer` and `device`.
///
/// What is not said is not written: so a profile keeps its text, and with it its name, when fields are added here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Name, unique within the profile.
    pub name: String,
    /// Host name or IP address of one server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Host name that stands for several servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// So many servers of the pool at most, 1 to 16; absent: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sources: Option<u8>,
    /// Host name or IP address of a server that in turn has this node as its upstream, as ntp.conf's `peer`. Each of
    /// the two asks the other as a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// A hardware clock of the node, such as /dev/ptp0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// UDP port.
    #[serde(default = "ntp_port")]
    pub port: u16,
    /// Send a burst when the server is not yet, or no longer, reached.
    #[serde(default)]
    pub iburst: bool,
    /// Send several requests at each poll.
    #[serde(default, skip_serializing_if = "is_false")]
    pub burst: bool,
    /// Ask in interleaved mode (RFC 9769), and take basic answers from who does not know that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub interleaved: bool,
    /// Follow this one while it agrees with the majority.
    #[serde(default)]
    pub prefer: bool,
    /// Known to tell the truth: those that are not must agree with it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub trust: bool,
    /// Without one of those that are required nothing is followed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub require: bool,
    /// Measure and report it, and never follow it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub noselect: bool,
    /// Shortest poll interval, log2 seconds, 0 to 17.
    #[serde(default = "min_poll")]
    pub min_poll: i8,
    /// Longest poll interval, log2 seconds, 0 to 17.
    #[serde(default = "max_poll")]
    pub max_poll: i8,
    /// Its answers must prove that they know a shared key: the name of a file in the agent's `keys_directory`, with
    /// one line `id type key` as in chrony's key file. Excludes `nts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its answers must be proven by Network Time Security; `server` is who answers the key exchange then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<Nts>,
}

/// Network Time Security (RFC 8915).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nts {
    /// A file in the agent's `keys_directory` with the only certificates (PEM) to trust; absent: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// TCP port of the key exchange.
    pub port: u16,
}

impl Default for Nts {
    fn default() -> Self {
        Self { ca: None, port: nts_port() }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn ntp_port() -> u16 {
    123
}

// 16 s to 64 s: with longer polls a jittery LAN does not reach 0.1 ms.
fn min_poll() -> i8 {
    4
}

fn max_poll() -> i8 {
    6
}

/// One line of the access list; of all that cover an address the most specific alone supplies the flags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// Serving without upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stratum {
    /// While unsynchronised serve the local clock at this stratum, 1 to 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<u8>,
    /// Of several unsynchronised servers at this stratum that ask each other, the one with the smallest reference id
    /// serves, and the others follow it. Needs `local`.
    #[serde(skip_serializing_if = "is_false")]
    pub orphan: bool,
    /// So long without upstreams before the local clock is served; absent: at once, with `orphan` 300 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activate_after: Option<Span>,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// Whether time is served at all.
    pub enabled: bool,
    /// UDP port.
    pub port: u16,
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
            port: 123,
            rate_limit: RateLimit::default(),
            workers: None,
            keys: Vec::new(),
            nts: None,
        }
    }
}

/// Network Time Security for clients (RFC 8915). Names are those of files in the agent's `keys_directory`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

fn nts_port() -> u16 {
    4460
}

/// A token bucket per address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
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

/// How the clock may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clock {
    /// Steps in the start phase.
    pub step: Step,
    /// Largest slew, parts per million, 1 to 100000.
    pub max_slew_rate: u32,
    /// Largest correction after the first synchronisation of this boot.
    pub max_change: Span,
    /// So many sources must agree before the clock is moved, 1 to 16; absent: 1 if there are one or two, else 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sources: Option<u8>,
    /// What is done about leap seconds.
    #[serde(skip_serializing_if = "Leap::is_default")]
    pub leap: Leap,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            step: Step::default(),
            max_slew_rate: 500,
            max_change: Span::from_secs(1000),
            min_sources: None,
            leap: Leap::default(),
        }
    }
}

/// What is done about leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leap {
    /// Who corrects the clock for one.
    pub mode: LeapMode,
    /// Whether the upstreams hide them.
    pub smear: Smear,
}

impl Leap {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who corrects the clock for a leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeapMode {
    /// The kernel, in the second itself.
    #[default]
    Kernel,
    /// The agent, by a step.
    Step,
    /// The agent, by a slew afterwards.
    Slew,
    /// Nobody: the offset is corrected when it is seen.
    Ignore,
}

/// Whether leap seconds are smeared: spread over hours in which a second is a little longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Smear {
    /// Nobody smears.
    #[default]
    None,
    /// All upstreams do, alike, and announce no leap second.
    Upstream,
}

/// Steps in the start phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// A larger offset is stepped, a smaller one slewed.
    pub threshold: Span,
    /// So many steps per boot of the node; 0 for never.
    pub limit: u32,
}

impl Default for Step {
    fn default() -> Self {
        Self { threshold: Span::from_millis(10), limit: 3 }
    }
}

/// What happens to the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtc {
    /// Who writes it.
    pub mode: RtcMode,
}

/// Who writes the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RtcMode {
    /// The kernel, every 11 minutes while it believes the clock synchronised.
    #[default]
    Kernel,
    /// The agent too, once synchronised and then whenever it is off, read back on the tick's edge.
    Verified,
}

/// From when on a deviation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Of a node's offset.
    pub offset: Span,
    /// Of a node's error bound: beyond it the node is unsynchronised.
    pub error_bound: Span,
    /// Of the difference between nodes.
    pub spread: Span,
    /// For so long a deviation of offset or spread must last.
    pub hold: Span,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            offset: Span::from_millis(50),
            error_bound: Span::from_millis(200),
            spread: Span::from_millis(50),
            hold: Span::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_survives_toml() {
        let text = r#"
            [[upstreams]]
            name = "a"
            server = "192.0.2.10"
            iburst = true
            [[restrict]]
            source = "10.0.0.0/8"
            flags = ["ignore"]
            [clock]
            max_slew_rate = 5000
        "#;
        let profile: Profile = toml::from_str(text).unwrap();
        assert_eq!((profile.upstreams[0].port, profile.upstreams[0].min_poll), (123, 4));
        assert_eq!(profile.clock.step, Step::default());
        let again: Profile = toml::from_str(&toml::to_string(&profile).unwrap()).unwrap();
        assert_eq!(again, profile);
    }

    #[test]
    fn every_field_of_an_upstream_survives_toml() {
        let text = r#"
            [[upstreams]]
            name = "p"
            pool = "pool.example.com"
            max_sources = 3
            burst = true
            interleaved = true
            trust = true
            require = true
            nts = { ca = "site_ca.pem" }
            [[upstreams]]
            name = "d"
            device = "/dev/ptp0"
            noselect = true
            [[upstreams]]
            name = "k"
            server = "192.0.2.10"
            key = "site_one"
            [clock]
            min_sources = 2
            leap = { mode = "Slew", smear = "Upstream" }
        "#;
        let profile: Profile = toml::from_str(text).unwrap();
        let again: Profile = toml::from_str(&toml::to_string(&profile).unwrap()).unwrap();
        assert_eq!(again, profile);
        assert_eq!(profile.clock.leap, Leap { mode: LeapMode::Slew, smear: Smear::Upstream });
    }

    /// A profile's name is the hash of its text: an upgrade must not give every profile another one.
    #[test]
    fn what_is_not_said_is_not_written() {
        let profile: Profile = toml::from_str("[[upstreams]]\nname = \"a\"\nserver = \"b\"").unwrap();
        let text = toml::to_string(&profile).unwrap();
        for word in [
            "pool",
            "device",
            "key",
            "nts",
            "burst = false\nt",
            "interleaved",
            "trust",
            "noselect",
            "leap",
            "min_sources",
        ] {
            assert!(!text.contains(word), "{word} in\n{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let error = toml::from_str::<Profile>("[clock]\nmax_slewrate = 5").unwrap_err().to_string();
        assert!(error.contains("max_slewrate"), "{error}");
    }
}
