//! The copy of this program that the static pod runs: `bin/timesync-agent` in the state folder. The copy is compared
//! with this program octet by octet, once, and again whenever its metadata changes.
use std::{
    fs::{self, File, Permissions},
    io::{self, BufReader, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    error::Error,
    own_file::{is_own, take_away},
};
use crate::replace::{FileAttributes, replace};

/// The path of the copy in the state folder.
pub(super) const PATH: &str = "bin/timesync-agent";

/// The file in the state folder with which the pod's program runs.
pub(super) const CONFIG: &str = "boot.toml";

/// The file of this program, even after the file was replaced.
const OURS: &str = "/proc/self/exe";

/// The copy.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// The copy's metadata when it was found to be right.
    seen: Option<FileStamp>,
}

/// Metadata that show a change without a read: inode number, length, mode, and time of their last change.
type FileStamp = (u64, u64, u32, i64, i64);

impl Program {
    pub(super) fn new(state_directory: &Path) -> Self {
        Self { path: state_directory.join(PATH), seen: None }
    }

    /// Makes the copy equal to this program.
    pub(super) fn install(&mut self) -> Result<(), Error> {
        if self.seen.is_some() && self.seen == stamp(&self.path) && self.has_own_folder() {
            return Ok(());
        }
        let failed = |source| Error::File { path: self.path.clone(), source };
        self.make_folder().map_err(failed)?;
        if !is_same(&self.path).map_err(failed)? {
            self.copy().map_err(failed)?;
        }
        self.seen = stamp(&self.path);
        Ok(())
    }

    /// Creates the folder, which only this user may write. Anything else at its path is removed, such as another user's
    /// folder of an earlier time.
    fn make_folder(&self) -> io::Result<()> {
        let Some(folder) = self.path.parent() else { return Ok(()) };
        if !self.has_own_folder() {
            match fs::symlink_metadata(folder) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(folder)?,
                Ok(_) => fs::remove_file(folder)?,
                Err(_) => {}
            }
        }
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)
    }

    fn has_own_folder(&self) -> bool {
        let folder = self.path.parent().and_then(|folder| fs::symlink_metadata(folder).ok());
        folder.is_some_and(|found| {
            found.is_dir() && found.uid() == sys::lock::own_user() && found.mode() & 0o022 == 0
        })
    }

    fn copy(&self) -> io::Result<()> {
        replace(&self.path, FileAttributes { mode: MODE, durable: true }, |file| {
            io::copy(&mut File::open(OURS)?, file)?;
            // The umask may have removed permissions.
            file.set_permissions(Permissions::from_mode(MODE))
        })
    }

    pub(super) fn remove(&mut self) -> Result<(), Error> {
        self.seen = None;
        take_away(&self.path)?;
        if let Some(folder) = self.path.parent() {
            // If the folder has files of another program, it stays.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

const MODE: u32 = 0o755;

fn stamp(path: &Path) -> Option<FileStamp> {
    let found = fs::symlink_metadata(path).ok().filter(|found| found.is_file())?;
    Some((found.ino(), found.len(), found.mode(), found.ctime(), found.ctime_nsec()))
}

/// Returns true if the file has this program's octets and can be run.
fn is_same(path: &Path) -> io::Result<bool> {
    let ours = File::open(OURS)?;
    let Some((_, length, mode, ..)) = stamp(path).filter(|_| is_own(path)) else { return Ok(false) };
    if length != ours.metadata()?.len() || mode & 0o777 != MODE {
        return Ok(false);
    }
    let (mut ours, mut theirs) =
        (BufReader::with_capacity(PIECE, ours), BufReader::with_capacity(PIECE, File::open(path)?));
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    let mut rest = length;
    while rest > 0 {
        let piece = usize::try_from(rest.min(PIECE as u64)).unwrap_or(PIECE);
        ours.read_exact(&mut one[..piece])?;
        theirs.read_exact(&mut other[..piece])?;
        if one[..piece] != other[..piece] {
            return Ok(false);
        }
        rest -= piece as u64;
    }
    Ok(true)
}

const PIECE: usize = 64 * 1024;
