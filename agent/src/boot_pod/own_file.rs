//! A file that the agent keeps for the static pod: written if it differs, removed if it exists.
use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::error::Error;
use crate::{
    exposure, load,
    replace::{FileAttributes, replace},
};

pub(super) fn put(path: &Path, text: &str) -> Result<(), Error> {
    if is_own(path) && load::read(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let written =
        replace(path, FileAttributes { mode: 0o644, durable: true }, |file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::File { path: path.to_owned(), source })
}

pub(super) fn is_own(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| exposure::is_own(&found))
}

pub(super) fn take_away(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
