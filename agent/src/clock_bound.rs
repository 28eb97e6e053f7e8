//! Snapshot → the shared memory segment that programs on this node read with ClockBound's library: the error bound of
//! the clock, how fast it grows, and whether it can be trusted. Protocol version 2.
//!
//! The segment is written at each turn of the event loop. When the agent ends, the last content stays true, since the
//! bound grows. Readers treat the clock as free running after 5 s, and as unknown after [`VALID`].
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{Ordering, fence},
};

use ntp::{Reason, Snapshot};
use sys::shared::SharedFile;

use crate::{exposure, host_root::HostRoot};

mod bound;
mod reader;

use bound::{Bound, MAGIC, VERSION};
pub(crate) use {
    bound::Status,
    reader::{ReadError, Reading, read},
};

/// The mapped segment.
#[derive(Debug)]
pub(crate) struct ClockBound {
    segment: SharedFile,
}

/// Why there is no segment.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct Error {
    path: PathBuf,
    source: io::Error,
}

impl ClockBound {
    /// Maps the file at `path`. If it is not a segment of this version, it is made one; if it is, it stays in use.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
            // A user who may write the segment can shorten it, and then the next access would end this process by
            // SIGBUS.
            let exposure = exposure::of(&HostRoot::new("/".into()), &exposure::absolute(folder));
            if let Some(why) = exposure.map_err(failed)? {
                return Err(failed(io::Error::other(why)));
            }
            remove_foreign(path).map_err(failed)?;
        }
        let segment = SharedFile::open(path).map_err(|error| failed(io::Error::other(error)))?;
        let size = size_of::<sys::shared::ClockBound>() as u32;
        let usable = [&segment.magic[0], &segment.magic[1]].map(|word| word.load(Ordering::Relaxed)) == MAGIC
            && segment.size.load(Ordering::Relaxed) == size
            && segment.version.load(Ordering::Relaxed) == VERSION;
        if !usable {
            // A reader takes version or generation 0 as "not yet".
            segment.version.store(0, Ordering::Release);
            segment.generation.store(0, Ordering::Release);
            for (word, value) in segment.magic.iter().zip(MAGIC) {
                word.store(value, Ordering::Relaxed);
            }
            segment.size.store(size, Ordering::Relaxed);
            segment.version.store(VERSION, Ordering::Release);
        }
        Ok(Self { segment })
    }

    /// Publishes what the engine knew `age_ns` ago. While a new engine has no result yet, the former content stays.
    pub(crate) fn publish(&mut self, snapshot: &Snapshot, age_ns: i64) {
        if snapshot.error_bound.is_some() || snapshot.reason != Reason::Starting {
            let as_of_ns = sys::clock::monotonic_coarse_ns().saturating_sub(age_ns.max(0));
            self.write(Bound::of(snapshot, as_of_ns));
        }
    }

    /// Writes so that a reader that finds the same even generation before and after its read has a consistent state.
    fn write(&mut self, bound: Bound) {
        let Bound { as_of_ns, bound_ns, max_drift_ppb, status } = bound;
        let segment = &*self.segment;
        // A writer that died during a write left an odd number.
        let odd = segment.generation.load(Ordering::Relaxed) | 1;
        segment.generation.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        for (field, nanos) in
            [(&segment.as_of, as_of_ns), (&segment.void_after, as_of_ns.saturating_add(VALID))]
        {
            field[0].store(nanos.div_euclid(1_000_000_000), Ordering::Relaxed);
            field[1].store(nanos.rem_euclid(1_000_000_000), Ordering::Relaxed);
        }
        segment.bound.store(bound_ns, Ordering::Relaxed);
        segment.disruption_marker.store(0, Ordering::Relaxed);
        segment.max_drift.store(max_drift_ppb, Ordering::Relaxed);
        segment.status.store(status as i32, Ordering::Relaxed);
        segment.disruption_support.store(0, Ordering::Relaxed);
        // 0 would mean "not yet".
        let even = odd.checked_add(1).unwrap_or(2);
        segment.generation.store(even, Ordering::Release);
    }
}

