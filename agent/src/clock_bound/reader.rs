//! Reads a segment, as another program of the node does: for `wait`. It reads the file and does not map it, so that no
//! change of the file can end this program by SIGBUS, and it needs no right but to read. On Linux a read sees what
//! another process writes into its mapping.
use std::{
    fs::{self, File},
    io,
    mem::offset_of,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{Ordering, fence},
    thread,
    time::Duration,
};

use sys::shared;

use super::bound::{Bound, MAGIC, Status, VERSION};

/// What a segment says at present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    /// Whether the bound can be trusted, as it was last written.
    pub(crate) status: Status,
    /// Largest error of the clock now, seconds.
    pub(crate) bound: f64,
    /// Time since it was written, seconds. It is negative if the segment is from a former boot.
    pub(crate) age: f64,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The file is not a segment that this program can read.
    #[error("{0}")]
    Foreign(&'static str),
    /// There is no result in it yet.
    #[error("nothing was written into it yet")]
    Empty,
    /// Each attempt met a write.
    #[error("its writer has ended during a write")]
    Unfinished,
}

/// The segment's size, octets.
const SIZE: usize = size_of::<shared::ClockBound>();

/// A write takes less than a microsecond. So an attempt fails if the writer waits for its core meanwhile, or is dead.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Reads the segment at `path`.
///
/// # Errors
/// If it is not there, is no segment, or has no result yet.
pub(crate) fn read(path: &Path) -> Result<Reading, ReadError> {
    // Opening a FIFO would block.
    if !fs::metadata(path)?.is_file() {
        return Err(ReadError::Foreign("it is not a file"));
    }
    let file = File::open(path)?;
    for _ in 0..ATTEMPTS {
        if let Some(octets) = consistent(&file)? {
            let now_ns = sys::clock::monotonic_coarse_ns();
            return bound(&octets).map(|bound| reading(bound, now_ns));
        }
        thread::sleep(PAUSE);
    }
    Err(ReadError::Unfinished)
}

/// The content, if no write was seen before, during or after the read.
fn consistent(file: &File) -> Result<Option<[u8; SIZE]>, ReadError> {
    let generation = || -> Result<u16, ReadError> {
        let mut octets = [0; 2];
        file.read_exact_at(&mut octets, offset_of!(shared::ClockBound, generation) as u64).map_err(short)?;
        Ok(u16::from_ne_bytes(octets))
    };
    let before = generation()?;
    // The reads are system calls in this order, and a fence keeps the memory accesses in them in this order, too.
    fence(Ordering::Acquire);
    let mut octets = [0; SIZE];
    file.read_exact_at(&mut octets, 0).map_err(short)?;
    fence(Ordering::Acquire);
    let after = generation()?;
    match before {
        0 => Err(ReadError::Empty),
        _ => Ok((before == after && before.is_multiple_of(2)).then_some(octets)),
    }
}

fn short(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Foreign("it is too short for a segment"),
        _ => ReadError::File(error),
    }
}

/// The values in a segment's content.
fn bound(octets: &[u8; SIZE]) -> Result<Bound, ReadError> {
    fn part<const N: usize>(octets: &[u8; SIZE], at: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&octets[at..at + N]);
        part
    }
    let word = |at| u32::from_ne_bytes(part(octets, at));
    let long = |at| i64::from_ne_bytes(part(octets, at));
    let magic = offset_of!(shared::ClockBound, magic);
    if [word(magic), word(magic + 4)] != MAGIC {
        return Err(ReadError::Foreign("it is not a segment of ClockBound"));
    }
    match u16::from_ne_bytes(part(octets, offset_of!(shared::ClockBound, version))) {
        0 => return Err(ReadError::Empty),
        VERSION => {}
        _ => return Err(ReadError::Foreign("its version of ClockBound's protocol is not 2")),
    }
    let (as_of, void_after) =
        (offset_of!(shared::ClockBound, as_of), offset_of!(shared::ClockBound, void_after));
    let seconds = |at| long(at).saturating_mul(1_000_000_000).saturating_add(long(at + 8));
    let (as_of_ns, bound_ns) = (seconds(as_of), long(offset_of!(shared::ClockBound, bound)));
    if bound_ns < 0 || seconds(void_after) < as_of_ns {
        return Err(ReadError::Foreign("its numbers are impossible"));
    }
    let status = match word(offset_of!(shared::ClockBound, status)) {
        1 => Status::Synchronized,
        2 => Status::FreeRunning,
        _ => Status::Unknown,
    };
    Ok(Bound { as_of_ns, bound_ns, max_drift_ppb: word(offset_of!(shared::ClockBound, max_drift)), status })
}

