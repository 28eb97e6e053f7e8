//! The kernel's clocks: reads them, and steers the system clock by clock_adjtime.
//!
//! Nothing here decides whether the clock may be moved. Each setter moves it when called.
use std::mem::MaybeUninit;

use crate::Error;

/// CLOCK_REALTIME: nanoseconds since the Unix epoch.
pub fn realtime_ns() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC: nanoseconds since an arbitrary start. It is slewed with the system clock, and never stepped.
pub fn monotonic_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_RAW: nanoseconds since an arbitrary start. It is never slewed or stepped.
pub fn monotonic_raw_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC_RAW)
}

/// CLOCK_BOOTTIME: CLOCK_MONOTONIC plus the time for which the node was suspended.
pub fn boottime_ns() -> i64 {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_MONOTONIC_COARSE: CLOCK_MONOTONIC at the kernel's last tick, some milliseconds ago.
pub fn monotonic_coarse_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec. The call fails only for unknown clocks, and these have existed since
    // Linux 2.6.39. If it failed, the result would be the epoch, which no caller takes for the present.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The kernel's own time zone, minutes west of Greenwich; 0 until a program sets it. The kernel uses it only for the
/// hardware clock and for old file systems. The C library's gettimeofday does not return it any more, hence the direct
/// system call.
pub fn kernel_minutes_west() -> i32 {
    // struct timezone of linux/time.h.
    let mut zone: [libc::c_int; 2] = [0; 2];
    // SAFETY: a null pointer means that no time is asked for. The other one is to a live zone, which the call fills. It
    // cannot fail otherwise, and leaves the zeroes if it does.
    unsafe {
        libc::syscall(libc::SYS_gettimeofday, std::ptr::null_mut::<libc::timeval>(), zone.as_mut_ptr());
    }
    zone[0]
}

/// The state of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timex {
    /// Bits STA_*.
    pub status: i32,
    /// How much the clock is sped up, parts per million, tick and frequency together.
    pub frequency_ppm: f64,
    /// The rest that the kernel's own PLL still has to slew, seconds.
    pub pll_offset: f64,
    /// Largest error, seconds, as last set by a program; the kernel increases it by 500 ppm.
    pub max_error: f64,
    /// Estimated error, seconds, as last set by a program.
    pub estimated_error: f64,
    /// TAI minus UTC, seconds; 0 if unknown.
    pub tai_offset: i32,
    /// The rest of a slew by adjtime(3), seconds.
    pub adjtime: f64,
    /// Time constant of the kernel's PLL.
    pub time_constant: i64,
    /// Precision that the kernel claims, seconds.
    pub precision: f64,
    /// Largest frequency that the kernel accepts, parts per million.
    pub tolerance_ppm: f64,
    /// State of the pulse per second.
    pub pps: Pps,
}

/// What the kernel knows of a pulse per second, if it was built with CONFIG_NTP_PPS; otherwise all zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pps {
    /// Frequency, parts per million.
    pub frequency_ppm: f64,
    /// Stability, parts per million.
    pub stability_ppm: f64,
    /// Jitter, seconds.
    pub jitter: f64,
    /// Length of a calibration, log2 seconds.
    pub interval: i32,
    /// Calibrations.
    pub calibrations: i64,
    /// Number of pulses that exceeded the jitter limit.
    pub jitter_exceeded: i64,
    /// Number of calibrations that exceeded the stability limit.
    pub stability_exceeded: i64,
    /// Number of calibrations that failed.
    pub errors: i64,
}

impl Timex {
    /// Returns true if a leap second is armed.
    pub fn leap(&self) -> bool {
        self.status & (libc::STA_INS | libc::STA_DEL) != 0
    }

    /// Returns true if one of the kernel's own loops steers the clock (PLL, FLL, a pulse per second).
    pub fn steered(&self) -> bool {
        self.status & (libc::STA_PLL | libc::STA_FLL | libc::STA_PPSFREQ | libc::STA_PPSTIME) != 0
    }

    /// Returns true if the kernel tells programs that its clock is synchronised.
    pub fn synchronized(&self) -> bool {
        self.status & libc::STA_UNSYNC == 0
    }
}

