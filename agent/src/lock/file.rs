//! One locked file. It has an open file description lock, which only a user who may write the file can take, and a
//! flock(2), which is the only lock that older versions of this program know. A user who may only read the file can
//! take the second lock, but cannot keep this program away with it.
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use tracing::warn;

use super::holder::{Holder, Search};
use crate::exposure::is_own;

/// The result of a try.
#[derive(Debug)]
pub(super) enum Attempt {
    /// This process has the locks while the file is open.
    Ours(File),
    /// Another agent has the lock, and its name.
    Theirs(String),
    /// A process that cannot be seen has the older kind of lock, and no process has the newer kind. It is an older
    /// version of this program in another PID namespace, or an ordinary user's process.
    Unknown(File),
}

/// Access for this user alone.
const MODE: u32 = 0o600;

/// Number of tries. The file changes only if other processes interfere.
const TRIES: u32 = 5;

/// Takes the locks of the file at `path`. Creates the file if it does not exist.
///
/// # Errors
/// If it cannot be opened or created, is not a regular file, or its file system does not support locks.
pub(super) fn try_take(path: &Path, search: &mut Search) -> io::Result<Attempt> {
    for _ in 0..TRIES {
        let Some(file) = open(path)? else { continue };
        let found = file.metadata()?;
        // Then no other user can have opened it for writing.
        let safe = is_own(&found);
        if found.mode() & 0o777 != MODE && found.uid() == sys::lock::own_user() {
            file.set_permissions(Permissions::from_mode(MODE))?;
        }
        let new = sys::lock::try_lock(file.as_fd()).map_err(io::Error::other)?;
        if new && safe && old_lock(&file)? {
            if is_at(path, &found) {
                return Ok(Attempt::Ours(file));
            }
            // Another program has just replaced it.
            continue;
        }
        let text = text(&file);
        let holders = search.holders(&found, pid_in(&text));
        if let Some(holder) = holders.iter().find(|holder| is_ours(holder)) {
            return Ok(Attempt::Theirs(name(holder, &text)));
        }
        if holders.is_empty() && safe {
            return Ok(if new { Attempt::Unknown(file) } else { Attempt::Theirs(first_line(&text)) });
        }
        // Searched again, since the earlier result may be seconds old.
        let holders = search.anew(&found);
        if !holders.iter().any(is_ours)
            && let Some(file) = replace(path, &found)?
        {
            for holder in &holders {
                let Holder { pid, program, user, .. } = holder;
                warn!(path = %path.display(), pid, program, user, "Lock of a process without rights is ignored");
            }
            return Ok(Attempt::Ours(file));
        }
    }
    Err(io::Error::other(format!("{} is replaced again and again", path.display())))
}

/// Opens the file; none if it was removed in the meantime.
fn open(path: &Path) -> io::Result<Option<File>> {
    // Through a link, another file would be written. A pipe must not block this process.
    let flags = sys::lock::NO_FOLLOW | sys::lock::NO_WAIT;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE).custom_flags(flags);
    let foreign = || io::Error::other(format!("{} is no plain file", path.display()));
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(foreign()),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => Err(foreign()),
        // The folder may be writable for other users, and `fs.protected_regular` set.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match fs::symlink_metadata(path) {
            Ok(found) if found.uid() != sys::lock::own_user() => fs::remove_file(path).map(|()| None),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Returns true if the holder is an agent: it can write the file, and runs as root or as this user.
fn is_ours(holder: &Holder) -> bool {
    holder.may_write && (holder.user == 0 || holder.user == sys::lock::own_user())
}

fn old_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_at(path: &Path, file: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Replaces `bad` by a new file with both locks; none if `bad` is not there any more, or if another agent does the
/// same. The first name of the new file is what excludes a second agent.
fn replace(path: &Path, bad: &Metadata) -> io::Result<Option<File>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    if fs::symlink_metadata(&beside).is_ok_and(|found| !is_own(&found)) {
        fs::remove_file(&beside)?;
    }
    let Some(file) = open(&beside)? else { return Ok(None) };
    let new = file.metadata()?;
    let locked = sys::lock::try_lock(file.as_fd()).map_err(io::Error::other)? && old_lock(&file)?;
    if !locked || !is_own(&new) || !is_at(&beside, &new) {
        return Ok(None);
    }
    if !is_at(path, bad) {
        fs::remove_file(&beside)?;
        return Ok(None);
    }
    fs::rename(&beside, path)?;
    Ok(Some(file))
}

/// A name and a number.
const LONGEST: u64 = 200;

fn text(file: &File) -> String {
    let mut text = String::new();
    // The content may be anything, since the holder may be about to write it.
    let _ = file.take(LONGEST).read_to_string(&mut text);
    text
}

/// The process id in an agent's text, which ends with it.
fn pid_in(text: &str) -> Option<u32> {
    text.lines().next()?.rsplit_once("pid ")?.1.trim().parse().ok()
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "another agent".to_owned() } else { line.to_owned() }
}

/// The name that the holder wrote, or else the kernel's name.
fn name(holder: &Holder, text: &str) -> String {
    if pid_in(text) == Some(holder.pid) {
        first_line(text)
    } else {
        format!("{}, pid {}", holder.program, holder.pid)
    }
}
