//! Locks on whole files that belong to an open file (open file description locks, fcntl(2)). Unlike flock(2), they need
//! a file that is open for writing, so a user who may only read it cannot take one.
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Error;

/// Flag for `open`: do not follow a link (O_NOFOLLOW).
pub const NO_FOLLOW: i32 = libc::O_NOFOLLOW;

/// Flag for `open`: do not wait for a pipe or a device (O_NONBLOCK).
pub const NO_WAIT: i32 = libc::O_NONBLOCK;

/// The effective user of this process.
pub fn own_user() -> u32 {
    // SAFETY: the call takes nothing, and always succeeds.
    unsafe { libc::geteuid() }
}

/// Takes the write lock of `file`, without waiting. Returns `false` if another open file has it. The lock ends when the
/// last copy of the descriptor is closed.
///
/// # Errors
/// If the file is not open for writing, or its file system does not support such locks.
pub fn try_lock(file: BorrowedFd<'_>) -> Result<bool, Error> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the pointer is to a live structure, which the call only reads.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
    match Error::check("fcntl", result) {
        Ok(_) => Ok(true),
        Err(error) if error.would_block() || error.errno() == libc::EACCES => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, OpenOptions},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn one_open_file_has_the_lock_and_a_reader_never() {
        let path = std::env::temp_dir().join(format!("timesync-lock-{}", std::process::id()));
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let (one, other) = (open(), open());
        assert_eq!(try_lock(one.as_fd()), Ok(true));
        assert_eq!(try_lock(one.as_fd()), Ok(true), "it has it");
        assert_eq!(try_lock(other.as_fd()), Ok(false));
        let reader = File::open(&path).unwrap();
        assert_eq!(try_lock(reader.as_fd()).unwrap_err().errno(), libc::EBADF);
        let copy = one.try_clone().unwrap();
        drop(one);
        assert_eq!(try_lock(other.as_fd()), Ok(false), "a copy of the descriptor is the same open file");
        drop(copy);
        // A flock by a reader is a different lock.
        reader.try_lock().unwrap();
        assert_eq!(try_lock(other.as_fd()), Ok(true));
        fs::remove_file(&path).unwrap();
    }
}
