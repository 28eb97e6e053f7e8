//! Measures a virtual machine's clock from outside, over a page of shared memory: the guest's clock minus the host's.
//! The error is at most half a round trip (a few microseconds if the host is idle). The agent's own values are not
//! used. Over the same page, tests set a guest's clock to a wrong time. clockprobe.c has the same layout of the page.
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};

use crate::readings;

const WANTED: u64 = 0;
const ASK: u64 = 8;
const ANSWER: u64 = 16;
const VERB: u64 = 24;
const ARGUMENT: u64 = 32;
const REALTIME: u64 = 40;

const READ: u64 = 0;
const STEP: u64 = 1;
const KERNEL: u64 = 2;
const CLEAR: u64 = 3;

/// A fifth of the offset that most tests allow, nanoseconds.
const MOST_UNCERTAIN: i64 = 200_000;

/// The host's end of a guest's clock probe.
pub struct Probe {
    name: String,
    page: File,
}

/// One measurement, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The guest's clock minus this machine's.
    pub offset: i64,
    /// The largest error of `offset`: half the round trip.
    pub uncertainty: i64,
    /// The time of the reading, by the host's clock.
    pub at: i64,
}

/// The status of the guest's clock in its kernel.
#[derive(Clone, Copy, Debug)]
pub struct KernelClock {
    /// The frequency correction, parts per million, including that by `tick`.
    pub frequency_ppm: f64,
    /// `STA_UNSYNC` is not set.
    pub synchronized: bool,
    /// Its bits STA_*.
    pub status: i64,
}

impl Probe {
    /// `page` is the file behind the guest's shared memory.
    pub(crate) fn open(name: &str, page: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(page);
        Ok(Self { name: name.to_owned(), page: file.with_context(|| format!("{name} does not run"))? })
    }

    /// The best of many exchanges: up to 400 within 0.3 s, and then more until one is certain enough to show whether a
    /// clock is right. Under load a single exchange may take a tenth of a second, which is too uncertain.
    pub fn offset(&self) -> anyhow::Result<Reading> {
        let best = self.session(|| {
            let begun = Instant::now();
            let mut best: Option<Reading> = None;
            for count in 1.. {
                let reading = self.exchange(READ, 0)?.reading;
                if best.is_none_or(|best| reading.uncertainty < best.uncertainty) {
                    best = Some(reading);
                }
                let enough = count == 400 || begun.elapsed() > Duration::from_millis(300);
                let usable = best.is_some_and(|best| best.uncertainty < MOST_UNCERTAIN);
                if reading.uncertainty < 3_000 || enough && usable {
                    break;
                }
                if begun.elapsed() > Duration::from_secs(300) {
                    bail!("the clock of {} could not be read well within five minutes: {best:?}", self.name);
                }
            }
            best.context("at least one exchange was made")
        })?;
        let uncertain = shown(best.uncertainty);
        readings::note(
            &format!("{}'s clock", self.name),
            &format!("{} ± {}", shown(best.offset), &uncertain[1..]),
        );
        Ok(best)
    }

    /// The median of ten readings, 100 ms apart.
    pub fn median_of_10(&self) -> anyhow::Result<Reading> {
        let mut readings = Vec::new();
        for _ in 0..10 {
            readings.push(self.offset()?);
            thread::sleep(Duration::from_millis(100));
        }
        readings.sort_by_key(|reading| reading.offset);
        Ok(readings[5])
    }

    /// Moves the guest's clock so that it is `offset` nanoseconds ahead of this machine's. The kernel's frequency goes
    /// back to 0, as after a boot.
    pub fn set_off(&self, offset: i64) -> anyhow::Result<()> {
        let by = offset - self.offset()?.offset;
        self.session(|| {
            self.exchange(CLEAR, 0)?;
            self.exchange(STEP, by)
        })?;
        Ok(())
    }

    /// Steps the guest's clock by `by` nanoseconds, and keeps its frequency.
    pub fn step(&self, by: i64) -> anyhow::Result<()> {
        self.session(|| self.exchange(STEP, by)).map(drop)
    }

    /// The guest's wall clock minus its monotonic clock, nanoseconds. Only steps change it, by any program.
    pub fn wall_minus_monotonic(&self) -> anyhow::Result<i64> {
        Ok(self.session(|| self.exchange(KERNEL, 0))?.apart)
    }

    /// The guest's clock status in its kernel.
    pub fn kernel(&self) -> anyhow::Result<KernelClock> {
        let answer = self.session(|| self.exchange(KERNEL, 0))?;
        // adjtimex(2): freq in 2^-16 ppm; a tick of 10000 µs is normal, each µs more is 100 ppm.
        #[allow(clippy::cast_precision_loss, reason = "both are far below 2^52")]
        let frequency_ppm = answer.frequency as f64 / 65536.0 + (answer.tick - 10_000) as f64 * 100.0;
        const STA_UNSYNC: i64 = 0x40;
        let status = answer.status;
        Ok(KernelClock { frequency_ppm, synchronized: status & STA_UNSYNC == 0, status })
    }

    /// Lets the guest poll the page without pause while `body` runs. One session at a time: host and guest need a processor
    /// each, and with two sessions on two processors none of the four was there when its partner was, for minutes.
    fn session<T>(&self, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        static SESSION: Mutex<()> = Mutex::new(());
        let _session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(WANTED, 1)?;
        let result = body();
        self.write(WANTED, 0)?;
        result
    }

    fn exchange(&self, verb: u64, argument: i64) -> anyhow::Result<Answer> {
        let number = self.read(ASK)? + 1;
        self.write(VERB, verb)?;
        self.write(ARGUMENT, argument.cast_unsigned())?;
        let begun = Instant::now();
        let before = nanoseconds()?;
        self.write(ASK, number)?;
        while self.read(ANSWER)? != number {
            let waited = begun.elapsed();
            if waited > Duration::from_secs(10) {
                bail!("the clock probe of {} does not answer", self.name);
            }
            // The guest may wait for this very processor.
            if waited > Duration::from_micros(200) {
                thread::yield_now();
            }
        }
        let after = nanoseconds()?;
        let mut fields = [0; 56];
        self.page.read_exact_at(&mut fields, REALTIME)?;
        let field = |index: usize| {
            let bytes = fields[8 * index..8 * index + 8].try_into().expect("eight bytes");
            i64::from_ne_bytes(bytes)
        };
        let (realtime, error) = (field(0), field(2));
        if error != 0 {
            bail!("the guest's kernel refuses: errno {error}");
        }
        let at = before.midpoint(after);
        let reading = Reading { offset: realtime - at, uncertainty: (after - before) / 2, at };
        Ok(Answer { reading, frequency: field(3), tick: field(4), status: field(5), apart: field(6) })
    }

    fn read(&self, at: u64) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn write(&self, at: u64, value: u64) -> anyhow::Result<()> {
        Ok(self.page.write_all_at(&value.to_ne_bytes(), at)?)
    }
}

struct Answer {
    reading: Reading,
    frequency: i64,
    tick: i64,
    status: i64,
    apart: i64,
}

/// This machine's clock, nanoseconds since 1970.
pub fn nanoseconds() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?)
}

/// Nanoseconds for a reader: `+3.000 s`, `-12.3 ms`, `+4.5 µs`.
pub fn shown(nanoseconds: i64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "it is shown with four digits")]
    let value = nanoseconds as f64;
    match nanoseconds.unsigned_abs() {
        0..1_000_000 => format!("{:+.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:+.3} ms", value / 1e6),
        _ => format!("{:+.3} s", value / 1e9),
    }
}
