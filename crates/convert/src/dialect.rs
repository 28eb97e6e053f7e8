//! The two programs whose configurations are read.

/// The program that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ntpd, the classic one or NTPsec's.
    Ntp,
    /// chronyd.
    Chrony,
}
