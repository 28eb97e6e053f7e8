//! A profile: what an agent needs of a policy, as the operator writes it and the agent reads it (TOML).
//!
//! The types here only give each field its type. `check` checks ranges and names, and makes types that guarantee them.
use contract::{Mode, Span};
use serde::{Deserialize, Serialize};

use crate::{Restrict, Serve, ranges};

/// The configuration of one node. Every field has a default except the upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Profile {
    /// Discipline moves the clock; Observe only measures.
    pub mode: Mode,
    /// The sources of time, at most 16.
    pub upstreams: Vec<Upstream>,
    /// The access list. Empty means [`Restrict::safe_default`].
    pub restrict: Vec<Restrict>,
    /// The local clock: how the node serves time without usable upstreams.
    pub stratum: Stratum,
    /// The server on UDP 123.
    pub serve: Serve,
    /// How the clock is corrected.
    pub clock: Clock,
    /// How the hardware clock is written.
    pub rtc: Rtc,
    /// The node's time zone, such as `Asia/Shanghai`: the target of /etc/localtime. If absent, the former target is
    /// restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The thresholds at which a deviation counts.
    pub thresholds: Thresholds,
}

/// A source of time: exactly one of `server`, `pool`, `peer` and `device`.
///
/// Absent fields are not written. So a profile keeps its text, and therefore its name, when fields are added here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// Name, unique within the profile.
    pub name: String,
    /// Host name or IP address of one server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Host name that resolves to several servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The largest number of servers of the pool that are asked, 1 to 16. If absent, 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sources: Option<u8>,
    /// Host name or IP address of a server that has this node as its upstream, too, like `peer` in ntp.conf. Each of
    /// the two asks the other as a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// A hardware clock of the node, such as /dev/ptp0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// UDP port.
    #[serde(default = "ntp_port")]
    pub port: u16,
    /// Send a burst while the server is not reached.
    #[serde(default)]
    pub iburst: bool,
    /// Send several requests at each poll.
    #[serde(default, skip_serializing_if = "is_false")]
    pub burst: bool,
    /// Use interleaved mode (RFC 9769), or basic mode if the server does not support it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub interleaved: bool,
    /// Select this source while it agrees with the majority.
    #[serde(default)]
    pub prefer: bool,
    /// Trusted: sources without `trust` must agree with it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub trust: bool,
    /// Select no source unless at least one required source agrees.
    #[serde(default, skip_serializing_if = "is_false")]
    pub require: bool,
    /// Measure and report this source, but never select it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub noselect: bool,
    /// Shortest poll interval, log2 seconds, 0 to 17.
    #[serde(default = "min_poll")]
    pub min_poll: i8,
    /// Longest poll interval, log2 seconds, 0 to 17.
    #[serde(default = "max_poll")]
    pub max_poll: i8,
    /// Authenticate its replies with a shared key: the name of a file in the agent's `keys_directory`, with one line
    /// `id type key` as in chrony's key file. Cannot be combined with `nts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Authenticate its replies with Network Time Security. Then `server` is the server of the key exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nts: Option<Nts>,
}

/// Network Time Security (RFC 8915).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Nts {
    /// A file in the agent's `keys_directory` with the only certificates (PEM) to trust. If absent, the public
    /// certificate authorities are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// TCP port of the key exchange.
    pub port: u16,
}

