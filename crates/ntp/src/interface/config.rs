//! The configuration of the engine. Its values are checked before, so the engine never rejects one.

/// The configuration of the engine. The agent makes it from a profile that passed its checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// True if the clock may be moved.
    pub mode: Mode,
    /// The upstreams, in the user's order. Names are unique.
    pub sources: Vec<Source>,
    /// In the start phase, larger offsets are stepped, seconds.
    pub step_threshold: f64,
    /// The largest number of steps in one boot.
    pub step_limit: u32,
    /// Largest slew, seconds per second (500 ppm is 5e-4).
    pub max_slew_rate: f64,
    /// Largest correction after this boot's first synchronisation, seconds.
    pub max_change: f64,
    /// Largest root distance of a usable source, seconds.
    pub max_distance: f64,
    /// If the error bound is larger than this, seconds, the clock counts as unsynchronised.
    pub error_bound_threshold: f64,
    /// How the local clock is served while unsynchronised. None if it is not served.
    pub local: Option<LocalClock>,
    /// The number of sources that must agree before the clock is corrected.
    pub min_sources: usize,
    /// How leap seconds are applied.
    pub leap: LeapMode,
    /// The upstreams smear leap seconds, so they announce none. A source that announces one is not used.
    pub smeared: bool,
    /// What happens after another process has stepped the clock, or the node was suspended.
    pub on_external_step: OnExternalStep,
}

/// The configuration of a profile without any field: the defaults, and no source.
impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Discipline,
            sources: Vec::new(),
            step_threshold: 0.01,
            step_limit: 3,
            max_slew_rate: 500e-6,
            max_change: 1000.0,
            max_distance: 1.5,
            error_bound_threshold: 0.2,
            local: None,
            min_sources: 1,
            leap: LeapMode::Kernel,
            smeared: false,
            on_external_step: OnExternalStep::Restore,
        }
    }
}

impl Config {
    /// The sources with the options in force. If some sources are authenticated and others are not, the authenticated
    /// ones get the options `trust` and `require`, unless the user set either. Otherwise a few forged replies could
    /// outvote them. A device of this machine cannot be forged over the network, so it is treated like an authenticated
    /// source.
    pub fn sources_in_force(&self) -> Vec<Source> {
        let proven = |source: &Source| source.auth != Auth::None;
        let device = |source: &Source| matches!(source.upstream, Upstream::Device { .. });
        let voters = || self.sources.iter().filter(|source| !source.noselect);
        let mixed = voters().any(proven) && voters().any(|source| !proven(source) && !device(source));
        let mut sources = self.sources.clone();
        for source in &mut sources {
            let asked = source.trust || source.require || source.noselect;
            if mixed && !asked && (proven(source) || device(source)) {
                (source.trust, source.require) = (true, true);
            }
        }
        sources
    }
}

/// How the local clock is served while no upstream is usable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalClock {
    /// The stratum: 1 to 15; with `orphan` at most 14.
    pub stratum: u8,
    /// Orphan mode: of several nodes that ask each other and have the same stratum here, one serves its clock and the
    /// others follow it (`measure/orphan.rs`).
    pub orphan: bool,
    /// Seconds after the last synchronisation, or after the start, at which the local clock begins to be served.
    pub activate_after: f64,
}

/// How an announced leap second is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapMode {
    /// The kernel inserts or deletes the second.
    Kernel,
    /// The agent steps the clock.
    Step,
    /// The agent slews the clock after the leap second.
    Slew,
    /// Nothing is done. The offset is corrected once it is measured.
    Ignore,
}

/// What happens after the start phase when another process has stepped the clock, or the node was suspended. It happens
/// once the sources have shown the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExternalStep {
    /// The clock is stepped back. If no source answers, it is stepped by the jump as it was measured on this node.
    /// `max_change` bounds the part of the offset beyond that jump.
    Restore,
    /// The offset is slewed away, within `max_change`, like any other offset.
    Accept,
    /// The clock is left as it is, unsynchronised, until another process corrects it or the configuration changes.
    Report,
}

