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
    /// Error bound, seconds, beyond which the clock counts as unsynchronised.
    pub error_bound_threshold: f64,
    /// Stratum to serve the local clock at while unsynchronised, 1 to 15.
    pub local_stratum: Option<u8>,
}

/// Whether the clock may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Steer the clock.
    Discipline,
    /// Measure only: no action that touches the clock is ever returned.
    Observe,
}

/// One NTP server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name, unique within the configuration.
    pub name: String,
    /// Host name or IP address, as the user wrote it.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Eight quick requests while unreached.
    pub iburst: bool,
    /// Followed while it agrees with the majority.
    pub prefer: bool,
    /// Shortest poll interval, log2 seconds.
    pub min_poll: i8,
    /// Longest poll interval, log2 seconds; not below `min_poll`.
    pub max_poll: i8,
}
