//! Reads the agent's file and the watched folder, to find the desired configuration. Verifies a profile's hash, parses
//! it, and has it checked. Decides nothing, changes nothing.
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Component, Path, PathBuf},
};

use contract::{Assignment, Host, HostText, ProfileError, ProfileFailure, ProfileName};
use profile::{Agent, AgentFile, BootPod, Checked, Profile, Watch};

use crate::text;

/// What is wrong with a file or its content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is not TOML, or has a field that does not exist.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// The line, and what is wrong there.
        message: String,
    },
    /// The agent's file has fields that contradict each other.
    #[error("{}: {message}", path.display())]
    AgentFile {
        /// Path of the file.
        path: PathBuf,
        /// The field, and what is wrong with it.
        message: String,
    },
    /// The annotation names a profile that does not exist, or not yet.
    #[error("{0} is not there yet")]
    Missing(String),
    /// The text does not match the hash in its name.
    #[error("the text of {name} hashes to {actual}: it was changed on its way, or by hand")]
    HashMismatch {
        /// The name.
        name: ProfileName,
        /// The hash of the text.
        actual: String,
    },
    /// It cannot be parsed, or a field is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The reason in [`ProfileError`], one word.
    pub(crate) fn reason(&self) -> ProfileFailure {
        match self {
            Self::Missing(_) => ProfileFailure::ProfileMissing,
            Self::HashMismatch { .. } => ProfileFailure::HashMismatch,
            Self::Read { .. } | Self::Parse { .. } | Self::AgentFile { .. } | Self::Invalid(_) => {
                ProfileFailure::ProfileInvalid
            }
        }
    }
}

impl From<&Error> for ProfileError {
    fn from(error: &Error) -> Self {
        Self { reason: error.reason(), message: error.to_string() }
    }
}

/// Where profiles come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The agent's own file has the only profile.
    File(PathBuf),
    /// A folder has the profiles and the assignment.
    Watch(Watch),
}

/// The content that was found, before its evaluation. If it has not changed, a new evaluation is not needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    assignment: Assignment,
    text: Option<ObservedText>,
}

impl Observed {
    /// Returns true if it says that no policy selects this node.
    pub(crate) fn assigns_none(&self) -> bool {
        self.assignment == Assignment::None
    }
}

/// The file that the assignment names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ObservedText {
    Is(String),
    Missing,
    Unreadable(String),
}

/// The result of the evaluation.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The annotation as last read.
    pub(crate) assignment: Assignment,
    /// The configuration that follows from it.
    pub(crate) wanted: Result<Desired, Error>,
}

/// The desired configuration.
#[derive(Debug)]
pub(crate) enum Desired {
    /// No profile is assigned: keep the running one.
    Keep,
    /// No profile.
    Nothing,
    /// This profile.
    Profile(Box<Candidate>),
}

/// A profile that passed the hash and the check.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its name; in file mode `local` and the hash of the file.
    pub(crate) name: ProfileName,
    /// Its text.
    pub(crate) text: String,
    /// Its values.
    pub(crate) checked: Checked,
}

/// Reads the present content of `origin`.
pub(crate) fn observe(origin: &Origin) -> Observed {
    match origin {
        Origin::File(path) => {
            Observed { assignment: Assignment::Unassigned, text: Some(ObservedText::of(path)) }
        }
        Origin::Watch(watch) => {
            // The kubelet swaps the link `..data` for all files at once. Through the link's target both files are of
            // one generation, even if a swap happens between the two reads.
            let folder = watch.directory.join("..data");
            let folder = folder.canonicalize().unwrap_or_else(|_| watch.directory.clone());
            let value = read(&folder.join(&watch.assignment)).unwrap_or_default();
            let assignment = Assignment::from_annotation(&value);
            let text = assignment.profile().map(|name| ObservedText::of(&folder.join(name.key())));
            Observed { assignment, text }
        }
    }
}

