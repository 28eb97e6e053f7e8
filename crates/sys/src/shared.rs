//! A small file that other processes map and read while we write it: the segment of the ClockBound protocol, version 2
//! (docs/PROTOCOL.md of aws/clock-bound). Here is its shape; what is written, and in which order, is the caller's.
//!
//! Every field is atomic, since readers of other processes look at any time. Numbers are in the machine's byte order.
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

/// The segment's fields in their order. All zero is one that nobody has written yet.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct ClockBound {
    /// Tells what the file is.
    pub magic: [AtomicU32; 2],
    /// Of the segment, octets.
    pub size: AtomicU32,
    /// Of the layout; 0 while it is being set up.
    pub version: AtomicU16,
    /// Odd while the fields below are being written, another even number afterwards.
    pub generation: AtomicU16,
    /// When the bound held, by CLOCK_MONOTONIC_COARSE: seconds and nanoseconds.
    pub as_of: [AtomicI64; 2],
    /// When it says nothing any more.
    pub void_after: [AtomicI64; 2],
    /// Largest error of CLOCK_REALTIME, nanoseconds.
    pub bound: AtomicI64,
    /// Counts what only a hypervisor can tell.
    pub disruption_marker: AtomicU64,
    /// How fast the bound grows, parts per billion.
    pub max_drift: AtomicU32,
    /// Whether the clock is synchronised.
    pub status: AtomicI32,
    /// Whether disruptions are noticed.
    pub disruption_support: AtomicU8,
    /// Nothing.
    pub padding: [AtomicU8; 7],
}

/// A file mapped as [`ClockBound`] for as long as this lives.
#[derive(Debug)]
pub struct Shared {
    segment: NonNull<ClockBound>,
}

// SAFETY: the mapping belongs to the process and not to a thread, and all that can be reached through it is atomic.
unsafe impl Send for Shared {}

impl Shared {
    /// Maps the file for reading and writing; it is made if it is not there, readable for everybody, and gets the
    /// right length. What was in it remains, so that those who have it mapped see no gap. A link is not followed.
    ///
    /// Whoever may write the file could cut it short, and the next access would end this process by SIGBUS: the
    /// folder must be root's alone.
    ///
    /// # Errors
    /// When the file cannot be opened, made or mapped.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", libc::EINVAL))?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        // SAFETY: the path is a live string that ends in a zero; the descriptor that is returned belongs to nobody
        // else.
        let descriptor = unsafe {
            let raw = Error::check("open", libc::open(path.as_ptr(), flags, MODE))?;
            OwnedFd::from_raw_fd(raw)
        };
        // SAFETY: both take a descriptor that is open and numbers.
        unsafe {
            Error::check("fchmod", libc::fchmod(descriptor.as_raw_fd(), MODE))?;
            Error::check("ftruncate", libc::ftruncate(descriptor.as_raw_fd(), SIZE as libc::off_t))?;
        }
        reserve(&descriptor)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; it stays when the descriptor is closed.
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

/// Gives the file its place on the disk. On a full disk the first access to a mapped file without one ends the process by
/// SIGBUS.
fn reserve(descriptor: &OwnedFd) -> Result<(), Error> {
    // SAFETY: it takes a descriptor that is open and numbers.
    let errno = unsafe { libc::posix_fallocate(descriptor.as_raw_fd(), 0, SIZE as libc::off_t) };
    match errno {
        // A file system that cannot be asked for it.
        0 | libc::EOPNOTSUPP | libc::EINVAL => Ok(()),
        errno => Err(Error::new("posix_fallocate", errno)),
    }
}

const SIZE: usize = size_of::<ClockBound>();

/// Everybody may read.
const MODE: libc::mode_t = 0o644;

impl Deref for Shared {
    type Target = ClockBound;

    fn deref(&self) -> &ClockBound {
        // SAFETY: the mapping is as large as a ClockBound, begins at a page, holds for as long as self, and any octets
        // are one, since its fields are atomic integers.
        unsafe { self.segment.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and as long as when it was made; no reference into it outlives self.
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
        let (one, two) = (Shared::open(&path).unwrap(), Shared::open(&path).unwrap());
        assert_eq!(two.status.load(Ordering::Relaxed), 0x0707_0707);
        one.bound.store(-5, Ordering::Relaxed);
        assert_eq!(two.bound.load(Ordering::Relaxed), -5);
        let octets = fs::read(&path).unwrap();
        assert_eq!((octets.len(), &octets[48..56]), (80, &(-5_i64).to_ne_bytes()[..]));
        let link = folder.join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(Shared::open(&link).unwrap_err().errno(), libc::ELOOP);
        assert!(Shared::open(&folder.join("no/such")).unwrap_err().not_found());
        fs::remove_dir_all(&folder).unwrap();
    }
}
