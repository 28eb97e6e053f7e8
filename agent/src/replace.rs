//! A file replaced as a whole: a reader finds the old one or the new one, never half of one. No link is written through.
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// How a file is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Who may read or run it.
    pub(crate) mode: u32,
    /// Whether it is to outlive a crash of the node.
    pub(crate) durable: bool,
}

/// Has `write` fill a file beside `path`, under a name that begins with a dot, and gives it the name.
///
/// # Errors
/// Of the first call that failed; then the old file is still there.
pub(crate) fn replace(
    path: &Path,
    kind: Kind,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let beside = directory.join(format!(".{}.new", name.to_string_lossy()));
    let sync = |file: &File| if kind.durable { file.sync_all() } else { Ok(()) };
    let mut file = create_new(&beside, kind.mode)?;
    let named = write(&mut file).and_then(|()| sync(&file)).and_then(|()| fs::rename(&beside, path));
    if named.is_err() {
        // On a full disk its part would take room from others.
        let _ = fs::remove_file(&beside);
    }
    named?;
    sync(&File::open(directory)?)
}

/// Writes over the begin of the file at `path`, which is there already: its octets have their place on the disk, also on
/// a full one. The text should fit into one sector, which disks write as a whole.
///
/// # Errors
/// There is no plain file, or it cannot be written.
pub(crate) fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("no plain file"));
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync_all()
}

/// A new file at `path` (O_EXCL, which follows no link); one that a crash left behind goes first.
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
