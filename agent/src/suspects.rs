//! Who else could steer this node's clock, or has its port: programs of the node that are known for it, as /proc lists
//! them. In a container that is the node's /proc only with hostPID. Reads, and touches no process.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A program that could have set the clock: it runs, and has the right to (CAP_SYS_TIME).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// As its users know it.
    pub(crate) name: &'static str,
    /// Its process.
    pub(crate) pid: u32,
    /// The systemd unit that starts it; none if there are many.
    pub(crate) unit: Option<&'static str>,
    /// It steers all the time; others step the clock now and then.
    pub(crate) steers: bool,
}

/// What a process is called by the kernel (15 characters of its name at most), how its users call it, its systemd unit,
/// and whether it steers.
const KNOWN: [(&str, &str, Option<&str>, bool); 15] = [
    ("chronyd", "chronyd", Some("chronyd"), true),
    ("ntpd", "ntpd", Some("ntpd"), true),
    ("openntpd", "openntpd", Some("openntpd"), true),
    ("ntp-daemon", "ntpd-rs", Some("ntpd-rs"), true),
    ("systemd-timesyn", "systemd-timesyncd", Some("systemd-timesyncd"), true),
    ("ptp4l", "ptp4l", Some("ptp4l"), true),
    ("phc2sys", "phc2sys", Some("phc2sys"), true),
    ("ts2phc", "ts2phc", None, true),
    ("timemaster", "timemaster", Some("timemaster"), true),
    ("clockbound", "clockbound", Some("clockbound"), true),
    ("timesync-agent", "another timesync-agent", None, true),
    ("VBoxService", "VBoxService", Some("vboxadd-service"), false),
    ("vmtoolsd", "vmtoolsd", Some("open-vm-tools"), false),
    ("qemu-ga", "qemu-ga", Some("qemu-guest-agent"), false),
    ("hv_utils", "hv_utils", None, false),
];

/// CAP_SYS_TIME in include/uapi/linux/capability.h.
const CAP_SYS_TIME: u32 = 25;

/// What was found last; looked for while there is a conflict.
#[derive(Debug)]
pub(crate) struct Suspects {
    proc: PathBuf,
    own: u32,
    found: Mutex<Vec<Suspect>>,
}

impl Suspects {
    /// Nothing was looked for yet.
    pub(crate) fn new() -> Self {
        Self { proc: PathBuf::from("/proc"), own: std::process::id(), found: Mutex::default() }
    }

    /// Looks for them: some milliseconds for each hundred processes.
    pub(crate) fn scan(&self) {
        let mut found: Vec<_> = processes(&self.proc).filter_map(|pid| self.suspect(pid)).collect();
        found.sort_by_key(|suspect| (!suspect.steers, suspect.pid));
        *self.found() = found;
    }

    /// Those of the last look, first those that steer.
    pub(crate) fn list(&self) -> Vec<Suspect> {
        self.found().clone()
    }

    /// Whether one that steers was there at the last look.
    pub(crate) fn steer(&self) -> bool {
        self.found().iter().any(|suspect| suspect.steers)
    }

    /// Whether the node's processes can be seen: who is the first of its own world sees only that.
    pub(crate) fn sees_node(&self) -> bool {
        self.own != 1
    }

    // A list is replaced whole, so one of a thread that panicked is still sound.
    fn found(&self) -> MutexGuard<'_, Vec<Suspect>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspect(&self, pid: u32) -> Option<Suspect> {
        if pid == self.own {
            return None;
        }
        let folder = self.proc.join(pid.to_string());
        let comm = fs::read_to_string(folder.join("comm")).ok()?;
        let (_, name, unit, steers) = KNOWN.into_iter().find(|(known, ..)| *known == comm.trim_end())?;
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let may = u64::from_str_radix(effective.trim(), 16).ok()? >> CAP_SYS_TIME & 1 == 1;
        may.then_some(Suspect { name, pid, unit, steers })
    }
}

