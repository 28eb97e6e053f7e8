//! The two programs whose configurations are read.

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ntpd's, the classic one's or NTPsec's.
    Ntp,
    /// chronyd's.
    Chrony,
}
