//! What can be at /etc/localtime and /etc/timezone, and its form as one line. Reads and writes one path; follows no
//! link.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
};

/// What is at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Absent,
    /// A link, and its target.
    Link(String),
    /// A regular file: its permissions and its octets.
    Plain(u32, Vec<u8>),
    /// A folder, a device, a large file, or a link with an unusual target: it cannot be saved.
    Strange,
}

/// The largest file of zone data has 4 KiB.
const LARGEST: u64 = 64 << 10;

impl Entry {
    /// Reads what is at `path`.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(error),
        };
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target.to_str().filter(|target| !target.contains(char::is_control));
            return Ok(target.map_or(Self::Strange, |target| Self::Link(target.to_owned())));
        }
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Ok(Self::Strange);
        }
        let mut octets = Vec::new();
        File::open(path)?.take(LARGEST).read_to_end(&mut octets)?;
        Ok(Self::Plain(metadata.permissions().mode() & 0o777, octets))
    }

    /// Puts this at `path`, in place of what is there, atomically: a reader finds the old one or the new one.
    pub(super) fn put(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".timesync");
        let beside = folder.join(name);
        remove(&beside)?;
        match self {
            Self::Absent => remove(path)?,
            Self::Link(target) => {
                symlink(target, &beside)?;
                fs::rename(&beside, path)?;
            }
            Self::Plain(mode, octets) => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(&beside)?;
                // Independent of the umask.
                file.set_permissions(fs::Permissions::from_mode(*mode))?;
                file.write_all(octets)?;
                file.sync_all()?;
                fs::rename(&beside, path)?;
            }
            Self::Strange => return Err(io::Error::other("cannot be put back")),
        }
        File::open(folder)?.sync_all()
    }

    /// The zone that such an /etc/localtime means, by the rule of systemd (localtime(5)); none if that cannot be told.
    pub(super) fn zone(&self) -> Option<&str> {
        match self {
            Self::Absent => Some("UTC"),
            Self::Link(target) => {
                let target = target.strip_prefix("..").unwrap_or(target);
                target.strip_prefix("/usr/share/zoneinfo/").filter(|name| !name.is_empty())
            }
            Self::Plain(..) | Self::Strange => None,
        }
    }

    /// The entry as one line.
    pub(super) fn to_line(&self) -> String {
        match self {
            Self::Absent | Self::Strange => "absent".to_owned(),
            Self::Link(target) => format!("link {target}"),
            Self::Plain(mode, octets) => format!("file {mode:o} {}", hex::encode(octets)),
        }
    }

    /// Parses such a line.
    pub(super) fn from_line(line: &str) -> Option<Self> {
        if line == "absent" {
            return Some(Self::Absent);
        }
        if let Some(target) = line.strip_prefix("link ") {
            return Some(Self::Link(target.to_owned()));
        }
        let (mode, digits) = line.strip_prefix("file ")?.split_once(' ')?;
        let mode = u32::from_str_radix(mode, 8).ok()?;
        Some(Self::Plain(mode & 0o777, hex::decode(digits).ok()?))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