/// Reads the state of the kernel's clock; needs no right.
///
/// # Errors
/// If a sandbox forbids the call.
pub fn read_timex() -> Result<Timex, Error> {
    let mut rest = blank();
    rest.modes = libc::ADJ_OFFSET_SS_READ;
    adjust("clock_adjtime (adjtime)", &mut rest)?;
    let mut timex = blank();
    adjust("clock_adjtime", &mut timex)?;
    let offset_unit = if timex.status & libc::STA_NANO != 0 { 1e-9 } else { 1e-6 };
    Ok(Timex {
        status: timex.status,
        frequency_ppm: (timex.tick - NOMINAL_TICK) as f64 * PPM_PER_TICK + timex.freq as f64 / UNITS_PER_PPM,
        pll_offset: timex.offset as f64 * offset_unit,
        max_error: timex.maxerror as f64 / 1e6,
        estimated_error: timex.esterror as f64 / 1e6,
        tai_offset: timex.tai,
        adjtime: rest.offset as f64 / 1e6,
        time_constant: timex.constant,
        precision: timex.precision as f64 / 1e6,
        tolerance_ppm: timex.tolerance as f64 / UNITS_PER_PPM,
        pps: Pps {
            frequency_ppm: timex.ppsfreq as f64 / UNITS_PER_PPM,
            stability_ppm: timex.stabil as f64 / UNITS_PER_PPM,
            jitter: timex.jitter as f64 * offset_unit,
            interval: timex.shift,
            calibrations: timex.calcnt,
            jitter_exceeded: timex.jitcnt,
            stability_exceeded: timex.stbcnt,
            errors: timex.errcnt,
        },
    })
}

/// Makes the clock run `ppm` parts per million faster than its oscillator from now on (slower if negative). Returns the
/// value after rounding to the kernel's units. A value beyond ±100 000 ppm (ten per cent, the kernel's limit) is cut.
///
/// # Errors
/// Without CAP_SYS_TIME; EINVAL if `ppm` is not finite.
pub fn set_frequency(ppm: f64) -> Result<f64, Error> {
    let (tick, freq) = ticks_and_rest(ppm).ok_or(Error::new("clock_adjtime (frequency)", libc::EINVAL))?;
    let mut timex = blank();
    timex.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
    timex.tick = tick;
    timex.freq = freq;
    adjust("clock_adjtime (frequency)", &mut timex)?;
    Ok((tick - NOMINAL_TICK) as f64 * PPM_PER_TICK + freq as f64 / UNITS_PER_PPM)
}

/// Microseconds per tick of USER_HZ, which is 100 on every architecture that we build for.
const NOMINAL_TICK: libc::c_long = 10_000;

/// One microsecond more in 10 000 is 100 ppm.
const PPM_PER_TICK: f64 = 100.0;

/// `timex.freq` counts 2^-16 ppm.
const UNITS_PER_PPM: f64 = 65_536.0;

/// Largest value of `timex.freq` (MAXFREQ in the kernel's timex.h).
const FREQ_LIMIT_PPM: f64 = 500.0;

/// The kernel accepts ticks from 9 000 to 11 000 µs.
const TICK_LIMIT_PPM: f64 = 100_000.0;

/// Splits `ppm` into tick and frequency. The tick keeps its nominal value while the frequency alone is enough, so that
/// programs which read only the frequency (node_exporter's node_timex) show the true value.
fn ticks_and_rest(ppm: f64) -> Option<(libc::c_long, libc::c_long)> {
    if !ppm.is_finite() {
        return None;
    }
    let ppm = ppm.clamp(-TICK_LIMIT_PPM, TICK_LIMIT_PPM);
    let ticks = if ppm.abs() <= FREQ_LIMIT_PPM { 0.0 } else { (ppm / PPM_PER_TICK).round() };
    let rest = (ppm - ticks * PPM_PER_TICK) * UNITS_PER_PPM;
    Some((NOMINAL_TICK + ticks as libc::c_long, rest.round() as libc::c_long))
}

