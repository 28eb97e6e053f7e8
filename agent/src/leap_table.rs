//! The host's table of leap seconds, if it has one: a file of the time zone data, read when an engine starts. It only
//! gives the kernel TAI minus UTC. Nothing else depends on it.
use std::{fs, io, path::Path};

use ntp::LeapTable;
use tracing::{debug, warn};

use crate::host_root::HostRoot;

/// Path of the file in packages of time zone data.
const PATH: &str = "/usr/share/zoneinfo/leap-seconds.list";

/// The host's table; none if it does not exist or cannot be read.
pub(crate) fn load(host: &HostRoot) -> Option<LeapTable> {
    match host.resolve(Path::new(PATH)) {
        Ok(path) => read(&path),
        Err(error) => {
            debug!(%error, "No table of leap seconds");
            None
        }
    }
}

fn read(path: &Path) -> Option<LeapTable> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            debug!(path = %path.display(), "No table of leap seconds");
            return None;
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "Table of leap seconds cannot be read");
            return None;
        }
    };
    LeapTable::parse(&text)
        .inspect_err(|error| warn!(path = %path.display(), %error, "Table of leap seconds is not usable"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_table_is_read_if_it_is_there_and_sound() {
        let scratch = Scratch::new();
        let host = HostRoot::new(scratch.path().to_owned());
        let folder = scratch.path().join("usr/share/zoneinfo");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("leap-seconds.list");
        assert_eq!(load(&host), None);
        fs::write(&path, "nonsense\n").unwrap();
        assert_eq!(load(&host), None);
        fs::write(&path, "#@ 3991593600\n3692217600 37\n").unwrap();
        let table = load(&host).unwrap();
        assert_eq!(table.tai_minus_utc(ntp::Wall(1_600_000_000_000_000_000)), Some(37));
    }
}
