//! A profile: all that an agent needs to know of a policy, as the operator writes it and the agent reads it (TOML).
//!
//! Raw but typed: `check` looks at ranges and names, and makes types that carry proof.
use contract::{Mode, Span};
use serde::{Deserialize, Serialize};

use crate::{Restrict, Serve, ranges};

/// What one node is to do. Every field has a default but what nobody can guess: the upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Profile {
    /// True if the clock may be moved.
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
    /// The node's time zone, as `Asia/Shanghai`: where /etc/localtime is to lead. Absent: what was there
    /// before is put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// From when on a deviation counts.
    pub thresholds: Thresholds,
}

/// Where time comes from: exactly one of `server`, `pool`, `peer` and `device`.
///
/// What is not said is not written: so a profile keeps its text, and with it its name, when fields are added here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
    ranges::NTP_PORT
}

pub(crate) fn nts_port() -> u16 {
    ranges::NTS_PORT
}

fn min_poll() -> i8 {
    ranges::DEFAULT_POLL.least
}

fn max_poll() -> i8 {
    ranges::DEFAULT_POLL.most
}

/// Serving without upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Stratum {
    /// While no upstream can be judged serve the local clock at this stratum, 1 to 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<u8>,
    /// Of several unsynchronised servers at this stratum that ask each other, the one with the smallest reference id
    /// serves, and the others follow it. Needs `local`.
    #[serde(skip_serializing_if = "is_false")]
    pub orphan: bool,
    /// So long without upstreams before the local clock is served; absent: 64 s, with `orphan` 300 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activate_after: Option<Span>,
}

/// How the clock may be moved.
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
    /// So many sources must agree before the clock is moved, 1 to 16; absent: 1 if there are one or two
    /// beside peers, else 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sources: Option<u8>,
    /// What is done when somebody else moved the clock.
    #[serde(skip_serializing_if = "OnExternalStep::is_default")]
    pub on_external_step: OnExternalStep,
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
            max_distance: ranges::DEFAULT_MAX_DISTANCE,
            min_sources: None,
            on_external_step: OnExternalStep::default(),
            leap: Leap::default(),
        }
    }
}

/// The usual one is not written: agents from before this field would refuse the profile.
fn is_usual_distance(distance: &Span) -> bool {
    *distance == ranges::DEFAULT_MAX_DISTANCE
}

/// What is done when somebody else moved the clock, after the sources were asked anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExternalStep {
    /// Step it back. What was moved is known, so `max_change` bounds only what remains beyond it.
    #[default]
    Restore,
    /// Go on from the new time: what it is off by is slewed, within `max_change`.
    Accept,
    /// Say so, and leave the clock alone until it is right again or the profile changes.
    Report,
}

impl OnExternalStep {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is done about leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Leap {
    /// Who corrects the clock for one.
    pub mode: LeapMode,
    /// True if the upstreams hide them.
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

/// True if leap seconds are smeared: spread over hours in which a second is a little longer.
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
