//! Which other programs could steer this node's clock, or have its port: known programs of the node, as /proc lists
//! them. In a container, /proc is the node's only with hostPID. It only reads, and changes no process.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A program that could have set the clock: it runs, and has the right (CAP_SYS_TIME in the node's own user namespace).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// The name that its users know.
    pub(crate) name: &'static str,
    /// The process id.
    pub(crate) pid: u32,
    /// What the program belongs to, and so how it can be stopped.
    pub(crate) home: ManagedBy,
    /// True if it steers all the time; false if it steps the clock now and then.
    pub(crate) steers: bool,
}

/// What a program belongs to, and so how it can be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManagedBy {
    /// A systemd unit.
    Unit(String),
    /// A pod of Kubernetes.
    Pod,
    /// It is unknown.
    Unknown,
}

/// The kernel's name of a process (at most 15 characters), the name that its users know, its usual systemd unit, and
/// whether it steers.
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
    ("busybox", "busybox ntpd", None, true),
    ("clockbound", "clockbound", Some("clockbound"), true),
    ("timesync-agent", "another timesync-agent", None, true),
    ("VBoxService", "VBoxService", Some("vboxadd-service"), false),
    ("vmtoolsd", "vmtoolsd", Some("open-vm-tools"), false),
    ("qemu-ga", "qemu-ga", Some("qemu-guest-agent"), false),
];

/// CAP_SYS_TIME in include/uapi/linux/capability.h.
const CAP_SYS_TIME: u32 = 25;

/// The result of the last search, which is made while there is a conflict.
#[derive(Debug)]
pub(crate) struct Suspects {
    proc: PathBuf,
    own: u32,
    found: Mutex<Option<Vec<Suspect>>>,
}

impl Suspects {
    /// No search was made yet.
    pub(crate) fn new() -> Self {
        Self { proc: PathBuf::from("/proc"), own: std::process::id(), found: Mutex::default() }
    }

    /// Searches for such programs. Takes some milliseconds for each hundred processes.
    pub(crate) fn scan(&self) {
        let mut found: Vec<_> = processes(&self.proc).filter_map(|pid| self.suspect(pid)).collect();
        found.sort_by_key(|suspect| (!suspect.steers, suspect.pid));
        *self.found() = Some(found);
    }

    /// Drops the result of the last search.
    pub(crate) fn forget(&self) {
        *self.found() = None;
    }

    /// The programs that the last search found, those that steer first; none before a search.
    pub(crate) fn list(&self) -> Option<Vec<Suspect>> {
        self.found().clone()
    }

    /// Returns true if the last search found a program that steers.
    pub(crate) fn steer(&self) -> bool {
        self.found().iter().flatten().any(|suspect| suspect.steers)
    }

    /// Returns true if the node's processes can be seen: then the kernel's own are among them, such as the second
    /// process.
    pub(crate) fn sees_node(&self) -> bool {
        fs::read_to_string(self.proc.join("2/comm")).is_ok_and(|comm| comm.trim_end() == "kthreadd")
    }

    // A list is replaced as a whole, so it is valid even after a thread panicked.
    fn found(&self) -> MutexGuard<'_, Option<Vec<Suspect>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspect(&self, pid: u32) -> Option<Suspect> {
        if pid == self.own {
            return None;
        }
        let folder = self.proc.join(pid.to_string());
        let comm = fs::read_to_string(folder.join("comm")).ok()?;
        let (comm, name, unit, steers) = KNOWN.into_iter().find(|(known, ..)| *known == comm.trim_end())?;
        // Each of these two files contains several programs. The first argument selects one.
        let wanted = match comm {
            "busybox" => Some("ntpd"),
            "timesync-agent" => Some("run"),
            _ => None,
        };
        if wanted.is_some() && first_argument(&folder).as_deref() != wanted {
            return None;
        }
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let has_right = u64::from_str_radix(effective.trim(), 16).ok()? >> CAP_SYS_TIME & 1 == 1;
        let may = has_right && is_of_initial_namespace(&folder);
        may.then(|| Suspect { name, pid, home: home(&folder, unit), steers })
    }
}

