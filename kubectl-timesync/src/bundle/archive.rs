//! The file of an archive. It has another name until it is complete, so that no reader finds half of it, also when the
//! disk is full. It replaces no file unless that is asked for.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use k8s_openapi::jiff::Timestamp;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file exists.
    #[error("{} exists: name another file by --file, or replace it by --force", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {source}; nothing was left there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// An archive that is being written.
pub(super) struct Archive {
    path: PathBuf,
    unfinished: Unfinished,
    folder: String,
    force: bool,
    modified: u64,
    tar: tar::Builder<GzEncoder<BufWriter<File>>>,
}

/// Removes the file when it is dropped.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Archive {
    /// Begins an archive. All its files are in a folder of this name.
    pub(super) fn create(path: &Path, folder: &str, force: bool, now: Timestamp) -> Result<Self, Error> {
        if !force && path.symlink_metadata().is_ok() {
            return Err(Error::Exists(path.to_owned()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        // Only for its owner: names and addresses of a cluster are not for all users of the machine.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.map_err(|source| Error::Write { path: path.to_owned(), source })?;
        let encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Self {
            path: path.to_owned(),
            unfinished: Unfinished(unfinished),
            folder: folder.to_owned(),
            force,
            modified: u64::try_from(now.as_second()).unwrap_or(0),
            tar: tar::Builder::new(encoder),
        })
    }

    /// Adds a file.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(self.modified);
        let name = format!("{}/{name}", self.folder);
        let done = self.tar.append_data(&mut header, name, text.as_bytes());
        done.map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    /// Completes it, and gives it its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Self { path, unfinished, folder: _, force, modified: _, tar } = self;
        let done = (|| {
            let mut file = tar.into_inner()?.finish()?;
            file.flush()?;
            file.get_ref().sync_all()?;
            place(&unfinished.0, &path, force)
        })();
        match done {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists(path)),
            done => done.map_err(|source| Error::Write { path, source }),
        }
    }
}

/// Gives the file its name. A link does not replace a file that another process has made in the meantime.
fn place(from: &Path, to: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(from, to);
    }
    match fs::hard_link(from, to) {
        // Some file systems have no hard links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && to.symlink_metadata().is_err() => {
            fs::rename(from, to)
        }
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// A folder that is removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("kubectl-timesync-{name}-{}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: &Path, text: &str, force: bool) -> Result<(), Error> {
        let mut archive = Archive::create(path, "folder", force, Timestamp::UNIX_EPOCH)?;
        archive.add("file.txt", text)?;
        archive.finish()
    }

    fn content(path: &Path) -> String {
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).unwrap()));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap(), Path::new("folder/file.txt"));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_archive_replaces_a_file_only_if_asked() {
        let scratch = Scratch::new("replaces");
        let path = scratch.0.join("a.tar.gz");
        write(&path, "one", false).unwrap();
        assert!(matches!(write(&path, "two", false), Err(Error::Exists(_))));
        assert_eq!(content(&path), "one");
        write(&path, "two", true).unwrap();
        assert_eq!((content(&path).as_str(), scratch.names()), ("two", vec!["a.tar.gz".to_owned()]));
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let scratch = Scratch::new("meanwhile");
        let path = scratch.0.join("a.tar.gz");
        let archive = Archive::create(&path, "folder", false, Timestamp::UNIX_EPOCH).unwrap();
        fs::write(&path, "another's").unwrap();
        assert!(matches!(archive.finish(), Err(Error::Exists(_))));
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), scratch.names().len()), ("another's", 1));
    }

    #[test]
    fn an_archive_that_is_not_finished_leaves_nothing() {
        let scratch = Scratch::new("unfinished");
        let mut archive =
            Archive::create(&scratch.0.join("a.tar.gz"), "folder", false, Timestamp::UNIX_EPOCH).unwrap();
        archive.add("file.txt", "text").unwrap();
        drop(archive);
        assert_eq!(scratch.names(), Vec::<String>::new());
        let nowhere = scratch.0.join("missing/a.tar.gz");
        assert!(matches!(write(&nowhere, "", false), Err(Error::Write { .. })));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        // A device that is always full takes the place of the unfinished file.
        let file = BufWriter::new(File::options().write(true).open("/dev/full").unwrap());
        let scratch = Scratch::new("full");
        let path = scratch.0.join("a.tar.gz");
        let mut archive = Archive::create(&path, "folder", false, Timestamp::UNIX_EPOCH).unwrap();
        archive.tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        archive.add("file.txt", "text").unwrap();
        assert!(matches!(archive.finish(), Err(Error::Write { .. })));
        assert_eq!(scratch.names(), Vec::<String>::new());
    }
}
