//! Processes and folders of a test, which end with it. Every process is started without the right to set the clock.
use std::{
    env, fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use contract::{Reason, Report};
use timesync_http::{ProvenConnection, RequestError, Token, ask};

use namespace::Neighbour;

pub(crate) use chronyd::Chronyd;

mod chronyd;
pub(crate) mod namespace;

/// The agent's program.
const AGENT: &str = env!("CARGO_BIN_EXE_timesync-agent");

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Waits until it is so.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A port that nobody has.
pub(crate) fn free_udp_port() -> u16 {
    free_port(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok())
}

/// An address for HTTP. No program listens there, and no other test gets the same.
pub(crate) fn free_http_address() -> String {
    let port = free_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    format!("127.0.0.1:{port}")
}

fn free_port(is_free: impl Fn(u16) -> bool) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Below the ports that the system gives to clients, so that no client takes it meanwhile.
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 97;
        let port = 10_000 + u16::try_from(number % 20_000).unwrap();
        if is_free(port) {
            return port;
        }
    }
}

/// A command that cannot set the clock, whoever runs the test.
pub(crate) fn harmless(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time", program]);
    command
}

pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// A file of a Debian package that excludes one of the installed ones; `make check` unpacks such in the cache.
pub(crate) fn unpacked(package: &str, file: &str) -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
    let cache = env::var_os("TIMESYNC_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("timesync-e2e")
    });
    let path = cache.join(package).join(file);
    assert!(
        path.exists(),
        "this test needs Debian's package {package}: `cargo run -p timesync-xtask packages` unpacks it"
    );
    path
}

/// Runs the agent's program to its end.
pub(crate) fn run(arguments: &[&str]) -> (i32, String) {
    ended(harmless(AGENT).args(arguments).output().unwrap())
}

/// Starts the agent's program with what it says in a file.
pub(crate) fn start(arguments: &[&str], said: &Path) -> Process {
    let said = fs::File::create(said).unwrap();
    Process(harmless(AGENT).args(arguments).stdout(said).stderr(Stdio::null()).spawn().unwrap())
}

