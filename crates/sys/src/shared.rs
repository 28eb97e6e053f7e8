//! A small file that other processes map and read while this process writes it: the segment of the ClockBound protocol,
//! version 2 (docs/PROTOCOL.md of aws/clock-bound). This file has its layout. The caller decides what to write, and in
//! which order.
//!
//! Every field is atomic, since readers in other processes may read at any time. Numbers are in the machine's byte
//! order.
use std::{
    ffi::CString,
    ops::Deref,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr::{self, NonNull},
    sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64},
};

use crate::Error;

/// The segment's fields in their order. A segment of zeroes was not written yet.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct ClockBound {
    /// Identifies the kind of file.
    pub magic: [AtomicU32; 2],
    /// Size of the segment, octets.
    pub size: AtomicU32,
    /// Version of the layout; 0 while the segment is being set up.
    pub version: AtomicU16,
    /// Odd while the fields below are being written. After each write it is another even number.
    pub generation: AtomicU16,
    /// When the bound was valid, by CLOCK_MONOTONIC_COARSE: seconds and nanoseconds.
    pub as_of: [AtomicI64; 2],
    /// When the bound stops being valid.
    pub void_after: [AtomicI64; 2],
    /// Largest error of CLOCK_REALTIME, nanoseconds.
    pub bound: AtomicI64,
    /// Counts disruptions, which only a hypervisor can report.
    pub disruption_marker: AtomicU64,
    /// How fast the bound grows, parts per billion.
    pub max_drift: AtomicU32,
    /// Whether the clock is synchronised, as the protocol encodes it.
    pub status: AtomicI32,
    /// Not 0 if disruptions are noticed.
    pub disruption_support: AtomicU8,
    /// Unused.
    pub padding: [AtomicU8; 7],
}

/// A file that is mapped as [`ClockBound`] while this value lives.
#[derive(Debug)]
pub struct SharedFile {
    segment: NonNull<ClockBound>,
}

// SAFETY: the mapping belongs to the process and not to a thread, and everything that can be reached through it is
// atomic.
unsafe impl Send for SharedFile {}

impl SharedFile {
    /// Maps the file for reading and writing. If it does not exist, creates it, readable for every user. Sets its
    /// length. Its content stays, so that processes that have it mapped see no gap. A link is not followed.
    ///
    /// The folder must be writable for root alone. A user who may write the file could shorten it, and then the next
    /// access would end this process by SIGBUS.
    ///
    /// # Errors
    /// If the file cannot be opened, created or mapped.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", libc::EINVAL))?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        // SAFETY: the path is a live string that ends in a zero; nothing else owns the descriptor that is returned.
        let descriptor = unsafe {
            let raw = Error::check("open", libc::open(path.as_ptr(), flags, MODE))?;
            OwnedFd::from_raw_fd(raw)
        };
        // SAFETY: both calls take an open descriptor and numbers.
        unsafe {
            Error::check("fchmod", libc::fchmod(descriptor.as_raw_fd(), MODE))?;
            Error::check("ftruncate", libc::ftruncate(descriptor.as_raw_fd(), SIZE as libc::off_t))?;
        }
        reserve(&descriptor)?;
        // SAFETY: a new mapping at an address that the kernel chooses; it stays when the descriptor is closed.
        let address = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), SIZE, access, libc::MAP_SHARED, descriptor.as_raw_fd(), 0)
        };
        match NonNull::new(address.cast::<ClockBound>()) {
            Some(segment) if address != libc::MAP_FAILED => Ok(Self { segment }),
            _ => Err(Error::last("mmap")),
        }
    }
}

/// Allocates the file's space on the disk. Without it, on a full disk, the first access to the mapped file ends the
/// process by SIGBUS.
fn reserve(descriptor: &OwnedFd) -> Result<(), Error> {
    // SAFETY: the call takes an open descriptor and numbers.
    let errno = unsafe { libc::posix_fallocate(descriptor.as_raw_fd(), 0, SIZE as libc::off_t) };
    match errno {
        // Allocated, or the file system does not support allocation.
        0 | libc::EOPNOTSUPP | libc::EINVAL => Ok(()),
        errno => Err(Error::new("posix_fallocate", errno)),
    }
}

const SIZE: usize = size_of::<ClockBound>();

/// Every user may read the file.
const MODE: libc::mode_t = 0o644;

impl Deref for SharedFile {
    type Target = ClockBound;

    fn deref(&self) -> &ClockBound {
        // SAFETY: the mapping is as large as a ClockBound, begins at a page, holds for as long as self, and any octets
        // are one, since its fields are atomic integers.
        unsafe { self.segment.as_ref() }
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, whose length has not changed; no reference into it outlives self.
        unsafe { libc::munmap(self.segment.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, mem::offset_of, os::unix::fs::symlink, sync::atomic::Ordering};

    use super::*;

    #[test]
    fn fields_are_where_the_protocol_has_them() {
        assert_eq!(SIZE, 80);
        assert_eq!(offset_of!(ClockBound, size), 8);
        assert_eq!(offset_of!(ClockBound, version), 12);
        assert_eq!(offset_of!(ClockBound, generation), 14);
        assert_eq!(offset_of!(ClockBound, as_of), 16);
        assert_eq!(offset_of!(ClockBound, void_after), 32);
        assert_eq!(offset_of!(ClockBound, bound), 48);
        assert_eq!(offset_of!(ClockBound, disruption_marker), 56);
        assert_eq!(offset_of!(ClockBound, max_drift), 64);
        assert_eq!(offset_of!(ClockBound, status), 68);
        assert_eq!(offset_of!(ClockBound, disruption_support), 72);
    }

    #[test]
    fn two_mappings_and_the_file_are_one() {
        let folder = std::env::temp_dir().join(format!("timesync-shared-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("segment");
        fs::write(&path, [7; 200]).unwrap();
        let (one, two) = (SharedFile::open(&path).unwrap(), SharedFile::open(&path).unwrap());
        assert_eq!(two.status.load(Ordering::Relaxed), 0x0707_0707);
        one.bound.store(-5, Ordering::Relaxed);
        assert_eq!(two.bound.load(Ordering::Relaxed), -5);
        let octets = fs::read(&path).unwrap();
        assert_eq!((octets.len(), &octets[48..56]), (80, &(-5_i64).to_ne_bytes()[..]));
        let link = folder.join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(SharedFile::open(&link).unwrap_err().errno(), libc::ELOOP);
        assert!(SharedFile::open(&folder.join("no/such")).unwrap_err().not_found());
        fs::remove_dir_all(&folder).unwrap();
    }
}
