//! A network of a test's own, where port 123 is free: the test's program runs itself anew in fresh network and process
//! namespaces. When the test ends, however it ends, every process in them is killed and the network is gone.
use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use super::{Process, harmless, wait_for};

/// Says to the program that it is inside; holds the test's name.
const INSIDE: &str = "TIMESYNC_TEST_NAMESPACE";

/// Runs `test` in namespaces of its own, with loopback up and without the right to set the clock. Call it as a test's
/// only statement: what `test` does happens in another process. Every socket, thread and program of `test` is inside.
///
/// # Panics
/// If `test` does; where `unshare` is missing or forbidden.
pub(crate) fn alone(test: impl FnOnce()) {
    let thread = thread::current();
    let name = thread.name().expect("the test harness names a test's thread by the test");
    if env::var(INSIDE).is_ok_and(|inside| inside == name) {
        ip("link set lo up");
        return test();
    }
    // Killed with this thread, and everything inside with it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    let unshare = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if super::is_root() {
        command.args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time", "unshare"]).args(unshare);
    } else {
        command.args(["unshare", "--user", "--map-root-user"]).args(unshare);
    }
    let program = env::current_exe().unwrap();
    command.arg(program).args([name, "--exact", "--nocapture"]).env(INSIDE, name);
    let output = command.output().expect("these tests need Debian's package util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "inside the namespace:\n{said}\n{failed}");
    println!("{said}{failed}");
}

/// Another host, next door: a namespace behind a pair of virtual interfaces, for use within [`alone`].
pub(crate) struct Neighbour {
    /// Reads its standard input for ever; the namespace lives as long as it.
    holder: Process,
}

impl Neighbour {
    /// One with address `its` on an interface whose other end has `ours`, both with prefix length, such as
    /// `192.0.2.2/24`; `name` is the interface's, and unique among ours.
    pub(crate) fn new(name: &str, ours: &str, its: &str) -> Self {
        let holder = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn();
        let neighbour =
            Self { holder: Process(holder.expect("these tests need Debian's package util-linux")) };
        let id = neighbour.holder.0.id();
        let space = |id: &str| Path::new("/proc").join(id).join("ns/net").read_link().unwrap();
        wait_for("a namespace", || space(&id.to_string()) != space("self"));
        ip(&format!("link add {name} type veth peer name eth0 netns {id}"));
        // Without duplicate address detection an IPv6 address can be used at once.
        let nodad = |address: &str| if address.contains(':') { " nodad" } else { "" };
        ip(&format!("addr add {ours} dev {name}{}", nodad(ours)));
        ip(&format!("link set {name} up"));
        for words in [&format!("addr add {its} dev eth0{}", nodad(its)), "link set eth0 up", "link set lo up"]
        {
            let done = neighbour.command("ip").args(words.split(' ')).status().unwrap();
            assert!(done.success(), "next door: ip {words}");
        }
        neighbour
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = harmless("nsenter");
        command.args(["--net", "--target", &self.holder.0.id().to_string(), program]);
        command
    }
}

/// Runs `ip` with these words, for use within [`alone`].
pub(crate) fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output();
    let done = done.expect("these tests need Debian's package iproute2");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_namespace_has_port_123_and_neighbours() {
    alone(|| {
        let port = std::net::UdpSocket::bind("0.0.0.0:123").unwrap();
        let _neighbour = Neighbour::new("next", "192.0.2.1/24", "192.0.2.2/24");
        let _other = Neighbour::new("other", "2001:db8::1/64", "2001:db8::2/64");
        port.connect("192.0.2.2:9").unwrap();
        assert_eq!(port.local_addr().unwrap().ip().to_string(), "192.0.2.1");
    });
}
