//! Reads the files and folders that a configuration names, and looks up the addresses of host names. Only this module
//! does so; each read is limited in size and time.
use std::{
    cell::Cell,
    fmt, fs,
    io::{ErrorKind, Read},
    net::{IpAddr, ToSocketAddrs},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Access to the files and host names that a configuration names.
pub trait Beside: fmt::Debug {
    /// The text of a plain file.
    ///
    /// # Errors
    /// [`Unread`].
    fn read(&self, path: &Path) -> Result<String, Unread>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// [`Unread`].
    fn names(&self, folder: &Path) -> Result<Vec<String>, Unread>;

    /// The addresses of a host name.
    ///
    /// # Errors
    /// The reason, if there are none.
    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String>;
}

/// Why something was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not there.
    Missing,
    /// The file may exist: the configuration is of another machine, so it cannot be looked for.
    Elsewhere,
    /// It is there, and cannot be read.
    Failed(String),
}

/// Decodes octets as text, or returns why they are not text, by the agent's rule for all files that users write.
pub type Decode = fn(&[u8]) -> Result<String, String>;

/// This machine, or a copy of another machine's files.
#[derive(Debug)]
pub struct Machine {
    root: Option<PathBuf>,
    decode: Decode,
    asked: Cell<usize>,
    unanswered: Cell<usize>,
}

/// A configuration is a few kilobytes; a line may name a log, or a device that never ends.
pub const LARGEST: u64 = 1 << 18;

/// open(2), on all Linux platforms that the agent is built for.
const O_NONBLOCK: i32 = 0o4000;

/// The most names that are looked up. If no resolver answers, each name takes the whole time limit below.
const MOST_NAMES: usize = 16;

/// The time limit for one name.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this number of names without an answer no resolver is expected to answer, and further names are not looked up.
const MOST_UNANSWERED: usize = 2;

const NO_RESOLVER: &str = "the resolver does not answer";

impl Machine {
    /// Files are read below `root`; none: nothing is read, since the configuration is of another machine.
    pub fn new(root: Option<PathBuf>, decode: Decode) -> Self {
        Self { root, decode, asked: Cell::new(0), unanswered: Cell::new(0) }
    }

    fn place(&self, path: &Path) -> Result<PathBuf, Unread> {
        let root = self.root.as_ref().ok_or(Unread::Elsewhere)?;
        // A relative path is that of the file that a user named, or lies beside it.
        let inside = path.strip_prefix("/").ok().filter(|_| !path.starts_with(root));
        Ok(inside.map_or_else(|| path.to_owned(), |inside| root.join(inside)))
    }
}

impl Beside for Machine {
    fn read(&self, path: &Path) -> Result<String, Unread> {
        let path = self.place(path)?;
        // Checked before the file is opened: to open a pipe waits for a writer.
        if !fs::metadata(&path).map_err(unread)?.is_file() {
            return Err(Unread::Failed("it is not a regular file".to_owned()));
        }
        let mut octets = Vec::new();
        // Some files of /proc and /sys are reported as regular files, but block readers.
        let file = fs::File::options().read(true).custom_flags(O_NONBLOCK).open(&path).map_err(unread)?;
        file.take(LARGEST + 1).read_to_end(&mut octets).map_err(unread)?;
        text(&octets, self.decode).map_err(Unread::Failed)
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, Unread> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.place(folder)?).map_err(unread)? {
            if let Ok(name) = entry.map_err(unread)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if self.asked.replace(self.asked.get() + 1) >= MOST_NAMES {
            return Err(format!("at most {MOST_NAMES} names are looked up"));
        }
        if self.unanswered.get() >= MOST_UNANSWERED {
            return Err(NO_RESOLVER.to_owned());
        }
        // The resolver has no time limit of its own; a thread that still waits ends with the program.
        let (answer, answers) = mpsc::channel();
        let asked = (name.to_owned(), 0);
        thread::spawn(move || answer.send(asked.to_socket_addrs().map(Iterator::collect::<Vec<_>>)));
        let found = answers.recv_timeout(PATIENCE).map_err(|_| {
            self.unanswered.set(self.unanswered.get() + 1);
            NO_RESOLVER.to_owned()
        })?;
        let mut found: Vec<_> = found.map_err(|error| error.to_string())?.iter().map(|a| a.ip()).collect();
        found.sort_unstable();
        found.dedup();
        if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) }
    }
}

/// The text of a configuration.
///
/// # Errors
/// If it is too large, or is not text.
pub fn text(octets: &[u8], decode: Decode) -> Result<String, String> {
    if octets.len() as u64 > LARGEST {
        return Err(format!(
            "it is larger than {} KiB, which is too large for a configuration",
            LARGEST / 1024
        ));
    }
    let text = decode(octets)?;
    match text.lines().position(|line| line.contains('\0')) {
        Some(at) => Err(format!("line {} has a zero octet, so the file is not text", at + 1)),
        None => Ok(text),
    }
}

fn unread(error: std::io::Error) -> Unread {
    match error.kind() {
        ErrorKind::NotFound => Unread::Missing,
        ErrorKind::NotADirectory => Unread::Failed("it is not a folder".to_owned()),
        _ => Unread::Failed(error.to_string()),
    }
}
