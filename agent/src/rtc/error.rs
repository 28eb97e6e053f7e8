//! Why the hardware clock could not be read or written, as a message for users.
use super::holder::Holder;

/// Why the hardware clock could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no RTC, as in many virtual machines")]
    Absent,
    #[error("the node has an RTC, but no device for it is here, as in a container that is not privileged")]
    NoDevice,
    #[error("not permitted ({0}): the RTC is for root, in a container for a privileged one")]
    NotPermitted(#[source] sys::Error),
    #[error("cannot open the RTC: {0}")]
    Open(#[source] sys::Error),
    #[error("the RTC is in use by {}, and was not free within 10 s", holder_name(.0.as_ref()))]
    InUse(Option<Holder>),
    #[error("the RTC has lost its time: it takes a write to bring it back")]
    LostTime,
    #[error("cannot read the RTC: {0}")]
    Read(#[source] sys::Error),
    #[error("the RTC does not tick")]
    NoTick,
    #[error("/etc/adjtime says that the RTC shows local time, and /etc/localtime is no file of a time zone")]
    NoZone,
    #[error("cannot set the RTC: {0}")]
    Write(#[source] sys::Error),
    #[error("this machine was too busy to set the RTC at the right moment")]
    TooLate,
    #[error("the RTC was set, and read back it was {offset:.3} s off")]
    NotVerified {
        /// RTC minus system clock, seconds.
        offset: f64,
    },
}

impl Error {
    /// Returns true if the node has a clock that this process may not open.
    pub(super) fn denies_access(self) -> bool {
        matches!(self, Self::NoDevice | Self::NotPermitted(_))
    }
}

/// The name of the program that has the clock open.
pub(super) fn holder_name(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "a program that cannot be seen from here".to_owned(), ToString::to_string)
}