/// Steps the clock by this many seconds at once, forward if positive. The step is relative, so that the time between
/// reading and setting is not lost.
///
/// # Errors
/// Without CAP_SYS_TIME; EINVAL if the step is not finite, or leads out of the kernel's range of time.
pub fn step(seconds: f64) -> Result<(), Error> {
    let (whole, nanos) = whole_and_nanos(seconds).ok_or(Error::new("clock_adjtime (step)", libc::EINVAL))?;
    let mut timex = blank();
    timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    timex.time.tv_sec = whole;
    timex.time.tv_usec = nanos;
    adjust("clock_adjtime (step)", &mut timex)
}

/// Whole seconds, rounded down, and the rest in nanoseconds, never negative: the form that ADJ_SETOFFSET needs, also
/// for a step back.
fn whole_and_nanos(seconds: f64) -> Option<(libc::time_t, libc::suseconds_t)> {
    // Far beyond any step, and far within i64.
    const LIMIT: f64 = 4e9;
    if !(-LIMIT..=LIMIT).contains(&seconds) {
        return None;
    }
    let total = (seconds * 1e9).round() as i64;
    Some((total.div_euclid(1_000_000_000), total.rem_euclid(1_000_000_000)))
}

/// Sets TAI minus UTC in the kernel, seconds: CLOCK_TAI is the system clock plus this.
///
/// # Errors
/// Without CAP_SYS_TIME; EINVAL if it is negative.
pub fn set_tai(seconds: i32) -> Result<(), Error> {
    let constant = u32::try_from(seconds).map_err(|_| Error::new("clock_adjtime (TAI)", libc::EINVAL))?;
    let mut timex = blank();
    timex.modes = libc::ADJ_TAI;
    timex.constant = libc::c_long::from(constant);
    adjust("clock_adjtime (TAI)", &mut timex)
}

/// A leap second at the end of this day, which the kernel carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapSecond {
    /// No leap second.
    None,
    /// 23:59:59 is followed by 23:59:60.
    Insert,
    /// 23:59:58 is followed by midnight.
    Delete,
}

/// Sets the kernel's status and error estimates. `adjtimex` shows them to every program, and they make the kernel write
/// the hardware clock. Errors are in seconds. All other status bits are cleared (PLL, FLL, PPS), since no other program
/// is to steer the clock.
///
/// # Errors
/// Without CAP_SYS_TIME.
pub fn set_status(
    synchronized: bool,
    leap: LeapSecond,
    max_error: f64,
    estimated_error: f64,
) -> Result<(), Error> {
    let mut timex = blank();
    timex.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    timex.status = match (synchronized, leap) {
        (false, _) => libc::STA_UNSYNC,
        (true, LeapSecond::None) => 0,
        (true, LeapSecond::Insert) => libc::STA_INS,
        (true, LeapSecond::Delete) => libc::STA_DEL,
    };
    timex.maxerror = microseconds(max_error);
    timex.esterror = microseconds(estimated_error);
    adjust("clock_adjtime (status)", &mut timex)
}

/// Microseconds, rounded up and cut to the kernel's limit (NTP_PHASE_LIMIT, 16 s). NaN counts as the limit.
fn microseconds(seconds: f64) -> libc::c_long {
    const LIMIT: f64 = 16e6;
    let micros = (seconds * 1e6).ceil();
    if micros.is_nan() { LIMIT as libc::c_long } else { micros.clamp(0.0, LIMIT) as libc::c_long }
}

/// Ends what another program may have left in the kernel: the rest of an `adjtime`, the offset of the kernel's PLL, and
/// an armed leap second. The caller arms the leap second again when it is announced. The frequency and the
/// synchronisation bit do not change.
///
/// # Errors
/// Without CAP_SYS_TIME.
pub fn take_over() -> Result<(), Error> {
    let mut timex = blank();
    timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
    adjust("clock_adjtime (adjtime)", &mut timex)?;

    let mut timex = blank();
    adjust("clock_adjtime", &mut timex)?;
    let kept = timex.status & libc::STA_UNSYNC;

    // The kernel accepts an offset only while its PLL is on. The frequency is on hold, so that only the offset changes.
    let mut timex = blank();
    timex.modes = libc::ADJ_STATUS | libc::ADJ_OFFSET;
    timex.status = kept | libc::STA_PLL | libc::STA_FREQHOLD;
    adjust("clock_adjtime (offset)", &mut timex)?;

    let mut timex = blank();
    timex.modes = libc::ADJ_STATUS;
    timex.status = kept;
    adjust("clock_adjtime (status)", &mut timex)
}

