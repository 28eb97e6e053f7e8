//! The lock: the process that steers this node's clock and writes its state folder holds it, so that there is only one
//! such process at a time. The kernel releases the lock when its process ends, in any way. The lock's file names its
//! holder. `file` locks it so that only a user who may write it can do so; `holder` finds out which process has it.
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::warn;

mod file;
mod holder;

use file::Attempt;
use holder::Search;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    queue: PathBuf,
}

/// The result of an attempt to take the lock.
#[derive(Debug)]
pub(crate) enum TryLock {
    /// This process holds the lock.
    Ours(Lock),
    /// Another process holds the lock; its name.
    Theirs(String),
}

/// A process that wants the lock and does not have it yet. The first of several waits in the queue, where the holder
/// can see it.
#[derive(Debug)]
pub(crate) struct LockWaiter {
    directory: PathBuf,
    who: String,
    queue: Option<File>,
    search: Search,
    /// The time since when an unseen process has only the older kind of lock.
    unknown: Option<Instant>,
}

const LOCK: &str = "lock";
const QUEUE: &str = "lock.queue";

/// An older version gives way within a second to a process that waits, or an upgrade ends it. After this time the
/// holder counts as a process of an ordinary user, which must not block the agent permanently.
const YIELD_TIMEOUT: Duration = Duration::from_secs(60);

const UNSEEN: &str = "a process that this one cannot see (of another PID namespace)";

impl Lock {
    /// Tries once. `who` is the name that other processes will read.
    ///
    /// # Errors
    /// If the folder cannot be written, or its file system does not support locks.
    pub(crate) fn try_take(directory: &Path, who: &str) -> io::Result<TryLock> {
        match file::try_take(&directory.join(LOCK), &mut Search::default())? {
            Attempt::Ours(file) => Ok(TryLock::Ours(Self::signed(file, directory, who))),
            Attempt::Theirs(holder) => Ok(TryLock::Theirs(holder)),
            Attempt::Unknown(_) => Ok(TryLock::Theirs(UNSEEN.to_owned())),
        }
    }

    /// Returns true if another process waits for the lock.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(file::try_take(&self.queue, &mut Search::default()), Ok(Attempt::Theirs(_)))
    }

    fn signed(file: File, directory: &Path, who: &str) -> Self {
        let lock = Self { file, queue: directory.join(QUEUE) };
        lock.sign(&format!("{who}, pid {}\n", std::process::id()));
        // This also closes the queue's file to other users. An older version may have left it open to them.
        lock.is_wanted();
        lock
    }

    /// Writes the holder's name. On a full disk the file stays empty. The lock is held nevertheless, and other
    /// processes find the name in /proc.
    fn sign(&self, text: &str) {
        if let Err(error) = self.file.set_len(0).and_then(|()| (&self.file).write_all(text.as_bytes())) {
            warn!(%error, "The lock is held, but its file cannot name the holder");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next holder writes its name soon. Until then this process's name would be wrong.
        let _ = self.file.set_len(0);
    }
}

