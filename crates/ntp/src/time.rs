//! Time as three types that cannot be mixed: the wall clock, the monotonic clock, and the timestamp in a packet.
use std::ops::{Add, Sub};

/// A reading of the system clock (CLOCK_REALTIME): nanoseconds since the Unix epoch, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// A reading of CLOCK_MONOTONIC: nanoseconds since an unspecified start. The kernel slews it like the wall clock and
/// never steps it, so `wall - mono` changes only by steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub i64);

/// Both clocks, read one right after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The system clock.
    pub wall: Wall,
    /// The monotonic clock.
    pub mono: Mono,
}

macro_rules! clock_arithmetic {
    ($clock:ident) => {
        impl $clock {
            /// This reading plus `seconds`. It saturates. If `seconds` is not finite, the reading is returned
            /// unchanged.
            #[must_use]
            pub fn plus(self, seconds: f64) -> Self {
                Self(self.0.saturating_add(if seconds.is_finite() {
                    (seconds * 1e9).round() as i64
                } else {
                    0
                }))
            }

            /// Seconds from `earlier` to this reading; negative if this reading is before `earlier`.
            pub fn seconds_since(self, earlier: Self) -> f64 {
                self.0.saturating_sub(earlier.0) as f64 / 1e9
            }
        }

        impl Add<f64> for $clock {
            type Output = Self;

            fn add(self, seconds: f64) -> Self {
                self.plus(seconds)
            }
        }

        impl Sub for $clock {
            type Output = f64;

            fn sub(self, earlier: Self) -> f64 {
                self.seconds_since(earlier)
            }
        }
    };
}

clock_arithmetic!(Wall);
clock_arithmetic!(Mono);

/// A timestamp in a packet: 32 bits of seconds since 1900 (of the current era), 32 bits of fraction (RFC 5905 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTimestamp(pub u64);

/// Seconds from 1900-01-01 to 1970-01-01 (RFC 5905 appendix A.4).
const UNIX_EPOCH: i64 = 2_208_988_800;

/// First second of the window of 2^32 s in which timestamps are interpreted: 2000-01-01. So the change from era 0 to
/// era 1 (2036-02-07) needs no special case. The window ends in 2136.
const PIVOT: i64 = 946_684_800;

impl NtpTimestamp {
    /// The earliest time that a timestamp can express: 2000-01-01.
    pub(crate) const EARLIEST: Wall = Wall(PIVOT * 1_000_000_000);

    /// The timestamp for a reading of the system clock.
    pub fn from_wall(wall: Wall) -> Self {
        let seconds = wall.0.div_euclid(1_000_000_000) + UNIX_EPOCH;
        let nanos = wall.0.rem_euclid(1_000_000_000) as u64;
        // Rounded to nearest, so that a conversion there and back returns the same nanosecond.
        let fraction = ((nanos << 32) + 500_000_000) / 1_000_000_000;
        Self((u64::from(seconds as u32) << 32).wrapping_add(fraction))
    }

    /// The corresponding reading of the system clock, in the window from 2000 to 2136.
    pub fn to_wall(self) -> Wall {
        let seconds = i64::from((self.0 >> 32) as u32) - UNIX_EPOCH;
        let seconds = PIVOT + (seconds - PIVOT).rem_euclid(1 << 32);
        let nanos = ((self.0 & 0xffff_ffff) * 1_000_000_000 + (1 << 31)) >> 32;
        Wall(seconds * 1_000_000_000 + nanos as i64)
    }

    /// The timestamp with every bit inverted.
    #[must_use]
    pub(crate) fn complement(self) -> Self {
        Self(!self.0)
    }

    /// Returns true if every bit is zero, which means "unknown".
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn era_one_begins_without_notice() {
        // 2036-02-07T06:28:16Z is second 0 of era 1.
        assert_eq!(NtpTimestamp(0).to_wall(), Wall(2_085_978_496_000_000_000));
        let before = Wall(2_085_978_495_999_999_999);
        assert_eq!(NtpTimestamp::from_wall(before).to_wall(), before);
    }

    proptest! {
        #[test]
        fn there_and_back(nanos in 946_684_800_000_000_000_i64..4_102_444_800_000_000_000) {
            prop_assert_eq!(NtpTimestamp::from_wall(Wall(nanos)).to_wall(), Wall(nanos));
        }
    }
}
