//! The one lock: whoever steers this node's clock and writes its state folder holds it, so that there is one such program
//! at a time. It ends with its process, however that ends; who holds it stands in the file. Decides nothing.
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tracing::warn;

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    queue: PathBuf,
}

/// What came of trying.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is ours.
    Ours(Lock),
    /// This one has it.
    Theirs(String),
}

/// One who wants the lock and does not have it yet. The first of several stands in the queue, where the lock's holder
/// can see that somebody waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    directory: PathBuf,
    who: String,
    queue: Option<File>,
}

const LOCK: &str = "lock";
const QUEUE: &str = "lock.queue";

impl Lock {
    /// Tries once; `who` is what others will read of us.
    ///
    /// # Errors
    /// The folder cannot be written, or its system of files knows no locks.
    pub(crate) fn try_take(directory: &Path, who: &str) -> io::Result<Taken> {
        let mut file = open(&directory.join(LOCK))?;
        if !locked(&file)? {
            let mut holder = String::new();
            // Whatever is in it is shown; its holder may be about to write it.
            let _ = (&mut file).take(LONGEST).read_to_string(&mut holder);
            let holder = holder.lines().next().unwrap_or_default().trim();
            let holder = if holder.is_empty() { "another agent" } else { holder };
            return Ok(Taken::Theirs(holder.to_owned()));
        }
        let lock = Self { file, queue: directory.join(QUEUE) };
        lock.sign(&format!("{who}, pid {}\n", std::process::id()));
        Ok(Taken::Ours(lock))
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_wanted(&self) -> bool {
        open(&self.queue).and_then(|file| locked(&file)).is_ok_and(|free| !free)
    }

    /// Writes who holds the lock. On a full disk the file stays empty: the lock holds all the same, and others read
    /// "another agent".
    fn sign(&self, text: &str) {
        if let Err(error) = self.file.set_len(0).and_then(|()| (&self.file).write_all(text.as_bytes())) {
            warn!(%error, "The lock is held, but its file cannot name the holder");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next holder's name comes in a moment; ours would mislead until then.
        let _ = self.file.set_len(0);
    }
}

impl Waiting {
    /// Wants the lock of `directory`, as `who`.
    pub(crate) fn new(directory: &Path, who: &str) -> Self {
        Self { directory: directory.to_owned(), who: who.to_owned(), queue: None }
    }

    /// Tries once, and from then on is seen to wait.
    ///
    /// # Errors
    /// As [`Lock::try_take`].
    pub(crate) fn try_take(&mut self) -> io::Result<Taken> {
        let taken = Lock::try_take(&self.directory, &self.who)?;
        match taken {
            Taken::Ours(_) => self.queue = None,
            Taken::Theirs(_) if self.queue.is_none() => {
                let file = open(&self.directory.join(QUEUE))?;
                self.queue = locked(&file)?.then_some(file);
            }
            Taken::Theirs(_) => {}
        }
        Ok(taken)
    }
}

/// A name and a number.
const LONGEST: u64 = 200;

fn open(path: &Path) -> io::Result<File> {
    // Through a link somebody else's file would be written.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(format!("{} is no plain file", path.display())));
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
}

fn locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scratch::Scratch;

    fn ours(taken: io::Result<Taken>) -> Option<Lock> {
        match taken.unwrap() {
            Taken::Ours(lock) => Some(lock),
            Taken::Theirs(_) => None,
        }
    }

    #[test]
    fn one_has_it_and_is_named() {
        let folder = Scratch::new();
        let first = ours(Lock::try_take(folder.path(), "the first")).unwrap();
        let Taken::Theirs(holder) = Lock::try_take(folder.path(), "the second").unwrap() else { panic!() };
        assert_eq!(holder, format!("the first, pid {}", std::process::id()));
        drop(first);
        assert!(ours(Lock::try_take(folder.path(), "the second")).is_some());
    }

    #[test]
    fn the_holder_sees_that_somebody_waits() {
        let folder = Scratch::new();
        let lock = ours(Lock::try_take(folder.path(), "a")).unwrap();
        assert!(!lock.is_wanted());
        // Who only tries does not wait.
        assert!(ours(Lock::try_take(folder.path(), "b")).is_none());
        assert!(!lock.is_wanted());
        let (mut first, mut second) = (Waiting::new(folder.path(), "c"), Waiting::new(folder.path(), "d"));
        assert!(ours(first.try_take()).is_none() && ours(second.try_take()).is_none());
        assert!(lock.is_wanted());
        drop(first);
        assert!(!lock.is_wanted());
        assert!(ours(second.try_take()).is_none());
        assert!(lock.is_wanted());
        drop(lock);
        let lock = ours(second.try_take()).unwrap();
        assert!(!lock.is_wanted(), "it has what it waited for");
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = Scratch::new();
        fs::write(folder.path().join("victim"), "text").unwrap();
        symlink("victim", folder.path().join(LOCK)).unwrap();
        assert!(Lock::try_take(folder.path(), "a").is_err());
        assert_eq!(fs::read_to_string(folder.path().join("victim")).unwrap(), "text");
        assert!(Lock::try_take(&folder.path().join("none"), "a").is_err());
    }
}