/// The bound grows from the time at which it was valid.
fn reading(Bound { as_of_ns, bound_ns, max_drift_ppb, status }: Bound, now_ns: i64) -> Reading {
    let age = now_ns.saturating_sub(as_of_ns) as f64 / 1e9;
    let grown = age.max(0.0) * f64::from(max_drift_ppb) * 1e-9;
    Reading { status, bound: bound_ns as f64 / 1e9 + grown, age }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock_bound::ClockBound, scratch::Scratch};

    fn error(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = Scratch::new();
        let path = folder.path().join("shm0");
        assert!(error(&path).contains("No such file"), "{}", error(&path));
        let mut writer = ClockBound::open(&path).unwrap();
        assert_eq!(error(&path), "nothing was written into it yet");
        for status in [Status::Unknown, Status::Synchronized, Status::FreeRunning] {
            let as_of_ns = sys::clock::monotonic_coarse_ns() - 3_000_000_000;
            writer.write(Bound { as_of_ns, bound_ns: 250_000, max_drift_ppb: 2000, status });
            let reading = read(&path).unwrap();
            assert_eq!(reading.status, status);
            let grown = 250e-6 + reading.age * 2e-6;
            assert!(reading.age >= 3.0 && (reading.bound - grown).abs() < 1e-12, "{reading:?}");
        }
    }

    #[test]
    fn a_bound_grows_with_its_age_only() {
        let check = |now_ns: i64, bound: f64, age: f64| {
            let written = Bound {
                as_of_ns: 5_000_000_000,
                bound_ns: 1_000_000,
                max_drift_ppb: 1_000_000,
                status: Status::Unknown,
            };
            let Reading { bound: found, age: found_age, .. } = reading(written, now_ns);
            assert!((found - bound).abs() < 1e-12 && found_age == age, "{found} {found_age}");
        };
        check(5_000_000_000, 1e-3, 0.0);
        check(7_000_000_000, 3e-3, 2.0);
        // The clock that counts begins anew with each boot.
        check(4_000_000_000, 1e-3, -1.0);
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let folder = Scratch::new();
        let path = folder.path().join("shm0");
        drop(ClockBound::open(&path).unwrap());
        let mut writer = ClockBound::open(&path).unwrap();
        writer.write(Bound { as_of_ns: 7, bound_ns: 7, max_drift_ppb: 7, status: Status::Synchronized });
        let good = fs::read(&path).unwrap();
        let other = folder.path().join("other");
        let check = |at: usize, octets: &[u8], expected: &str| {
            let mut changed = good.clone();
            changed[at..at + octets.len()].copy_from_slice(octets);
            fs::write(&other, changed).unwrap();
            assert_eq!(error(&other), expected, "{at}");
        };
        check(0, b"x", "it is not a segment of ClockBound");
        check(12, &3_u16.to_ne_bytes(), "its version of ClockBound's protocol is not 2");
        check(12, &0_u16.to_ne_bytes(), "nothing was written into it yet");
        check(14, &0_u16.to_ne_bytes(), "nothing was written into it yet");
        check(14, &7_u16.to_ne_bytes(), "its writer has ended during a write");
        check(48, &(-1_i64).to_ne_bytes(), "its numbers are impossible");
        check(32, &(-1_i64).to_ne_bytes(), "its numbers are impossible");
        // Numbers at the ends of their ranges.
        let check = |at: usize, number: i64| {
            let mut changed = good.clone();
            changed[at..at + 8].copy_from_slice(&number.to_ne_bytes());
            fs::write(&other, changed).unwrap();
            let _ = read(&other);
        };
        for number in [i64::MIN, i64::MAX] {
            [16, 24, 32, 40, 48].into_iter().for_each(|at| check(at, number));
        }
        fs::write(&other, &good[..79]).unwrap();
        assert_eq!(error(&other), "it is too short for a segment");
        fs::write(&other, [good, vec![7; 1000]].concat()).unwrap();
        assert_eq!(read(&other).unwrap().status, Status::Synchronized, "a later version may be longer");
        assert_eq!(error(folder.path()), "it is not a file");
    }

    #[test]
    fn a_read_never_finds_half_of_a_state() {
        let folder = Scratch::new();
        let path = folder.path().join("shm0");
        let mut writer = ClockBound::open(&path).unwrap();
        let numbered = |number: u32| Bound {
            as_of_ns: number.into(),
            bound_ns: number.into(),
            max_drift_ppb: number,
            status: Status::Synchronized,
        };
        writer.write(numbered(0));
        let file = File::open(&path).unwrap();
        thread::scope(|scope| {
            // Fewer writes than generations, so that none occurs twice.
            let writing = scope.spawn(move || (1..30_000).for_each(|number| writer.write(numbered(number))));
            while !writing.is_finished() {
                if let Some(octets) = consistent(&file).unwrap() {
                    let found = bound(&octets).unwrap();
                    assert_eq!(found, numbered(found.max_drift_ppb));
                }
            }
        });
        assert_eq!(bound(&consistent(&file).unwrap().unwrap()).unwrap(), numbered(29_999));
    }
}