impl ObservedText {
    fn of(path: &Path) -> Self {
        match read(path) {
            Ok(text) => Self::Is(text),
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// Evaluates the content that was found at `origin`.
pub(crate) fn evaluate(origin: &Origin, found: &Observed) -> Loaded {
    let wanted = match (origin, &found.assignment, &found.text) {
        (Origin::Watch(_), Assignment::None, _) => Ok(Desired::Nothing),
        (_, _, Some(ObservedText::Unreadable(why))) => Err(Error::Invalid(why.clone())),
        (Origin::File(path), _, Some(ObservedText::Is(text))) => {
            local_profile(path, text).map(|candidate| Desired::Profile(Box::new(candidate)))
        }
        (Origin::Watch(_), Assignment::Profile(name), Some(ObservedText::Is(text))) => {
            candidate(name.clone(), text.clone()).map(|candidate| Desired::Profile(Box::new(candidate)))
        }
        (Origin::Watch(_), Assignment::Profile(name), _) => Err(Error::Missing(name.key())),
        (Origin::File(path), _, _) => Err(Error::Missing(path.display().to_string())),
        (Origin::Watch(_), Assignment::Unassigned, _) => Ok(Desired::Keep),
    };
    let assignment = match (origin, &wanted) {
        // The file assigns its own profile.
        (Origin::File(_), Ok(Desired::Profile(candidate))) => Assignment::Profile(candidate.name.clone()),
        _ => found.assignment.clone(),
    };
    Loaded { assignment, wanted }
}

/// Makes a candidate of `text`, verified as profile `name`, parsed and checked.
///
/// # Errors
/// [`Error::HashMismatch`] and [`Error::Invalid`].
pub(crate) fn candidate(name: ProfileName, text: String) -> Result<Candidate, Error> {
    if !name.names(&text) {
        return Err(Error::HashMismatch { name, actual: contract::text_hash(&text) });
    }
    let profile: Profile = toml::from_str(&text).map_err(|e| Error::Invalid(located(&text, &e)))?;
    let checked = profile::check(&profile).map_err(|e| Error::Invalid(e.to_string()))?;
    Ok(Candidate { name, text, checked })
}

/// The profile in the agent's own file.
fn local_profile(path: &Path, text: &str) -> Result<Candidate, Error> {
    let profile = parse_agent_file(path, text)?.profile.unwrap_or_default();
    let checked = profile::check(&profile)
        .map_err(|e| Error::Invalid(format!("{}: {}", path.display(), e.within("profile"))))?;
    Ok(Candidate { name: ProfileName::of("local", text), text: text.to_owned(), checked })
}

/// Reads the agent's own file.
///
/// # Errors
/// If it cannot be read or parsed, or has both a profile and a folder, or neither.
pub(crate) fn agent_file(path: &Path) -> Result<AgentFile, Error> {
    parse_agent_file(path, &read(path)?)
}

fn parse_agent_file(path: &Path, text: &str) -> Result<AgentFile, Error> {
    let file: AgentFile = toml::from_str(text)
        .map_err(|e| Error::Parse { path: path.to_owned(), message: located(text, &e) })?;
    let wrong = |message: &str| Err(Error::AgentFile { path: path.to_owned(), message: message.to_owned() });
    match (&file.profile, &file.agent.watch) {
        (Some(_), Some(_)) => wrong("profile: excludes agent.watch; one of the two says what to run"),
        (None, None) => wrong("profile: missing, and so is agent.watch; one of the two says what to run"),
        _ if let Some(why) = file.agent.http_address.as_deref().and_then(|a| socket_address(a).err()) => {
            wrong(&format!("agent.httpAddress: {why}"))
        }
        _ if let Some(why) = file.agent.boot.as_ref().and_then(|boot| wrong_boot_pod(boot, &file.agent)) => {
            wrong(why)
        }
        _ => Ok(file),
    }
}

/// Why a value cannot be put into a manifest, or would mean something else there.
fn wrong_boot_pod(boot: &BootPod, agent: &Agent) -> Option<&'static str> {
    let is_plain = |path: &Path| {
        path.is_absolute()
            && path.components().all(|part| part != Component::ParentDir)
            && path.to_str().is_some()
    };
    if !is_plain(&boot.manifest_directory) {
        Some("agent.boot.manifestDirectory: must be an absolute path without ..")
    } else if !is_plain(&boot.host_state_directory) {
        Some("agent.boot.hostStateDirectory: must be an absolute path without ..")
    } else if !boot.static_pod {
        None
    } else if boot.image.is_empty() {
        Some("agent.boot.image: missing, and agent.boot.staticPod needs it")
    } else if agent.host_root == Path::new("/") {
        Some("agent.boot.staticPod: needs agent.hostRoot, where the pod sees the host's files")
    } else if !is_plain(&agent.host_root) || !is_plain(&agent.state_directory) {
        Some(
            "agent.boot.staticPod: needs absolute paths without .. in agent.hostRoot and agent.stateDirectory",
        )
    } else {
        None
    }
}

/// Parses the address to listen on: `ADDRESS:PORT`. An IPv6 address may be without brackets, as it is where a template
/// joins the two.
///
/// # Errors
/// The text is not an address. The message is for use after that text.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    const FORM: &str = "must be ADDRESS:PORT, as in 127.0.0.1:9817 or [2001:db8::1]:9817";
    let HostText { mut host, mut port, .. } =
        HostText::parse(text).map_err(|why| format!("{FORM}: it {why}"))?;
    if let (Host::Address(IpAddr::V6(_)), None, Some((address, digits))) =
        (&host, port, text.rsplit_once(':'))
        && let (Ok(address), Ok(digits)) = (address.parse::<Ipv6Addr>(), digits.parse())
    {
        (host, port) = (Host::Address(address.into()), Some(digits));
    }
    match (host, port) {
        (Host::Address(IpAddr::V6(v6)), _) if v6.is_unicast_link_local() => Err(NO_ZONE.to_owned()),
        (Host::Zoned(..), _) => Err(NO_ZONE.to_owned()),
        (Host::Address(address), Some(port)) => Ok(SocketAddr::new(address, port)),
        (Host::Address(_), None) => Err(format!("{FORM}: the port is missing")),
        (Host::Name(_), _) => Err(format!("{FORM}: a name cannot stand for the address to listen on")),
    }
}

/// The message for a link-local address.
const NO_ZONE: &str = "must not be a link-local address, which is unreachable without its interface: write another address \
                       of the node, or [::]:9817 for all";

/// A parser's error on one line, with its line number.
pub(crate) fn located(text: &str, error: &toml::de::Error) -> String {
    let message = profile::in_present_spelling(error.message()).replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Largest file, octets. No key of a ConfigMap is larger: this is the API server's limit for the whole object.
const MOST_BYTES: u64 = 1 << 20;

/// Reads the text of a file, without a byte order mark.
///
/// # Errors
/// If it cannot be read, is larger than 1 MiB, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    text::read(path, MOST_BYTES).map_err(|source| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    const GOOD: &str = "[[upstreams]]\nname = \"a\"\nserver = \"192.0.2.1\"\n";

    fn load(origin: &Origin) -> Loaded {
        evaluate(origin, &observe(origin))
    }

    fn watch(folder: &Scratch) -> Origin {
        Origin::Watch(Watch { directory: folder.path().to_owned(), assignment: "assignment".into() })
    }

    /// The result of a folder with this assignment and this file, in a word.
    fn outcome(assignment: Option<&str>, file: Option<(&str, &str)>) -> String {
        let folder = Scratch::new();
        if let Some(value) = assignment {
            fs::write(folder.path().join("assignment"), value).unwrap();
        }
        if let Some((name, text)) = file {
            fs::write(folder.path().join(name), text).unwrap();
        }
        match load(&watch(&folder)).wanted {
            Ok(Desired::Keep) => "Keep".to_owned(),
            Ok(Desired::Nothing) => "Nothing".to_owned(),
            Ok(Desired::Profile(candidate)) => candidate.name.to_string(),
            Err(error) => format!("{}: {error}", error.reason()),
        }
    }

    #[test]
    fn assignments() {
        let name = ProfileName::of("p", GOOD);
        assert_eq!(outcome(None, None), "Keep");
        assert_eq!(outcome(Some(""), None), "Keep");
        assert_eq!(outcome(Some("none"), None), "Nothing");
        assert_eq!(outcome(Some(&name.to_string()), Some((&name.key(), GOOD))), name.to_string());
        assert_eq!(
            outcome(Some(&name.to_string()), None),
            format!("ProfileMissing: {name}.toml is not there yet")
        );
        let changed = GOOD.replace('1', "2");
        let refused = outcome(Some(&name.to_string()), Some((&name.key(), &changed)));
        assert!(refused.starts_with("HashMismatch: "), "{refused}");
    }

    #[test]
    fn a_bad_profile_is_named_with_its_line_or_field() {
        let check = |text: &str, expected: &str| {
            let name = ProfileName::of("p", text);
            let refused = outcome(Some(&name.to_string()), Some((&name.key(), text)));
            assert!(refused.starts_with("ProfileInvalid: ") && refused.contains(expected), "{refused}");
        };
        check(&format!("{GOOD}minPoll = 9"), "upstreams[0].minPoll: 9 is larger than maxPoll 6");
        check(&format!("{GOOD}nonsense = 9"), "line 4: unknown field `nonsense`");
        check("[[upstreams]\n", "line 1");
    }

    #[test]
    fn both_files_come_from_one_generation() {
        let folder = Scratch::new();
        let name = ProfileName::of("p", GOOD);
        fs::create_dir(folder.path().join("..g1")).unwrap();
        fs::write(folder.path().join("..g1/assignment"), name.to_string()).unwrap();
        fs::write(folder.path().join("..g1").join(name.key()), GOOD).unwrap();
        std::os::unix::fs::symlink("..g1", folder.path().join("..data")).unwrap();
        // Files directly in the folder are not read.
        fs::write(folder.path().join("assignment"), "none").unwrap();
        assert!(matches!(load(&watch(&folder)).wanted, Ok(Desired::Profile(_))));
    }

    #[test]
    fn the_agents_own_file() {
        let folder = Scratch::new();
        let path = folder.path().join("agent.toml");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let outcome = agent_file(&path).map(|_| "ok".to_owned()).unwrap_or_else(|e| e.to_string());
            assert!(outcome.contains(expected), "{outcome}");
        };
        check("", "profile: missing");
        check("[profile]\nmode = \"Observe\"", "ok");
        check("[profile]\n[agent.watch]\ndirectory = \"/x\"", "profile: excludes agent.watch");
        check("[agent]\nhttpAddress = \"x\"\n[profile]", "agent.httpAddress: must be ADDRESS:PORT");
        // As Windows editors write it.
        check(
            "\u{feff}[agent]\r\nhttpAddress = \"127.0.0.1:1\"   \r\n[profile]\r\nmode = \"Observe\"\r\n",
            "ok",
        );
        fs::write(&path, b"\xff\xfe[\0p\0").unwrap();
        let refused = agent_file(&path).unwrap_err().to_string();
        assert!(
            refused.ends_with("agent.toml: it is UTF-16, as some editors of Windows write: save it as UTF-8")
        );
        check("[agent]\nhttp = 1", "line 2: unknown field `http`");
        let boot = |agent: &str, boot: &str| {
            format!("[agent]\n{agent}\n[agent.boot]\nmanifestDirectory = \"/m\"\n{boot}\n[profile]")
        };
        let host = "hostRoot = \"/host\"";
        check(&boot("", ""), "ok");
        check(&boot("", "staticPod = true"), "agent.boot.image: missing");
        check(&boot("", "staticPod = true\nimage = \"i\""), "needs agent.hostRoot");
        check(&boot(host, "staticPod = true\nimage = \"i\""), "ok");
        check(&boot("hostRoot = \"host\"", "staticPod = true\nimage = \"i\""), "absolute paths");
        check(&boot(host, "").replace("/m", "m"), "agent.boot.manifestDirectory: must be an absolute");
        check(&boot(host, "").replace("/m", "/m/../x"), "agent.boot.manifestDirectory: must be an absolute");
        check(
            &boot(host, "hostStateDirectory = \"x\""),
            "agent.boot.hostStateDirectory: must be an absolute",
        );
        check(&boot(host, "nonsense = 1"), "unknown field `nonsense`");
    }

    #[test]
    fn addresses_of_both_families() {
        let check =
            |text: &str, expected: &str| assert_eq!(socket_address(text).unwrap().to_string(), expected);
        check("127.0.0.1:9817", "127.0.0.1:9817");
        check("[::1]:9817", "[::1]:9817");
        check("fd00::1:9817", "[fd00::1]:9817");
        check("[fd00::1]:9817", "[fd00::1]:9817");
        let wrong = |text: &str, expected: &str| {
            let why = socket_address(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        };
        wrong("9817", "must be ADDRESS:PORT");
        wrong("127.0.0.1", "the port is missing");
        wrong("[fd00::1]", "the port is missing");
        wrong("::1", "the port is missing");
        wrong("localhost:9817", "a name cannot stand for the address");
        wrong("127.0.0.1:0", "which is no port");
        wrong("[fe80::1%eth0]:9817", "must not be a link-local address");
        wrong("fe80::1:9817", "must not be a link-local address");
    }
}