impl Default for Nts {
    fn default() -> Self {
        Self { ca: None, port: ranges::NTS_PORT }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn ntp_port() -> u16 {
    ranges::NTP_PORT
}

fn min_poll() -> i8 {
    ranges::DEFAULT_POLL.least
}

fn max_poll() -> i8 {
    ranges::DEFAULT_POLL.most
}

/// The local clock: how the node serves time without usable upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Stratum {
    /// The stratum, 1 to 15, at which the local clock is served while no upstream is usable. If absent, it is not
    /// served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<u8>,
    /// Orphan mode: of several unsynchronised servers at this stratum that ask each other, the one with the smallest
    /// reference id serves, and the others follow it. Requires `local`.
    #[serde(skip_serializing_if = "is_false")]
    pub orphan: bool,
    /// The time without usable upstreams before the local clock is served. If absent, 64 s, with `orphan` 300 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activate_after: Option<Span>,
}

/// How the clock is corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Clock {
    /// Steps in the start phase.
    pub step: Step,
    /// Largest slew, parts per million, 1 to 100000.
    pub max_slew_rate: u32,
    /// Largest correction after the first synchronisation of this boot.
    pub max_change: Span,
    /// Largest root distance at which a source is used, 1ms to 16s.
    #[serde(skip_serializing_if = "is_usual_distance")]
    pub max_distance: Span,
    /// The number of sources that must agree before the clock is corrected, 1 to 16. If absent, 1 if there are one or
    /// two sources other than peers, else 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sources: Option<u8>,
    /// What happens after another process has stepped the clock.
    #[serde(skip_serializing_if = "OnExternalStep::is_default")]
    pub on_external_step: OnExternalStep,
    /// How leap seconds are applied.
    #[serde(skip_serializing_if = "Leap::is_default")]
    pub leap: Leap,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            step: Step::default(),
            max_slew_rate: 500,
            max_change: Span::from_secs(1000),
            max_distance: ranges::DEFAULT_MAX_DISTANCE,
            min_sources: None,
            on_external_step: OnExternalStep::default(),
            leap: Leap::default(),
        }
    }
}

/// The default is not written: agents from before this field would reject the profile.
fn is_usual_distance(distance: &Span) -> bool {
    *distance == ranges::DEFAULT_MAX_DISTANCE
}

/// What happens after another process has stepped the clock, once the sources were asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExternalStep {
    /// Step the clock back. The size of the jump is known, so `max_change` bounds only the part of the offset beyond
    /// it.
    #[default]
    Restore,
    /// Continue from the new time. The offset is slewed, within `max_change`.
    Accept,
    /// Report it, and leave the clock as it is until it is right again or the profile changes.
    Report,
}

impl OnExternalStep {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How leap seconds are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Leap {
    /// What corrects the clock for a leap second.
    pub mode: LeapMode,
    /// Upstreams that smear leap seconds.
    pub smear: Smear,
}

impl Leap {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What corrects the clock for a leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeapMode {
    /// The kernel, in the second itself.
    #[default]
    Kernel,
    /// The agent, by a step.
    Step,
    /// The agent, by a slew afterwards.
    Slew,
    /// Nothing. The offset is corrected once it is measured.
    Ignore,
}

/// Which upstreams smear leap seconds, which means that they spread the leap second over hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Smear {
    /// No upstream smears.
    #[default]
    None,
    /// All upstreams smear in the same way, and announce no leap second.
    Upstream,
}

/// Steps in the start phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Step {
    /// A larger offset is stepped, a smaller one slewed.
    pub threshold: Span,
    /// The largest number of steps per boot of the node. 0 means never.
    pub limit: u32,
}

impl Default for Step {
    fn default() -> Self {
        Self { threshold: Span::from_millis(10), limit: 3 }
    }
}

/// How the hardware clock is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rtc {
    /// What writes it.
    pub mode: RtcMode,
}

/// What writes the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RtcMode {
    /// The kernel, every 11 minutes while the clock is synchronised.
    #[default]
    Kernel,
    /// The agent, too: once the clock is synchronised, and then whenever the hardware clock is off. The agent reads it
    /// back at the edge of its second.
    Verified,
}

/// The thresholds at which a deviation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Thresholds {
    /// Threshold of a node's offset.
    pub offset: Span,
    /// Threshold of a node's error bound. If the bound is larger, the node is unsynchronised.
    pub error_bound: Span,
    /// Threshold of the difference between two nodes.
    pub spread: Span,
    /// The time for which a deviation of offset or spread must last.
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
            maxSlewRate = 5000
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
            maxSources = 3
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
            minSources = 2
            leap = { mode = "Slew", smear = "Upstream" }
        "#;
        let profile: Profile = toml::from_str(text).unwrap();
        let again: Profile = toml::from_str(&toml::to_string(&profile).unwrap()).unwrap();
        assert_eq!(again, profile);
        assert_eq!(profile.clock.leap, Leap { mode: LeapMode::Slew, smear: Smear::Upstream });
    }

    /// The name of a profile contains the hash of its text, so an upgrade must not change the text of every profile.
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
            "minSources",
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