fn processes(proc: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process that has this UDP port open, such as `chronyd (pid 312)`; none if it cannot be seen.
pub(crate) fn owner_of_udp_port(port: u16) -> Option<String> {
    owner(Path::new("/proc"), port, std::process::id())
}

fn owner(proc: &Path, port: u16, own: u32) -> Option<String> {
    let sockets: Vec<String> = ["net/udp", "net/udp6"]
        .into_iter()
        .flat_map(|table| inodes(&fs::read_to_string(proc.join(table)).unwrap_or_default(), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let has = |pid: &u32| {
        let descriptors = fs::read_dir(proc.join(pid.to_string()).join("fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    };
    let pid = processes(proc).filter(|pid| *pid != own).find(has)?;
    let comm = fs::read_to_string(proc.join(pid.to_string()).join("comm")).ok()?;
    Some(format!("{} (pid {pid})", comm.trim_end()))
}

/// Inodes of the sockets with this local port, in a table as /proc/net/udp has it (Linux, net/ipv4/udp.c).
fn inodes(table: &str, port: u16) -> Vec<u64> {
    let ending = format!(":{port:04X}");
    let inode = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let local = words.get(1).filter(|local| local.ends_with(&ending));
        local.and_then(|_| words.get(9)?.parse().ok())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::unix::fs::symlink};

    use super::*;
    use crate::scratch::Scratch;

    /// A process in a folder that stands for /proc.
    fn process(proc: &Path, pid: u32, comm: &str, capabilities: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(folder.join("fd")).unwrap();
        fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(folder.join("status"), format!("Name:\t{comm}\nCapEff:\t{capabilities}\n")).unwrap();
    }

    #[test]
    fn those_that_may_set_the_clock_are_named() {
        let folder = Scratch::new();
        let all = "000001ffffffffff";
        process(folder.path(), 7, "vmtoolsd", all);
        process(folder.path(), 312, "chronyd", "0000000002000400");
        // As chronyd -x, which gave the right away.
        process(folder.path(), 313, "chronyd", "0000000000000400");
        process(folder.path(), 400, "bash", all);
        process(folder.path(), 500, "timesync-agent", all);
        fs::write(folder.path().join("uptime"), "1 1").unwrap();
        let suspects = Suspects { proc: folder.path().to_owned(), own: 500, found: Mutex::default() };
        assert!(!suspects.steer() && suspects.list().is_empty());
        suspects.scan();
        let names: Vec<_> = suspects.list().iter().map(|suspect| (suspect.name, suspect.pid)).collect();
        assert_eq!(names, [("chronyd", 312), ("vmtoolsd", 7)]);
        assert!(suspects.steer());
        fs::remove_dir_all(folder.path().join("312")).unwrap();
        suspects.scan();
        assert!(!suspects.steer() && suspects.list().len() == 1);
    }

    #[test]
    fn the_owner_of_a_port_is_named() {
        let folder = Scratch::new();
        process(folder.path(), 312, "ntpd", "0");
        symlink("socket:[4711]", folder.path().join("312/fd/5")).unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        let line = "  77: 00000000:007B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        fs::write(folder.path().join("net/udp"), format!("  sl  local_address …\n{line}\n")).unwrap();
        assert_eq!(owner(folder.path(), 123, 1).as_deref(), Some("ntpd (pid 312)"));
        assert_eq!(owner(folder.path(), 124, 1), None);
        assert_eq!(owner(folder.path(), 123, 312), None, "we are not in our own way");
    }

    #[test]
    fn a_real_socket_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = owner(Path::new("/proc"), port, 0).unwrap();
        assert!(found.contains(&format!("pid {}", std::process::id())), "{found}");
    }

    #[test]
    fn nonsense_is_nobody() {
        assert_eq!(inodes("", 123), [0; 0]);
        assert_eq!(inodes("head\nx\n1: a:007B\n", 123), [0; 0]);
    }
}