/// Returns true if a process has its capabilities in the node's own user namespace. Only these apply to the clock
/// (settimeofday and adjtimex check `capable(CAP_SYS_TIME)`). In a user namespace of its own every user has all
/// capabilities.
///
/// The namespace's link is the same on every Linux (PROC_USER_INIT_INO). If the link may not be read, the map of users
/// decides: only the initial namespace, and one that root created, maps all users.
fn is_of_initial_namespace(folder: &Path) -> bool {
    match fs::read_link(folder.join("ns/user")) {
        Ok(link) => link.as_os_str() == INITIAL_USER_NAMESPACE,
        Err(_) => {
            let map = fs::read_to_string(folder.join("uid_map")).unwrap_or_default();
            map.split_whitespace().eq(["0", "0", "4294967295"])
        }
    }
}

const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// The first argument on the program's command line.
fn first_argument(folder: &Path) -> Option<String> {
    let line = fs::read(folder.join("cmdline")).ok()?;
    line.split(|octet| *octet == 0).nth(1).map(|word| String::from_utf8_lossy(word).into_owned())
}

/// What a process belongs to, by its control group; otherwise its unit has its `usual` name. A unit may have several
/// names, and only its own can be disabled (Debian: chrony, not chronyd).
fn home(folder: &Path, usual: Option<&str>) -> ManagedBy {
    let groups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    if groups.contains("kubepods") {
        return ManagedBy::Pod;
    }
    let mut parts =
        groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.rsplit('/'));
    let unit = parts.find_map(|part| part.strip_suffix(".service")).or(usual);
    unit.map_or(ManagedBy::Unknown, |unit| ManagedBy::Unit(unit.to_owned()))
}

