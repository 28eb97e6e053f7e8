//! The kernel's clocks: reading them, and steering the system clock by clock_adjtime.
//!
//! Nothing here decides whether the clock may be moved; who calls one of the setters wants it moved.
use std::mem::MaybeUninit;

use crate::Error;

/// CLOCK_REALTIME: nanoseconds since the Unix epoch.
pub fn realtime_ns() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC: nanoseconds since some start; slewed with the system clock, never stepped.
pub fn monotonic_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_RAW: nanoseconds since some start; never slewed nor stepped.
pub fn monotonic_raw_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC_RAW)
}

/// CLOCK_BOOTTIME: CLOCK_MONOTONIC and the time that the node was asleep.
pub fn boottime_ns() -> i64 {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_MONOTONIC_COARSE: CLOCK_MONOTONIC as it was at the kernel's last tick, some milliseconds ago.
pub fn monotonic_coarse_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec. The call fails for unknown clocks alone, and these have existed since
    // Linux 2.6.39; the epoch would then be the answer, which no caller takes for the present.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The kernel's own time zone, minutes west of Greenwich; 0 until somebody tells it one. It counts for the hardware clock
/// and old file systems alone. The C library's gettimeofday does not show it any more, hence the bare call.
pub fn kernel_minutes_west() -> i32 {
    // struct timezone of linux/time.h.
    let mut zone: [libc::c_int; 2] = [0; 2];
    // SAFETY: a null pointer means that no time is asked for; the other one is to a live zone, which the call fills. It
    // cannot fail otherwise, and leaves the zeroes if it does.
    unsafe {
        libc::syscall(libc::SYS_gettimeofday, std::ptr::null_mut::<libc::timeval>(), zone.as_mut_ptr());
    }
    zone[0]
}

/// What the kernel holds about its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timex {
    /// Bits STA_*.
    pub status: i32,
    /// By how much the clock is sped up, parts per million, tick and frequency together.
    pub frequency_ppm: f64,
    /// What the kernel's own PLL still has to slew, seconds.
    pub pll_offset: f64,
    /// Largest error, seconds, as last told; the kernel adds 500 ppm by itself.
    pub max_error: f64,
    /// Estimated error, seconds, as last told.
    pub estimated_error: f64,
    /// TAI minus UTC, seconds; 0 if unknown.
    pub tai_offset: i32,
    /// What is left of a slew by adjtime(3), seconds.
    pub adjtime: f64,
    /// Time constant of the kernel's PLL.
    pub time_constant: i64,
    /// Precision that the kernel claims, seconds.
    pub precision: f64,
    /// Largest frequency that it takes, parts per million.
    pub tolerance_ppm: f64,
    /// What it knows of a pulse per second.
    pub pps: Pps,
}

/// What the kernel knows of a pulse per second, if it was built to (CONFIG_NTP_PPS); else all zero.
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
    /// Pulses beyond the jitter's limit.
    pub jitter_exceeded: i64,
    /// Calibrations beyond the stability's limit.
    pub stability_exceeded: i64,
    /// Calibrations that failed.
    pub errors: i64,
}

impl Timex {
    /// Whether a leap second is armed.
    pub fn leap(&self) -> bool {
        self.status & (libc::STA_INS | libc::STA_DEL) != 0
    }

    /// Whether the kernel's own loops steer (PLL, FLL, a pulse per second).
    pub fn steered(&self) -> bool {
        self.status & (libc::STA_PLL | libc::STA_FLL | libc::STA_PPSFREQ | libc::STA_PPSTIME) != 0
    }

    /// Whether the kernel tells programs that its clock is synchronised.
    pub fn synchronized(&self) -> bool {
        self.status & libc::STA_UNSYNC == 0
    }
}

/// Reads the kernel's state; needs no right.
///
/// # Errors
/// Where a sandbox forbids the call.
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

/// Makes the clock run `ppm` parts per million faster than its oscillator says (negative: slower), from now on, and
/// returns what the kernel's units made of it. Beyond ±100 000 ppm (ten per cent, the kernel's limit) it is cut.
///
/// # Errors
/// Without CAP_SYS_TIME; EINVAL for a `ppm` that is no number.
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

/// What `timex.freq` alone can say (MAXFREQ in the kernel's timex.h).
const FREQ_LIMIT_PPM: f64 = 500.0;

/// The kernel takes ticks from 9 000 to 11 000 µs.
const TICK_LIMIT_PPM: f64 = 100_000.0;