impl LockWaiter {
    /// Makes a waiter for the lock of `directory`. `who` is the name that other processes will read.
    pub(crate) fn new(directory: &Path, who: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            who: who.to_owned(),
            queue: None,
            search: Search::default(),
            unknown: None,
        }
    }

    /// Tries once. From then on, others can see that this process waits.
    ///
    /// # Errors
    /// As [`Lock::try_take`].
    pub(crate) fn try_take(&mut self) -> io::Result<TryLock> {
        let attempt = file::try_take(&self.directory.join(LOCK), &mut self.search)?;
        let holder = match attempt {
            Attempt::Ours(file) => return Ok(self.taken(file)),
            Attempt::Theirs(holder) => {
                self.unknown = None;
                holder
            }
            Attempt::Unknown(file) if self.unknown.is_some_and(|since| since.elapsed() >= YIELD_TIMEOUT) => {
                warn!(
                    "The lock of a process that cannot be seen is ignored: no program of this version has it"
                );
                return Ok(self.taken(file));
            }
            Attempt::Unknown(_) => {
                self.unknown.get_or_insert_with(Instant::now);
                UNSEEN.to_owned()
            }
        };
        if self.queue.is_none()
            && let Attempt::Ours(file) | Attempt::Unknown(file) =
                file::try_take(&self.directory.join(QUEUE), &mut Search::default())?
        {
            self.queue = Some(file);
        }
        Ok(TryLock::Theirs(holder))
    }

    fn taken(&mut self, file: File) -> TryLock {
        self.queue = None;
        TryLock::Ours(Lock::signed(file, &self.directory, &self.who))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
        process::{Child, Command, Stdio},
        thread,
    };

    use super::*;
    use crate::scratch::Scratch;

    /// A process with the older kind of lock on a file that it may only read: of an ordinary user, if the test can
    /// start one.
    struct Stranger(Child);

    impl Stranger {
        fn locks(path: &Path) -> Self {
            let plain = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
            let mut command = Command::new("setpriv");
            if sys::lock::own_user() == 0 {
                command.args(plain);
            }
            command.arg("flock").arg(path).arg("cat").stdin(Stdio::piped());
            let child = command.spawn().expect("this test needs Debian's package util-linux");
            let stranger = Self(child);
            let begun = Instant::now();
            let has_it = || fs::File::open(path).is_ok_and(|file| file.try_lock().is_err());
            while !has_it() {
                assert!(begun.elapsed() < Duration::from_secs(20), "it never got the lock");
                thread::sleep(Duration::from_millis(10));
            }
            stranger
        }
    }

    impl Drop for Stranger {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Waits. A process that another test starts has a copy of each descriptor until it runs its program, and a lock ends
    /// only with its last one.
    #[track_caller]
    fn soon<T>(mut get: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(got) = get() {
                return got;
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn wait_unwanted(lock: &Lock) {
        soon(|| (!lock.is_wanted()).then_some(()));
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// A file as an older version left it: every user may open and flock it.
    fn open_to_all(folder: &Scratch, name: &str) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, "timesync-agent run, pid 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_plain_users_flock_keeps_nobody_away() {
        let folder = Scratch::new();
        let path = open_to_all(&folder, LOCK);
        let stranger = Stranger::locks(&path);
        let lock = ours(Lock::try_take(folder.path(), "the first")).unwrap();
        assert_eq!(mode(&path), 0o600, "no other process can open it again");
        let TryLock::Theirs(holder) = Lock::try_take(folder.path(), "the second").unwrap() else { panic!() };
        assert_eq!(holder, format!("the first, pid {}", std::process::id()));
        // An older version is kept away too: the file also has the older kind of lock.
        assert!(fs::File::open(&path).unwrap().try_lock().is_err());
        drop(lock);
        drop(stranger);
        soon(|| fs::File::open(&path).unwrap().try_lock().ok());
    }

    #[test]
    fn a_plain_users_flock_is_no_agent_that_waits() {
        let folder = Scratch::new();
        let queue = open_to_all(&folder, QUEUE);
        let _stranger = Stranger::locks(&queue);
        let lock = ours(Lock::try_take(folder.path(), "a")).unwrap();
        assert_eq!(mode(&queue), 0o600);
        wait_unwanted(&lock);
        let mut waiting = LockWaiter::new(folder.path(), "b");
        assert!(ours(waiting.try_take()).is_none() && lock.is_wanted());
    }

    #[test]
    fn an_older_version_that_has_the_old_lock_is_respected_and_named() {
        let folder = Scratch::new();
        let path = open_to_all(&folder, LOCK);
        // The process has opened the file for writing.
        let script = format!("exec 9<>{}; flock 9; exec cat", path.display());
        let mut command = Command::new("bash");
        let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        soon(|| fs::File::open(&path).unwrap().try_lock().err());
        let TryLock::Theirs(holder) = Lock::try_take(folder.path(), "b").unwrap() else { panic!() };
        // The child is first flock, then cat.
        assert!(holder.ends_with(&format!(", pid {}", child.id())), "{holder}");
        assert!(!holder.contains("pid 1\n") && !holder.starts_with("timesync-agent run"), "{holder}");
        let _ = child.kill();
        let _ = child.wait();
        soon(|| ours(Lock::try_take(folder.path(), "b")));
    }

    /// A process that could once open the file for writing keeps it open, so the file itself is replaced.
    #[test]
    fn a_file_that_others_could_write_is_replaced() {
        let folder = Scratch::new();
        let path = open_to_all(&folder, LOCK);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let before = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let lock = ours(Lock::try_take(folder.path(), "a")).unwrap();
        (&before).write_all(b"another name").unwrap();
        let TryLock::Theirs(holder) = Lock::try_take(folder.path(), "b").unwrap() else { panic!() };
        assert_eq!(holder, format!("a, pid {}", std::process::id()));
        assert_eq!(mode(&path), 0o600);
        assert!(!folder.path().join(".lock.new").exists());
        drop(lock);
    }

    #[test]
    fn what_is_left_of_a_replacement_is_no_obstacle() {
        let folder = Scratch::new();
        let path = open_to_all(&folder, LOCK);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        symlink("elsewhere/file", folder.path().join(".lock.new")).unwrap();
        assert!(ours(Lock::try_take(folder.path(), "a")).is_some());
        assert!(!folder.path().join("elsewhere/file").exists());
    }

    fn ours(taken: io::Result<TryLock>) -> Option<Lock> {
        match taken.unwrap() {
            TryLock::Ours(lock) => Some(lock),
            TryLock::Theirs(_) => None,
        }
    }

    #[test]
    fn one_has_it_and_is_named() {
        let folder = Scratch::new();
        let first = ours(Lock::try_take(folder.path(), "the first")).unwrap();
        let TryLock::Theirs(holder) = Lock::try_take(folder.path(), "the second").unwrap() else { panic!() };
        assert_eq!(holder, format!("the first, pid {}", std::process::id()));
        drop(first);
        soon(|| ours(Lock::try_take(folder.path(), "the second")));
    }

    #[test]
    fn the_holder_sees_that_somebody_waits() {
        let folder = Scratch::new();
        let lock = ours(Lock::try_take(folder.path(), "a")).unwrap();
        wait_unwanted(&lock);
        // A process that only tries does not wait.
        assert!(ours(Lock::try_take(folder.path(), "b")).is_none());
        wait_unwanted(&lock);
        let (mut first, mut second) =
            (LockWaiter::new(folder.path(), "c"), LockWaiter::new(folder.path(), "d"));
        assert!(ours(first.try_take()).is_none() && ours(second.try_take()).is_none());
        assert!(lock.is_wanted());
        drop(first);
        wait_unwanted(&lock);
        assert!(ours(second.try_take()).is_none());
        assert!(lock.is_wanted());
        drop(lock);
        let lock = soon(|| ours(second.try_take()));
        // It has what it waited for.
        wait_unwanted(&lock);
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