fn processes(proc: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Finds the process that has a port open. Remembers it while the sockets do not change, since finding a socket's owner
/// means reading all open files of the node.
#[derive(Debug)]
pub(crate) struct PortOwner {
    tables: [&'static str; 2],
    known: Option<(Vec<String>, Option<String>)>,
}

impl Default for PortOwner {
    /// Searches UDP ports.
    fn default() -> Self {
        Self { tables: ["net/udp", "net/udp6"], known: None }
    }
}

impl PortOwner {
    /// Searches TCP ports.
    pub(crate) fn of_tcp() -> Self {
        Self { tables: ["net/tcp", "net/tcp6"], known: None }
    }

    /// The process that has this port, such as `chronyd (pid 312)`; none if it cannot be seen.
    pub(crate) fn of(&mut self, port: u16) -> Option<String> {
        self.search(Path::new("/proc"), port, std::process::id())
    }

    fn search(&mut self, proc: &Path, port: u16, own: u32) -> Option<String> {
        let sockets = sockets(proc, self.tables, port);
        if let Some((_, owner)) = self.known.as_ref().filter(|(before, _)| *before == sockets) {
            return owner.clone();
        }
        let owner = owner(proc, &sockets, own);
        self.known = Some((sockets, owner.clone()));
        owner
    }
}

/// The sockets with this local port, in the form of links in /proc/PID/fd.
fn sockets(proc: &Path, tables: [&str; 2], port: u16) -> Vec<String> {
    tables
        .into_iter()
        .flat_map(|table| inodes(&fs::read_to_string(proc.join(table)).unwrap_or_default(), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect()
}

fn owner(proc: &Path, sockets: &[String], own: u32) -> Option<String> {
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

/// Inodes of the sockets with this local port, from a table in the form of /proc/net/udp and /proc/net/tcp (Linux,
/// net/ipv4/udp.c).
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

    /// A process in a folder that replaces /proc.
    fn process(proc: &Path, pid: u32, comm: &str, capabilities: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(folder.join("fd")).unwrap();
        fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(folder.join("status"), format!("Name:\t{comm}\nCapEff:\t{capabilities}\n")).unwrap();
        fs::create_dir_all(folder.join("ns")).unwrap();
        let _ = fs::remove_file(folder.join("ns/user"));
        symlink(INITIAL_USER_NAMESPACE, folder.join("ns/user")).unwrap();
    }

    fn suspects(proc: &Path, own: u32) -> Suspects {
        Suspects { proc: proc.to_owned(), own, found: Mutex::default() }
    }

    const ALL: &str = "000001ffffffffff";

    #[test]
    fn those_that_may_set_the_clock_are_named() {
        let folder = Scratch::new();
        process(folder.path(), 7, "vmtoolsd", ALL);
        process(folder.path(), 312, "chronyd", "0000000002000400");
        // Like chronyd -x, which dropped the right.
        process(folder.path(), 313, "chronyd", "0000000000000400");
        process(folder.path(), 400, "bash", ALL);
        process(folder.path(), 500, "timesync-agent", ALL);
        fs::write(folder.path().join("500/cmdline"), b"timesync-agent\0run\0").unwrap();
        fs::write(folder.path().join("uptime"), "1 1").unwrap();
        let suspects = suspects(folder.path(), 500);
        assert!(!suspects.steer() && suspects.list().is_none());
        suspects.scan();
        let names = || -> Vec<_> {
            suspects.list().into_iter().flatten().map(|suspect| (suspect.name, suspect.pid)).collect()
        };
        assert_eq!(names(), [("chronyd", 312), ("vmtoolsd", 7)]);
        assert!(suspects.steer());
        fs::remove_dir_all(folder.path().join("312")).unwrap();
        suspects.scan();
        assert!(!suspects.steer() && names().len() == 1);
        suspects.forget();
        assert_eq!(suspects.list(), None);
    }

    /// In a user namespace of its own every user has all capabilities, but none of them applies to the clock.
    #[test]
    fn a_namespace_of_its_own_gives_no_right_to_the_clock() {
        let folder = Scratch::new();
        let check = |link: Option<&str>, map: &str, expected: usize| {
            process(folder.path(), 312, "chronyd", ALL);
            fs::remove_file(folder.path().join("312/ns/user")).unwrap();
            if let Some(link) = link {
                symlink(link, folder.path().join("312/ns/user")).unwrap();
            }
            fs::write(folder.path().join("312/uid_map"), map).unwrap();
            let suspects = suspects(folder.path(), 500);
            suspects.scan();
            assert_eq!(suspects.list().unwrap().len(), expected, "{link:?} {map}");
            assert_eq!(suspects.steer(), expected > 0);
        };
        let all = "         0          0 4294967295\n";
        check(Some(INITIAL_USER_NAMESPACE), all, 1);
        check(Some("user:[4026532201]"), "         0       1000          1\n", 0);
        check(Some("user:[4026532201]"), all, 0);
        check(None, all, 1);
        check(None, "         0     100000      65536\n", 0);
        check(None, "", 0);
    }

    /// Real processes: this one, and one in a user namespace of its own, if the kernel allows that.
    #[test]
    fn a_process_in_a_real_user_namespace_is_known() {
        let own = Path::new("/proc/self");
        let outside = is_of_initial_namespace(own);
        let mut command = std::process::Command::new("unshare");
        let child =
            command.args(["--user", "--map-root-user", "cat"]).stdin(std::process::Stdio::piped()).spawn();
        let Ok(mut child) = child else { return };
        let folder = Path::new("/proc").join(child.id().to_string());
        let begun = std::time::Instant::now();
        let is_inside =
            || fs::read_link(folder.join("ns/user")).ok() != fs::read_link(own.join("ns/user")).ok();
        while !is_inside() && begun.elapsed().as_secs() < 5 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if is_inside() && outside {
            assert!(!is_of_initial_namespace(&folder));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    #[test]
    fn what_is_many_programs_is_known_by_its_first_argument() {
        let check = |comm: &str, line: &[u8], expected: Option<&str>| {
            let folder = Scratch::new();
            process(folder.path(), 9, comm, ALL);
            fs::write(folder.path().join("9/cmdline"), line).unwrap();
            let suspects = suspects(folder.path(), 500);
            suspects.scan();
            assert_eq!(suspects.list().unwrap().first().map(|suspect| suspect.name), expected, "{comm}");
        };
        check("busybox", b"busybox\0ntpd\0-p\0pool\0", Some("busybox ntpd"));
        check("busybox", b"busybox\0sh\0", None);
        check("busybox", b"", None);
        check(
            "timesync-agent",
            b"/usr/bin/timesync-agent\0run\0--config\0x\0",
            Some("another timesync-agent"),
        );
        // This program's own command line, and programs that run before an agent can.
        check("timesync-agent", b"timesync-agent\0status\0", None);
        check("timesync-agent", b"timesync-agent\0boot\0", None);
    }

    #[test]
    fn a_control_group_tells_how_a_program_can_be_ended() {
        let check = |groups: &str, usual: Option<&str>, expected: ManagedBy| {
            let folder = Scratch::new();
            fs::write(folder.path().join("cgroup"), groups).unwrap();
            assert_eq!(home(folder.path(), usual), expected, "{groups}");
        };
        let unit = |name: &str| ManagedBy::Unit(name.to_owned());
        check("0::/system.slice/chrony.service\n", Some("chronyd"), unit("chrony"));
        // As seen from within a container.
        check("0::/../../system.slice/ntpsec.service\n", Some("ntpd"), unit("ntpsec"));
        check("12:cpu:/\n1:name=systemd:/system.slice/ntp.service\n0::/\n", Some("ntpd"), unit("ntp"));
        check("0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", None, unit("x"));
        check(
            "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n",
            Some("chronyd"),
            ManagedBy::Pod,
        );
        check("0::/\n", Some("chronyd"), unit("chronyd"));
        check("", None, ManagedBy::Unknown);
    }

    #[test]
    fn who_sees_the_kernels_own_processes_sees_the_node() {
        let folder = Scratch::new();
        let suspects = suspects(folder.path(), 5);
        assert!(!suspects.sees_node());
        process(folder.path(), 2, "timesync-agent", ALL);
        assert!(!suspects.sees_node());
        process(folder.path(), 2, "kthreadd", ALL);
        assert!(suspects.sees_node());
    }

    #[test]
    fn the_owner_of_a_port_is_named() {
        let folder = Scratch::new();
        process(folder.path(), 312, "ntpd", "0");
        symlink("socket:[4711]", folder.path().join("312/fd/5")).unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        let line = "  77: 00000000:007B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        let table = |line: &str| {
            fs::write(folder.path().join("net/udp"), format!("  sl  local_address …\n{line}\n")).unwrap();
        };
        table(line);
        let of = |port, own| PortOwner::default().search(folder.path(), port, own);
        assert_eq!(of(123, 1).as_deref(), Some("ntpd (pid 312)"));
        assert_eq!(of(124, 1), None);
        assert_eq!(of(123, 312), None, "we are not in our own way");

        let mut owner = PortOwner::default();
        let mut of = || owner.search(folder.path(), 123, 1);
        assert!(of().is_some());
        fs::rename(folder.path().join("312"), folder.path().join("313")).unwrap();
        assert_eq!(of().as_deref(), Some("ntpd (pid 312)"), "the same socket was looked for again");
        table(&line.replace("4711", "4712"));
        assert_eq!(of(), None);
        table(line);
        assert_eq!(of().as_deref(), Some("ntpd (pid 313)"));
    }

    #[test]
    fn a_real_socket_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let pid = format!("pid {}", std::process::id());
        let found = PortOwner::default().search(Path::new("/proc"), port, 0).unwrap();
        assert!(found.contains(&pid), "{found}");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = PortOwner::of_tcp().search(Path::new("/proc"), port, 0).unwrap();
        assert!(found.contains(&pid), "{found}");
    }

    #[test]
    fn nonsense_is_nobody() {
        assert_eq!(inodes("", 123), [0; 0]);
        assert_eq!(inodes("head\nx\n1: a:007B\n", 123), [0; 0]);
    }
}
