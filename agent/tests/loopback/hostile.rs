//! Plain users of the node, other programs, and strangers, who try to keep the agent from its work.
use std::{
    fs,
    io::{ErrorKind, Read},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use contract::TransitionKind;

use crate::{
    bench::{
        Agent, Folder, Process, free_udp_port, is_root,
        namespace::{Neighbour, alone, ip},
        wait_for,
    },
    files,
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A plain user's flock on a file that it may read: `cat` runs while it has the lock.
fn locked_by_a_plain_user(path: &Path) -> Process {
    let mut command = Command::new("setpriv");
    // Whoever runs the tests without root is a plain user already.
    if is_root() {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    }
    command.arg("flock").arg(path).arg("cat").stdin(Stdio::piped());
    let process = Process(command.spawn().expect("this test needs Debian's package util-linux"));
    wait_for("the lock", || fs::File::open(path).unwrap().try_lock().is_err());
    process
}

#[test]
fn a_plain_user_keeps_neither_an_agent_nor_a_boot_waiting() {
    let folder = Folder::new();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    // As an older version left them.
    set_mode(&state, 0o755);
    let held: Vec<_> = ["lock", "lock.queue"]
        .map(|name| {
            fs::write(state.join(name), "").unwrap();
            set_mode(&state.join(name), 0o644);
            locked_by_a_plain_user(&state.join(name))
        })
        .into();
    let agent = Agent::start(&folder, &files::serving_own_clock(free_udp_port()));
    wait_for("the profile", || agent.report().profile.is_some());
    assert_eq!(agent.error(), "", "it does not wait");
    assert_eq!((mode(&state), mode(&state.join("lock"))), (0o700, 0o600));

    // A second one waits, and names the first.
    let other = Folder::new();
    let text = files::serving_own_clock(free_udp_port()).replace("STATE", state.to_str().unwrap());
    let second = Agent::start(&other, &text);
    wait_for("the second waits", || second.error() == "Waiting");
    let message = second.report().profile_error.unwrap().message;
    assert!(message.starts_with("timesync-agent run, pid ") && !message.contains("cat"), "{message}");
    assert_eq!(agent.stop(), 0);
    wait_for("its turn", || second.report().profile.is_some());
    drop(held);
}

#[test]
fn a_state_folder_that_others_may_write_is_told() {
    let folder = Folder::new();
    let state = folder.path().join("state");
    // It holds another program's folder, so it is not ours to close.
    fs::create_dir_all(state.join("another")).unwrap();
    set_mode(&state, 0o777);
    let agent = Agent::start(&folder, &files::serving_own_clock(free_udp_port()));
    let told = || agent.report().transitions.into_iter().find(|t| t.kind == TransitionKind::StateExposed);
    wait_for("told", || told().is_some());
    let message = told().unwrap().message;
    assert!(message.contains("state may be written by others (mode 0777): run chmod go-w"), "{message}");
    assert_eq!(mode(&state), 0o777);
}

/// With SO_REUSEPORT on ours another program of the same user could join; one socket per family has no such flag.
#[test]
fn two_workers_have_one_socket() {
    alone(|| {
        let folder = Folder::new();
        let text = files::serving_own_clock(123) + "workers = 2\n";
        let agent = Agent::start(&folder, &text);
        wait_for("served", || agent.report().server.serving);
        for table in ["/proc/net/udp", "/proc/net/udp6"] {
            let sockets = fs::read_to_string(table).unwrap();
            let local =
                |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(":007B"));
            assert_eq!(sockets.lines().filter(local).count(), 1, "{sockets}");
        }
    });
}

#[test]
fn a_request_to_a_group_of_hosts_is_not_answered() {
    alone(|| {
        let (folder, neighbour) = (Folder::new(), Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24"));
        let done =
            neighbour.command("ip").args(["addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad"]).status();
        assert!(done.unwrap().success());
        ip("addr add 2001:db8::1/64 dev next nodad");
        let text = files::serving_own_clock(123);
        let agent = Agent::start_next_door(&neighbour, &folder, &text, "192.0.2.2:9817");
        wait_for("HTTP", || agent.get("/metrics", None).0 == 200);
        // The fields: address, number of the interface, prefix, scope, flags, name (proc(5)).
        let interfaces = fs::read_to_string("/proc/net/if_inet6").unwrap();
        let ours = interfaces.lines().find(|line| line.ends_with(" next")).unwrap();
        let index = u32::from_str_radix(ours.split_whitespace().nth(1).unwrap(), 16).unwrap();
        let mut request = [0; 48];
        request[0] = 4 << 3 | 3;
        let ask = |from: &UdpSocket, to: SocketAddr| {
            from.send_to(&request, to).unwrap();
            from.recv_from(&mut [0; 64]).ok().map(|(_, answered)| answered)
        };
        let sockets = || {
            let sockets = ["192.0.2.1:0", "[2001:db8::1]:0"].map(|address| UdpSocket::bind(address).unwrap());
            for socket in &sockets {
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            }
            sockets[0].set_broadcast(true).unwrap();
            sockets
        };
        let [v4, v6] = sockets();
        let (host4, host6): (SocketAddr, SocketAddr) =
            ("192.0.2.2:123".parse().unwrap(), "[2001:db8::2]:123".parse().unwrap());
        wait_for("served", || ask(&v4, host4) == Some(host4) && ask(&v6, host6) == Some(host6));
        // An answer that came late belongs to the former sockets.
        let [v4, v6] = sockets();

        let dropped = || {
            let name = "timesync_server_dropped_total{reason=\"destination\"} ";
            let (_, text) = agent.get("/metrics", None);
            text.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or_default()
        };
        assert_eq!(dropped(), 0);
        let broadcast = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 255), 123));
        let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
        let all_nodes = SocketAddrV6::new(all_nodes, 123, 0, index).into();
        assert_eq!((ask(&v4, broadcast), ask(&v6, all_nodes)), (None, None));
        wait_for("both counted", || dropped() == 2);
        // The way of 255.255.255.255 is the default one.
        ip("route add default via 192.0.2.2");
        assert_eq!(ask(&v4, SocketAddr::from((Ipv4Addr::BROADCAST, 123))), None);
        wait_for("counted", || dropped() == 3);
        wait_for("served again", || ask(&v4, host4) == Some(host4));
    });
}

/// Connections on which nothing is said, many from each of a crowd of addresses, opened again as soon as they are closed.
/// For use within [`alone`]: the addresses are this host's, and a connection to an address of this host comes from it.
pub(crate) struct Crowd {
    ends: Arc<AtomicBool>,
    members: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub(crate) fn new(addresses: u8, each: usize, port: u16) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let member = |number: u8| {
            let (address, ends) = (Ipv4Addr::new(10, 9, 0, number), Arc::clone(&ends));
            ip(&format!("addr replace {address}/32 dev lo"));
            let open = move || {
                let stream = TcpStream::connect((address, port)).unwrap();
                stream.set_nonblocking(true).unwrap();
                stream
            };
            let mut held: Vec<_> = (0..each).map(|_| open()).collect();
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    for stream in &mut held {
                        if !stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                            *stream = open();
                        }
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let members = (1..=addresses).map(member).collect();
        Self { ends, members }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.members.drain(..).for_each(|member| drop(member.join()));
    }
}
