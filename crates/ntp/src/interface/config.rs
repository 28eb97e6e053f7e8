//! What the engine is told to do: checked values only, so nothing in here can be refused later.

/// The engine's orders. Made by the agent from a profile that passed its checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether the clock may be moved.
    pub mode: Mode,
    /// The upstreams, in the user's order; names are unique.
    pub sources: Vec<Source>,
    /// Offsets larger than this, seconds, are stepped in the start phase.
    pub step_threshold: f64,
    /// So many steps per boot.
    pub step_limit: u32,
    /// Largest slew, seconds per second (500 ppm is 5e-4).
    pub max_slew_rate: f64,
    /// Largest correction after this boot's first synchronisation, seconds.
    pub max_change: f64,
    /// Largest root distance, seconds, at which a source is used.
    pub max_distance: f64,
    /// Error bound, seconds, beyond which the clock counts as unsynchronised.
    pub error_bound_threshold: f64,
    /// How the local clock is served while unsynchronised, if it is.
    pub local: Option<LocalClock>,
    /// So many sources must agree before the clock is moved.
    pub min_sources: usize,
    /// What is done about leap seconds.
    pub leap: LeapMode,
    /// The upstreams smear leap seconds: they announce none, and those that do are not of the same kind.
    pub smeared: bool,
    /// What is done when somebody else moved the clock, or the node stood still.
    pub on_external_step: OnExternalStep,
}

/// What a profile without any field says, and no source.
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
    /// The sources with what their company makes of them. Where some prove who they are and others do not, those that
    /// do are trusted and required, unless the user gave them either option: else a few forged answers could outvote
    /// them. A device of this machine cannot be forged from afar, and counts with them.
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

/// How the local clock is served while there is nothing better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalClock {
    /// At this stratum: 1 to 15, and 14 at most with `orphan`.
    pub stratum: u8,
    /// Of several that ask each other and have the same stratum here, one serves and the others follow it; see
    /// `orphan`.
    pub orphan: bool,
    /// So many seconds after the last synchronisation, or after the start.
    pub activate_after: f64,
}

/// What is done about an announced leap second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapMode {
    /// The kernel inserts or deletes it.
    Kernel,
    /// The agent steps the clock.
    Step,
    /// The agent slews it away afterwards.
    Slew,
    /// Nothing; the offset is corrected when it is seen.
    Ignore,
}

/// What is done after the start phase when somebody else moved the clock, or the node stood still: once the sources
/// have told how far it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExternalStep {
    /// The clock is stepped back, and if nobody answers by what was measured here. `max_change` bounds what remains
    /// beyond that.
    Restore,
    /// What it is off by is slewed away, within `max_change`, like any offset.
    Accept,
    /// It is left where it is, unsynchronised, until somebody puts it right or the orders say something else.
    Report,
}

/// Whether the clock may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Steer the clock.
    Discipline,
    /// Measure only: no action that touches the clock is ever returned.
    Observe,
}

/// Where time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name, unique within the configuration.
    pub name: String,
    /// Whom or what to ask.
    pub upstream: Upstream,
    /// Whether and how answers prove who gave them.
    pub auth: Auth,
    /// Eight quick requests while unreached.
    pub iburst: bool,
    /// Several quick requests at each poll.
    pub burst: bool,
    /// It is asked in interleaved mode (RFC 9769), and for basic answers if it does not know that.
    pub interleaved: bool,
    /// Followed while it agrees with the majority.
    pub prefer: bool,
    /// Known to tell the truth: others must agree with it.
    pub trust: bool,
    /// Without one of those that are required, nothing is followed.
    pub require: bool,
    /// Measured, and never followed.
    pub noselect: bool,
    /// Shortest poll interval, log2 seconds.
    pub min_poll: i8,
    /// Longest poll interval, log2 seconds; not below `min_poll`.
    pub max_poll: i8,
}

impl Source {
    /// A source as a profile describes it that gives its name and upstream only, and `iburst`.
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

/// Whom or what to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// One NTP server.
    Server {
        /// Host name or IP address, as the user wrote it.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// Several of the servers that a name stands for.
    Pool {
        /// Host name.
        host: String,
        /// UDP port.
        port: u16,
        /// So many of them at most.
        max_sources: usize,
    },
    /// A hardware clock that keeps time for us.
    Device {
        /// Such as /dev/ptp0.
        path: String,
    },
}

/// Whether and how answers prove who gave them. The engine only passes it on: proofs are made and tested at the rim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// By a shared key (RFC 5905 §7.3, RFC 8573); the name of the file that holds it.
    Key(String),
    /// By Network Time Security (RFC 8915); the name of a file with certificates to trust instead of the usual ones.
    Nts {
        /// The file's name.
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
    fn the_proven_are_trusted_and_required_where_others_are_not() {
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
