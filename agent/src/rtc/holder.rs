//! Finds the program that has the hardware clock open: the kernel lets only one program have it open at a time. Reads
//! /proc; changes nothing.
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    /// The kernel's name of the program, padded with zeros.
    name: [u8; 16],
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.split(|&octet| octet == 0).next().unwrap_or_default();
        write!(f, "{} (pid {})", name.escape_ascii(), self.pid)
    }
}

/// The program that has `device` open; none if it cannot be seen, as from within a container.
pub(super) fn of(device: &Path) -> Option<Holder> {
    let device = fs::canonicalize(device).ok()?;
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| pid != std::process::id()).find(|&pid| has_open(pid, &device)).map(|pid| {
        let mut name = [0; 16];
        let comm = fs::read(folder(pid).join("comm")).unwrap_or_default();
        let comm = comm.trim_ascii_end();
        let length = comm.len().min(name.len());
        name[..length].copy_from_slice(&comm[..length]);
        Holder { pid, name }
    })
}

fn has_open(pid: u32, device: &Path) -> bool {
    let descriptors = fs::read_dir(folder(pid).join("fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == device)
}

fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_program_with_the_file_open_is_named() {
        let scratch = Scratch::new();
        let path = scratch.path().join("rtc");
        fs::write(&path, "").unwrap();
        assert_eq!(of(&path), None);
        let file = fs::File::open(&path).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
        let expected = format!("sleep (pid {})", child.id());
        // Between fork and exec the child has this program's name.
        let found = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            of(&path).is_some_and(|holder| holder.to_string() == expected)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found, "{:?}", of(&path));
    }
}
