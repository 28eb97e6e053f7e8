//! A terminal.
use std::{
    fs,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    process::{Child, Command},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::cluster::text;

/// A terminal of the test's own.
pub(crate) struct Terminal {
    pub(crate) ours: fs::File,
    theirs: fs::File,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let name = name.to_str().unwrap();
        // The test's process must not get it as its own terminal.
        let theirs = fs::File::options().read(true).write(true).custom_flags(NOCTTY).open(name).unwrap();
        Self { ours: ours.into(), theirs }
    }

    pub(crate) fn start(&self, command: &mut Command) -> Child {
        let end = || self.theirs.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// What is shown until this is.
    pub(crate) fn read_until(&mut self, expected: &str) -> String {
        let mut shown = Vec::new();
        let mut some = [0; 4096];
        while !text(&shown).contains(expected) {
            let number = self.ours.read(&mut some).unwrap();
            shown.extend_from_slice(&some[..number]);
        }
        text(&shown)
    }
}

/// O_NOCTTY of Linux.
const NOCTTY: i32 = 0o400;
