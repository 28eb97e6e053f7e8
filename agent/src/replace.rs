//! Replaces a file as a whole: a reader finds the old one or the new one, never a part of one. Never writes through a
//! link.
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// The attributes of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileAttributes {
    /// The permission bits.
    pub(crate) mode: u32,
    /// True if it must survive a crash of the node.
    pub(crate) durable: bool,
}

/// Lets `write` fill a file beside `path`, whose name begins with a dot, and renames it to `path`.
///
/// # Errors
/// The error of the first call that failed. The old file then still exists.
pub(crate) fn replace(
    path: &Path,
    attributes: FileAttributes,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let beside = directory.join(format!(".{}.new", name.to_string_lossy()));
    let sync = |file: &File| if attributes.durable { file.sync_all() } else { Ok(()) };
    let mut file = create_new(&beside, attributes.mode)?;
    let named = write(&mut file).and_then(|()| sync(&file)).and_then(|()| fs::rename(&beside, path));
    if named.is_err() {
        // On a full disk, the part that was written would take space from other files.
        let _ = fs::remove_file(&beside);
    }
    named?;
    sync(&File::open(directory)?)
}

/// Overwrites the beginning of the existing file at `path`. Its space on the disk is allocated, so this works on a full
/// disk too. The text should fit into one sector, which disks write as a whole.
///
/// # Errors
/// If there is no regular file, or it cannot be written.
pub(crate) fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("no plain file"));
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync_all()
}

/// Creates a new file at `path` (O_EXCL, which follows no link). A file that a crash left behind is removed first.
fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            open()
        }
        outcome => outcome,
    }
}