/// Removes a file that another user owns or may write, or that has a second name. Its readers find the new file when
/// they open it again.
fn remove_foreign(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if exposure::is_own(&found) => Ok(()),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// How long the bound is valid without further writes, nanoseconds: as in ClockBound's own daemon.
const VALID: i64 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        os::unix::{ffi::OsStrExt, fs::PermissionsExt},
        sync::atomic::{AtomicBool, AtomicU32},
        thread,
    };

    use clock_bound_shm::{ClockStatus, ShmReader};
    use ntp::Leap;

    use super::*;
    use crate::{clock, scratch::Scratch};

    fn snapshot() -> Snapshot {
        Snapshot {
            at: clock::now().wall,
            synchronized: true,
            reason: Reason::Synchronized,
            leap: Leap::None,
            stratum: 2,
            reference: None,
            reference_id: [0; 4],
            reference_time: None,
            offset: Some(1e-6),
            offset_error: None,
            jitter: None,
            error_bound: Some(250e-6),
            root_delay: 0.0,
            root_dispersion: 0.0,
            dispersion_rate: 2e-6,
            frequency_ppm: 12.0,
            skew_ppm: 0.0,
            kernel_frequency_ppm: 12.0,
            steps: 0,
            start_phase: false,
            confirmed: true,
            sources: Vec::new(),
        }
    }

    #[test]
    fn bound_drift_and_status_follow_the_engine() {
        let check = |change: &dyn Fn(&mut Snapshot), bound_ns: i64, max_drift_ppb: u32, status: Status| {
            let mut snapshot = snapshot();
            change(&mut snapshot);
            let expected = Bound { as_of_ns: 7, bound_ns, max_drift_ppb, status };
            assert_eq!(Bound::of(&snapshot, 7), expected, "{snapshot:?}");
        };
        check(&|_| {}, 250_020, 2000, Status::Synchronized);
        check(&|s| s.reason = Reason::Holdover, 250_020, 2000, Status::FreeRunning);
        check(&|s| s.kernel_frequency_ppm = -88.0, 251_020, 102_000, Status::Synchronized);
        check(&|s| s.reason = Reason::LocalReference, 250_020, 2000, Status::Unknown);
        check(&|s| s.reason = Reason::LocalClock, 250_020, 2000, Status::Unknown);
        let unsynchronized = |s: &mut Snapshot| (s.synchronized, s.reason) = (false, Reason::ErrorBound);
        check(&unsynchronized, 250_020, 2000, Status::Unknown);
        check(&|s| s.error_bound = None, 1_000_000_000_000_000_000, 2000, Status::Synchronized);
        check(
            &|s| s.error_bound = Some(f64::INFINITY),
            1_000_000_000_000_000_000,
            2000,
            Status::Synchronized,
        );
        check(&|s| s.dispersion_rate = 9.0, 10_250_000, 999_999_999, Status::Synchronized);
    }

    /// The result of ClockBound's own library: half of the interval in nanoseconds, and the status.
    fn read(reader: &mut ShmReader) -> (i64, ClockStatus) {
        let before = sys::clock::realtime_ns();
        let (earliest, latest, status) = reader.snapshot().unwrap().now().unwrap();
        let after = sys::clock::realtime_ns();
        let nanos = |time: &dyn Fn() -> (i64, i64)| time().0 * 1_000_000_000 + time().1;
        let earliest = nanos(&|| (earliest.tv_sec(), earliest.tv_nsec()));
        let latest = nanos(&|| (latest.tv_sec(), latest.tv_nsec()));
        let middle = earliest + (latest - earliest) / 2;
        assert!((before - 1..=after + 1).contains(&middle), "{before} {middle} {after}");
        ((latest - earliest) / 2, status)
    }

    #[test]
    fn clock_bounds_own_library_reads_it() {
        let folder = Scratch::new();
        let path = folder.path().join("clockbound/shm0");
        let c_path = CString::new(path.as_os_str().as_bytes()).unwrap();
        let mut writer = ClockBound::open(&path).unwrap();
        assert!(ShmReader::new(&c_path).is_err(), "nothing was written yet");
        writer.publish(&Snapshot { error_bound: None, reason: Reason::Starting, ..snapshot() }, 0);
        assert!(ShmReader::new(&c_path).is_err(), "nothing is known yet");
        writer.publish(&snapshot(), 0);
        let mut reader = ShmReader::new(&c_path).unwrap();
        let (bound, status) = told(&mut writer, &mut reader, &snapshot(), 0);
        assert_eq!(status, ClockStatus::Synchronized);
        // It has grown by 2 us per second since then.
        assert!((250_020..260_020).contains(&bound), "{bound}");
        let holdover = Snapshot { reason: Reason::Holdover, ..snapshot() };
        assert_eq!(told(&mut writer, &mut reader, &holdover, 0).1, ClockStatus::FreeRunning);
        // A second agent continues in the same file, and the reader's mapping stays valid.
        drop(writer);
        let mut writer = ClockBound::open(&path).unwrap();
        assert_eq!(read(&mut reader).1, ClockStatus::FreeRunning);
        let lost = Snapshot { synchronized: false, reason: Reason::NoMajority, ..snapshot() };
        assert_eq!(told(&mut writer, &mut reader, &lost, 0).1, ClockStatus::Unknown);
        // Without an agent the clock is free running, and the bound grows.
        let minute = 60_000_000_000;
        let (bound, status) = told(&mut writer, &mut reader, &snapshot(), minute);
        assert_eq!(status, ClockStatus::FreeRunning);
        assert!(bound >= 250_020 + 120_000, "{bound}");
        assert_eq!(told(&mut writer, &mut reader, &snapshot(), 20 * minute).1, ClockStatus::Unknown);
    }

    /// The library's result within 4 s of the write, which is before it begins to distrust the segment.
    fn told(
        writer: &mut ClockBound,
        reader: &mut ShmReader,
        snapshot: &Snapshot,
        age_ns: i64,
    ) -> (i64, ClockStatus) {
        for _ in 0..20 {
            let begin = sys::clock::monotonic_ns();
            writer.publish(snapshot, age_ns);
            let told = read(reader);
            if sys::clock::monotonic_ns() - begin < 4_000_000_000 {
                return told;
            }
        }
        panic!("the machine is too slow to read what was just written");
    }

    #[test]
    fn a_reader_never_finds_half_of_a_state() {
        let folder = Scratch::new();
        let path = folder.path().join("shm0");
        let mut writer = ClockBound::open(&path).unwrap();
        // All fields have the same number, and the generation wraps around.
        let bound = |number: u32| Bound {
            as_of_ns: i64::from(number) * 1_000_000_001,
            bound_ns: number.into(),
            max_drift_ppb: number,
            status: if number.is_multiple_of(2) { Status::Synchronized } else { Status::FreeRunning },
        };
        writer.write(bound(0));
        let reader = SharedFile::open(&path).unwrap();
        let over = AtomicBool::new(false);
        let begun = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..200_000 {
                    begun.store(number, Ordering::SeqCst);
                    writer.write(bound(number));
                }
                over.store(true, Ordering::Relaxed);
            });
            let mut consistent = 0;
            while consistent == 0 || !over.load(Ordering::Relaxed) {
                let begun_before = begun.load(Ordering::SeqCst);
                let before = reader.generation.load(Ordering::Acquire);
                assert_ne!(before, 0);
                let number = reader.max_drift.load(Ordering::Relaxed);
                let found = (
                    reader.as_of.each_ref().map(|field| field.load(Ordering::Relaxed)),
                    reader.bound.load(Ordering::Relaxed),
                    reader.status.load(Ordering::Relaxed),
                );
                fence(Ordering::Acquire);
                let after = reader.generation.load(Ordering::Relaxed);
                // While a reader sleeps for this long, a generation can occur again. No real writer is as fast.
                let slept = begun.load(Ordering::SeqCst) - begun_before > 30_000;
                if before.is_multiple_of(2) && before == after && !slept {
                    let status = if number.is_multiple_of(2) { 1 } else { 2 };
                    assert_eq!(found, ([number.into(); 2], i64::from(number), status));
                    consistent += 1;
                }
            }
        });
    }

    /// Every user may read the segment, and so lock it: neither that, nor a file that was another user's, must matter.
    #[test]
    fn who_may_read_the_segment_cannot_stop_its_writer() {
        let folder = Scratch::new();
        let path = folder.path().join("shm0");
        drop(ClockBound::open(&path).unwrap());
        let reader = fs::File::open(&path).unwrap();
        reader.lock().unwrap();
        let mut writer = ClockBound::open(&path).unwrap();
        writer.publish(&snapshot(), 0);
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&path, 0o666);
        let other = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut writer = ClockBound::open(&path).unwrap();
        other.set_len(0).unwrap();
        // Otherwise this would end by SIGBUS.
        writer.publish(&snapshot(), 0);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        set(folder.path(), 0o777);
        assert!(ClockBound::open(&path).unwrap_err().to_string().contains("may be written by others"));
    }

    #[test]
    fn what_is_no_segment_becomes_one() {
        let folder = Scratch::new();
        let path = folder.path().join("shm0");
        fs::write(
            &path,
            "something else that is longer than a segment, and has nothing to do with it at all. ....",
        )
        .unwrap();
        let mut writer = ClockBound::open(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap()[12..16], [2, 0, 0, 0]);
        writer.publish(&snapshot(), 0);
        let octets = fs::read(&path).unwrap();
        let number = |at: usize| u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap());
        assert_eq!([0, 4, 8, 64, 68].map(number), [0x414d_5a4e, 0x4342_0200, 80, 2000, 1]);
        assert!(ClockBound::open(Path::new("/proc/no/such/segment")).is_err());
    }
}