/// True if the clock may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Steer the clock.
    Discipline,
    /// Measure only: no action that touches the clock is ever returned.
    Observe,
}

/// A source of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, unique within the configuration.
    pub name: String,
    /// The server, pool or device that is asked.
    pub upstream: Upstream,
    /// How replies are authenticated.
    pub auth: Auth,
    /// Sends eight requests in quick succession while the source is not reached.
    pub iburst: bool,
    /// Sends several requests in quick succession at each poll.
    pub burst: bool,
    /// Uses interleaved mode (RFC 9769), or basic mode if the server does not support it.
    pub interleaved: bool,
    /// Selected while it agrees with the majority.
    pub prefer: bool,
    /// Trusted: other sources must agree with it.
    pub trust: bool,
    /// No source is selected unless at least one required source agrees.
    pub require: bool,
    /// Measured, but never selected.
    pub noselect: bool,
    /// Shortest poll interval, log2 seconds.
    pub min_poll: i8,
    /// Longest poll interval, log2 seconds; at least `min_poll`.
    pub max_poll: i8,
}

impl Source {
    /// A source with the default options of a profile and with `iburst`.
    pub fn new(name: impl Into<String>, upstream: Upstream) -> Self {
        Self {
            name: name.into(),
            upstream,
            auth: Auth::None,
            iburst: true,
            burst: false,
            interleaved: false,
            prefer: false,
            trust: false,
            require: false,
            noselect: false,
            min_poll: 4,
            max_poll: 6,
        }
    }
}

/// The server, pool or device that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// One NTP server.
    Server {
        /// Host name or IP address, as the user wrote it.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// Several of the servers to which a name resolves.
    Pool {
        /// Host name.
        host: String,
        /// UDP port.
        port: u16,
        /// The largest number of servers that are asked.
        max_sources: usize,
    },
    /// A hardware clock of this machine.
    Device {
        /// Such as /dev/ptp0.
        path: String,
    },
}

/// How replies are authenticated. The engine only passes this on: the caller makes and verifies the proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Replies are not authenticated.
    None,
    /// With a shared key (RFC 5905 §7.3, RFC 8573); the name of the file that holds it.
    Key(String),
    /// With Network Time Security (RFC 8915).
    Nts {
        /// The name of a file with certificates to trust instead of the default ones.
        ca: Option<String>,
        /// TCP port of the key exchange.
        port: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::config;

    #[test]
    fn authenticated_sources_are_trusted_and_required_beside_others() {
        let check = |change: fn(&mut [Source]), expected: [bool; 3]| {
            let mut orders = config(3);
            change(&mut orders.sources);
            let sources = orders.sources_in_force();
            let got: Vec<bool> = sources.iter().map(|source| source.trust && source.require).collect();
            assert_eq!(got, expected);
        };
        check(|_| {}, [false; 3]);
        check(|all| all[0].auth = Auth::Nts { ca: None, port: 4460 }, [true, false, false]);
        check(|all| all.iter_mut().for_each(|source| source.auth = Auth::Key("k".to_owned())), [false; 3]);
        check(
            |all| {
                (all[0].auth, all[0].prefer, all[1].trust) = (Auth::Nts { ca: None, port: 4460 }, true, true)
            },
            [true, false, false],
        );
        check(|all| (all[0].auth, all[0].trust) = (Auth::Key("k".to_owned()), true), [false; 3]);
        check(|all| (all[0].auth, all[0].noselect) = (Auth::Key("k".to_owned()), true), [false; 3]);
        let device = |all: &mut [Source]| {
            all[0].auth = Auth::Key("k".to_owned());
            all[1].upstream = Upstream::Device { path: "/dev/ptp0".to_owned() };
        };
        check(device, [true, true, false]);
    }
}
