//! Who has a file locked: the processes that have it open with a lock, as /proc tells. Those of other PID namespaces cannot
//! be seen. Reads, and decides nothing.
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
    /// Whose rights it has.
    pub(super) user: u32,
    /// It may write the file. Each program of ours can; a plain user cannot.
    pub(super) may_write: bool,
}

/// Looks for holders, and remembers what was found: to look at all open files of a node takes milliseconds.
#[derive(Debug, Default)]
pub(super) struct Search {
    found: Option<(Instant, u64, Vec<Holder>)>,
}

/// For this long an answer is good.
const GOOD: Duration = Duration::from_secs(5);

impl Search {
    /// Those that hold `file`; `named` is a process that says so, which is looked at first.
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

    /// The same, by a look of now.
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

/// The process, if it has the file open with a lock.
fn holder(proc: &Path, pid: u32, file: &Metadata) -> Option<Holder> {
    let folder = proc.join(pid.to_string());
    let descriptors = fs::read_dir(folder.join("fd")).ok()?.flatten();
    let mut may_write = None;
    for descriptor in descriptors {
        // By the file and not by the lock's line: that names the device as the kernel has it, which is not always the one
        // that stat tells.
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

/// Whether a descriptor that has a lock may write; none if it has no lock (proc_pid_fdinfo(5)).
fn lock_of(info: &Path) -> Option<bool> {
    let text = fs::read_to_string(info).ok()?;
    text.lines().find(|line| line.starts_with("lock:"))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    // Octal; the lowest two bits are the way of access, 0 for reading (open(2)).
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & 3 != 0)
}
