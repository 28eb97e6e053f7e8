//! Finds the processes that have a file open with a lock, by /proc. Processes of other PID namespaces cannot be seen.
//! Reads, and decides nothing.
use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

/// A process that has a lock on the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// The program's name, as the kernel has it.
    pub(super) program: String,
    /// The user whose rights it has.
    pub(super) user: u32,
    /// True if it may write the file. Each agent can; an ordinary user cannot.
    pub(super) may_write: bool,
}

/// Searches for holders, and remembers the result: to read all open files of a node takes milliseconds.
#[derive(Debug, Default)]
pub(super) struct Search {
    found: Option<(Instant, u64, Vec<Holder>)>,
}

/// How long a result is used.
const GOOD: Duration = Duration::from_secs(5);

impl Search {
    /// The processes that hold `file`. `named` is a process that claims to, and is checked first.
    pub(super) fn holders(&mut self, file: &Metadata, named: Option<u32>) -> Vec<Holder> {
        let proc = Path::new("/proc");
        if let Some(holder) = named.and_then(|pid| holder(proc, pid, file)) {
            return vec![holder];
        }
        match &self.found {
            Some((at, inode, holders)) if *inode == file.ino() && at.elapsed() < GOOD => holders.clone(),
            _ => self.anew(file),
        }
    }

    /// The same, by a new search.
    pub(super) fn anew(&mut self, file: &Metadata) -> Vec<Holder> {
        let proc = Path::new("/proc");
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holders: Vec<_> =
            pids.filter(|pid| *pid != std::process::id()).filter_map(|pid| holder(proc, pid, file)).collect();
        self.found = Some((Instant::now(), file.ino(), holders.clone()));
        holders
    }
}

/// The process with this id, if it has the file open with a lock.
fn holder(proc: &Path, pid: u32, file: &Metadata) -> Option<Holder> {
    let folder = proc.join(pid.to_string());
    let descriptors = fs::read_dir(folder.join("fd")).ok()?.flatten();
    let mut may_write = None;
    for descriptor in descriptors {
        // Compared by the file, not by the lock's line: the device in that line is the kernel's, which is not always
        // the one that stat reports.
        let same = fs::metadata(descriptor.path())
            .is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()));
        let lock = if same { lock_of(&folder.join("fdinfo").join(descriptor.file_name())) } else { None };
        if let Some(writes) = lock {
            may_write = Some(may_write.unwrap_or(false) || writes);
        }
    }
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let user = users.split_whitespace().nth(1)?.parse().ok()?;
    let program = fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
    Some(Holder { pid, program, user, may_write: may_write? })
}

/// Whether a descriptor with a lock may write; none if it has no lock (proc_pid_fdinfo(5)).
fn lock_of(info: &Path) -> Option<bool> {
    let text = fs::read_to_string(info).ok()?;
    text.lines().find(|line| line.starts_with("lock:"))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    // Octal. The lowest two bits are the access mode, 0 for reading (open(2)).
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & 3 != 0)
}