/// Returns true if this process may set the clock. It writes back the estimated error that it has just read: the kernel
/// allows that only to a process that may set the clock, and it moves nothing. The capabilities in /proc would not show
/// the effect of user namespaces and sandboxes.
pub fn may_set_clock() -> bool {
    let mut timex = blank();
    if adjust("clock_adjtime", &mut timex).is_err() {
        return false;
    }
    timex.modes = libc::ADJ_ESTERROR;
    adjust("clock_adjtime (estimated error)", &mut timex).is_ok()
}

fn blank() -> libc::timex {
    // SAFETY: timex is a plain structure of integers; all zeros is one, and with modes 0 it asks to be filled.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn adjust(call: &'static str, timex: &mut libc::timex) -> Result<(), Error> {
    // SAFETY: the pointer is to a live, exclusively borrowed timex.
    let result = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, timex) };
    Error::check(call, result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run() {
        let (wall, mono, raw) = (realtime_ns(), monotonic_ns(), monotonic_raw_ns());
        assert!(wall > 1_700_000_000_000_000_000);
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_ns() >= mono + 2_000_000);
        assert!(monotonic_raw_ns() > raw + 1_000_000);
    }

    #[test]
    fn frequency_in_the_kernels_units() {
        let check = |ppm: f64, tick: i64, freq: i64| {
            assert_eq!(ticks_and_rest(ppm), Some((tick, freq)), "{ppm}");
        };
        check(0.0, 10_000, 0);
        check(80.0, 10_000, 80 * 65_536);
        check(-12.5, 10_000, -819_200);
        check(500.0, 10_000, 500 * 65_536);
        check(-500.0, 10_000, -500 * 65_536);
        check(520.0, 10_005, 20 * 65_536);
        check(-5_030.0, 9_950, -30 * 65_536);
        check(100_000.0, 11_000, 0);
        check(1e9, 11_000, 0);
        check(-1e9, 9_000, 0);
        assert_eq!(ticks_and_rest(f64::NAN), None);
        assert_eq!(ticks_and_rest(f64::INFINITY), None);
    }

    #[test]
    fn steps_in_the_kernels_units() {
        assert_eq!(whole_and_nanos(1.25), Some((1, 250_000_000)));
        assert_eq!(whole_and_nanos(-0.25), Some((-1, 750_000_000)));
        assert_eq!(whole_and_nanos(-3.0), Some((-3, 0)));
        assert_eq!(whole_and_nanos(1e-9), Some((0, 1)));
        assert_eq!(whole_and_nanos(0.999_999_999_9), Some((1, 0)));
        assert_eq!(whole_and_nanos(f64::NAN), None);
        assert_eq!(whole_and_nanos(1e10), None);
    }

    #[test]
    fn errors_are_rounded_up_and_cut() {
        assert_eq!(microseconds(1.2e-6), 2);
        assert_eq!(microseconds(-1.0), 0);
        assert_eq!(microseconds(1e9), 16_000_000);
        assert_eq!(microseconds(f64::NAN), 16_000_000);
    }

    #[test]
    fn reading_needs_no_right() {
        let timex = read_timex().unwrap();
        assert!(timex.frequency_ppm.abs() <= 100_500.0 && timex.max_error >= 0.0);
    }

    #[test]
    fn the_right_is_what_the_kernel_says() {
        // CAP_SYS_TIME is capability 25. The question must not change the state.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let capable = u64::from_str_radix(effective.trim(), 16).unwrap() >> 25 & 1 == 1;
        let before = read_timex().unwrap();
        assert_eq!(may_set_clock(), capable);
        let after = read_timex().unwrap();
        assert_eq!((before.frequency_ppm, before.status), (after.frequency_ppm, after.status));
        if !capable {
            let error = set_frequency(0.0).unwrap_err();
            assert!(error.not_permitted(), "{error}");
        }
    }
}