fn ended(output: Output) -> (i32, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// A folder of its own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        // A process number is not unique: tests in namespaces of their own have small ones.
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("timesync-loopback-{}-{count}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Self(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A projected volume in it, empty.
    pub(crate) fn volume(&self) -> Volume {
        let volume = Volume(self.0.join("volume"));
        fs::create_dir(volume.path()).unwrap();
        volume.swap("", &[]);
        volume
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder as the kubelet keeps it: files behind a link that is swapped.
pub(crate) struct Volume(PathBuf);

impl Volume {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces all files at once.
    pub(crate) fn swap(&self, assignment: &str, files: &[(&str, &str)]) {
        let generation = format!("..{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = self.0.join(&generation);
        fs::create_dir(&folder).unwrap();
        for (name, text) in files.iter().chain(&[("assignment", assignment)]) {
            fs::write(folder.join(name), text).unwrap();
        }
        let (link, beside) = (self.0.join("..data"), self.0.join("..data_tmp"));
        let former = fs::read_link(&link);
        symlink(&generation, &beside).unwrap();
        fs::rename(&beside, &link).unwrap();
        if let Ok(former) = former {
            fs::remove_dir_all(self.0.join(former)).unwrap();
        }
    }
}

/// A process that is killed with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits until it ends by itself; its exit code.
    pub(crate) fn ended(mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running agent.
pub(crate) struct Agent {
    process: Process,
    http: String,
    file: PathBuf,
}

impl Agent {
    /// Starts one with `text` as its file; `STATE` and `HTTP` in it are filled in.
    pub(crate) fn start(folder: &Folder, text: &str) -> Self {
        Self::start_with(folder, text, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(folder: &Folder, text: &str, arguments: &[&str]) -> Self {
        Self::start_by(harmless(AGENT), folder, text, free_http_address(), arguments)
    }

    /// The same next door, where it answers HTTP at `http`.
    pub(crate) fn start_next_door(neighbour: &Neighbour, folder: &Folder, text: &str, http: &str) -> Self {
        Self::start_by(neighbour.command(AGENT), folder, text, http.to_owned(), &[])
    }

    /// Starts one with the rights that `agent.privileged: false` of the chart leaves it, without that to set the clock.
    /// It sees no process but its own, and the folder's `host` is read-only, with the kernel's folder of an RTC and a
    /// folder for manifests. Call it in [`namespace::alone`].
    pub(crate) fn start_unprivileged(folder: &Folder, text: &str) -> Self {
        const SCRIPT: &str = "\
            host=$1; shift; mount -t tmpfs tmpfs $host && mkdir -p $host/sys/class/rtc/no-such-rtc $host/manifests && \
            mount -o remount,ro $host && \
            exec setpriv --no-new-privs --inh-caps -all --bounding-set -all,+net_bind_service \"$@\"";
        let host = folder.path().join("host");
        fs::create_dir(&host).unwrap();
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            SCRIPT,
            "sh",
        ]);
        command.arg(host).arg(AGENT);
        Self::start_by(command, folder, text, free_http_address(), &[])
    }

    fn start_by(mut command: Command, folder: &Folder, text: &str, http: String, arguments: &[&str]) -> Self {
        let file = write_file(folder, text, &http);
        let log = fs::File::create(folder.path().join("agent.log")).unwrap();
        let child = command.args(["run", "--config"]).arg(&file).args(arguments).stderr(log).spawn().unwrap();
        Self { process: Process(child), http, file }
    }

    /// Starts one that is to answer HTTP at `http`.
    pub(crate) fn start_at(folder: &Folder, text: &str, http: String) -> Self {
        Self::start_by(harmless(AGENT), folder, text, http, &[])
    }

    /// Starts one that ends by itself: its code, and what it said.
    pub(crate) fn fails_with(folder: &Folder, text: &str, arguments: &[&str]) -> (i32, String) {
        let file = write_file(folder, text, "127.0.0.1:1");
        run(&[&["run", "--config", file.to_str().unwrap()], arguments].concat())
    }

    /// Waits until it serves its own clock. Until then its server answers that the clock is not synchronised.
    pub(crate) fn wait_for_own_clock(&self) {
        wait_for("an agent that serves its own clock", || {
            let report = self.report();
            report.server.serving && report.clock.reason == Reason::LocalReference
        });
    }

    /// Gives it another file.
    pub(crate) fn rewrite(&self, text: &str) {
        let folder = self.file.parent().unwrap();
        let beside = folder.join("agent.toml.new");
        fs::write(&beside, filled_in(folder, text, &self.http)).unwrap();
        fs::rename(&beside, &self.file).unwrap();
    }

    /// What it reports; asks until it answers.
    pub(crate) fn report(&self) -> Report {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (code, body) = self.get("/status", None);
            if code == 200 {
                return serde_json::from_str(&body).unwrap();
            }
            assert!(Instant::now() < deadline, "no report: {code} {body}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The reason of the profile's error, or nothing.
    pub(crate) fn error(&self) -> String {
        self.report().profile_error.map(|error| error.reason.to_string()).unwrap_or_default()
    }

    /// Status code and body; 0 if nobody listens (yet), or if the answer is not to be believed.
    pub(crate) fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let Ok(stream) = TcpStream::connect(&self.http) else { return (0, String::new()) };
        let token = token.and_then(|token| Token::new(token.as_bytes()));
        match ask(stream, token.as_ref(), None, path) {
            Ok(answer) => (answer.status, String::from_utf8(answer.body).unwrap()),
            Err(RequestError::Refused { status, message }) => (status, message),
            Err(error) => (0, error.to_string()),
        }
    }

    /// A connection on which both sides have exchanged nonces.
    pub(crate) fn converse(&self, token: &str) -> ProvenConnection<TcpStream> {
        ProvenConnection::open(self.connect(), Token::new(token.as_bytes()).unwrap(), None).unwrap()
    }

    /// A subcommand that is told of this agent's file.
    pub(crate) fn command(&self, arguments: &[&str]) -> (i32, String) {
        self.run(&[arguments, &["--config", self.file.to_str().unwrap()]].concat())
    }

    /// A subcommand.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String) {
        run(arguments)
    }

    /// Its child processes, of all of its threads. A thread that ends meanwhile has none.
    pub(crate) fn children(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).unwrap();
        tasks
            .map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default())
            .collect()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.0.id())).unwrap().count()
    }

    /// A connection to its HTTP port on which nothing is said.
    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.http).unwrap()
    }

    /// KiB of memory that it has.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Where it answers HTTP.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.process.0.id())).unwrap().count()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Ends it with SIGTERM; its exit code.
    pub(crate) fn stop(self) -> i32 {
        self.signal("TERM");
        self.process.ended()
    }
}

/// An agent's file; `STATE` and `HTTP` in it are filled in.
pub(crate) fn write_file(folder: &Folder, text: &str, http: &str) -> PathBuf {
    let file = folder.path().join("agent.toml");
    fs::write(&file, filled_in(folder.path(), text, http)).unwrap();
    file
}

fn filled_in(folder: &Path, text: &str, http: &str) -> String {
    text.replace("STATE", folder.join("state").to_str().unwrap()).replace("HTTP", http)
}
