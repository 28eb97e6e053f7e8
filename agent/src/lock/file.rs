//! One file that is locked: by an open file description lock, which only those can take who may write the file, and by
//! flock(2), which older versions of this program know alone. Whoever may only read the file can take the second, and keeps
//! no program of ours away by it.
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

/// What came of trying.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is ours while the file is open.
    Ours(File),
    /// Another program of ours has it; which.
    Theirs(String),
    /// A process that cannot be seen has the old kind of lock, and nobody has the new one: an older version of this
    /// program in another PID namespace, or a plain user.
    Unknown(File),
}

/// For us alone.
const MODE: u32 = 0o600;

/// The file changes only where others interfere.
const TRIES: u32 = 5;

/// Takes the locks of the file at `path`, which is made if it is not there.
///
/// # Errors
/// It cannot be opened or made, is no plain file, or its system of files knows no locks.
pub(super) fn try_take(path: &Path, search: &mut Search) -> io::Result<Attempt> {
    for _ in 0..TRIES {
        let Some(file) = open(path)? else { continue };
        let found = file.metadata()?;
        // Then nobody else can have opened it for writing.
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
        // Looked at anew, since what was known may be seconds old.
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

/// None if it went away meanwhile.
fn open(path: &Path) -> io::Result<Option<File>> {
    // Through a link another file would be written. A pipe must not keep us waiting.
    let flags = sys::lock::NO_FOLLOW | sys::lock::NO_WAIT;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE).custom_flags(flags);
    let foreign = || io::Error::other(format!("{} is no plain file", path.display()));
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(foreign()),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => Err(foreign()),
        // The folder may be writable for others, and `fs.protected_regular` set.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match fs::symlink_metadata(path) {
            Ok(found) if found.uid() != sys::lock::own_user() => fs::remove_file(path).map(|()| None),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// A program of ours could write the file, and ran as root or as we do.
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

/// Puts a new file, with both locks ours, in the place of `bad`; none if that is not there any more, or another program
/// does the same. The new file under its first name is what two such programs exclude each other by.
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
    // Whatever is in it; its holder may be about to write it.
    let _ = file.take(LONGEST).read_to_string(&mut text);
    text
}

/// What a program of ours wrote of itself ends with its number.
fn pid_in(text: &str) -> Option<u32> {
    text.lines().next()?.rsplit_once("pid ")?.1.trim().parse().ok()
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "another agent".to_owned() } else { line.to_owned() }
}

/// What it wrote of itself, if it did; else as the kernel knows it.
fn name(holder: &Holder, text: &str) -> String {
    if pid_in(text) == Some(holder.pid) {
        first_line(text)
    } else {
        format!("{}, pid {}", holder.program, holder.pid)
    }
}
