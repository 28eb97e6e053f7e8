//! A file replaced as a whole: a reader finds the old one or the new one, never half of one. No link is written through.
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
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
    write(&mut file)?;
    sync(&file)?;
    fs::rename(&beside, path)?;
    sync(&File::open(directory)?)
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
