//! /etc/localtime, Debian's /etc/timezone, and the zone data, in the host's tree.
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{entry::Entry, error::Error, former::Former, zone_files::ZoneFiles};
use crate::host_root::HostRoot;

/// The files of one host.
#[derive(Debug)]
pub(super) struct Files {
    host: HostRoot,
}

const LOCALTIME: &str = "/etc/localtime";
const NAME_FILE: &str = "/etc/timezone";

impl Files {
    pub(super) fn new(host: HostRoot) -> Self {
        Self { host }
    }

    /// The zone in force.
    pub(super) fn zone(&self) -> Option<String> {
        Some(self.read().ok()?.localtime.zone()?.to_owned())
    }

    /// Checks that the host has data for the zone.
    pub(super) fn require(&self, name: &str) -> Result<(), Error> {
        let path = self.host.resolve(&Path::new("/usr/share/zoneinfo").join(name));
        let mut begin = [0; 4];
        let read = path.and_then(|path| {
            // If it is not a regular file, a read may wait without end.
            let is_file = path.metadata()?.is_file();
            if is_file { File::open(path)?.read_exact(&mut begin) } else { Ok(()) }
        });
        match read {
            // RFC 9636 §3.1.
            Ok(()) if begin == *b"TZif" => Ok(()),
            Ok(()) => Err(Error::NoZone(name.to_owned())),
            Err(error) if absent(&error) => Err(Error::NoZone(name.to_owned())),
            Err(source) => Err(Error::Files { path: "/usr/share/zoneinfo", source }),
        }
    }

    /// Reads what is there now.
    pub(super) fn read(&self) -> Result<ZoneFiles, Error> {
        let read = |path| self.place(path).and_then(|place| Entry::read(&place)).map_err(failed(path));
        let found = ZoneFiles { localtime: read(LOCALTIME)?, name_file: read(NAME_FILE)? };
        if found.localtime == Entry::Strange { Err(Error::Strange(LOCALTIME)) } else { Ok(found) }
    }

    /// Sets this zone for the host, as `timedatectl set-timezone` does.
    pub(super) fn set(&self, name: &str, name_file: bool) -> Result<(), Error> {
        if name_file {
            self.put(NAME_FILE, &Entry::Plain(0o644, format!("{name}\n").into_bytes()))?;
        }
        self.put(LOCALTIME, &Entry::Link(format!("../usr/share/zoneinfo/{name}")))
    }

    /// Restores the former state. A name that another process wrote stays.
    pub(super) fn put_back(&self, former: &Former, found: &ZoneFiles) -> Result<(), Error> {
        if former.has_name_file() && former.named_by_us(found) {
            self.put(NAME_FILE, &former.before.name_file)?;
        }
        self.put(LOCALTIME, &former.before.localtime)
    }

    fn put(&self, path: &'static str, entry: &Entry) -> Result<(), Error> {
        self.place(path).and_then(|place| entry.put(&place)).map_err(failed(path))
    }

    /// The path in this container. Its last component is not followed if it is a link.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let path = Path::new(path);
        let folder = self.host.resolve(path.parent().unwrap_or(path))?;
        Ok(folder.join(path.file_name().unwrap_or_default()))
    }
}

fn failed(path: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly(path),
        _ => Error::Files { path, source },
    }
}

/// Returns true if there is no such data: the file does not exist, a part of its path is a file, or it is too short.
fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_files_are_told_with_what_to_do() {
        let error = |number| failed(LOCALTIME)(io::Error::from_raw_os_error(number)).to_string();
        let read_only = error(30);
        assert!(read_only.starts_with("/etc/localtime cannot be changed: "), "{read_only}");
        assert!(read_only.contains("set agent.privileged: true"), "{read_only}");
        assert!(error(28).contains("No space left"), "{}", error(28));
    }
}