/// `ppm` as tick and frequency. The tick stays at its nominal value as long as the frequency alone can say it, so
/// that programs which look at the frequency only (node_exporter's node_timex) see the truth.
fn ticks_and_rest(ppm: f64) -> Option<(libc::c_long, libc::c_long)> {
    if !ppm.is_finite() {
        return None;
    }
    let ppm = ppm.clamp(-TICK_LIMIT_PPM, TICK_LIMIT_PPM);
    let ticks = if ppm.abs() <= FREQ_LIMIT_PPM { 0.0 } else { (ppm / PPM_PER_TICK).round() };
    let rest = (ppm - ticks * PPM_PER_TICK) * UNITS_PER_PPM;
    Some((NOMINAL_TICK + ticks as libc::c_long, rest.round() as libc::c_long))
}

/// Steps the clock by so many seconds at once, forward if positive; relative, so that nothing is lost between reading
/// and setting.
///
/// # Errors
/// Without CAP_SYS_TIME; EINVAL for a step that is no number or leads out of the kernel's range of time.
pub fn step(seconds: f64) -> Result<(), Error> {
    let (whole, nanos) = whole_and_nanos(seconds).ok_or(Error::new("clock_adjtime (step)", libc::EINVAL))?;
    let mut timex = blank();
    timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    timex.time.tv_sec = whole;
    timex.time.tv_usec = nanos;
    adjust("clock_adjtime (step)", &mut timex)
}

/// Whole seconds, rounded down, and nanoseconds on top, never negative: as ADJ_SETOFFSET wants it for steps back too.
fn whole_and_nanos(seconds: f64) -> Option<(libc::time_t, libc::suseconds_t)> {
    // Far beyond any step, and far within i64.
    const LIMIT: f64 = 4e9;
    if !(-LIMIT..=LIMIT).contains(&seconds) {
        return None;
    }
    let total = (seconds * 1e9).round() as i64;
    Some((total.div_euclid(1_000_000_000), total.rem_euclid(1_000_000_000)))
}

/// Tells the kernel how far TAI is ahead of UTC, seconds: what CLOCK_TAI adds to the system clock.
///
/// # Errors
/// Without CAP_SYS_TIME; EINVAL for a negative one.
pub fn set_tai(seconds: i32) -> Result<(), Error> {
    let constant = u32::try_from(seconds).map_err(|_| Error::new("clock_adjtime (TAI)", libc::EINVAL))?;
    let mut timex = blank();
    timex.modes = libc::ADJ_TAI;
    timex.constant = libc::c_long::from(constant);
    adjust("clock_adjtime (TAI)", &mut timex)
}

/// A leap second at the end of this day, for the kernel to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapSecond {
    /// None.
    None,
    /// 23:59:59 is followed by 23:59:60.
    Insert,
    /// 23:59:58 is followed by midnight.
    Delete,
}

/// Tells the kernel how good its clock is: what `adjtimex` shows to every program, and what makes the kernel write
/// the hardware clock. Errors are in seconds. All status bits but these are cleared (PLL, FLL, PPS), since nobody
/// else is to steer.
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

/// Rounded up, and cut to what the kernel takes (NTP_PHASE_LIMIT, 16 s); not a number is the worst.
fn microseconds(seconds: f64) -> libc::c_long {
    const LIMIT: f64 = 16e6;
    let micros = (seconds * 1e6).ceil();
    if micros.is_nan() { LIMIT as libc::c_long } else { micros.clamp(0.0, LIMIT) as libc::c_long }
}

/// Ends what another program may have left running in the kernel: the rest of an `adjtime`, the offset of the kernel's
/// PLL, and a leap second that is armed; who takes over arms it again when it is announced. Frequency and
/// synchronisation bit stay as they are.
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

    // The kernel listens to an offset only while its PLL is on; frequency on hold, so that this alone is changed.
    let mut timex = blank();
    timex.modes = libc::ADJ_STATUS | libc::ADJ_OFFSET;
    timex.status = kept | libc::STA_PLL | libc::STA_FREQHOLD;
    adjust("clock_adjtime (offset)", &mut timex)?;

    let mut timex = blank();
    timex.modes = libc::ADJ_STATUS;
    timex.status = kept;
    adjust("clock_adjtime (status)", &mut timex)
}

/// Whether this process may set the clock: it writes back the estimated error that it has just read, which the kernel
/// allows only to those who may, and which moves nothing. Capabilities as /proc lists them would not tell about user
/// namespaces and sandboxes.
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
        // CAP_SYS_TIME is capability 25. Asking leaves the state as it was.
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
